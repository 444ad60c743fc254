//! Denied system calls that people can see: `run --report-denials`,
//! and the end of a program by SIGSYS.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;
use crate::runtime::Output;
use crate::seccomp::{allow, with_profile};

cases! {
    ALL []: lines_of_the_default_profile, lines_of_a_profile, lines_of_the_floor, nothing_denied,
        status_is_the_programs, programs_are_told_apart, threads_and_children_are_counted, many_calls,
        many_different_calls, killed_calls, traps_are_explained, sigsys_is_explained,
        report_on_a_terminal, wrong_company, others_are_not_reported, program_that_may_not_be_executed;
}

pub(crate) const REPORT: &[&str] = &["--report-denials"];
pub(crate) const FLOOR: &str = "annotation dev.capsid.relax=seccomp-floor";

/// What the report says, without the words before each line.
#[track_caller]
pub(crate) fn denied(output: &Output) -> Vec<String> {
    let line = |line: &str| line.strip_prefix("capsid: denied: ").map(str::to_owned);
    let lines: Option<Vec<String>> = output.stderr.lines().map(line).collect();
    lines.unwrap_or_else(|| output.fail("denials and nothing else on standard error"))
}

#[track_caller]
fn report(bundle: Bundle, args: &[&str]) -> (Output, Vec<String>) {
    let bundle = bundle.args(args);
    let output = bundle.run_call(REPORT).output().success();
    bundle.assert_nothing_left();
    let lines = denied(&output);
    (output, lines)
}

/// The lines but for that on clone3, which libraries try before clone.
fn without_clone3(lines: &[String]) -> Vec<&str> {
    let others = lines.iter().filter(|line| !line.starts_with("clone3 by "));
    others.map(String::as_str).collect()
}

/// Insists on a start and an end of each line, in this order.
#[track_caller]
fn expect(lines: &[&str], expected: &[(&str, &str)]) {
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (start, end)) in lines.iter().zip(expected) {
        let right = line.starts_with(start) && line.ends_with(end);
        assert!(right, "{line}\n  is not {start} ... {end}");
    }
}

fn all(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

fn lines_of_the_default_profile(test: &Test) {
    let calls = [
        "calls",
        "mount 0 0 0 0 0",
        "mount 1 2 3 4 5",
        "getpid",
        "socket 38 5 0",
        "setsockopt -1 6 31 0 0",
        "5000",
    ];
    let (output, lines) = report(Bundle::new(test), &calls);
    let pid = "ok 1";
    let answers = [
        "EPERM",
        "EPERM",
        pid,
        "EAFNOSUPPORT",
        "ENOPROTOOPT",
        "ENOSYS",
    ];
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), answers);
    assert_eq!(
        lines[0],
        "mount by probe, 2 times: operation not permitted (EPERM): the default profile does not \
         have it; to allow it: linux.seccomp from `capsid seccomp print default` with \
         {\"action\":\"SCMP_ACT_ALLOW\",\"names\":[\"mount\"]}"
    );
    let socket = "socket(domain = AF_ALG) by probe, once: address family not supported by \
                  protocol (EAFNOSUPPORT): rule ";
    let option = "setsockopt(level = IPPROTO_TCP, optname = TCP_ULP) by probe, once: protocol not \
                  available (ENOPROTOOPT): rule ";
    let unknown = "system call 5000 of architecture 0xc000003e by probe, once: function not \
                   implemented (ENOSYS): newer than the default profile";
    expect(
        &all(&lines)[1..],
        &[
            (socket, FLOOR),
            (option, FLOOR),
            (unknown, "; no profile can name it"),
        ],
    );
    assert!(
        lines[1].contains(" of the default profile ("),
        "{}",
        lines[1]
    );
    let rule = r#"{"action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"SCMP_CMP_EQ","value":38}],"names":["socket"]}"#;
    assert!(lines[1].contains(rule), "{}", lines[1]);
}

fn lines_of_a_profile(test: &Test) {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
        { "names": ["dup3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
          "args": [{ "index": 1, "value": 77, "op": "SCMP_CMP_EQ" }] },
    ]});
    let calls = [
        "calls",
        "dup3 -1 77 0",
        "dup3 -1 78 0",
        "getpriority 0 0",
        "dup3 5 77 9",
    ];
    let (output, lines) = report(with_profile(test, profile), &calls);
    assert_eq!(output.text(), "EACCES\nEBADF\nEOPNOTSUPP\nEACCES");
    assert_eq!(
        lines,
        [
            "dup3(argument 1 = 0x4d) by probe, 2 times: permission denied (EACCES): \
             /linux/seccomp/syscalls/1; to allow it: a change of linux.seccomp.syscalls[1]",
            "getpriority by probe, once: operation not supported on transport endpoint \
             (EOPNOTSUPP): /linux/seccomp/syscalls/0; to allow it: a change of \
             linux.seccomp.syscalls[0]",
        ]
    );
}

fn lines_of_the_floor(test: &Test) {
    let calls = [
        "calls",
        "unshare 0x10000000",
        "unshare 0x20000000",
        "ioctl -1 0x5412 0",
        "keyctl 0 -3 0",
    ];
    let (output, lines) = report(with_profile(test, allow()), &calls);
    assert_eq!(output.text(), "EPERM\nEPERM\nEPERM\nEPERM");
    expect(
        &all(&lines),
        &[
            (
                "unshare(flags = CLONE_NEWUSER) by probe, once: operation not permitted (EPERM): rule ",
                "annotation dev.capsid.relax=seccomp-floor,nested-userns",
            ),
            ("unshare(flags = CLONE_NEWPID) by probe, once: ", FLOOR),
            ("ioctl(request = TIOCSTI) by probe, once: ", FLOOR),
            ("keyctl by probe, once: ", FLOOR),
        ],
    );
    let floor = lines
        .iter()
        .all(|line| line.contains(" of the floor profile ("));
    assert!(floor, "{lines:#?}");
}

fn nothing_denied(test: &Test) {
    let relaxed = Bundle::new(test).edit(|config| {
        let both = "seccomp-default,seccomp-floor";
        config["annotations"] = json!({ "dev.capsid.relax": both });
    });
    for bundle in [Bundle::new(test), with_profile(test, allow()), relaxed] {
        let bundle = bundle.args(&["calls", "getpid"]);
        let output = bundle.run_call(REPORT).output().success();
        assert_eq!(output.text(), "ok 1");
        assert_eq!(output.stderr, "capsid: the seccomp filter denied nothing\n");
    }
}

fn status_is_the_programs(test: &Test) {
    for code in [1, 42, 255] {
        let bundle = Bundle::new(test).args(&["exit", &code.to_string()]);
        bundle.run_call(REPORT).output().code(code);
        bundle.assert_nothing_left();
    }
    let bundle = Bundle::new(test).args(&["fault"]);
    bundle.run_call(REPORT).output().code(139);
    // A program that somebody else ends.
    let bundle = Bundle::new(test).args(&["sleep-trap"]);
    let mut running = bundle.run_call(REPORT).start();
    running.wait_for("READY");
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
    bundle.assert_nothing_left();
}

fn programs_are_told_apart(test: &Test) {
    let bundle = Bundle::new(test);
    let probe = bundle.rootfs().join("bin/probe");
    fs::hard_link(&probe, bundle.rootfs().join("bin/other"))
        .unwrap_or_else(|error| panic!("link: {error}"));
    let words = [
        "spawn",
        "3",
        "/bin/other",
        "calls",
        "keyctl 0 -3 0",
        "mount 0 0 0 0 0",
    ];
    let (output, lines) = report(bundle, &words);
    assert_eq!(output.text(), "EPERM\nEPERM\ncode 0\n".repeat(3).trim());
    let lines = without_clone3(&lines);
    expect(
        &lines,
        &[
            ("keyctl by other, 3 times: ", FLOOR),
            ("mount by other, 3 times: ", "}"),
        ],
    );
}

fn threads_and_children_are_counted(test: &Test) {
    let (output, lines) = report(Bundle::new(test), &["threads", "16", "keyctl 0 -3 0"]);
    assert_eq!(output.stdout, "EPERM\n".repeat(16));
    expect(
        &without_clone3(&lines),
        &[("keyctl by probe, 16 times: ", FLOOR)],
    );
    let words = ["spawn", "4", "/bin/probe", "threads", "4", "keyctl 0 -3 0"];
    let (_, lines) = report(Bundle::new(test), &words);
    expect(
        &without_clone3(&lines),
        &[("keyctl by probe, 16 times: ", FLOOR)],
    );
}

/// Each takes a way to the runtime and back, and still they end soon.
fn many_calls(test: &Test) {
    let begin = Instant::now();
    let (output, lines) = report(Bundle::new(test), &["repeat", "10000", "keyctl 0 -3 0"]);
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(output.text(), "EPERM");
    expect(&all(&lines), &[("keyctl by probe, 10000 times: ", FLOOR)]);
}

/// A program that varies arguments fills neither memory nor screen.
fn many_different_calls(test: &Test) {
    let (_, lines) = report(Bundle::new(test), &["repeat", "1000", "socket 5# 1 0"]);
    assert_eq!(lines.len(), 257);
    assert_eq!(lines[256], "and 744 more calls of other kinds");
}

fn killing(action: &str) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["getpriority"], "action": action, "args": [
            { "index": 1, "value": 9, "op": "SCMP_CMP_EQ" }
        ]},
    ]})
}

fn killed_calls(test: &Test) {
    let line = "getpriority(argument 1 = 0x9) by probe, once: it was killed: \
                /linux/seccomp/syscalls/0; to allow it: a change of linux.seccomp.syscalls[0]";
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
    ] {
        let calls = ["calls", "getpriority 0 8", "getpriority 0 9", "getpid"];
        let bundle = with_profile(test, killing(action)).args(&calls);
        let output = bundle.run_call(REPORT).output().code(159);
        assert_eq!(output.text().lines().count(), 1, "{action}: {output:?}");
        assert_eq!(denied(&output), [line], "{action}");
        bundle.assert_nothing_left();
    }
    // A child's end is the child's.
    let words = ["spawn", "1", "/bin/probe", "calls", "getpriority 0 9"];
    let (output, lines) = report(with_profile(test, killing("SCMP_ACT_KILL_PROCESS")), &words);
    assert_eq!(output.text(), "signal 9");
    assert_eq!(without_clone3(&lines), [line]);
    if cfg!(target_arch = "x86_64") && test.probe(&["int80", "20"]).output().code == 0 {
        let bundle = Bundle::new(test).args(&["int80", "20"]);
        let lines = denied(&bundle.run_call(REPORT).output().code(159));
        let start = "getpid by probe, once: it was killed: not this machine's own architecture; ";
        expect(&all(&lines), &[(start, "linux.seccomp.architectures")]);
    }
}

/// The program itself takes a trap, so nobody can report it; its end still is explained.
fn traps_are_explained(test: &Test) {
    let bundle = with_profile(test, killing("SCMP_ACT_TRAP")).args(&["calls", "getpriority 0 9"]);
    let output = bundle.run_call(REPORT).output().code(159);
    output
        .says(&["SIGSYS", "SCMP_ACT_TRAP"])
        .never_says(&["denied nothing"]);
    bundle.run().code(159).says(&["SIGSYS"]);
    bundle.assert_nothing_left();
}

fn sigsys_is_explained(test: &Test) {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS"] {
        let bundle = with_profile(test, killing(action)).args(&["calls", "getpriority 0 9"]);
        bundle
            .run()
            .code(159)
            .says(&["SIGSYS", "seccomp", "--report-denials"]);
        bundle.assert_nothing_left();
    }
    // Other ends are not explained so, and a status is no signal.
    for (args, code) in [(&["fault"][..], 139), (&["exit", "159"], 159)] {
        let output = Bundle::new(test).run_probe(args).code(code);
        assert_eq!(output.stderr, "");
    }
}

fn report_on_a_terminal(test: &Test) {
    let bundle = Bundle::new(test)
        .args(&["calls", "keyctl 0 -3 0"])
        .edit(|config| config["process"]["terminal"] = json!(true));
    let pty = test.machine.probe.to_string_lossy().into_owned();
    let call = bundle
        .run_call(REPORT)
        .through(&[&*pty, "pty", "24x80", "--"]);
    let output = call.output().success();
    let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[0], "EPERM", "{output:?}");
    assert!(
        lines[1].starts_with("capsid: denied: keyctl by probe, once: "),
        "{lines:?}"
    );
    bundle.assert_nothing_left();
}

/// Options that exclude each other, and a profile with a supervisor of its own.
fn wrong_company(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let file = test.path("p.json").to_string_lossy().into_owned();
    let flags: [&[&str]; 3] = [
        &["--report-denials", "--detach"],
        &["--record-profile", &file, "--detach"],
        &["--report-denials", "--record-profile", &file],
    ];
    for flags in flags {
        let output = bundle.run_call(flags).output().code(1);
        output.says(&["--report-denials", "--record-profile"]);
        bundle.assert_nothing_left();
    }
    let bundle = with_profile(test, killing("SCMP_ACT_NOTIFY")).args(&["exit", "0"]);
    let output = bundle.run_call(REPORT).output().code(1);
    output.says(&["/linux/seccomp/syscalls", "SCMP_ACT_NOTIFY"]);
    bundle.assert_nothing_left();
    assert!(!test.path("p.json").exists());
}

/// A process of `exec` is nobody's program in a report, and has the same filter.
fn others_are_not_reported(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep-trap"]);
    let mut running = bundle.run_call(REPORT).start();
    running.wait_for("READY");
    let words = [
        "exec",
        &bundle.id,
        "/bin/probe",
        "calls",
        "mount 0 0 0 0 0",
        "setns -1 0",
    ];
    let output = test.capsid(&words).output().success();
    assert_eq!(output.text(), "EPERM\nEPERM");
    bundle.on(&["kill"]).ok();
    let output = running.wait().code(42);
    assert_eq!(output.stderr, "capsid: the seccomp filter denied nothing\n");
}

fn program_that_may_not_be_executed(test: &Test) {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
    ]});
    let bundle = with_profile(test, profile).args(&["exit", "0"]);
    for flags in [&[], REPORT] {
        let output = bundle.run_call(flags).output().failure();
        let output = output.says(&["/bin/probe", "permission denied"]);
        let named = "capsid: denied: execve by ";
        assert_eq!(output.stderr.contains(named), flags == REPORT, "{output:?}");
        bundle.assert_nothing_left();
    }
}
