//! The container's own init: `dev.capsid.init`.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Container;
use crate::needs::busybox;
use crate::roles::Test;
use crate::runtime::Output;

cases! {
    ALL []: program_is_a_process_of_its_own, init_has_nothing, init_cannot_be_looked_at,
        exit_status_is_the_programs, signals_reach_the_program, interrupt_in_the_foreground,
        missing_program, program_that_is_none, needs_a_pid_namespace, profile_must_let_it_work,
        terminal_is_the_programs, interrupt_from_the_terminal, exec_beside_init, denials_are_reported,
        recorded_profile_lets_init_work, hooks_run_before, status_until_the_end;
    ALL [Busybox]: interrupt_of_a_script, orphans_are_reaped, the_rest_ends_with_the_program, jobs_are_controlled;
}

fn with_init<'t>(test: &'t Test) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["annotations"] = json!({ "dev.capsid.init": "true" }))
}

fn with_shell<'t>(test: &'t Test) -> Bundle<'t> {
    let bundle = with_init(test);
    let program = busybox().unwrap_or_else(|| panic!("no busybox"));
    let bytes = fs::read(program).unwrap_or_else(|error| panic!("read: {error}"));
    bundle.program("bin/busybox", bytes);
    bundle.link("bin/sh", "busybox");
    bundle
}

fn status_field(pid: i64, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name);
    field.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn children(pid: i64) -> Vec<i64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn program_is_a_process_of_its_own(test: &Test) {
    let report = with_init(test).report();
    report.expect("/ppid", json!(1));
    let own = report.at("/pid").clone();
    assert_ne!(own, json!(1));
    report.expect("/sid", own.clone());
    report.expect("/pgid", own);
    // What the program is and has stays as it was.
    let plain = Bundle::new(test).report();
    for pointer in [
        "/capabilities",
        "/no_new_privs",
        "/seccomp",
        "/seccomp_filters",
        "/env",
    ] {
        report.expect(pointer, plain.at(pointer).clone());
    }
    assert_eq!(report.at("/fds").as_array().map(Vec::len), Some(3));
}

fn init_has_nothing(test: &Test) {
    let bundle = with_init(test).args(&["sleep"]);
    let container = bundle.ready();
    let pid = container.pid();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_field(pid, set), "0".repeat(16), "{set}");
    }
    assert_eq!(status_field(pid, "NoNewPrivs"), "1");
    assert_eq!(status_field(pid, "Seccomp"), "2");
    assert_eq!(status_field(pid, "Name"), "init");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(arguments.starts_with(b"init\0"), "{arguments:?}");
    assert!(
        arguments[5..].iter().all(|byte| *byte == 0),
        "{arguments:?}"
    );
    if test.machine.root {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
        assert_eq!(open.ok(), Some(0), "open descriptors");
        let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
        assert_eq!(cwd.ok().as_deref(), Some(Path::new("/")));
    }
    container.end();
}

/// As container root, and with nothing of the host in what everyone may read.
fn init_cannot_be_looked_at(test: &Test) {
    let bundle = with_init(test).args(&["sleep"]);
    let container = bundle.ready();
    for file in ["environ", "mem", "maps", "auxv", "syscall", "stack"] {
        let path = format!("/proc/1/{file}");
        let output = container.exec(&[], &["try-open", &path]);
        assert_ne!(output.code, 0, "{path}: {output:?}");
    }
    for link in ["exe", "cwd", "root"] {
        let path = format!("/proc/1/{link}");
        assert_ne!(container.exec(&[], &["ls", &path]).code, 0, "{path}");
    }
    let output = container.exec(&[], &["cat", "/proc/1/cmdline"]).success();
    assert_eq!(output.stdout.trim_end_matches(['\0', '\n']), "init");
    container.end();
}

fn exit_status_is_the_programs(test: &Test) {
    with_init(test).run_probe(&["exit", "0"]).success();
    with_init(test).run_probe(&["exit", "7"]).code(7);
    with_init(test).run_probe(&["exit", "255"]).code(255);
    // Process 1 would not even die of these.
    with_init(test).run_probe(&["signal", "TERM"]).code(143);
    with_init(test).run_probe(&["signal", "KILL"]).code(137);
    with_init(test).run_probe(&["fault"]).code(139);
}

fn signals_reach_the_program(test: &Test) {
    let bundle = with_init(test).args(&["sleep-trap"]);
    let mut container = bundle.ready();
    for (name, number) in [("INT", 2), ("USR1", 10), ("USR2", 12)] {
        container.kill(name);
        container.creator.wait_for(&format!("SIGNAL {number}"));
    }
    // Nothing comes of one that the program does not handle but its default.
    container.kill("TERM");
    container.wait_status("stopped");
    container.end();
    let bundle = with_init(test).args(&["sleep"]);
    let container = bundle.ready();
    container.kill("USR1");
    container.wait_status("stopped");
    container.end();
    let bundle = with_init(test).args(&["sleep"]);
    let container = bundle.ready();
    container.kill("KILL");
    container.wait_status("stopped");
    container.end();
}

/// Control-C on the caller's own terminal, as `run` gets and passes it.
fn interrupt_in_the_foreground(test: &Test) {
    let bundle = with_init(test).args(&["sleep"]);
    let mut running = bundle.run_call(&[]).start();
    running.wait_for("READY");
    running.signal(Signal::SIGINT);
    running.wait().code(130);
    bundle.assert_nothing_left();
}

/// A shell that waits for a command dies only when the command does.
fn interrupt_of_a_script(test: &Test) {
    let script = "echo READY; busybox sleep 300; echo on";
    let bundle = with_shell(test).raw_args(&["/bin/sh", "-c", script]);
    let mut running = bundle.run_call(&[]).start();
    running.wait_for("READY");
    // The shell is about to start its command.
    sleep(Duration::from_millis(300));
    running.signal(Signal::SIGINT);
    let output = running.wait().code(130);
    assert!(!output.stdout.contains("on\n"), "{output:?}");
}

#[track_caller]
fn same_failure(with: &Output, without: &Output) {
    assert_ne!(without.code, 0, "{without:?}");
    assert_eq!(with.code, without.code, "{with:?}");
    let last = |output: &Output| {
        let line = output.stderr.lines().last().unwrap_or_default().to_owned();
        line.rsplit_once("exec: ")
            .map(|(_, rest)| rest.to_owned())
            .unwrap_or(line)
    };
    assert_eq!(last(with), last(without));
}

fn missing_program(test: &Test) {
    let run = |bundle: Bundle| bundle.raw_args(&["/bin/nothing"]).run();
    same_failure(&run(with_init(test)), &run(Bundle::new(test)));
}

/// Found and executable: only execve(2) itself, after the clone, says no.
fn program_that_is_none(test: &Test) {
    let run = |bundle: Bundle| {
        bundle.program("bin/text", "just text");
        let bundle = bundle.raw_args(&["/bin/text"]);
        let output = bundle.run();
        bundle.assert_nothing_left();
        output
    };
    let with = run(with_init(test));
    same_failure(&with, &run(Bundle::new(test)));
    assert!(with.stderr.contains("exec format error"), "{with:?}");
    // The same through create and start.
    let bundle = with_init(test).raw_args(&["/bin/text"]);
    bundle.program("bin/text", "just text");
    let container = bundle.create();
    let failed = bundle.on(&["start"]).output().failure();
    assert!(failed.stderr.contains("exec format error"), "{failed:?}");
    container.wait_status("stopped");
    container.end();
}

fn needs_a_pid_namespace(test: &Test) {
    with_init(test)
        .without_namespace("pid")
        .refused(&["/annotations/dev.capsid.init", "pid namespace"]);
    let word = Bundle::new(test).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.init": "1" });
    });
    word.refused(&["neither true nor false"]);
}

fn profile_must_let_it_work(test: &Test) {
    let bundle = with_init(test).edit(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["wait4"], "action": "SCMP_ACT_ERRNO" }]
        });
    });
    bundle.refused(&["dev.capsid.init", "wait4"]);
}

fn pty(test: &Test, options: &[&str]) -> Vec<String> {
    let mut words = vec![
        test.machine.probe.to_string_lossy().into_owned(),
        "pty".into(),
        "24x80".into(),
    ];
    words.extend(options.iter().map(|word| (*word).to_owned()));
    words.push("--".into());
    words
}

fn with_terminal(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.edit(|config| config["process"]["terminal"] = json!(true))
}

fn terminal_is_the_programs(test: &Test) {
    let bundle = with_terminal(with_init(test)).args(&["console"]);
    let mut running = bundle.run_call(&[]).through(&pty(test, &[])).start();
    running.wait_for("READY");
    let text = running.so_far();
    for expected in [
        "\"isatty\":[true,true,true]",
        "\"sid_is_own\":true",
        "\"name\":\"/dev/pts/0\"",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(!text.contains("\"controlling\":0"), "{text}");
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
    bundle.assert_nothing_left();
}

fn interrupt_from_the_terminal(test: &Test) {
    let bundle = with_terminal(with_init(test)).args(&["sleep-trap"]);
    let words = pty(test, &["--input", "\u{3}"]);
    let mut running = bundle.run_call(&[]).through(&words).start();
    running.wait_for("SIGNAL 2");
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
    // A program that does not care ends; one that is suspended would stay for ever.
    for (keys, code) in [("\u{3}", 130), ("\u{1a}\u{3}", 130), ("\u{1c}", 131)] {
        let bundle = with_terminal(with_init(test)).args(&["sleep"]);
        let words = pty(test, &["--input", keys]);
        let output = bundle.run_call(&[]).through(&words).output();
        assert_eq!(output.code, code, "{keys:?}: {output:?}");
        bundle.assert_nothing_left();
    }
}

fn joins_the_program(container: &Container<'_, '_>) {
    let report = container.exec_report(&[]);
    let inside = report.at("/namespaces/pid").clone();
    assert!(!inside.is_null(), "{:?}", report.0);
    let own = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    assert_ne!(json!(own.unwrap_or_default()), inside);
}

/// Init hides from ordinary users, and `exec` works for them all the same.
fn exec_beside_init(test: &Test) {
    let bundle = with_init(test).args(&["sleep"]);
    let container = bundle.ready();
    joins_the_program(&container);
    // An orphan of somebody else's is no program.
    container.exec(&[], &["fork", "2"]);
    joins_the_program(&container);
    container.kill("KILL");
    container.wait_status("stopped");
    container.exec(&[], &["report"]).code(255);
    container.end();
}

fn denials_are_reported(test: &Test) {
    let bundle = with_init(test).args(&["calls", "mount 0 0 0 0 0"]);
    let output = bundle.run_call(&["--report-denials"]).output().success();
    assert!(output.stderr.contains("denied: mount"), "{output:?}");
    // A program that the filter kills is explained.
    let bundle = with_init(test)
        .args(&["syscall", "getppid"])
        .edit(|config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS" }]
            });
        });
    let output = bundle.run().code(159);
    assert!(output.stderr.contains("SIGSYS"), "{output:?}");
}

fn recorded_profile_lets_init_work(test: &Test) {
    let file = test.path("profile.json").to_string_lossy().into_owned();
    let bundle = with_init(test).args(&["exit", "3"]);
    bundle
        .run_call(&["--record-profile", &file])
        .output()
        .code(3);
    let profile = fs::read_to_string(&file).unwrap_or_default();
    assert!(profile.contains("\"execve\""), "{profile}");
}

/// Hooks inside are children of the first process too, and no program.
fn hooks_run_before(test: &Test) {
    let bundle = with_init(test).args(&["report"]).edit(|config| {
        config["hooks"] = json!({
            "startContainer": [{ "path": "/bin/probe", "args": ["probe", "env", "PATH"] }]
        });
    });
    let report = bundle.run().success().json();
    assert_eq!(report["ppid"], json!(1));
}

fn status_until_the_end(test: &Test) {
    let bundle = with_init(test).args(&["sleep"]);
    let container = bundle.ready();
    assert_eq!(container.status(), "running");
    let (pid, program) = (container.pid(), children(container.pid()));
    assert_eq!(program.len(), 1);
    let ps = bundle.test.capsid(&["ps", container.id()]).ok();
    assert!(ps.contains(&pid.to_string()), "{ps}");
    let killed = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(program[0]).unwrap_or(0)),
        Signal::SIGKILL,
    );
    if killed.is_ok() {
        container.wait_status("stopped");
    }
    container.end();
}

fn orphans_are_reaped(test: &Test) {
    let script =
        "for i in 1 2 3 4 5; do (busybox true & ) ; done; echo READY; exec busybox sleep 60";
    let bundle = with_shell(test).raw_args(&["/bin/sh", "-c", script]);
    let container = bundle.ready();
    let pid = container.pid();
    wait_until("only the program is left", || children(pid).len() == 1);
    container.end();
}

fn the_rest_ends_with_the_program(test: &Test) {
    let script = "busybox setsid busybox sleep 1234 & busybox sleep 0.1; exit 5";
    let bundle = with_shell(test).raw_args(&["/bin/sh", "-c", script]);
    let start = Instant::now();
    bundle.run().code(5);
    assert!(start.elapsed() < Duration::from_secs(15));
    bundle.assert_nothing_left();
}

/// An interactive shell: a job is suspended, listed, and continued. The kernel
/// suspends none of a session whose leader has no terminal.
fn jobs_are_controlled(test: &Test) {
    let bundle = with_terminal(with_shell(test)).raw_args(&[
        "/bin/sh",
        "-c",
        "echo READY; exec busybox sh -i",
    ]);
    let keys = "busybox sh -c 'kill -TSTP $$; echo AWAKE'\njobs\nfg\nexit 21\n";
    let words = pty(test, &["--input", keys]);
    let output = bundle.run_call(&[]).through(&words).output().code(21);
    assert!(output.stdout.contains("Stopped"), "{}", output.stdout);
    let awake = output.stdout.lines().any(|line| line.trim() == "AWAKE");
    assert!(awake, "{}", output.stdout);
    assert!(
        !output.stdout.contains("can't access tty"),
        "{}",
        output.stdout
    );
    bundle.assert_nothing_left();
}
