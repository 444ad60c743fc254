//! The second fence: what it keeps in where nothing else does, and what goes on
//! behind it as ever.

use std::fs;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::needs::busybox;
use crate::roles::{Role, Test};
use crate::runtime::{Call, Output};

cases! {
    ALL []: fence_holds_by_itself, fence_holds_for_exec, fence_holds_beside_an_init,
        relaxed_fence_is_none, outcome_is_told, descriptors_can_be_opened_again,
        terminals_work_as_ever, abstract_sockets_outside, signals_to_the_outside,
        exec_reaches_the_container, ports_need_numbers, descriptors_of_the_fence_do_not_leak;
    ALL [Busybox]: files_work_as_ever, ports_to_connect_to, ports_to_bind, ports_at_any_level;
    RANGES [Busybox]: overlays_work_as_ever;
}

/// Strict, but for what the test program's bundles for root do not have.
fn strict<'t>(bundle: &Bundle<'t>, words: &[&str]) -> Call<'t> {
    leveled(bundle, &["--hardening", "strict"], words)
}

fn leveled<'t>(bundle: &Bundle<'t>, level: &[&str], words: &[&str]) -> Call<'t> {
    bundle.save();
    let dir = bundle.dir.to_string_lossy();
    let mut all = level.to_vec();
    if bundle.test.role == Role::Root {
        all.extend(["--relax", "userns"]);
    }
    all.extend(words);
    if matches!(words.first(), Some(&("run" | "create"))) {
        all.extend(["--bundle", &dir]);
    }
    bundle.on(&all)
}

fn run(bundle: &Bundle<'_>) -> Output {
    let output = strict(bundle, &["run"]).output();
    bundle.assert_nothing_left();
    output
}

/// A bundle in which something is mounted that no rule speaks of: as if a mistake
/// had left a mount of the host writable.
fn with_stray_mount<'t>(test: &'t Test) -> Bundle<'t> {
    let bundle = Bundle::new(test).writable();
    let target = bundle.rootfs().join("var");
    bundle.edit(|config| {
        config["root"]["readonly"] = json!(true);
        config["hooks"] = json!({ "createContainer": [{
            "path": test.machine.probe,
            "args": ["probe", "mount-tmpfs", target.to_string_lossy()]
        }] });
    })
}

fn with_shell<'t>(test: &'t Test, script: &str) -> Bundle<'t> {
    let bundle = Bundle::new(test);
    let program = busybox().unwrap_or_else(|| panic!("no busybox"));
    let bytes = fs::read(program).unwrap_or_else(|error| panic!("read: {error}"));
    bundle.program("bin/busybox", bytes);
    for applet in [
        "sh", "mkdir", "mv", "ln", "mkfifo", "cat", "rm", "cp", "chmod", "dd", "truncate", "ls",
        "nc", "sleep", "touch",
    ] {
        bundle.link(&format!("bin/{applet}"), "busybox");
    }
    bundle.raw_args(&["/bin/sh", "-c", script])
}

fn fence_holds_by_itself(test: &Test) {
    for (args, why) in [
        (["write", "/var/new", "x"], "a new file"),
        (["mkdir", "/var/new", ""], "a new directory"),
    ] {
        let args: Vec<_> = args.into_iter().filter(|word| !word.is_empty()).collect();
        let output = run(&with_stray_mount(test).args(&args)).code(1);
        assert_eq!(output.text(), "EACCES", "{why}");
        // It is the fence that says no.
        let bundle = with_stray_mount(test).args(&args);
        let output = leveled(&bundle, &[], &["run"]).output();
        assert_eq!(output.success().text(), "ok", "{why}");
    }
}

fn fence_holds_for_exec(test: &Test) {
    let bundle = with_stray_mount(test).args(&["sleep"]);
    let mut creator = strict(&bundle, &["create"]).start();
    creator.finish_ok();
    bundle.on(&["start"]).ok();
    creator.wait_for("READY");
    let exec = |flags: &[&str]| {
        let mut words = flags.to_vec();
        words.extend(["exec", &bundle.id, "/bin/probe", "write", "/var/new", "x"]);
        test.capsid(&words).output()
    };
    assert_eq!(exec(&[]).code(1).text(), "EACCES");
    assert_eq!(exec(&["--relax", "landlock"]).success().text(), "ok");
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
}

fn fence_holds_beside_an_init(test: &Test) {
    let bundle = with_stray_mount(test).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.init": "true" });
    });
    let output = run(&bundle.args(&["write", "/var/new", "x"])).code(1);
    assert_eq!(output.text(), "EACCES");
    // Init is behind the same fence, so a signal from it is not one from outside.
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.init": "true" });
    });
    let mut running = strict(&bundle, &["run"]).start();
    running.wait_for("READY");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().code(143);
}

fn relaxed_fence_is_none(test: &Test) {
    let bundle = with_stray_mount(test).args(&["write", "/var/new", "x"]);
    let level = ["--hardening", "strict", "--relax", "landlock"];
    let output = leveled(&bundle, &level, &["run"]).output();
    assert_eq!(output.success().text(), "ok");
}

fn outcome_is_told(test: &Test) {
    let bundle = Bundle::new(test);
    bundle.save();
    let dir = bundle.dir.to_string_lossy();
    let mut words = vec!["--hardening", "strict"];
    if test.role == Role::Root {
        words.extend(["--relax", "userns"]);
    }
    words.extend(["explain", &dir]);
    let text = test.capsid(&words).ok();
    assert!(text.contains("landlock: enforced (ABI "), "{text}");
    assert!(text.contains("allow below /: read, execute\n"), "{text}");
    let text = test.capsid(&["explain", &dir]).ok();
    assert!(
        text.contains("landlock: relaxed by level baseline"),
        "{text}"
    );
    assert!(!text.contains("ruleset"), "{text}");
}

/// A log file of the caller is below no mount of the container.
fn descriptors_can_be_opened_again(test: &Test) {
    for file in ["/dev/stdout", "/proc/self/fd/1", "/dev/stderr"] {
        let output = run(&Bundle::new(test).args(&["append", file, "again\n"])).success();
        assert_eq!(
            output.text(),
            if file == "/dev/stderr" {
                "ok"
            } else {
                "again\nok"
            }
        );
    }
    let bundle = Bundle::new(test).args(&["cat", "/dev/stdin"]);
    let output = strict(&bundle, &["run"]).stdin("from the caller").output();
    assert_eq!(output.success().text(), "from the caller");
    // As far as it is open: what can only be read is not to be written.
    let bundle = Bundle::new(test).args(&["append", "/dev/stdin", "x"]);
    let output = strict(&bundle, &["run"]).stdin("from the caller").output();
    assert_eq!(output.code(1).text(), "EACCES");
}

fn terminals_work_as_ever(test: &Test) {
    // A terminal made inside, and sized, and made the session's.
    let bundle = Bundle::new(test).args(&["pty", "24x80", "--", "/bin/probe", "exit", "9"]);
    run(&bundle).code(9);
    // The container's own.
    let bundle = Bundle::new(test)
        .args(&["console"])
        .edit(|config| config["process"]["terminal"] = json!(true));
    let probe = test.machine.probe.to_string_lossy().into_owned();
    let mut running = strict(&bundle, &["run"])
        .through(&[probe.as_str(), "pty", "24x81", "--"])
        .start();
    running.wait_for("READY");
    assert!(
        running.so_far().contains("\"columns\":81"),
        "{}",
        running.so_far()
    );
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
}

/// In the network namespace of the host, where nothing else is in the way.
fn abstract_sockets_outside(test: &Test) {
    let name = format!("capsid-test-{}-{}", std::process::id(), test.role.name());
    let mut listener = test.probe(&["abstract-listen", &name]).start();
    listener.wait_for("READY");
    let connecting = || {
        Bundle::new(test)
            .without_namespace("network")
            .without_mount("/sys")
            .without_mount("/sys/fs/cgroup")
            .args(&["abstract-connect", &name])
    };
    let output = run(&connecting()).code(1);
    assert_eq!(output.text(), "EPERM");
    let plain = connecting().run();
    assert_eq!(plain.success().text(), "ok");
}

fn signals_to_the_outside(test: &Test) {
    let mut outside = test.probe(&["sleep"]).start();
    outside.wait_for("READY");
    let pid = outside.pid().to_string();
    let killing = || {
        Bundle::new(test)
            .without_namespace("pid")
            .args(&["syscall", "kill", &pid, "0"])
    };
    let output = run(&killing()).code(1);
    assert_eq!(output.text(), "EPERM");
    assert_eq!(killing().run().success().text(), "ok 0");
}

fn exec_reaches_the_container(test: &Test) {
    let bundle = Bundle::new(test).args(&["abstract-listen", "inside"]);
    let mut creator = strict(&bundle, &["create"]).start();
    creator.finish_ok();
    bundle.on(&["start"]).ok();
    creator.wait_for("READY");
    let exec = |words: &[&str]| {
        let mut all = vec!["exec", &bundle.id, "/bin/probe"];
        all.extend(words);
        test.capsid(&all).output().success()
    };
    assert_eq!(exec(&["abstract-connect", "inside"]).text(), "ok");
    assert_eq!(exec(&["syscall", "kill", "1", "0"]).text(), "ok 0");
    bundle.on(&["delete", "--force"]).ok();
}

fn descriptors_of_the_fence_do_not_leak(test: &Test) {
    let report = run(&Bundle::new(test).args(&["report"])).success().json();
    assert_eq!(
        report["fds"].as_array().map(Vec::len),
        Some(3),
        "{}",
        report["fds"]
    );
}

/// What build tools, editors and package managers do with files.
fn files_work_as_ever(test: &Test) {
    let script = "set -e; cd /data; mkdir a b; echo one > a/f; mv a/f b/g; ln b/g a/h; ln -s g b/l; \
        echo two >> b/l; : > a/h; truncate -s 9 b/g; mkfifo p; echo through > p & cat p; \
        cp /bin/busybox busybox; chmod +x busybox; ./busybox true; rm busybox; echo '#!/bin/sh' > s; chmod +x s; ./s; \
        mkdir -p d/e; touch d/e/f; mv d x; rm -r x a b; \
        echo null > /dev/null; cat < /dev/null; dd if=/dev/zero of=/tmp/z bs=1 count=3 2>/dev/null; \
        mv /tmp/z /data/z; echo name > /proc/self/comm; exec 5>/tmp/open; rm /tmp/open; \
        echo x > /proc/self/fd/5; ls /proc /sys / > /dev/null; echo shm > /dev/shm/s; \
        if echo no > /no; then exit 1; fi; if echo no > /sys/no; then exit 1; fi; echo done";
    let work = test.path("data");
    test.make_dir(&work);
    let bundle = with_shell(test, script)
        .mount(
            json!({ "destination": "/data", "type": "bind", "source": work, "options": ["rbind"] }),
        )
        .mount(json!({ "destination": "/tmp", "type": "tmpfs", "options": ["nosuid", "nodev"] }));
    bundle.test.make_dir(&bundle.rootfs().join("data"));
    let output = run(&bundle);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.text(), "through\ndone");
    assert_eq!(fs::read(work.join("z")).ok(), Some(vec![0; 3]));
}

fn overlays_work_as_ever(test: &Test) {
    let script = "set -e; cd /over; cat low; mkdir a; mv low a/moved; echo more >> a/moved; cat a/moved; rm gone; \
        ln a/moved b; ls";
    let layers = test.path("layers");
    for name in ["", "lower", "upper", "work"] {
        test.make_dir(&layers.join(name));
    }
    test.make_file(&layers.join("lower/low"), "low\n");
    test.make_file(&layers.join("lower/gone"), "");
    let of = |name: &str| layers.join(name).to_string_lossy().into_owned();
    let bundle = with_shell(test, script).mount(json!({
        "destination": "/over", "type": "overlay", "source": "overlay",
        "options": [format!("lowerdir={}", of("lower")), format!("upperdir={}", of("upper")),
            format!("workdir={}", of("work")), "userxattr"]
    }));
    bundle.test.make_dir(&bundle.rootfs().join("over"));
    let output = run(&bundle);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.text(), "low\nlow\nmore\na\nb");
    assert_eq!(
        fs::read_to_string(layers.join("lower/low")).ok().as_deref(),
        Some("low\n")
    );
}

fn with_ports<'t>(test: &'t Test, script: &str, kind: &str, ports: &str) -> Bundle<'t> {
    with_shell(test, script).edit(|config| {
        config["annotations"] = json!({ format!("dev.capsid.tcp.{kind}"): ports });
        // Ordinary users map one id, and the default of nc is what root may do.
        push(&mut config["process"]["env"], json!("LANG=C"));
    })
}

const CONNECT: &str = "for port in 4001 4002; do nc 127.0.0.1 $port 2>&1 </dev/null; done; true";

fn ports_to_connect_to(test: &Test) {
    let denied = "Permission denied";
    let refused = "Connection refused";
    for (ports, answers) in [
        ("4001", [refused, denied]),
        ("4002, 80", [denied, refused]),
        ("", [denied, denied]),
    ] {
        let output = run(&with_ports(test, CONNECT, "connect", ports)).success();
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{output:?}");
        for (line, answer) in lines.iter().zip(answers) {
            assert!(line.contains(answer), "{ports:?}: {output:?}");
        }
    }
    // Absent: any.
    let output = run(&with_shell(test, CONNECT)).success();
    assert!(!output.stdout.contains(denied), "{output:?}");
}

fn ports_to_bind(test: &Test) {
    let script = "nc -l -p 4001 </dev/null >/dev/null 2>/tmp/one & one=$!; \
        if nc -l -p 4002 </dev/null 2>/tmp/two; then exit 1; fi; cat /tmp/two; sleep 0.2; \
        kill $one && echo bound";
    let bundle = with_ports(test, script, "bind", "4001")
        .mount(json!({ "destination": "/tmp", "type": "tmpfs" }));
    let output = run(&bundle);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("Permission denied"), "{output:?}");
    assert!(output.stdout.ends_with("bound\n"), "{output:?}");
}

/// What a bundle asks for in so many words does not depend on the level.
fn ports_at_any_level(test: &Test) {
    let bundle = with_ports(test, CONNECT, "connect", "4001");
    for level in [&["--hardening", "compat"][..], &[]] {
        let output = leveled(&bundle, level, &["run"]).output().success();
        assert!(output.stdout.contains("Permission denied"), "{output:?}");
    }
    // And takes no files away.
    let bundle = with_stray_mount(test)
        .args(&["write", "/var/new", "x"])
        .edit(|config| {
            config["annotations"] = json!({ "dev.capsid.tcp.connect": "" });
        });
    assert_eq!(bundle.run().success().text(), "ok");
}

fn ports_need_numbers(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.tcp.bind": "http" });
    });
    bundle.refused(&["/annotations/dev.capsid.tcp.bind", "is no port"]);
}
