//! The runtime's own file and processes, seen from inside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::escapes::outside;
use crate::roles::Test;

cases! {
    ALL []: cve_2019_5736, cve_2019_5736_program, cve_2016_9962, cve_2016_9962_waiting, runtime_is_static,
        cve_2020_15257;
}

/// How often a process of the runtime comes by. With every role that is more than a thousand.
const EXECS: u32 = 340;

fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    format!("{:x?}", Sha256::digest(bytes))
}

/// A container that may trace others, with a volume to stop it by. Root's has no user
/// namespace, which would be a second defence.
fn stalked(test: &Test) -> Bundle<'_> {
    let volume = test.path("volume");
    test.make_dir(&volume);
    Bundle::new(test)
        .relax("userns")
        .mount(json!({
            "destination": "/var", "type": "bind", "source": volume, "options": ["bind"]
        }))
        .edit(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] =
                    json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
            }
        })
}

/// A copy of the runtime that belongs to whoever calls it.
fn own_runtime(test: &Test) -> PathBuf {
    let dir = test.path("own");
    test.make_dir(&dir);
    let own = dir.join(test.machine.runtime.file_name().unwrap_or_default());
    fs::copy(&test.machine.runtime, &own).unwrap_or_else(|error| panic!("copy: {error}"));
    test.give(&own);
    own
}

/// What a process inside finds while the runtime comes in again and again.
#[track_caller]
fn stalk(test: &Test, runtime: &Path) -> Value {
    let canary = outside(test).join("canary").display().to_string();
    let bundle = stalked(test).args(&["stalk", canary.trim_start_matches('/'), "/var/stop"]);
    let mut container = bundle.ready();
    let runtime = runtime.display().to_string();
    let state = test.state_root().display().to_string();
    let words = [&runtime, "--root", &state, "exec", &bundle.id];
    let words = [&words[..], &["/bin/probe", "exit", "0"]].concat();
    for _ in 0..EXECS {
        let output = test.command(&words).through_shell("").output();
        // Nobody can execute what is open for writing.
        let busy = output.stderr.contains("Text file busy");
        holds!(!busy, "the runtime's file was open for writing: {output:?}");
        output.success();
    }
    test.make_file(&test.path("volume/stop"), "");
    container.wait_for("}\n");
    let told = container.printed();
    container.end();
    let (_, found) = told.split_once('\n').unwrap_or_default();
    let found: Value =
        serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {told}"));
    // It was there to be seen.
    assert!(found["seen"].as_u64() > Some(0), "{found}");
    found
}

/// Whoever overwrites the runtime runs as whoever calls it next.
fn cve_2019_5736(test: &Test) {
    let own = own_runtime(test);
    let before = digest(&own);
    let found = stalk(test, &own);
    let file = fs::metadata(&own).unwrap_or_else(|error| panic!("{error}"));
    let name = format!("{}:{}", file.dev(), file.ino());
    holds!(
        found["writable"][&name].is_null(),
        "the runtime's file was open for writing: {found}"
    );
    holds!(digest(&own) == before, "the runtime's file changed");
}

/// The runtime as the program of a container and of `exec`, and by its name.
fn cve_2019_5736_program(test: &Test) {
    let before = digest(&test.machine.runtime);
    let runtime = test.machine.runtime.display().to_string();
    let own = Bundle::new(test).raw_args(&["/proc/self/exe", "--version"]);
    let output = own.run();
    holds!(output.code != 0, "the runtime ran inside: {output:?}");
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for words in [
        &["write", "/proc/self/exe", "x"][..],
        &["try-open", &runtime],
        &["write", &runtime, "x"],
    ] {
        container.exec(&[], words).failure();
    }
    let output = container
        .exec_call(&[], &["/proc/self/exe", "--version"])
        .output();
    holds!(output.code != 0, "the runtime ran inside: {output:?}");
    container.end();
    holds!(
        digest(&test.machine.runtime) == before,
        "the runtime's file changed"
    );
}

/// CAP_DAC_OVERRIDE and CAP_SYS_PTRACE, as [`stalked`] has them.
const OWN: u64 = 1 << 1 | 1 << 19;

/// CAP_CHOWN, CAP_SETGID, CAP_SETUID and CAP_SETPCAP: what it takes to become a
/// program's user. Others than the container's own would be had by tracing.
const TO_BECOME: u64 = 1 | 1 << 6 | 1 << 7 | 1 << 8;

/// Descriptors, directories and capabilities of the runtime, on its way in.
fn cve_2016_9962(test: &Test) {
    let found = stalk(test, &test.machine.runtime);
    let ways = found["ways"].as_object().map_or(0, serde_json::Map::len);
    holds!(ways == 0, "files of the host were reached: {found}");
    let set = |name: &str| found[name].as_u64().unwrap_or(u64::MAX);
    holds!(
        set("bounding") & !OWN == 0,
        "others inside may have capabilities: {found}"
    );
    holds!(
        set("permitted") & !(OWN | TO_BECOME) == 0,
        "others inside have capabilities: {found}"
    );
}

/// Between create and start the process must not be open to others of its id.
fn cve_2016_9962_waiting(test: &Test) {
    let bundle = Bundle::new(test).relax("userns").args(&["sleep"]);
    let container = bundle.create();
    for file in ["exe", "root", "cwd", "fd/0", "mem", "environ"] {
        let path = format!("/proc/1/{file}");
        let output = container.exec(&[], &["try-open", &path]);
        // A directory that opened fails only at the read, with EISDIR.
        let open = output.text() == "ok" || output.text() == "EISDIR";
        holds!(!open, "{path} of the waiting process can be opened");
    }
    container.end();
}

/// Nothing of the image can be loaded into the runtime: no interpreter, no libraries, no
/// name services (CVE-2019-14271, where docker cp loaded the container's libnss).
fn runtime_is_static(test: &Test) {
    const PT_INTERP: u32 = 3;
    let file = fs::read(&test.machine.runtime).unwrap_or_default();
    let short = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    assert_eq!(&file[..5], b"\x7fELF\x02");
    let start = u64::from_le_bytes(file[32..40].try_into().unwrap_or_default());
    let (start, size, count) = (usize::try_from(start).unwrap_or(0), short(54), short(56));
    let kinds: Vec<u32> = (0..count)
        .map(|number| start + number * size)
        .map(|at| u32::from_le_bytes(file[at..at + 4].try_into().unwrap_or_default()))
        .collect();
    assert!(kinds.len() > 2, "{kinds:?}");
    holds!(
        !kinds.contains(&PT_INTERP),
        "the runtime has an interpreter"
    );
}

/// A control socket that a container with the host's network could connect to.
fn cve_2020_15257(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    let pid = container.pid();
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let text = link.display().to_string();
            Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    let own = |line: &&str| {
        let inode = line.split_whitespace().nth(6).unwrap_or_default();
        sockets.iter().any(|socket| socket == inode)
    };
    let lines: Vec<&str> = table.lines().filter(own).collect();
    // The socket that start connects to.
    assert!(!lines.is_empty(), "no socket of {sockets:?} in {table}");
    for line in lines {
        holds!(!line.contains('@'), "an abstract socket: {line}");
    }
    container.end();
}
