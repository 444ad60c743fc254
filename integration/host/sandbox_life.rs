//! How a sandbox ends, what it says then, and what is left of it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cases::cases;
use crate::roles::Test;
use crate::sandboxed::Sandbox;

cases! {
    ALL []: exit_codes, missing_programs, denied_calls_are_said, a_profile_is_recorded,
        time_is_limited, limits_that_cannot_be_had, programs_are_told, nobody_needs_to_wait,
        a_killed_capsid_leaves_nothing, terminals_stay_outside;
}

fn exit_codes(test: &Test) {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        Sandbox::new(test).sh(script).code(code);
    }
    let killed = Sandbox::new(test).with_probe();
    killed.run(&["/probe", "signal", "SIGKILL"]);
    Sandbox::new(test)
        .sh("sh -c 'kill -SEGV $$'; exit $?")
        .code(139);
    Sandbox::new(test).run(&["no-such-program"]).code(127);
    Sandbox::new(test).run(&["/usr"]).code(126);
    Sandbox::new(test)
        .with(&["--ro", "/no/such"])
        .run(&["true"])
        .code(125);
}

fn missing_programs(test: &Test) {
    let sandbox = Sandbox::new(test);
    let program = |name: &str, text: &str| {
        let path = sandbox.file(name, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap_or_else(|error| panic!("{error}"));
        path.display().to_string()
    };
    let tool = program("tool", "#!/bin/sh\necho tool\n");
    let path = format!("{}:/usr/bin:/bin", sandbox.dir.display());
    let by_name = sandbox
        .call(&["tool"])
        .env("PATH", &path)
        .output()
        .code(127);
    by_name.says(&["not found in $PATH", &format!("--ro {tool} -- {tool}")]);
    sandbox
        .run(&[&tool])
        .code(127)
        .says(&[&format!("--ro {tool}")]);
    sandbox
        .run(&["./tool"])
        .code(127)
        .says(&["the current directory is not in the sandbox: --cwd"]);
    let outside = Sandbox::new(test);
    outside
        .run(&[&tool])
        .code(127)
        .says(&[&format!("--ro {tool}")]);
    outside.run(&["/no/such"]).code(127).never_says(&["--ro"]);

    let interpreter = program("interpreter", "#!/bin/sh\n");
    let script = program("script", &format!("#!{interpreter}\n"));
    let shown = Sandbox::new(test).with(&["--ro", &script]);
    shown
        .run(&[&script])
        .code(126)
        .says(&["its interpreter", &format!("--ro {interpreter}")]);
    let lost = program("lost", "#!/no/such/interpreter\n");
    let shown = Sandbox::new(test).with(&["--ro", &lost]);
    shown
        .run(&[&lost])
        .code(126)
        .says(&["/no/such/interpreter is not on this host either"]);
}

fn denied_calls_are_said(test: &Test) {
    let script = "unshare --user true; unshare --user true; exit 3";
    let said = Sandbox::new(test).sh(script).code(3);
    let lines: Vec<&str> = said
        .stderr
        .lines()
        .filter(|line| line.contains("denied: unshare"))
        .collect();
    assert_eq!(lines.len(), 1, "{}", said.stderr);
    assert!(lines[0].contains("2 times"), "{}", lines[0]);
    assert!(lines[0].contains("to allow it: --"), "{}", lines[0]);
    assert!(
        !lines[0].contains("linux.seccomp") && !lines[0].contains("annotation"),
        "{}",
        lines[0]
    );
    let quiet = Sandbox::new(test).with(&["--quiet"]).sh(script).code(3);
    quiet.never_says(&["denied"]);
    Sandbox::new(test)
        .sh("true")
        .code(0)
        .never_says(&["denied"]);
    // What the line says helps.
    let probe = |options: &[&str]| {
        let sandbox = Sandbox::new(test).with_probe().with(options);
        sandbox
            .run(&["/probe", "syscall", "personality", "0x8"])
            .stderr
    };
    let said = probe(&[]);
    assert!(
        said.contains("personality") && said.contains("--seccomp default"),
        "{said}"
    );
    assert!(!probe(&["--seccomp", "default"]).contains("denied"));
}

fn a_profile_is_recorded(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--record-profile", "profile.json"]);
    sandbox
        .run(&["ls", "/"])
        .success()
        .says(&["system calls of this run"]);
    let file = sandbox.dir.join("profile.json").display().to_string();
    let with = Sandbox::new(test).with(&["--seccomp", &file]);
    with.run(&["ls", "/"]).success();
    with.sh("echo x | cat; mkfifo /tmp/p").failure();
}

fn time_is_limited(test: &Test) {
    let start = Instant::now();
    let sandbox = Sandbox::new(test)
        .with_probe()
        .with(&["--timeout", "300ms"]);
    sandbox
        .run(&["/probe", "sleep-trap"])
        .code(124)
        .says(&["--timeout"]);
    assert!(start.elapsed() < Duration::from_secs(15));
    // One that ends in time is as without.
    let sandbox = Sandbox::new(test).with(&["--timeout", "1m"]);
    sandbox.sh("exit 4").code(4).never_says(&["--timeout"]);
}

fn limits_that_cannot_be_had(test: &Test) {
    // Nobody asked for the defaults: where they cannot be had, a sandbox still runs, and says nothing.
    Sandbox::new(test)
        .sh("true")
        .code(0)
        .never_says(&["memory", "pids", "cgroup"]);
    let asked = Sandbox::new(test).with(&["--memory", "64M"]).run(&["true"]);
    if asked.code == 0 {
        return;
    }
    asked
        .code(125)
        .says(&["memory.max", "--cgroups=best-effort"]);
    let waived = Sandbox::new(test).global("--cgroups=best-effort");
    let waived = waived.with(&["--memory", "64M", "--pids", "50"]);
    waived.run(&["true"]).success().says(&["memory.max"]);
}

fn programs_are_told(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--json-status", "3"]);
    let script = format!("exec 3>{}/status", sandbox.dir.display());
    let call = sandbox.call(&["sh", "-c", "unshare --user true; exit 3"]);
    call.through_shell(&script).output().code(3);
    let text = std::fs::read_to_string(sandbox.dir.join("status")).unwrap_or_default();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(events.len(), 2, "{text}");
    assert_eq!(events[0]["event"], "started");
    assert!(
        events[0]["pid"].as_i64().is_some_and(|pid| pid > 1),
        "{text}"
    );
    assert_eq!(
        (&events[1]["event"], &events[1]["exitCode"]),
        (&"ended".into(), &3.into())
    );
    assert_eq!(events[1]["timeout"], false);
    let refused = events[1]["refused"][0].as_str().unwrap_or_default();
    assert!(refused.starts_with("unshare by"), "{text}");
    let call = sandbox.call(&["no-such-program"]);
    call.through_shell(&script).output().code(127);
    let text = std::fs::read_to_string(sandbox.dir.join("status")).unwrap_or_default();
    assert!(
        text.contains("\"failed\"") && text.contains("127"),
        "{text}"
    );
    sandbox.run(&["true"]).code(125).says(&["not open"]);
}

fn nobody_needs_to_wait(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--detach", "--cwd"]);
    let started = sandbox
        .call(&["sh", "-c", "echo up >up; echo lost; exec sleep 100"])
        .output()
        .success();
    let id = started.text().to_owned();
    assert!(id.starts_with("sandbox-") && !id.contains('\n'), "{id}");
    let status = || sandbox.capsid(&["state", &id]).output().success().json()["status"].clone();
    assert_eq!(status(), "running");
    let end = Instant::now() + Duration::from_secs(10);
    while !sandbox.dir.join("up").exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let inside = sandbox
        .capsid(&["exec", &id, "sh", "-c", "id -u; ls /; pwd"])
        .output()
        .success();
    assert!(inside.stdout.contains("usr\n"), "{}", inside.stdout);
    // Other sandboxes leave it alone.
    let mut other = Sandbox::new(test);
    other.state = sandbox.state.clone();
    other.call(&["true"]).output().success();
    assert_eq!(status(), "running");
    sandbox
        .capsid(&["delete", "--force", &id])
        .output()
        .success();
    sandbox.assert_nothing_left();
}

fn a_killed_capsid_leaves_nothing(test: &Test) {
    let sandbox = Sandbox::new(test);
    let mut running = sandbox
        .call(&["sh", "-c", "echo READY; exec sleep 100"])
        .start();
    running.wait_for("READY");
    assert_eq!(sandbox.left().len(), 1);
    running.stop();
    // The next sandbox in that state directory removes it.
    sandbox.call(&["true"]).output().success();
    sandbox.assert_nothing_left();
    // And a signal that can be caught ends it in good order.
    let mut running = sandbox
        .call(&[
            "sh",
            "-c",
            "trap 'exit 5' TERM; echo READY; while :; do sleep 0.01; done",
        ])
        .start();
    running.wait_for("READY");
    running.signal(Signal::SIGTERM);
    running.wait().code(5);
    sandbox.assert_nothing_left();
}

fn terminals_stay_outside(test: &Test) {
    let sandbox = Sandbox::new(test).with_probe();
    let probe = test.machine.probe.display().to_string();
    let on_terminal = |sandbox: &Sandbox<'_>, program: &[&str]| {
        let call = sandbox.call(program);
        call.through(&[probe.as_str(), "pty", "24x80", "--"])
            .output()
            .stdout
    };
    // A terminal of its own where the caller has one.
    let said = on_terminal(&sandbox, &["sh", "-c", "tty; exit 0"]);
    assert!(
        said.contains("/dev/pts/0") && !said.contains("not a tty"),
        "{said}"
    );
    // Without one, pipes: the caller's is never handed in.
    let no = Sandbox::new(test).with(&["--tty", "no"]);
    let said = on_terminal(
        &no,
        &[
            "sh",
            "-c",
            "ls -l /proc/self/fd; (exec 9</dev/tty) && echo bad",
        ],
    );
    assert!(said.matches("pipe:[").count() >= 3, "{said}");
    assert!(
        !said.contains("/dev/pts") && !said.contains("bad"),
        "{said}"
    );
}
