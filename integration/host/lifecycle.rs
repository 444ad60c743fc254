//! The life of a container: create, start, kill, delete, and what is refused when.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: create_start_split, state_document, annotations_are_passed_on, id_in_use_is_left_alone,
        start_twice, start_stopped, delete_rules, delete_missing, kill_forms, kill_unknown_signal,
        kill_stopped, commands_on_nothing, exec_in_stopped, pid_file, relative_bundle,
        later_edits_have_no_effect, exit_codes, run_keep, run_detached, signals_are_forwarded,
        standard_input_passes, nobody_stays_as_parent, versions_and_unknown_fields, caller_umask,
        killed_from_outside;
    ROOT []: pause_and_resume;
}

fn create_start_split(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let mut container = bundle.create();
    assert_eq!(container.status(), "created");
    assert!(container.pid() > 0);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(container.printed(), "", "the program ran before start");
    container.start();
    container.wait_for("READY");
    assert_eq!(container.status(), "running");
    container.kill("KILL");
    container.wait_status("stopped");
    assert_eq!(container.pid(), 0, "a stopped container has pid 0");
    bundle.on(&["delete"]).ok();
    bundle.assert_nothing_left();
}

fn state_document(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    let text = bundle.on(&["state"]).ok();
    assert!(
        text.starts_with("{\n  \"ociVersion\": "),
        "two blanks of indent, ociVersion first: {text}"
    );
    assert!(!text.ends_with('\n'), "no newline at the end: {text:?}");
    let state = container.state();
    assert_eq!(state["id"], json!(bundle.id));
    assert_eq!(state["bundle"], json!(bundle.dir));
    assert_eq!(state["rootfs"], json!(bundle.rootfs()));
    assert!(
        state["ociVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("1."))
    );
    assert!(state["owner"].is_string(), "owner is always there: {state}");
    assert_eq!(
        state.get("annotations"),
        None,
        "empty annotations are left out"
    );
    let created = state["created"].as_str().unwrap_or_default();
    let shape: String = created
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert!(
        shape.starts_with("0000-00-00T00:00:00"),
        "{created} is not RFC 3339"
    );
    assert!(created.ends_with('Z'), "{created} is not in UTC");
    container.end();
}

fn annotations_are_passed_on(test: &Test) {
    let notes = json!({ "org.example/key": "a/b <c> & \"d\"", "empty": "" });
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["annotations"] = notes.clone());
    let container = bundle.create();
    assert_eq!(container.state()["annotations"], notes);
    container.end();
}

fn id_in_use_is_left_alone(test: &Test) {
    let first = Bundle::new(test).args(&["sleep"]);
    let mut container = first.create();
    let before = container.state();
    let mut second = Bundle::new(test).args(&["exit", "5"]);
    let own = std::mem::replace(&mut second.id, first.id.clone());
    second
        .create_call(&[])
        .output()
        .code(1)
        .says(&["container with given ID already exists"]);
    second
        .run_call(&[])
        .output()
        .code(1)
        .says(&["container with given ID already exists"]);
    second.id = own;
    assert_eq!(container.state(), before);
    container.start();
    container.wait_for("READY");
    assert_eq!(container.status(), "running");
    container.end();
}

fn start_twice(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let again = bundle.on(&["start"]).output().code(1);
    again.says(&["cannot start an already running container"]);
    assert_eq!(container.status(), "running");
    container.end();
}

fn start_stopped(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let container = bundle.create();
    container.start();
    container.wait_status("stopped");
    bundle
        .on(&["start"])
        .output()
        .code(1)
        .says(&["cannot start a container that has stopped"]);
    container.end();
}

fn delete_rules(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let text = format!(
        "cannot delete container {} that is not stopped: running",
        bundle.id
    );
    bundle.on(&["delete"]).output().code(1).says(&[&text]);
    assert_eq!(container.status(), "running");
    container.end();
    // A created one has not run yet: it goes without force.
    let container = bundle.create();
    let pid = container.pid();
    bundle.on(&["delete"]).ok();
    bundle.assert_nothing_left();
    assert!(
        !Path::new(&format!("/proc/{pid}/ns/mnt")).exists(),
        "its process lives on"
    );
    drop(container);
}

fn delete_missing(test: &Test) {
    let absent = |words: &[&str]| test.capsid(words).output();
    absent(&["delete", "nobody"])
        .code(1)
        .says(&["container does not exist"]);
    let forced = absent(&["delete", "--force", "nobody"]).success();
    assert_eq!(
        (forced.stdout.as_str(), forced.stderr.as_str()),
        ("", ""),
        "silent"
    );
    absent(&["delete", "-f", "nobody"]).success();
    // What an interrupted creation can leave behind.
    let rest = test.state_root().join("interrupted");
    test.make_dir(&rest);
    absent(&["delete", "--force", "interrupted"]).success();
    assert!(!rest.exists(), "the leftover directory stays");
}

fn kill_forms(test: &Test) {
    for signal in [&[][..], &["TERM"], &["SIGTERM"], &["term"], &["15"]] {
        let bundle = Bundle::new(test).args(&["sleep-trap"]);
        let container = bundle.ready();
        let mut words = vec!["kill", bundle.id.as_str()];
        words.extend_from_slice(signal);
        test.capsid(&words).ok();
        container.wait_status("stopped");
        container.end();
    }
    let bundle = Bundle::new(test).args(&["sleep-trap"]);
    let mut container = bundle.ready();
    container.kill("USR1");
    container.wait_for("SIGNAL 10");
    test.capsid(&["kill", "--all", &bundle.id, "9"]).ok();
    container.wait_status("stopped");
    container.end();
}

fn kill_unknown_signal(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for signal in ["NOPE", "0x9", "-1", "4000"] {
        test.capsid(&["kill", &bundle.id, signal])
            .output()
            .failure();
    }
    test.capsid(&["kill", &bundle.id, "NOPE"])
        .output()
        .code(1)
        .says(&["unknown signal \"NOPE\""]);
    assert_eq!(container.status(), "running");
    container.end();
}

fn kill_stopped(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let container = bundle.create();
    container.start();
    container.wait_status("stopped");
    test.capsid(&["kill", &bundle.id, "KILL"])
        .output()
        .code(1)
        .says(&["container not running"]);
    test.capsid(&["kill", "--all", &bundle.id, "KILL"]).ok();
    container.end();
}

fn commands_on_nothing(test: &Test) {
    for command in ["state", "start", "kill", "ps", "pause", "resume", "delete"] {
        let output = test.capsid(&[command, "nobody"]).output().code(1);
        output.says(&["container does not exist"]);
    }
    let exec = test.capsid(&["exec", "nobody", "/bin/true"]).output();
    exec.code(255).says(&["container does not exist"]);
}

fn exec_in_stopped(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let container = bundle.create();
    container.start();
    container.wait_status("stopped");
    container
        .exec(&[], &["exit", "0"])
        .code(255)
        .says(&["cannot exec in a stopped container"]);
    container.end();
}

fn pid_file(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let file = test.path("pid");
    let container = bundle.create_with(&["--pid-file", &file.to_string_lossy()]);
    let text = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, container.pid().to_string(), "decimal and no newline");
    container.end();
    // Relative to where the runtime was started, not to the bundle.
    let call = bundle.create_call(&["--pid-file", "relative.pid"]);
    call.dir(&test.dir).ok();
    assert!(test.path("relative.pid").exists());
    let names = fs::read_dir(&test.dir).into_iter().flatten().flatten();
    let hidden: Vec<_> = names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(hidden.is_empty(), "a temporary file stays: {hidden:?}");
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
}

fn relative_bundle(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle.save();
    bundle.on(&["create"]).dir(&bundle.dir).ok();
    let state: Value = bundle.on(&["state"]).output().success().json();
    assert_eq!(state["bundle"], json!(bundle.dir));
    bundle.on(&["delete", "--force"]).ok();
    let name = bundle.dir.file_name().unwrap_or_default().to_string_lossy();
    bundle
        .on(&["create", "--bundle", &name])
        .dir(&test.dir)
        .ok();
    let state: Value = bundle.on(&["state"]).output().success().json();
    assert_eq!(state["bundle"], json!(bundle.dir));
    bundle.on(&["delete", "--force"]).ok();
}

fn later_edits_have_no_effect(test: &Test) {
    let bundle = Bundle::new(test).args(&["env", "WHO"]);
    let bundle = bundle.edit(|config| config["process"]["env"] = json!(["WHO=first"]));
    let mut container = bundle.create();
    let edited = bundle.config.to_string().replace("WHO=first", "WHO=second");
    bundle.save_text(&edited);
    container.start();
    container.wait_for("WHO=");
    assert_eq!(container.printed().trim(), "WHO=first");
    container.end();
}

fn exit_codes(test: &Test) {
    for code in [0, 1, 42, 127, 255] {
        let bundle = Bundle::new(test).args(&["exit", &code.to_string()]);
        bundle.run().code(code);
        bundle.assert_nothing_left();
    }
    Bundle::new(test).run_probe(&["fault"]).code(128 + 11);
    // Without a pid namespace a process can end itself by any signal.
    let shared = Bundle::new(test).without_namespace("pid");
    if test.rootless() {
        // A fresh procfs needs a pid namespace that the user namespace owns.
        shared
            .without_mount("/proc")
            .mount(json!({ "destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"] }))
            .edit(|config| {
                config["linux"]["maskedPaths"] = json!([]);
                config["linux"]["readonlyPaths"] = json!([]);
            })
            .run_probe(&["signal", "TERM"])
            .code(128 + 15);
    } else {
        shared.run_probe(&["signal", "TERM"]).code(128 + 15);
    }
}

fn run_keep(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "3"]);
    bundle.run_call(&["--keep"]).output().code(3);
    let state = bundle.on(&["state"]).output().success().json();
    assert_eq!(state["status"], "stopped");
    bundle.on(&["delete"]).ok();
    bundle.assert_nothing_left();
}

fn run_detached(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let file = test.path("pid");
    let mut running = bundle
        .run_call(&["--detach", "--pid-file", &file.to_string_lossy()])
        .start();
    running.wait_for("READY");
    let output = running.wait().success();
    assert_eq!(output.text(), "READY");
    let state = bundle.on(&["state"]).output().success().json();
    assert_eq!(state["status"], "running");
    assert_eq!(
        fs::read_to_string(&file).unwrap_or_default(),
        state["pid"].to_string()
    );
    bundle.on(&["delete", "-f"]).ok();
    bundle.assert_nothing_left();
}

fn signals_are_forwarded(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep-trap"]);
    let mut running = bundle.run_call(&[]).start();
    running.wait_for("READY");
    running.signal(Signal::SIGUSR1);
    running.wait_for("SIGNAL 10");
    running.signal(Signal::SIGTERM);
    running.wait().code(42);
    bundle.assert_nothing_left();
}

fn standard_input_passes(test: &Test) {
    let bundle = Bundle::new(test).args(&["cat", "/dev/stdin"]);
    let output = bundle
        .run_call(&[])
        .stdin("line one\nline two")
        .output()
        .success();
    assert_eq!(output.stdout, "line one\nline two");
}

fn nobody_stays_as_parent(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let parent = rest.split(' ').nth(1).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{parent}/exe")).unwrap_or_default();
    assert_ne!(
        exe, test.machine.runtime,
        "the caller cannot wait for the process in the pid file"
    );
    container.end();
}

fn versions_and_unknown_fields(test: &Test) {
    for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0-rc.1+build"] {
        let bundle = Bundle::new(test).args(&["exit", "0"]).edit(|config| {
            config["ociVersion"] = json!(version);
            config["nobodyKnowsThis"] = json!({ "a": [1, null] });
            config["process"]["alsoUnknown"] = json!(true);
            config["linux"]["futureFeature"] = json!("x");
            config["windows"] = json!({ "layerFolders": ["c:\\"] });
            config["process"]["commandLine"] = json!("dir");
        });
        bundle.run().success();
    }
}

fn caller_umask(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let output = bundle
        .run_call(&[])
        .through_shell("umask 077")
        .output()
        .success();
    let report = crate::container::Report(output.json());
    assert_eq!(report.member("dev", "/dev/null")["mode"], "0666");
    assert_eq!(report.member("dev", "/dev/shm")["mode"], "1777");
    assert_eq!(report.member("dev", "/dev/pts")["mode"], "0755");
}

fn killed_from_outside(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let pid = i32::try_from(container.pid()).unwrap_or(0);
    assert!(pid > 1);
    let killed = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    assert!(killed.is_ok(), "{killed:?}");
    container.wait_status("stopped");
    bundle.on(&["delete"]).ok();
    bundle.assert_nothing_left();
}

fn pause_and_resume(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    bundle
        .on(&["resume"])
        .output()
        .code(1)
        .says(&["container not paused"]);
    bundle.on(&["pause"]).ok();
    assert_eq!(container.status(), "paused");
    let text = "cannot exec in a paused container (use --ignore-paused to override)";
    container.exec(&[], &["exit", "0"]).code(255).says(&[text]);
    bundle.on(&["resume"]).ok();
    assert_eq!(container.status(), "running");
    container.exec(&[], &["exit", "7"]).code(7);
    bundle.on(&["pause"]).ok();
    container.end();
}
