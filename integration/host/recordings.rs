//! `run --record-profile`: the profile of what a program did, and the same
//! program under it.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::denials::{FLOOR, REPORT, denied};
use crate::needs::busybox;
use crate::roles::Test;
use crate::runtime::Output;
use crate::seccomp::with_profile;

cases! {
    ALL []: recorded_run_passes_again, recorded_run_with_children, recording_is_above_the_floor,
        what_was_not_recorded_is_denied, unwritable_profile;
    ALL [Busybox]: recorded_shell;
}

/// Records a run, and runs the same again under the profile.
#[track_caller]
fn recorded<'t>(test: &'t Test, bundle: Bundle<'t>) -> (Bundle<'t>, Output) {
    let file = test.path("recorded.json");
    let path = file.to_string_lossy().into_owned();
    let first = bundle.run_call(&["--record-profile", &path]).output();
    let first = first.success().says(&[&path, "system calls of this run"]);
    bundle.assert_nothing_left();
    let text = fs::read(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let profile: Value = serde_json::from_slice(&text).unwrap_or_default();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "{profile:#}");
    test.capsid(&["seccomp", "check", &path]).ok();
    let bundle = bundle.edit(|config| config["linux"]["seccomp"] = profile);
    let again = bundle.run().success();
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(again.stderr, "");
    (bundle, again)
}

fn recorded_run_passes_again(test: &Test) {
    let calls = [
        "calls",
        "getpid",
        "socket 1 1 0",
        "socket 16 3 0",
        "getpriority 0 0",
        "unshare 0x400",
    ];
    let (bundle, _) = recorded(test, Bundle::new(test).args(&calls));
    let rules = bundle.config["linux"]["seccomp"]["syscalls"].to_string();
    for name in ["getpriority", "socket", "unshare", "execve"] {
        assert!(rules.contains(name), "{name}: {rules}");
    }
    for name in ["bind", "ptrace", "mount", "io_uring_setup"] {
        assert!(!rules.contains(name), "{name}: {rules}");
    }
    let report = bundle.run_call(REPORT).output().success();
    assert_eq!(report.stderr, "capsid: the seccomp filter denied nothing\n");
}

fn recorded_run_with_children(test: &Test) {
    let words = ["spawn", "2", "/bin/probe", "mkdir", "/tmp"];
    let (_, output) = recorded(test, Bundle::new(test).args(&words));
    assert_eq!(output.text(), "EEXIST\ncode 1\nEEXIST\ncode 1");
}

fn recorded_shell(test: &Test) {
    let bundle = Bundle::new(test);
    let program = busybox().unwrap_or_else(|| panic!("no busybox"));
    let bytes = fs::read(program).unwrap_or_else(|error| panic!("read: {error}"));
    bundle.program("bin/busybox", bytes);
    bundle.link("bin/sh", "busybox");
    let script = "set -e; busybox id -u; busybox seq 100 | busybox awk '{ s += $1 } END { print s }'; \
                  for n in 1 2 3; do echo $n > /dev/shm/$n; done; busybox ls /dev/shm; \
                  busybox sleep 0 & wait $!; echo $?";
    let (_, output) = recorded(test, bundle.raw_args(&["/bin/sh", "-c", script]));
    assert_eq!(output.text(), "0\n5050\n1\n2\n3\n0");
}

/// A recording lets through what a profile denies, and the floor's word holds.
fn recording_is_above_the_floor(test: &Test) {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
    ]});
    let file = test.path("p.json").to_string_lossy().into_owned();
    let calls = [
        "calls",
        "keyctl 0 -3 0",
        "socket 38 5 0",
        "getpriority 0 0",
        "mount 0 0 0 0 0",
    ];
    let profiled = with_profile(test, profile);
    for bundle in [Bundle::new(test), profiled] {
        let bundle = bundle.args(&calls);
        let flags = ["--record-profile", &file];
        let output = bundle.run_call(&flags).output().success();
        assert_eq!(output.text(), "EPERM\nEAFNOSUPPORT\nok 20\nEFAULT");
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            text.contains("getpriority") && text.contains("\"mount\""),
            "{text}"
        );
        assert!(
            !text.contains("keyctl") && !text.contains("socket"),
            "{text}"
        );
    }
}

fn what_was_not_recorded_is_denied(test: &Test) {
    let words = ["calls", "getpid", "socket 1 1 0"];
    let (bundle, _) = recorded(test, Bundle::new(test).args(&words));
    let calls = [
        "calls",
        "getpriority 0 0",
        "socket 1 1 0",
        "socket 2 1 0",
        "socket 0x100000001 1 0",
        "getuid",
    ];
    let bundle = bundle.args(&calls);
    let output = bundle.run().success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "EPERM");
    assert!(lines[1].starts_with("ok "), "{lines:?}");
    assert_eq!(lines[2..], ["EPERM", "EAFNOSUPPORT", "EPERM"]);
    // What the report proposes is what was missing.
    let lines = denied(&bundle.run_call(REPORT).output().success());
    let bundle = bundle.edit(|config| {
        for line in lines.iter().filter(|line| !line.contains(FLOOR)) {
            let rule = line.split(" with ").last().unwrap_or_default();
            let rule = serde_json::from_str(rule).unwrap_or_else(|error| panic!("{line}: {error}"));
            push(&mut config["linux"]["seccomp"]["syscalls"], rule);
        }
    });
    let output = bundle.run().success();
    let allowed = output.stdout.lines().filter(|line| line.starts_with("ok "));
    assert_eq!(allowed.count(), 4, "{output:?}");
}

fn unwritable_profile(test: &Test) {
    let file = test.path("absent/p.json").to_string_lossy().into_owned();
    let bundle = Bundle::new(test).args(&["calls", "getpid"]);
    let output = bundle.run_call(&["--record-profile", &file]).output();
    let output = output.failure().says(&[&file]);
    // Known before the program has run for nothing.
    assert_eq!(output.stdout, "");
    bundle.assert_nothing_left();
}
