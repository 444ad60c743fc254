//! Hooks: when, where, with what, and what happens when one fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::roles::Test;

cases! {
    ALL []: every_hook_in_order, state_on_standard_input, hook_environment, hook_namespaces,
        failing_hook_stops_creation, failing_start_hook, failing_poststart_kills, failing_poststop_warns,
        hook_timeout, missing_hook, hook_mounts_appear, hooks_as_at_create;
    ROOT []: runtime_hooks_find_the_mounts;
}

/// A file that a hook in any namespace may append to.
fn record_file(test: &Test, name: &str) -> PathBuf {
    let file = test.path(name);
    test.make_file(&file, "");
    let mode = fs::Permissions::from_mode(0o666);
    fs::set_permissions(&file, mode).unwrap_or_else(|error| panic!("chmod: {error}"));
    file
}

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The probe as a hook of the host's namespaces.
fn hook(test: &Test, words: &[&str]) -> Value {
    let mut args = vec!["named-by-args"];
    args.extend_from_slice(words);
    json!({ "path": test.machine.probe, "args": args })
}

fn add<'t>(bundle: Bundle<'t>, list: &str, hook: Value) -> Bundle<'t> {
    bundle.edit(|config| push(&mut config["hooks"][list], hook))
}

const LISTS: [(&str, &str); 6] = [
    ("prestart", "creating"),
    ("createRuntime", "creating"),
    ("createContainer", "creating"),
    ("startContainer", "created"),
    ("poststart", "running"),
    ("poststop", "stopped"),
];

/// A bundle whose hooks all append to one file, also visible inside as /record.
pub(crate) fn recording<'t>(test: &'t Test, args: &[&str]) -> (Bundle<'t>, PathBuf) {
    let file = record_file(test, "record");
    let path = file.to_string_lossy().into_owned();
    let mut bundle = Bundle::new(test).args(args).mount(json!({
        "destination": "/record", "type": "bind", "source": file, "options": ["bind", "rw"]
    }));
    for (list, _) in LISTS {
        let entry = if list == "startContainer" {
            json!({ "path": "/bin/probe", "args": [list, "hook", "/record"] })
        } else {
            json!({ "path": test.machine.probe, "args": [list, "hook", path] })
        };
        bundle = add(bundle, list, entry);
    }
    (bundle, file)
}

fn every_hook_in_order(test: &Test) {
    let (bundle, file) = recording(test, &["exit", "0"]);
    let ran = || -> Vec<String> {
        records(&file)
            .iter()
            .filter_map(|record| record["argv"][0].as_str().map(str::to_owned))
            .collect()
    };
    let container = bundle.create();
    assert_eq!(ran(), ["prestart", "createRuntime", "createContainer"]);
    container.start();
    assert_eq!(
        ran(),
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart"
        ]
    );
    container.wait_status("stopped");
    bundle.on(&["delete"]).ok();
    assert_eq!(ran().last().map(String::as_str), Some("poststop"));
    assert_eq!(ran().len(), 6);
    bundle.assert_nothing_left();
}

fn state_on_standard_input(test: &Test) {
    let (bundle, file) = recording(test, &["sleep"]);
    let notes = json!({ "org.example/path": "/a/b", "x": "ü" });
    let bundle = bundle.edit(|config| config["annotations"] = notes.clone());
    let container = bundle.ready();
    let pid = container.pid();
    container.end();
    let records = records(&file);
    assert_eq!(records.len(), 6);
    for (record, (list, status)) in records.iter().zip(LISTS) {
        let state = &record["state"];
        assert_eq!(state["id"], json!(bundle.id), "{list}");
        assert_eq!(state["bundle"], json!(bundle.dir), "{list}");
        assert_eq!(state["annotations"], notes, "{list}");
        assert!(state["ociVersion"].is_string(), "{list}");
        assert_eq!(state["status"], status, "{list}");
        let text = record["stdin"].as_str().unwrap_or_default();
        assert!(
            !text.trim_end().contains('\n') && !text.contains("\\/"),
            "compact, slashes as they are: {text}"
        );
        if ["prestart", "createRuntime", "poststart"].contains(&list) {
            assert_eq!(
                state["pid"],
                json!(pid),
                "{list}: the pid as the runtime sees it"
            );
        }
    }
}

fn hook_environment(test: &Test) {
    let file = record_file(test, "record");
    let path = file.to_string_lossy().into_owned();
    let given =
        json!({ "path": test.machine.probe, "args": ["a0", "hook", path], "env": ["ONLY=this"] });
    let bare = json!({ "path": test.machine.probe, "args": ["bare", "hook", path] });
    let bundle = add(
        add(Bundle::new(test), "createRuntime", given),
        "createRuntime",
        bare,
    );
    bundle
        .run_call(&[])
        .env("SECRET", "of the caller")
        .through_shell("exec 5</ 6</tmp")
        .output()
        .success();
    let records = records(&file);
    assert_eq!(records[0]["env"], json!(["ONLY=this"]));
    assert_eq!(records[0]["argv"][0], "a0");
    let env = records[1]["env"].to_string();
    assert!(!env.contains("SECRET"), "the caller's environment: {env}");
    for record in &records {
        let all = record["fds"].as_array().cloned().unwrap_or_default();
        let extra: Vec<_> = all
            .iter()
            .filter(|fd| fd["fd"].as_u64() > Some(2))
            .collect();
        assert!(extra.is_empty(), "descriptors of the runtime: {extra:?}");
    }
}

fn hook_namespaces(test: &Test) {
    let (bundle, file) = recording(test, &["report"]);
    let inside = crate::container::Report(bundle.run().success().json());
    let host = test.probe(&["report"]).output().success().json()["namespaces"].clone();
    let records = records(&file);
    assert_eq!(records.len(), 6);
    for (record, (list, _)) in records.iter().zip(LISTS) {
        let seen = |kind: &str| record["namespaces"][kind].clone();
        let (expected, whose) = match list {
            "createContainer" | "startContainer" => {
                (inside.at("/namespaces").clone(), "the container's")
            }
            _ => (host.clone(), "the host's"),
        };
        for kind in ["net", "ipc", "uts"] {
            assert_eq!(seen(kind), expected[kind], "{list}: {kind} is not {whose}");
        }
    }
    // createContainer runs before the root changes, startContainer after.
    assert_ne!(records[2]["root"]["inode"], records[3]["root"]["inode"]);
    assert_eq!(
        records[2]["namespaces"]["mnt"],
        inside.at("/namespaces")["mnt"]
    );
}

fn failing_hook_stops_creation(test: &Test) {
    for list in ["prestart", "createRuntime", "createContainer"] {
        let file = record_file(test, list);
        let failing = hook(test, &["hook", &file.to_string_lossy(), "7"]);
        let bundle = add(Bundle::new(test).args(&["exit", "0"]), list, failing);
        // What the hook wrote belongs into the message.
        bundle.refused(&[list, "7", "probe hook says 7"]);
        bundle
            .run_call(&[])
            .output()
            .code(1)
            .says(&["probe hook says 7"]);
        bundle.assert_nothing_left();
    }
}

fn failing_start_hook(test: &Test) {
    let failing = json!({ "path": "/bin/probe", "args": ["probe", "exit", "7"] });
    let bundle = add(
        Bundle::new(test).args(&["sleep"]),
        "startContainer",
        failing,
    );
    let container = bundle.create();
    bundle
        .on(&["start"])
        .output()
        .code(1)
        .says(&["startContainer"]);
    container.wait_status("stopped");
    assert_eq!(
        container.printed().matches("READY").count(),
        0,
        "the program ran after a failed hook"
    );
    container.end();
}

/// Since 1.3.0 of the specification a failing poststart hook ends the container
/// and destroys it.
fn failing_poststart_kills(test: &Test) {
    let file = record_file(test, "record");
    let failing = hook(test, &["hook", &file.to_string_lossy(), "7"]);
    let bundle = add(Bundle::new(test).args(&["sleep"]), "poststart", failing);
    let container = bundle.create();
    let pid = container.pid();
    let output = bundle.on(&["start"]).output().code(1);
    output.says(&["poststart"]);
    let alive = fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok();
    assert!(!alive, "the container runs on");
    drop(container);
    bundle.assert_nothing_left();
}

fn failing_poststop_warns(test: &Test) {
    let file = record_file(test, "record");
    let failing = hook(test, &["hook", &file.to_string_lossy(), "7"]);
    let second = hook(test, &["hook", &file.to_string_lossy(), "0"]);
    let bundle = add(
        add(Bundle::new(test).args(&["sleep"]), "poststop", failing),
        "poststop",
        second,
    );
    let container = bundle.create();
    bundle.on(&["delete"]).output().success();
    assert_eq!(
        records(&file).len(),
        2,
        "the hooks after a failed one still run"
    );
    drop(container);
    bundle.assert_nothing_left();
}

fn hook_timeout(test: &Test) {
    let file = record_file(test, "record");
    let mut slow = hook(test, &["hook", &file.to_string_lossy(), "0", "30"]);
    slow["timeout"] = json!(1);
    let bundle = add(Bundle::new(test), "createRuntime", slow);
    let begin = Instant::now();
    bundle.refused(&["createRuntime", "timeout"]);
    assert!(begin.elapsed() < Duration::from_secs(5));
    let pid = records(&file)[0]["pid"].to_string();
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "the hook lives on"
    );
    let never = json!({ "path": test.machine.probe, "timeout": 0 });
    add(Bundle::new(test), "createRuntime", never).refused(&["timeout"]);
}

fn missing_hook(test: &Test) {
    let gone = json!({ "path": "/not/here/hook" });
    add(Bundle::new(test), "createRuntime", gone).refused(&["/not/here/hook"]);
}

/// How GPU vendors put their libraries into containers.
fn hook_mounts_appear(test: &Test) {
    let bundle = Bundle::new(test);
    let target = bundle.rootfs().join("var");
    let mounting = hook(test, &["mount-tmpfs", &target.to_string_lossy()]);
    // In the container's own mount namespace, where an ordinary user may mount too.
    let report = add(bundle, "createContainer", mounting).report();
    assert!(report.is_mounted("/var"));
}

fn hooks_as_at_create(test: &Test) {
    let (bundle, file) = recording(test, &["exit", "0"]);
    let container = bundle.create();
    let mut edited = bundle.config.clone();
    edited["hooks"] = json!({});
    bundle.save_text(&edited.to_string());
    container.start();
    container.wait_status("stopped");
    bundle.on(&["delete"]).ok();
    assert_eq!(
        records(&file).len(),
        6,
        "hooks are those of the time of creation"
    );
}

/// Hooks that bring device files and libraries in want the mounts to be there.
fn runtime_hooks_find_the_mounts(test: &Test) {
    let file = record_file(test, "mounts");
    let script = format!(
        r#"pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/'); cat /proc/$pid/mountinfo > {}"#,
        file.display()
    );
    let copy = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let bundle = add(Bundle::new(test), "createRuntime", copy);
    let rootfs = bundle.rootfs();
    bundle.run_probe(&["exit", "0"]).success();
    let seen = fs::read_to_string(&file).unwrap_or_default();
    for point in ["proc", "dev", "dev/pts", "sys"] {
        let point = rootfs.join(point);
        let found = seen.contains(&format!(" {} ", point.display()));
        assert!(found, "{} is not among:\n{seen}", point.display());
    }
}
