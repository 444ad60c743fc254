//! `--report-denials=all`: which files and peers a program was refused, and that
//! nothing of the program changes because somebody looks on.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::hooks;
use crate::network::ELSEWHERE;
use crate::roles::Test;
use crate::runtime::Output;
use crate::sandboxed::Sandbox;

cases! {
    ALL []: files_and_peers_with_their_options, what_is_nowhere_is_not_told, directories_of_the_thread,
        each_thread_is_followed, many_processes_are_followed, lines_have_an_end, ends_are_the_programs_own,
        signals_arrive, stopped_jobs_stay_stopped, a_terminal_under_a_tracer, nobody_inside_sees_the_tracer,
        a_killed_tracer_leaves_nobody, quiet_and_programs, other_options, missing_programs_under_a_tracer,
        bundles_are_traced, hooks_under_a_tracer;
    ALL [Compiler]: a_build_under_a_tracer;
    ALL [Pasta]: peers_behind_pasta;
}

const ALL_DENIALS: &str = "--report-denials=all";

fn traced(test: &Test) -> Sandbox<'_> {
    Sandbox::new(test).with(&[ALL_DENIALS])
}

/// The lines on what was refused.
fn refused(output: &Output) -> Vec<&str> {
    let lines = output.stderr.lines();
    lines
        .filter_map(|line| line.strip_prefix("capsid: refused: "))
        .collect()
}

/// Insists on a line that begins and ends so.
#[track_caller]
fn has_line(output: &Output, start: &str, end: &str) {
    let lines = refused(output);
    let found = lines
        .iter()
        .any(|line| line.starts_with(start) && line.ends_with(end));
    assert!(found, "no {start:?} ... {end:?} in {lines:#?}");
}

fn files_and_peers_with_their_options(test: &Test) {
    let sandbox = traced(test);
    let hidden = sandbox.file("hidden", "secret");
    let hidden = hidden.display();
    let shown = sandbox.directory("shown");
    let other = sandbox.directory("other");
    let (shown, other) = (shown.display(), other.display());
    let sandbox = sandbox.with(&["--ro", &format!("{shown}:/shown")]);
    let script = format!(
        "cat {hidden}; cat {hidden}; ls -d {hidden}; echo x >/shown/new; mkdir /usr/new; \
         echo x >{other}/new; echo x >/proc/sys/kernel/core_pattern; \
         bash -c 'echo >/dev/tcp/{ELSEWHERE}/7'; exit 5"
    );
    let output = sandbox.sh(&script).code(5);
    let missing = "absent (ENOENT): it is on this host and not inside; to allow it: ";
    has_line(
        &output,
        &format!("read {hidden} by cat and ls, "),
        &format!("{missing}--ro {hidden}"),
    );
    has_line(
        &output,
        "make /shown/new by sh, once: read-only file system (EROFS)",
        &format!("; to allow it: --rw {shown}:/shown instead of --ro"),
    );
    has_line(&output, "make /usr/new by mkdir, once: ", "--overlay /usr");
    has_line(
        &output,
        &format!("make {other}/new by sh, once: "),
        &format!("{missing}--rw {other}"),
    );
    has_line(
        &output,
        "make /proc/sys/kernel/core_pattern by sh, once: ",
        "; no option allows it",
    );
    has_line(
        &output,
        &format!("connect to {ELSEWHERE}:7 by bash, once: network is unreachable (ENETUNREACH)"),
        &format!("to allow it: --net pasta --connect {ELSEWHERE}:7 (TCP only), or --net host"),
    );
    let lines = refused(&output);
    let files: Vec<&&str> = lines
        .iter()
        .filter(|line| !line.starts_with("connect"))
        .collect();
    let path = |line: &str| {
        line.split(' ')
            .find(|word| word.starts_with('/'))
            .map(str::to_owned)
    };
    assert!(files.is_sorted_by_key(|line| path(line)), "{lines:#?}");
    assert!(output.stderr.contains("takes longer"), "{}", output.stderr);
    // What the option says is what helps.
    let sandbox = traced(test).with(&["--ro", &hidden.to_string()]);
    let output = sandbox.run(&["cat", &hidden.to_string()]).success();
    assert_eq!((output.text(), refused(&output).len()), ("secret", 0));
    // Without the word nobody looks on.
    for options in [&["--report-denials"][..], &["--report-denials=calls"], &[]] {
        let sandbox = Sandbox::new(test).with(options);
        let output = sandbox.run(&["cat", &hidden.to_string()]).failure();
        assert_eq!(refused(&output), [""; 0]);
    }
}

fn what_is_nowhere_is_not_told(test: &Test) {
    let output = traced(test).sh(
        "cat /no/such/file /etc/no-such-file ~/no-such-file; no-such-program; ls /usr/no-such; \
         cat </tmp/none; cat </proc/999999/stat; ls /sys/kernel; bash -c 'echo >/dev/tcp/127.0.0.1/1'; \
         echo text >/tmp/own; cat /tmp/own; rm /tmp/own; cd /tmp; mkdir -p a/b; ls a; id; true",
    );
    assert_eq!(refused(&output), [""; 0]);
    assert!(output.stdout.contains("text\nb\n"), "{}", output.stdout);
}

/// A path is what it is where the thread is, or where its descriptor leads.
fn directories_of_the_thread(test: &Test) {
    let sandbox = traced(test);
    let place = sandbox.directory("place");
    sandbox.file("place/file", "x");
    let place = place.display().to_string();
    let parent = sandbox.dir.display().to_string();
    let shown = sandbox.directory("shown").display().to_string();
    let sandbox = sandbox.with_probe().with(&["--ro", &shown]);
    let script = format!(
        "cd {shown}; cat ../place/file; cd /; cat .{place}/./file; \
         exec 5<{shown}; /probe calls 'openat 5 ../place/file 0' 'openat 5 new 0x41 0644'"
    );
    let output = sandbox.sh(&script).success();
    assert_eq!(output.stdout, "ENOENT\nEROFS\n");
    has_line(
        &output,
        &format!("read {place}/file by cat and probe, 3 times: "),
        &format!("--ro {place}/file"),
    );
    has_line(
        &output,
        &format!("make {parent}/shown/new by probe, once: "),
        &format!("--rw {shown} instead of --ro"),
    );
}

fn each_thread_is_followed(test: &Test) {
    let sandbox = traced(test);
    let hidden = sandbox.file("hidden", "x").display().to_string();
    let sandbox = sandbox.with_probe();
    let output = sandbox
        .run(&[
            "/probe",
            "threads",
            "16",
            &format!("openat -100 {hidden} 0"),
        ])
        .success();
    assert_eq!(output.stdout, "ENOENT\n".repeat(16));
    has_line(
        &output,
        &format!("read {hidden} by "),
        &format!("--ro {hidden}"),
    );
    let line = refused(&output).join("\n");
    assert!(line.contains(", 16 times: "), "{line}");
}

fn many_processes_are_followed(test: &Test) {
    let sandbox = traced(test);
    let hidden = sandbox.file("hidden", "x").display().to_string();
    let script = format!(
        "i=0; while [ $i -lt 100 ]; do (exec cat {hidden} 2>/dev/null) & (true) & : $(echo x | tr x y); \
         i=$((i+1)); done; wait; echo done"
    );
    let output = sandbox.sh(&script).success();
    assert_eq!(output.text(), "done");
    has_line(&output, &format!("read {hidden} by cat, 100 times: "), "");
}

fn lines_have_an_end(test: &Test) {
    let script = "i=10; while [ $i -lt 70 ]; do : >/usr/f$i; i=$((i+1)); done 2>/dev/null; true";
    let output = traced(test).run(&["bash", "-c", script]).success();
    let lines = refused(&output);
    assert_eq!(lines.len(), 51, "{lines:#?}");
    assert!(
        lines[0].starts_with("make /usr/f10 by bash"),
        "{}",
        lines[0]
    );
    assert_eq!(lines[50], "and 10 more");
}

fn ends_are_the_programs_own(test: &Test) {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("sh -c 'kill -ABRT $$'; exit $?", 134),
        ("(exit 9) & wait $!; exit $?", 9),
    ] {
        traced(test).sh(script).code(code);
    }
    let probe = traced(test).with_probe();
    probe.run(&["/probe", "fault"]).code(139);
    // The end of the program is that of everything inside.
    let output = traced(test).sh("sleep 1000 & (sleep 1000 & sleep 1000) & exit 3");
    output.code(3);
    let timeout = traced(test).with(&["--timeout", "1s"]);
    timeout.sh("sleep 1000").code(124);
}

fn signals_arrive(test: &Test) {
    let script = "trap 'echo one' USR1; trap 'echo two; exit 6' TERM; trap 'echo child' CHLD; \
                  kill -USR1 $$; true & wait; echo READY; while true; do sleep 0.05; done";
    let mut running = traced(test).call(&["bash", "-c", script]).start();
    running.wait_for("READY");
    running.signal(Signal::SIGTERM);
    let output = running.wait().code(6);
    assert!(
        output.stdout.starts_with("one\nchild\n"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.ends_with("two\n"), "{}", output.stdout);
    // Ignored signals stay ignored, and blocked ones wait.
    let script = "trap '' HUP; kill -HUP $$; sh -c 'kill -HUP $$; echo survived'";
    assert_eq!(traced(test).sh(script).success().text(), "survived");
}

fn stopped_jobs_stay_stopped(test: &Test) {
    let script = "set -m; sleep 1000 & p=$!; kill -STOP $p; wait $p; echo stopped $?; \
                  grep -o 'T (stopped)\\|t (tracing stop)' /proc/$p/status; sleep 0.2; \
                  grep -c 'T (stopped)\\|t (tracing stop)' /proc/$p/status; \
                  kill -CONT $p; sleep 0.2; grep -o 'S (sleeping)' /proc/$p/status; \
                  kill $p; wait $p; echo $?";
    let plain = Sandbox::new(test).run(&["bash", "-c", script]).success();
    let traced = traced(test).run(&["bash", "-c", script]).success();
    let same = |output: &Output| output.stdout.replace("t (tracing stop)", "T (stopped)");
    assert_eq!(same(&plain), same(&traced));
    assert!(traced.stdout.contains("stopped 147"), "{}", traced.stdout);
    assert!(
        traced.stdout.ends_with("S (sleeping)\n143\n"),
        "{}",
        traced.stdout
    );
}

fn a_terminal_under_a_tracer(test: &Test) {
    let probe = test.machine.probe.display().to_string();
    let script = "trap 'echo interrupted; exit 9' INT; read line; stty size; kill -INT 0; exit 8";
    let call = traced(test).call(&["sh", "-c", script]);
    let words = [&probe, "pty", "24x83", "--input", "a line\n", "--"];
    let output = call.through(&words).output();
    assert!(output.stdout.contains("24 83"), "{output:?}");
    assert!(output.stdout.contains("interrupted"), "{output:?}");
}

fn nobody_inside_sees_the_tracer(test: &Test) {
    let output = traced(test)
        .sh("grep TracerPid /proc/self/status; cat /proc/1/comm; exec ls -d /proc/[0-9]*")
        .success();
    assert_eq!(output.stdout, "TracerPid:\t0\ninit\n/proc/1\n/proc/2\n");
}

fn a_killed_tracer_leaves_nobody(test: &Test) {
    let sandbox = traced(test);
    let mark = format!("{}7", 100_000 + test.next());
    let mut running = sandbox
        .call(&[
            "sh",
            "-c",
            &format!("sleep {mark} & echo READY; sleep {mark}"),
        ])
        .start();
    running.wait_for("READY");
    running.stop();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while alive(&mark) {
        assert!(std::time::Instant::now() < end, "sleep {mark} goes on");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // The next one removes what is left.
    sandbox.sh("true").success();
}

/// Whether a program with this argument runs.
fn alive(argument: &str) -> bool {
    let tasks = fs::read_dir("/proc").into_iter().flatten().flatten();
    tasks.map(|task| task.path().join("cmdline")).any(|file| {
        let line = fs::read(file).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
            && line.starts_with(b"sleep")
    })
}

fn quiet_and_programs(test: &Test) {
    let sandbox = traced(test);
    let hidden = sandbox.file("hidden", "x").display().to_string();
    let quiet = sandbox.with(&["--quiet"]);
    let output = quiet.run(&["cat", &hidden]).failure();
    output.never_says(&["capsid:"]);
    let told = quiet.with(&["--json-status", "3"]);
    let output = told
        .call(&["cat", &hidden])
        .through_shell("exec 3>status")
        .output()
        .failure()
        .never_says(&["capsid:"]);
    drop(output);
    let lines = fs::read_to_string(told.dir.join("status")).unwrap_or_default();
    let last: Value = lines
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default();
    let line = last["refused"][0].as_str().unwrap_or_default();
    assert!(
        line.starts_with(&format!("read {hidden} by cat, once")),
        "{lines}"
    );
}

fn other_options(test: &Test) {
    let refused = |options: &[&str], said: &str| {
        let output = Sandbox::new(test).with(options).sh("true").code(125);
        output.says(&[said]);
    };
    refused(&["--report-denials=some"], "give calls or all");
    refused(&[ALL_DENIALS, "--detach"], "leave --detach out");
    refused(
        &[ALL_DENIALS, "--record-profile", "p.json"],
        "give one of them",
    );
    // The next word is not the option's.
    let sandbox = Sandbox::new(test).with(&["--report-denials", "--quiet"]);
    assert_eq!(sandbox.sh("echo run").success().text(), "run");
}

fn missing_programs_under_a_tracer(test: &Test) {
    traced(test).run(&["no-such-program"]).code(127);
    traced(test).run(&["/usr"]).code(126);
}

fn bundles_are_traced(test: &Test) {
    let bundle = Bundle::new(test).args(&["calls", "openat -100 /new 0x41 0644", "getpid"]);
    let output = bundle.run_call(&[ALL_DENIALS]).output().success();
    bundle.assert_nothing_left();
    assert!(output.stdout.starts_with("EROFS\nok "), "{output:?}");
    assert_eq!(
        refused(&output),
        ["make /new by probe, once: read-only file system (EROFS)"]
    );
    // A process comes between where namespaces are entered one by one.
    let bundle = Bundle::new(test)
        .namespace(json!({ "type": "time" }))
        .edit(|config| config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 60 } }))
        .args(&["calls", "openat -100 /new 0x41 0644"]);
    let output = bundle.run_call(&[ALL_DENIALS]).output().success();
    has_line(&output, "make /new by probe, once: ", "(EROFS)");
    bundle.assert_nothing_left();
    let bundle = Bundle::new(test).args(&["fork", "5"]);
    bundle.run_call(&[ALL_DENIALS]).output().success();
    bundle.assert_nothing_left();
}

fn hooks_under_a_tracer(test: &Test) {
    let (bundle, file) = hooks::recording(test, &["exit", "3"]);
    bundle.run_call(&[ALL_DENIALS]).output().code(3);
    let ran = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(ran.lines().count(), 6, "{ran}");
    bundle.assert_nothing_left();
}

fn a_build_under_a_tracer(test: &Test) {
    let sandbox = traced(test);
    sandbox.file(
        "main.c",
        "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n",
    );
    sandbox.file("Makefile", "main: main.o\n\tgcc -o $@ $^\n");
    let output = sandbox
        .with(&["--cwd"])
        .sh("make -j2 -s && ./main")
        .success();
    assert_eq!(output.text(), "built");
    assert_eq!(refused(&output), [""; 0]);
}

fn peers_behind_pasta(test: &Test) {
    let sandbox = traced(test).with(&["--net", "pasta", "--connect", &format!("{ELSEWHERE}:9")]);
    let script = format!("echo >/dev/tcp/{ELSEWHERE}/7 || echo x >/dev/udp/{ELSEWHERE}/8");
    let output = sandbox.run(&["bash", "-c", &script]);
    has_line(
        &output,
        &format!("connect to {ELSEWHERE}:7 by bash, once: "),
        &format!("to allow it: --connect {ELSEWHERE}:7 (TCP only)"),
    );
    has_line(
        &output,
        &format!("connect to {ELSEWHERE}:8 by bash, once: "),
        "",
    );
}
