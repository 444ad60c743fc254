//! A hostile program in a sandbox: what it tries on files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::cases::cases;
use crate::roles::{Role, Test};
use crate::sandboxed::Sandbox;

cases! {
    ALL []: keys_of_the_caller, only_what_was_given_can_be_changed, a_directory_that_is_moved_out,
        hard_links_out, links_and_dots, links_where_something_is_mounted, a_path_that_changes,
        directories_as_standard_streams, private_directories_have_an_end, no_core_of_a_crash;
    ALL [RealRoot]: setuid_programs, device_nodes;
}

/// How often a path changes its meaning while it is being used. With every role
/// that is more than a thousand.
const ATTEMPTS: u32 = 350;

#[track_caller]
fn linked(target: impl AsRef<Path>, link: impl AsRef<Path>) {
    symlink(target, link).unwrap_or_else(|error| panic!("symlink: {error}"));
}

#[track_caller]
fn shown(path: &Path, inside: &str) -> String {
    format!("{}:{inside}", path.display())
}

fn keys_of_the_caller(test: &Test) {
    let sandbox = Sandbox::new(test);
    let home = sandbox.directory("home");
    for directory in ["home/.ssh", "home/.aws", "home/project"] {
        sandbox.directory(directory);
    }
    for key in ["home/.ssh/id_ed25519", "home/.aws/credentials"] {
        sandbox.file(key, "-----a private key-----");
    }
    let ssh = home.join(".ssh/id_ed25519");
    linked(&ssh, home.join("project/key"));
    linked("../.ssh", home.join("project/ssh"));
    let sandbox = sandbox.with(&[
        "--quiet",
        "--rw",
        &home.join("project").display().to_string(),
    ]);
    // From everywhere that has a way up, or another name for the root.
    let script = format!(
        "cd {home}/project || exit 9; cat ../.ssh/id_ed25519 key ssh/id_ed25519 {ssh} ~/.ssh/id_ed25519 \
         ../.aws/credentials /proc/1/root{ssh} /proc/self/root{ssh} /proc/1/cwd/.ssh/id_ed25519 \
         /proc/self/cwd/../.ssh/id_ed25519 /etc/shadow /proc/1/root/etc/shadow; \
         cp -r .. /tmp/all 2>/dev/null; grep -r private / --include=id_ed25519 --include=credentials 2>/dev/null",
        home = home.display(),
        ssh = ssh.display()
    );
    let call = sandbox.call(&["sh", "-c", &script]).env("HOME", &home);
    let output = call.output();
    assert!(!output.stdout.contains("private"), "{}", output.stdout);
    assert!(!output.stdout.contains("root:"), "{}", output.stdout);
    // It was there to be read.
    assert_ne!(output.code, 9, "{}", output.stderr);
    assert_eq!(
        output.stderr.matches("No such file").count(),
        9,
        "{}",
        output.stderr
    );
}

/// Every file and directory there is, and not a list of suspects.
fn only_what_was_given_can_be_changed(test: &Test) {
    let sandbox = Sandbox::new(test).with_probe();
    let (out, data) = (sandbox.directory("out"), sandbox.directory("data"));
    sandbox.directory("out/below");
    sandbox.file("data/file", "");
    sandbox.file("out/file", "");
    let sandbox = sandbox.with(&["--rw", &shown(&out, "/out"), "--ro", &shown(&data, "/data")]);
    let sandbox = sandbox.with(&["--tmpfs", "/small:64K"]);
    let home = match test.role {
        Role::Root => "/home/sandbox",
        Role::Rootless => "/home/capsid-ranged",
        Role::Single => "/home/capsid-single",
    };
    let tried = sandbox.run(&["/probe", "try-all", "/"]).success().json();
    let list = |key: &str| {
        let all = tried[key].as_array().cloned().unwrap_or_default();
        let mut all: Vec<String> = all
            .iter()
            .filter_map(|one| one.as_str().map(Into::into))
            .collect();
        all.sort();
        all
    };
    let given = [
        "/dev/shm",
        home,
        "/out",
        "/out/below",
        "/run",
        "/small",
        "/tmp",
    ];
    assert_eq!(list("made_in"), given);
    assert_eq!(list("removed"), Vec::<String>::new());
    // Devices that keep nothing, and what masks files: a null device.
    let harmless = [
        "/dev/full",
        "/dev/null",
        "/dev/ptmx",
        "/dev/pts/ptmx",
        "/dev/random",
        "/dev/tty",
        "/dev/urandom",
        "/dev/zero",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/timer_list",
        "/proc/timer_stats",
    ];
    let mut opened = list("opened");
    opened.retain(|path| !harmless.contains(&path.as_str()));
    assert_eq!(opened, ["/out/file"]);
    let count = |key: &str| tried[key].as_u64().unwrap_or(0);
    assert!(
        count("files") > 500 && count("directories") > 100,
        "{tried}"
    );
}

/// Whoever stands in a directory that leaves its mount must not walk on from there.
fn a_directory_that_is_moved_out(test: &Test) {
    let sandbox = Sandbox::new(test);
    let out = sandbox.directory("out");
    let inner = sandbox.directory("out/inner");
    let outside = sandbox.directory("outside");
    sandbox.file("outside/canary", "secret of the host");
    let sandbox = sandbox.with(&["--rw", &shown(&out, "/out")]);
    let script = "cd /out/inner; echo READY; until [ -e go ]; do sleep 0.01; done; \
                  cat ../canary; ls ..; echo x >../new; cd ..; ls; cat canary";
    let mut running = sandbox.call(&["sh", "-c", script]).start();
    running.wait_for("READY");
    let moved = outside.join("inner");
    fs::rename(&inner, &moved).unwrap_or_else(|error| panic!("{error}"));
    test.make_file(&moved.join("go"), "");
    let output = running.wait();
    assert!(!output.stdout.contains("canary"), "{}", output.stdout);
    assert!(!output.stdout.contains("secret"), "{}", output.stdout);
    assert!(!outside.join("new").exists());
    sandbox.assert_nothing_left();
}

fn hard_links_out(test: &Test) {
    let sandbox = Sandbox::new(test);
    let (out, data) = (sandbox.directory("out"), sandbox.directory("data"));
    sandbox.file("data/file", "of the host");
    let sandbox = sandbox.with(&["--rw", &shown(&out, "/out"), "--ro", &shown(&data, "/data")]);
    // The same file system, and the program's user owns the file.
    let script = "ln /data/file /out/link; ln -L /proc/self/fd/0 /out/opened; ln /etc/passwd /out/p; \
                  ln /usr/bin/env /out/env; exit 0";
    let call = sandbox.call(&["sh", "-c", script]);
    call.through_shell(&format!("exec <{}/file", data.display()))
        .output()
        .success();
    assert_eq!(fs::read_dir(&out).map(Iterator::count).ok(), Some(0));
    assert!(data.join("file").exists());
    sandbox.assert_nothing_left();
}

fn links_and_dots(test: &Test) {
    let sandbox = Sandbox::new(test);
    let out = sandbox.directory("out");
    let outside = sandbox.directory("outside");
    sandbox.file("outside/canary", "secret of the host");
    let canary = outside.join("canary");
    linked(&canary, out.join("absolute"));
    linked("../outside/canary", out.join("relative"));
    linked(&outside, out.join("directory"));
    let sandbox = sandbox.with(&["--rw", &shown(&out, "/a/out")]);
    let script = format!(
        "cd /a/out; cat absolute relative directory/canary ../outside/canary ../../outside/canary \
         /a/out/../../../../..{canary}; echo x >>relative; echo x >>absolute; touch directory/new; \
         mkdir -p ../up; ls /a; ls ..",
        canary = canary.display()
    );
    let output = sandbox.sh(&script);
    assert_eq!(output.stdout, "out\nout\n", "{}", output.stderr);
    assert_eq!(
        fs::read_to_string(&canary).ok().as_deref(),
        Some("secret of the host")
    );
    assert!(!outside.join("new").exists());
}

/// What an earlier mount brings along can be links at the place of a later one.
fn links_where_something_is_mounted(test: &Test) {
    let targets = [
        "/proc",
        "/proc/self",
        "/dev",
        "../../../..",
        "/etc",
        "/usr/bin",
        "/out/link",
    ];
    for target in targets {
        for below in ["link", "link/made/here"] {
            let sandbox = Sandbox::new(test);
            let (out, data) = (sandbox.directory("out"), sandbox.directory("data"));
            sandbox.file("data/mark", "of the data");
            linked(target, out.join("link"));
            let sandbox = sandbox.with(&["--quiet", "--rw", &shown(&out, "/out")]);
            let sandbox = sandbox.with(&["--ro", &shown(&data, &format!("/out/{below}"))]);
            let output = sandbox.sh("stat -f -c %T /proc; ls /dev");
            let output = output.code(125);
            assert_eq!(output.stdout, "", "{target}");
            output.says(&["a symbolic link leads to the mount point"]);
            let names = fs::read_dir(&out).into_iter().flatten().flatten();
            let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
            assert_eq!(names, ["link"], "{target}");
        }
    }
}

/// A directory that changes places with a link, to what nobody may be shown.
fn a_path_that_changes(test: &Test) {
    let sandbox = Sandbox::new(test);
    let place = sandbox.directory("place");
    sandbox.directory("place/sub");
    sandbox.file("place/sub/mark", "mine");
    linked("/proc", place.join("link"));
    let (sub, link) = (place.join("sub"), place.join("link"));
    let mut swapping = test
        .probe(&[
            "swap",
            &sub.display().to_string(),
            &link.display().to_string(),
        ])
        .start();
    swapping.wait_for("READY");
    let sandbox = sandbox.with(&["--quiet", "--rw", &shown(&sub, "/given")]);
    let sandbox = sandbox.with_probe();
    let (mut mine, mut refused) = (0, 0);
    for _ in 0..ATTEMPTS {
        let output = sandbox.call(&["/probe", "ls", "/given"]).output();
        match output.code {
            0 if output.text() == "[\"mark\"]" => mine += 1,
            125 => refused += 1,
            _ => output.fail("the directory, or nothing at all"),
        }
    }
    swapping.stop();
    assert!(
        mine > 0 && refused > 0,
        "{mine} times shown, {refused} refused"
    );
    sandbox.assert_nothing_left();
}

/// Whatever else holds, below an open directory of the host is the host.
fn directories_as_standard_streams(test: &Test) {
    for redirection in [
        "exec </",
        "exec >/dev/null 2</",
        "exec <.",
        "exec </proc/self/fd",
    ] {
        let sandbox = Sandbox::new(test).with_probe();
        let call = sandbox.call(&["/probe", "calls", "fchdir 0", "openat 0 etc/passwd 0"]);
        call.through_shell(redirection).output().code(125);
        sandbox.assert_nothing_left();
    }
    // Where it is told, and what can be done instead.
    let call = Sandbox::new(test);
    let output = call.call(&["true"]).through_shell("exec </").output();
    output
        .code(125)
        .says(&["descriptor 0 is a directory", "--ro or --rw"]);
    // Nobody who detaches keeps them.
    let detached = Sandbox::new(test).with(&["--detach"]);
    let output = detached
        .call(&["readlink", "/proc/self/fd/0"])
        .through_shell("exec </")
        .output();
    let id = output.success().text().to_owned();
    detached
        .capsid(&["delete", "--force", &id])
        .output()
        .success();
    detached.assert_nothing_left();
}

/// A program that fills memory through files: each place has an end.
fn private_directories_have_an_end(test: &Test) {
    // The kernel refuses at once what would never fit, so this costs nothing.
    let script = "for d in /tmp ~ /run /dev/shm /small; do \
                  size=$(($(stat -f -c '%b * %S' $d))); \
                  fallocate -l $((size + 4096)) $d/x 2>&1 | grep -q 'No space' || echo too much in $d; rm -f $d/x; \
                  test $(stat -f -c %c $d) -le $((size / 16384 + 256)) || echo too many in $d; done; \
                  i=0; while true >/run/$i; do i=$((i+1)); done 2>/dev/null; test $i -lt 1024 || echo $i files; \
                  head -c 17M /dev/zero 2>&1 >/run/0 | grep -c 'No space'";
    let sandbox = Sandbox::new(test).with(&["--tmpfs", "/small:64K"]);
    let output = sandbox.sh(script);
    assert_eq!(output.stdout, "1\n", "{}", output.stderr);
}

fn no_core_of_a_crash(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd", "--tty", "no"]);
    let script = "ulimit -c unlimited 2>/dev/null && exit 9; ulimit -c; \
                  echo '|/bin/sh' >/proc/sys/kernel/core_pattern && exit 8; \
                  echo 0x7f >/proc/self/coredump_filter; sh -c 'kill -SEGV $$'; ls -A";
    let output = sandbox.sh(script).success();
    assert_eq!(output.stdout, "0\n", "{}", output.stderr);
}

fn copied_probe(test: &Test, sandbox: &Sandbox<'_>, mode: u32) {
    let program = sandbox.dir.join("out/program");
    fs::copy(&test.machine.probe, &program).unwrap_or_else(|error| panic!("{error}"));
    // Of root, and not of whoever calls.
    chown(&program, Some(0), Some(0)).unwrap_or_else(|error| panic!("{error}"));
    fs::set_permissions(&program, Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("{error}"));
}

fn setuid_programs(test: &Test) {
    let sandbox = Sandbox::new(test);
    let out = sandbox.directory("out");
    copied_probe(test, &sandbox, 0o6755);
    for user in ["1000", "0"] {
        let sandbox = Sandbox::new(test).with(&["--rw", &shown(&out, "/out"), "--user", user]);
        let report = sandbox.run(&["/out/program", "report"]).success().json();
        let number: u32 = user.parse().unwrap_or(0);
        for kind in ["uids", "gids"] {
            assert_eq!(
                report[kind],
                serde_json::json!([number, number, number, number]),
                "{kind}"
            );
        }
        assert_eq!(report["capabilities"]["eff"], serde_json::json!([]));
    }
    // Those that the host has.
    let sandbox = Sandbox::new(test).with(&["--tty", "no"]);
    for program in [
        "su -c id",
        "sudo -n id",
        "newuidmap 1 0 0 1",
        "mount -t tmpfs x /tmp",
        "pkexec id",
    ] {
        let output = sandbox.sh(&format!("{program} </dev/null; exit $?"));
        assert!(
            output.code != 0 && !output.stdout.contains("uid=0"),
            "{program}: {}",
            output.stdout
        );
    }
}

fn device_nodes(test: &Test) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let sandbox = Sandbox::new(test).with_probe();
    let out = sandbox.directory("out");
    // The zero device, which everybody could read: as good as a disk to test with.
    let node = out.join("node");
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&node, SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap_or_else(|error| panic!("{error}"));
    chown(&node, Some(test.who().uid), None).unwrap_or_else(|error| panic!("{error}"));
    fs::set_permissions(&node, Permissions::from_mode(0o666))
        .unwrap_or_else(|error| panic!("{error}"));
    let sandbox = sandbox.with(&["--quiet", "--rw", &shown(&out, "/out"), "--user", "0"]);
    assert_eq!(
        sandbox
            .run(&["/probe", "try-open", "/out/node"])
            .code(1)
            .text(),
        "EACCES"
    );
    for kind in ["b", "c"] {
        let output = sandbox.run(&["/probe", "mknod", "/out/new", kind, "1", "5"]);
        assert_eq!(output.code(1).text(), "EPERM");
    }
    assert!(!out.join("new").exists());
}
