//! `SCMP_ACT_NOTIFY`: the listener of a filter goes to the supervisor that the
//! profile names, for `run`, `create` and `start`, and `exec`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;
use crate::runtime::Running;
use crate::seccomp::with_profile;

cases! {
    ALL []: run_hands_the_listener_on, start_hands_the_listener_on, exec_hands_its_own_on,
        answers_reach_the_program, every_call_can_be_supervised, metadata_is_optional,
        nothing_is_left_inside, without_a_supervisor, start_without_a_supervisor,
        exec_without_a_supervisor, supervisor_that_hangs_up, a_path_is_needed,
        floor_is_not_for_supervisors;
}

/// A profile with a supervisor for these calls.
fn supervised<'t>(test: &'t Test, names: &[&str]) -> Bundle<'t> {
    with_profile(
        test,
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket(test),
            "listenerMetadata": "of \"this\" container\n",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }],
        }),
    )
}

fn socket(test: &Test) -> PathBuf {
    test.path("supervisor.sock")
}

/// A supervisor that answers every call with the same.
#[track_caller]
fn supervisor(test: &Test, answer: &[&str]) -> Running {
    let path = socket(test).to_string_lossy().into_owned();
    let mut words = vec!["supervise", &path];
    words.extend_from_slice(answer);
    let mut running = test.probe(&words).start();
    running.wait_for("READY");
    running
}

/// The lines of the supervisor that have this member.
fn lines(supervisor: &Running, member: &str) -> Vec<Value> {
    let text = supervisor.so_far();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get(member).is_some()).collect()
}

/// What came with the listener: one message, one descriptor, and then nothing.
#[track_caller]
fn message(supervisor: &Running, index: usize) -> Value {
    let came = lines(supervisor, "payload");
    let line = came.get(index).unwrap_or_else(|| panic!("{came:?}"));
    assert_eq!(line["descriptors"], 1, "{line}");
    assert_eq!(line["target"], "anon_inode:seccomp notify", "{line}");
    assert_eq!(line["rest"], 0, "{line}");
    let payload = line["payload"].as_str().unwrap_or_default();
    serde_json::from_str(payload).unwrap_or_else(|error| panic!("{payload}: {error}"))
}

/// The container process state of the runtime specification.
#[track_caller]
fn expect_message(message: &Value, bundle: &Bundle, status: &str) {
    assert_eq!(message["ociVersion"], bundle.config["ociVersion"]);
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!(message["metadata"], "of \"this\" container\n");
    let state = &message["state"];
    assert_eq!(state["ociVersion"], bundle.config["ociVersion"]);
    assert_eq!(state["id"], json!(bundle.id));
    assert_eq!(state["status"], status, "{message}");
    assert_eq!(state["bundle"], json!(bundle.dir));
    assert_eq!(state["annotations"]["a"], "b", "{message}");
    assert!(
        message["pid"].as_i64().is_some_and(|pid| pid > 1),
        "{message}"
    );
}

fn annotated(bundle: Bundle) -> Bundle {
    bundle.edit(|config| config["annotations"] = json!({ "a": "b" }))
}

fn run_hands_the_listener_on(test: &Test) {
    let mut supervisor = supervisor(test, &["value", "7"]);
    let calls = ["calls", "mkdirat -100 /nowhere/at/all 0", "getppid"];
    let bundle = annotated(supervised(test, &["mkdir", "mkdirat"])).args(&calls);
    let output = bundle.run().success();
    assert_eq!((output.text(), &*output.stderr), ("ok 7\nok 0", ""));
    supervisor.wait_for("END");
    let message = message(&supervisor, 0);
    expect_message(&message, &bundle, "creating");
    assert_eq!(
        message["pid"], message["state"]["pid"],
        "the container's own process"
    );
    let asked = lines(&supervisor, "call");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["call"], "mkdirat");
    assert_eq!(asked[0]["pid"], message["pid"]);
    assert_eq!(asked[0]["args"][0], json!(u64::MAX - 99));
    bundle.assert_nothing_left();
}

/// The filter is loaded last of all, so a created container has none yet.
fn start_hands_the_listener_on(test: &Test) {
    let mut supervisor = supervisor(test, &["value", "0"]);
    let bundle = annotated(supervised(test, &["mkdir", "mkdirat"])).args(&[
        "spawn",
        "2",
        "/bin/probe",
        "mkdir",
        "/nowhere/x",
    ]);
    let mut container = bundle.create();
    assert_eq!(supervisor.so_far(), "READY\n");
    let pid = container.pid();
    container.start();
    container.wait_for("ok\ncode 0\nok\ncode 0");
    supervisor.wait_for("END");
    let message = message(&supervisor, 0);
    expect_message(&message, &bundle, "created");
    assert_eq!(
        (&message["pid"], &message["state"]["pid"]),
        (&json!(pid), &json!(pid))
    );
    assert_eq!(lines(&supervisor, "call").len(), 2);
    container.end();
}

fn exec_hands_its_own_on(test: &Test) {
    let mut supervisor = supervisor(test, &["errno", "95"]);
    let bundle = annotated(supervised(test, &["mkdir", "mkdirat"])).args(&["sleep"]);
    let container = bundle.ready();
    supervisor.wait_for("payload");
    for round in 1..=2 {
        let output = container.exec(&[], &["mkdir", "/nowhere/x"]).code(1);
        assert_eq!((output.text(), &*output.stderr), ("EOPNOTSUPP", ""));
        let message = message(&supervisor, round);
        expect_message(&message, &bundle, "running");
        assert_eq!(message["state"]["pid"], json!(container.pid()));
        assert_ne!(message["pid"], message["state"]["pid"]);
        assert_eq!(lines(&supervisor, "call")[round - 1]["pid"], message["pid"]);
    }
    // Its own filter is gone with it; that of the container is not.
    supervisor.wait_for("END\n");
    let detached = ["--detach"];
    container
        .exec(&detached, &["mkdir", "/nowhere/x"])
        .success();
    supervisor.wait_for("END\n");
    container.end();
}

fn answers_reach_the_program(test: &Test) {
    for (answer, seen) in [
        (&["value", "12345"][..], "ok 12345"),
        (&["errno", "13"], "EACCES"),
        (&["continue"], "ENOENT"),
    ] {
        let supervisor = supervisor(test, answer);
        let bundle = supervised(test, &["mkdirat"]);
        let output = bundle.run_probe(&["calls", "mkdirat -100 /nowhere/at/all 0"]);
        assert_eq!(output.success().text(), seen);
        drop(supervisor);
        let removed = std::fs::remove_file(socket(test));
        assert!(removed.is_ok(), "{removed:?}");
    }
}

/// From the first call after the filter: the runtime's own ones wait too.
fn every_call_can_be_supervised(test: &Test) {
    let mut supervisor = supervisor(test, &["continue"]);
    let names = [
        "execve",
        "execveat",
        "read",
        "recvmsg",
        "recvfrom",
        "sendmsg",
        "sendto",
        "close",
        "close_range",
        "exit_group",
        "exit",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "openat",
        "dup3",
        "fcntl",
        "prctl",
        "poll",
        "ppoll",
        "wait4",
        "waitid",
        "kill",
        "pidfd_open",
        "pidfd_send_signal",
        "clone",
        "rt_sigaction",
        "rt_sigprocmask",
        "capset",
        "setuid",
        "getpid",
        "futex",
        "readlink",
        "arch_prctl",
        "set_tid_address",
        "prlimit64",
    ];
    let bundle = supervised(test, &names).args(&["calls", "getpid"]);
    let output = bundle.run().success();
    assert_eq!((output.text(), &*output.stderr), ("ok 1", ""));
    supervisor.wait_for("END");
    let asked = lines(&supervisor, "call");
    assert!(
        asked.iter().any(|call| call["call"] == "execve"),
        "{asked:?}"
    );
    assert!(
        asked.iter().any(|call| call["call"] == "getpid"),
        "{asked:?}"
    );
    bundle.assert_nothing_left();
    // And for a container that waits, and one that is joined.
    let bundle = supervised(test, &names).args(&["sleep"]);
    let container = bundle.ready();
    container.exec(&[], &["exit", "9"]).code(9);
    container.end();
}

fn metadata_is_optional(test: &Test) {
    let mut supervisor = supervisor(test, &["value", "0"]);
    let bundle = supervised(test, &["mkdir"])
        .edit(|config| {
            let profile = config["linux"]["seccomp"].as_object_mut();
            profile.map(|profile| profile.remove("listenerMetadata"));
        })
        .args(&["exit", "0"]);
    bundle.run().success();
    supervisor.wait_for("END");
    let message = message(&supervisor, 0);
    assert_eq!(message.get("metadata"), None, "{message}");
}

/// No process, no descriptor, no signal disposition that was only for the handing on.
fn nothing_is_left_inside(test: &Test) {
    let _supervisor = supervisor(test, &["continue"]);
    let plain = Bundle::new(test).report();
    let report = supervised(test, &["mkdir"]).report();
    report.expect("/seccomp", json!(2));
    report.expect("/seccomp_filters", json!(1));
    let numbers = |report: &crate::container::Report| -> Vec<Value> {
        let fds = report.at("/fds").as_array().cloned().unwrap_or_default();
        fds.into_iter().map(|fd| fd["fd"].clone()).collect()
    };
    assert_eq!(numbers(&report), numbers(&plain));
    let signals = |bundle: Bundle| -> Vec<String> {
        let status = bundle.run_probe(&["cat", "/proc/self/status"]).success();
        let lines = status.stdout.lines().map(str::to_owned);
        lines
            .filter(|line| line.starts_with("Sig") || line.starts_with("Shd"))
            .filter(|line| !line.starts_with("SigQ"))
            .collect()
    };
    assert_eq!(
        signals(supervised(test, &["mkdir"])),
        signals(Bundle::new(test))
    );
    let bundle = supervised(test, &["mkdir"]).args(&["sleep"]);
    let container = bundle.ready();
    let output = container.exec(&[], &["ls", "/proc"]).success().json();
    let processes = output
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let processes: Vec<&str> = processes
        .filter(|name| name.parse::<u32>().is_ok())
        .collect();
    assert_eq!(
        processes.len(),
        2,
        "the program and that of exec: {processes:?}"
    );
    container.end();
}

fn without_a_supervisor(test: &Test) {
    let path = socket(test).to_string_lossy().into_owned();
    let bundle = supervised(test, &["mkdir"]).args(&["sleep"]);
    bundle.run().failure().says(&[&path]);
    bundle.assert_nothing_left();
    let bundle = supervised(test, &["mkdir"]).args(&["sleep"]);
    bundle
        .run_call(&["--detach"])
        .output()
        .failure()
        .says(&[&path]);
    bundle.assert_nothing_left();
}

/// Nothing runs unsupervised.
fn start_without_a_supervisor(test: &Test) {
    let path = socket(test).to_string_lossy().into_owned();
    let bundle = supervised(test, &["mkdir"]).args(&["sleep"]);
    let container = bundle.create();
    bundle.on(&["start"]).output().failure().says(&[&path]);
    container.wait_status("stopped");
    assert_eq!(container.printed(), "");
    container.end();
}

fn exec_without_a_supervisor(test: &Test) {
    let path = socket(test).to_string_lossy().into_owned();
    let mut supervisor = supervisor(test, &["value", "0"]);
    let bundle = supervised(test, &["mkdir"]).args(&["sleep"]);
    let container = bundle.ready();
    supervisor.stop();
    let output = container.exec(&[], &["calls", "getpid"]).failure();
    assert_eq!(output.stdout, "");
    output.says(&[&path]);
    assert_eq!(container.status(), "running");
    let _supervisor = {
        let removed = std::fs::remove_file(socket(test));
        assert!(removed.is_ok(), "{removed:?}");
        crate::supervisors::supervisor(test, &["value", "0"])
    };
    let count = || {
        let processes = container.exec(&[], &["ls", "/proc"]).success().json();
        let left = processes.as_array().into_iter().flatten();
        let is_process = |name: &&Value| {
            let name = name.as_str();
            name.is_some_and(|name| name.parse::<u32>().is_ok())
        };
        left.filter(is_process).count()
    };
    // Whoever brought the listener out may take a moment to end.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while count() != 2 {
        assert!(
            std::time::Instant::now() < end,
            "the failed process is left"
        );
    }
    container.end();
}

/// Then the kernel has nobody to ask, and says so.
fn supervisor_that_hangs_up(test: &Test) {
    let mut supervisor = supervisor(test, &["value", "0"]);
    let bundle = supervised(test, &["mkdir", "mkdirat"]).args(&["sleep-trap"]);
    let container = bundle.ready();
    supervisor.stop();
    assert_eq!(container.status(), "running");
    container.kill("TERM");
    container.wait_status("stopped");
    container.end();
    let removed = std::fs::remove_file(socket(test));
    assert!(removed.is_ok(), "{removed:?}");
    let mut supervisor = crate::supervisors::supervisor(test, &["hang-up"]);
    let output = supervised(test, &["mkdir"]).run_probe(&["mkdir", "/nowhere/x"]);
    assert_eq!(output.code(1).text(), "ENOSYS");
    supervisor.stop();
}

fn a_path_is_needed(test: &Test) {
    let without = |members: &[&str]| {
        supervised(test, &["mkdir"]).edit(|config| {
            for member in members {
                let profile = config["linux"]["seccomp"].as_object_mut();
                profile.map(|profile| profile.remove(*member));
            }
        })
    };
    let bundle = without(&["listenerPath", "listenerMetadata"]);
    bundle.refused(&["/linux/seccomp/listenerPath"]);
    let bundle = without(&["listenerPath"]);
    bundle.refused(&["/linux/seccomp/listenerMetadata", "listenerPath"]);
}

/// Calls that the floor denies are not for a supervisor to allow.
fn floor_is_not_for_supervisors(test: &Test) {
    let mut supervisor = supervisor(test, &["value", "0"]);
    let names = ["setns", "socket", "unshare", "mkdirat"];
    let calls = [
        "calls",
        "setns -1 0",
        "socket 38 5 0",
        "unshare 0x10000000",
        "mkdirat -100 /x 0",
        "socket 1 1 0",
    ];
    let output = supervised(test, &names).run_probe(&calls).success();
    assert_eq!(output.text(), "EPERM\nEAFNOSUPPORT\nEPERM\nok 0\nok 0");
    supervisor.wait_for("END");
    assert_eq!(lines(&supervisor, "call").len(), 2);
}
