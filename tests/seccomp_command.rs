//! `capsid seccomp`: the real binary on good, odd and hostile profiles.

#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot do without must be there"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/docker.json");

/// A directory of one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("capsid-seccomp-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join("profile.json");
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Exit code, standard output and standard error.
fn seccomp(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_capsid"))
        .env_clear()
        .arg("seccomp")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code();
    assert!(code.is_some(), "{args:?}: {output:?}");
    (code.unwrap(), text(output.stdout), text(output.stderr))
}

fn checked(file: &str, more: &[&str]) -> String {
    let (code, out, err) = seccomp(&[&["check", file], more].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    out
}

/// A profile that denies by default.
fn deny(rules: Value) -> String {
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }).to_string()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn dockers_profile_is_counted() {
    let report = checked(DOCKER, &[]);
    for line in [
        ": 38 rules with 403 names, default ERRNO(1)\n",
        "x86_64: 306 allowed, 3 conditional, 76 denied; any other number gets ERRNO(38)\n",
        "x86:    not covered: every call gets KILL_PROCESS\n",
        "x32:    not covered: every call gets ERRNO(38)\n",
        "or newer than Linux 7.0):\n  riscv_hwprobe\n",
        "  has all actions and flags that the profile uses",
        " without a rule, which get ERRNO(1):\n  _sysctl acct add_key",
    ] {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
    assert!(
        !report.contains("redundant") && !report.contains("attention"),
        "{report}"
    );
}

#[test]
fn mistakes_are_listed_with_their_places() {
    let scratch = Scratch::new("mistakes");
    let file = scratch.file(deny(json!([
        { "names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1 },
        { "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096,
          "includes": { "caps": ["CAP_BPF"] } },
        { "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
          "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] },
    ])));
    let (code, out, err) = seccomp(&["check", &file]);
    assert_eq!(code, 1);
    let places: Vec<&str> = out
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    // The second is found although the rule is not there without the capability.
    assert_eq!(
        places,
        [
            "/syscalls/0/errnoRet",
            "/syscalls/2/args/0/index",
            "/syscalls/1/errnoRet"
        ]
    );
    assert!(err.contains("3 mistakes in this profile"), "{err}");
    let (code, out, err) = seccomp(&["show", &file]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("profile.json: /syscalls/0/errnoRet: "),
        "{err}"
    );
}

#[test]
fn a_whole_configuration_is_looked_into() {
    let scratch = Scratch::new("configuration");
    let with = |seccomp: Value| {
        json!({ "ociVersion": "1.2.0", "linux": { "seccomp": seccomp } }).to_string()
    };
    let file = scratch.file(with(json!({ "defaultAction": "SCMP_ACT_ALLOW" })));
    let report = checked(&file, &[]);
    assert!(
        report.contains("attention:\n  the default action is ALLOW"),
        "{report}"
    );
    assert!(
        report.contains("get ALLOW;\n  `show --calls` lists them\n"),
        "{report}"
    );
    for (document, problem) in [
        (
            with(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"] })),
            "/linux/seccomp/flags/0: unknown variant `X`",
        ),
        (
            json!({ "linux": {} }).to_string(),
            "/linux/seccomp: this configuration has no filter",
        ),
    ] {
        let (code, out, err) = seccomp(&["check", &scratch.file(document)]);
        assert_eq!(code, 1);
        assert!(format!("{out}{err}").contains(problem), "{out}{err}");
    }
}

#[test]
fn what_deserves_a_thought_is_said() {
    let scratch = Scratch::new("thoughts");
    let file = scratch.file(
        json!({
            "defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [
                { "names": ["read", "opeen", "io_uring_setup"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["clone3", "read"], "action": "SCMP_ACT_ALLOW", "coment": "x" },
                { "names": ["clone"], "action": "SCMP_ACT_ERRNO" },
                { "names": ["mount"], "action": "SCMP_ACT_NOTIFY",
                  "includes": { "caps": ["CAP_SYS_ADMIN"] } },
                { "names": ["close"], "action": "SCMP_ACT_ERRNO" },
            ],
        })
        .to_string(),
    );
    let report = checked(&file, &[]);
    for line in [
        "  clone3 is allowed and clone is not always",
        "  io_uring_setup is allowed",
        "  SECCOMP_FILTER_FLAG_SPEC_ALLOW gives up",
        "  /syscalls/1/names/1: read: /syscalls/0 decides before, without conditions\n",
        "  /syscalls/2: this is what the default action does\n",
        "  /syscalls/4: this is what the default action does\n",
        "  /syscalls/1/coment: an unknown key",
        "newer than Linux 7.0):\n  opeen\n",
    ] {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
    assert!(!report.contains("listenerPath"), "{report}");
    let report = checked(&file, &["--cap", "sys_admin"]);
    assert!(report.contains("listenerPath names none"), "{report}");
}

#[test]
fn the_filter_and_the_calls_are_shown() {
    let scratch = Scratch::new("show");
    let file = scratch.file(deny(json!([
        { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
          "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" },
                   { "index": 0, "value": 0x7e02_0000, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ" }] },
        { "names": ["socket"], "action": "SCMP_ACT_TRAP",
          "args": [{ "index": 0, "value": 7, "op": "SCMP_CMP_LE" },
                   { "index": 1, "value": 9, "op": "SCMP_CMP_NE" }] },
    ])));
    let (_, listing, _) = seccomp(&["show", &file]);
    assert!(listing.starts_with("seccomp filter: "), "{listing}");
    assert!(listing.contains("\n   0  ld    [4]     "), "{listing}");
    assert!(listing.contains("\n      socket:\n"), "{listing}");
    assert!(listing.contains("; ALLOW\n"), "{listing}");
    let (_, calls, _) = seccomp(&["show", "--calls", &file]);
    let expected = "  socket:\n    \
        ALLOW if args[0] == 1 or args[0] & 0x7e020000 == 2  (/syscalls/1)\n    \
        TRAP if args[0] <= 7 and args[1] != 9  (/syscalls/2)\n    \
        otherwise ERRNO(1)\n";
    assert!(calls.contains(expected), "{calls}");
    assert!(calls.contains("ALLOW (1):\n  read\n"), "{calls}");
}

#[test]
fn a_profile_does_not_command_the_terminal() {
    let scratch = Scratch::new("terminal");
    let evil = "a\u{1b}[31m\0\u{9b}";
    for document in [
        deny(json!([{ "names": [evil], "action": "SCMP_ACT_ALLOW" }])),
        deny(json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW", evil: 1 }])),
        deny(json!([{ "names": ["read"], "action": evil }])),
    ] {
        let file = scratch.file(document);
        for action in ["check", "show"] {
            let (_, out, err) = seccomp(&[action, &file]);
            let bad = |c: char| c.is_control() && c != '\n';
            assert!(!out.contains(bad) && !err.contains(bad), "{out:?} {err:?}");
        }
    }
}

/// Ten thousand rules in a form, with one value each.
fn many(rule: impl Fn(u64) -> Value) -> String {
    deny((0..10_000).map(rule).collect())
}

#[test]
fn hostile_files_get_an_answer() {
    let scratch = Scratch::new("hostile");
    let at =
        |index: u64, value: u64| json!([{ "index": index, "value": value, "op": "SCMP_CMP_EQ" }]);
    let texts: Vec<(Vec<u8>, i32)> = vec![
        (Vec::new(), 1),
        (b"\0\0\0\0".to_vec(), 1),
        (b"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{".to_vec(), 1),
        (b"{\"defaultAction\": \"SCMP_ACT_ALLOW\"}\0".to_vec(), 1),
        (b"\xff\xfe{}".to_vec(), 1),
        ("[".repeat(1 << 20).into_bytes(), 1),
        (vec![b' '; 17 << 20], 1),
        (many(|_| json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW" })).into_bytes(), 0),
        (
            many(|n| json!({ "names": ["ioctl", "socket"], "action": "SCMP_ACT_ALLOW", "args": at(1, 2 * n) }))
                .into_bytes(),
            1,
        ),
        (many(|n| json!({ "names": ["ioctl"], "action": "X", "errnoRet": n })).into_bytes(), 1),
        (many(|_| json!({ "names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": at(6, 1) })).into_bytes(), 1),
        (deny(json!([{ "names": vec!["x".repeat(100); 10_000], "action": "SCMP_ACT_LOG" }])).into_bytes(), 0),
    ];
    for (text, expected) in texts {
        let start = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        let file = scratch.file(text);
        for action in ["check", "show"] {
            let started = Instant::now();
            let (code, out, err) = seccomp(&[action, &file]);
            assert_eq!(code, expected, "{action} {start:?}: {err}");
            assert_eq!(err.is_empty(), expected == 0, "{action} {start:?}: {out}");
            assert!(err.len() < 4096, "{} bytes for {start:?}", err.len());
            assert!(started.elapsed() < Duration::from_secs(20), "{start:?}");
        }
    }
}

#[test]
fn what_is_not_a_file_is_an_error() {
    let scratch = Scratch::new("no-file");
    let dir = scratch.0.to_string_lossy().into_owned();
    for (file, words) in [
        (dir.as_str(), "is a directory"),
        ("/no/such/file", "absent (ENOENT)"),
        ("/dev/zero", "larger than 16 MiB"),
        ("", "absent (ENOENT)"),
    ] {
        let (code, _, err) = seccomp(&["check", file]);
        assert!(code == 1 && err.contains(words), "{file}: {err}");
    }
    let (code, _, err) = seccomp(&["look", DOCKER]);
    assert!(code == 1 && err.contains("check, show"), "{err}");
}
