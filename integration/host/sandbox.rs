//! A sandbox without options, seen from inside; and real programs in it.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::cases::cases;
use crate::roles::{Role, Test};
use crate::sandboxed::Sandbox;

cases! {
    ALL []: a_program_runs_without_privileges, namespaces_are_its_own, only_programs_are_visible,
        the_environment_is_clean, files_of_etc_are_made_up, nothing_can_be_written,
        the_network_is_loopback, devices_are_few, descriptors_stay_outside, explained,
        scripts;
    ALL [Compiler]: builds;
    ALL [Python]: python;
    ALL [Perl]: perl;
    ALL [Node]: node;
    ALL [Sqlite]: sqlite;
    ALL [Git]: versions_of_a_project;
}

fn a_program_runs_without_privileges(test: &Test) {
    let report = Sandbox::new(test).report(&[]);
    for set in ["inh", "prm", "eff", "bnd", "amb"] {
        report.expect(&format!("/capabilities/{set}"), json!([]));
    }
    report.expect("/no_new_privs", json!(1));
    report.expect("/seccomp", json!(2));
    let uid = match test.role {
        // Root of the machine has a user of its own in there.
        Role::Root => 1000,
        _ => test.who().uid,
    };
    report.expect("/uids", json!([uid, uid, uid, uid]));
    report.expect("/gids", json!([uid, uid, uid, uid]));
    let home = format!("/home/{}", name(test));
    report.expect("/cwd", json!(home));
    // A setuid program gains nothing, and no namespace gives anything back.
    let sandbox = Sandbox::new(test).with(&["--quiet"]);
    sandbox.sh("unshare --user true || exit 9").code(9);
    sandbox.sh("unshare --mount true || exit 9").code(9);
}

/// The name that the caller has inside.
fn name(test: &Test) -> &'static str {
    match test.role {
        Role::Root => "sandbox",
        Role::Rootless => "capsid-ranged",
        Role::Single => "capsid-single",
    }
}

fn namespaces_are_its_own(test: &Test) {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let script =
        "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done";
    let inside = Sandbox::new(test).sh(script).success();
    for (kind, line) in kinds.iter().zip(inside.stdout.lines()) {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
        assert!(line.starts_with(kind), "{line}");
        assert_ne!(line, own.to_string_lossy(), "{kind}");
    }
    assert_eq!(inside.stdout.lines().count(), kinds.len());
    // Root of the machine is not mapped, whoever asks.
    let maps = Sandbox::new(test)
        .sh("cat /proc/self/uid_map /proc/self/gid_map")
        .success();
    for line in maps.stdout.lines() {
        let outside = line.split_whitespace().nth(1);
        assert!(outside.is_some_and(|id| id != "0"), "{line}");
    }
    let names = Sandbox::new(test)
        .sh("hostname; ls -d /proc/[0-9]*")
        .success();
    assert!(names.stdout.starts_with("sandbox\n"), "{}", names.stdout);
    assert!(names.stdout.lines().count() < 6, "{}", names.stdout);
}

fn only_programs_are_visible(test: &Test) {
    let root = Sandbox::new(test)
        .sh("ls -A /; ls -A /home /run /tmp ~; test ! -e /sys")
        .success();
    let usual = [
        "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "nix", "proc", "run",
        "sbin", "tmp", "usr", "var",
    ];
    let top: Vec<&str> = root
        .stdout
        .lines()
        .take_while(|line| !line.is_empty())
        .collect();
    for entry in top.iter().take_while(|line| !line.ends_with(':')) {
        assert!(usual.contains(entry), "{entry} of {top:?}");
    }
    assert!(
        root.stdout.contains(&format!("/home:\n{}\n", name(test))),
        "{}",
        root.stdout
    );
    // The caller's own directory is on the host, and nowhere inside.
    let sandbox = Sandbox::new(test);
    let secret = sandbox.file("secret", "top");
    let secret = secret.to_string_lossy();
    sandbox.run(&["cat", &secret]).failure();
    for path in [
        "/etc/shadow",
        "/etc/hostname.orig",
        "/root",
        "/var/lib",
        "/boot",
        "/proc/1/root/boot",
    ] {
        sandbox.run(&["ls", path]).failure();
    }
}

fn the_environment_is_clean(test: &Test) {
    let sandbox = Sandbox::new(test)
        .with_probe()
        .with(&["--env", "PASSED", "-e", "SET=a=b", "-e", "ABSENT"]);
    let call = sandbox.call(&["/probe", "report"]);
    let call = call
        .env("TOKEN", "secret")
        .env("PASSED", "on")
        .env("LD_PRELOAD", "/x")
        .env("TERM", "vt100");
    let report = call.output().success().json();
    let all: Vec<&str> = report["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let home = format!("HOME=/home/{}", name(test));
    let user = format!("USER={}", name(test));
    for entry in [
        home.as_str(),
        user.as_str(),
        "TERM=vt100",
        "PASSED=on",
        "SET=a=b",
    ] {
        assert!(all.contains(&entry), "{entry} of {all:?}");
    }
    let names: Vec<&str> = all
        .iter()
        .filter_map(|entry| entry.split('=').next())
        .collect();
    for name in names {
        let known = ["PATH", "HOME", "USER", "LOGNAME", "TERM", "PASSED", "SET"];
        assert!(known.contains(&name), "{name} of {all:?}");
    }
}

fn files_of_etc_are_made_up(test: &Test) {
    let own = name(test);
    let sandbox = Sandbox::new(test);
    let found = sandbox
        .sh("cat /etc/passwd; id -un; echo ~; getent hosts localhost; hostname")
        .success();
    let users = found
        .stdout
        .lines()
        .filter(|line| line.contains(":x:"))
        .count();
    assert_eq!(users, 3, "{}", found.stdout);
    assert!(
        found.stdout.contains(&format!("\n{own}\n/home/{own}\n")),
        "{}",
        found.stdout
    );
    // Another user is another name in all of them.
    let root = Sandbox::new(test).with(&["--user", "0"]);
    let found = root
        .sh("id -un; id -u; echo ~; cat /proc/self/uid_map")
        .success();
    assert!(
        found.stdout.starts_with("root\n0\n/root\n"),
        "{}",
        found.stdout
    );
    let found = Sandbox::new(test).with(&["--user", "77:88", "--hostname", "box"]);
    let found = found
        .sh("id -u; id -g; cat /etc/hostname; hostname")
        .success();
    assert_eq!(found.stdout, "77\n88\nbox\nbox\n");
}

fn nothing_can_be_written(test: &Test) {
    let sandbox = Sandbox::new(test);
    let script = "for d in / /usr /usr/bin /etc /etc/ssl /home /var /dev /bin /proc /proc/sys/kernel; do \
                  if touch $d/x 2>/dev/null; then echo wrote $d; fi; done; \
                  for f in /etc/passwd /bin/sh /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do \
                  if echo x 2>/dev/null >>$f; then echo changed $f; fi; done; \
                  for d in ~ /tmp /var/tmp /run /dev/shm; do echo x >$d/x || echo cannot $d; done";
    let done = sandbox.sh(script).success();
    assert_eq!(done.stdout, "", "{}", done.stderr);
    // The private directories end with the sandbox, and have an end.
    sandbox.sh("! ls ~ /tmp | grep -qx x").success();
    let small = Sandbox::new(test).with(&["--tmpfs", "/small:64K"]);
    small
        .sh("head -c 1M /dev/zero >/small/x; wc -c </small/x")
        .code(0)
        .says(&["No space left"]);
    let many = small.sh("i=0; while true >/small/$i; do i=$((i+1)); done; echo $i");
    let files: u32 = many.text().parse().unwrap_or(u32::MAX);
    assert!(files < 300, "{files} files without a byte");
}

fn the_network_is_loopback(test: &Test) {
    let script = "cat /proc/net/dev | tail -n +3; cat /proc/net/route | tail -n +2; test ! -e /etc/resolv.conf";
    let inside = Sandbox::new(test).sh(script).success();
    assert_eq!(inside.stdout.lines().count(), 1, "{}", inside.stdout);
    assert!(
        inside.stdout.trim_start().starts_with("lo:"),
        "{}",
        inside.stdout
    );
    let host = Sandbox::new(test).with(&["--net", "host"]);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let inside = host.sh("readlink /proc/self/ns/net").success();
    assert_eq!(inside.text(), own.to_string_lossy());
}

fn devices_are_few(test: &Test) {
    let found = Sandbox::new(test).sh("cd /dev && echo *").success();
    assert_eq!(
        found.text(),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
}

fn descriptors_stay_outside(test: &Test) {
    let sandbox = Sandbox::new(test).with_probe();
    let call = sandbox
        .call(&["/probe", "report"])
        .through_shell("exec 5</etc/passwd 9</");
    let report = call.output().success().json();
    let fds = report["fds"].as_array().cloned().unwrap_or_default();
    let numbers: Vec<_> = fds.iter().map(|one| one["fd"].clone()).collect();
    assert_eq!(numbers, [0, 1, 2], "{}", report["fds"]);
}

fn explained(test: &Test) {
    let text = Sandbox::new(test).explained(&["make"]);
    for words in [
        "defaults:\n",
        "--cwd gives the current directory",
        "rules:\n",
        "seccomp-default: enforced (the strict profile)",
        "seccomp-floor: enforced",
        "bind recursively /usr (not through any link) on /usr",
    ] {
        assert!(text.contains(words), "{words:?} in:\n{text}");
    }
    // What it prints is valid, and complete.
    let spec = Sandbox::new(test)
        .with(&["--print-spec"])
        .run(&["make", "-j2"])
        .success()
        .json();
    assert_eq!(spec["process"]["args"], json!(["make", "-j2"]));
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
}

fn scripts(test: &Test) {
    let script = "set -e; x=$(printf '%s\\n' c a b | sort | tr -d '\\n'); echo $x; \
                  (sleep 0.01; echo late) & wait; trap 'echo bye' EXIT; \
                  mkfifo p; (echo through >p &); cat p; ln -s p q; mv q r; test -L r; \
                  find /usr/bin -name 'sh' | head -1; date +%Y >/dev/null";
    let done = Sandbox::new(test)
        .with(&["--chdir", "/tmp"])
        .sh(script)
        .success();
    assert_eq!(done.stdout, "abc\nlate\nthrough\n/usr/bin/sh\nbye\n");
}

fn builds(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    let main =
        "#include <stdio.h>\nint half(int);\nint main(void) { printf(\"%d\\n\", half(84)); }\n";
    sandbox.file("main.c", main);
    sandbox.file("half.c", "int half(int n) { return n / 2; }\n");
    let rules = "main: main.o half.o\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O2 -c $<\n";
    sandbox.file("Makefile", rules);
    sandbox.run(&["make", "-j2"]).success();
    assert_eq!(sandbox.run(&["./main"]).success().text(), "42");
    // What it made is the caller's own.
    let made = std::fs::metadata(sandbox.dir.join("main"));
    assert_eq!(made.map(|made| made.uid()).ok(), Some(test.who().uid));
}

#[track_caller]
fn says_42(test: &Test, program: &[&str]) {
    assert_eq!(Sandbox::new(test).run(program).success().text(), "42");
}

fn python(test: &Test) {
    let script = "import json,ssl,sqlite3,subprocess,threading,tempfile; tempfile.mkdtemp(); \
                  subprocess.run(['true'],check=True); \
                  t=threading.Thread(target=lambda:print(6*7)); t.start(); t.join()";
    says_42(test, &["/usr/bin/python3", "-c", script]);
}

fn perl(test: &Test) {
    let script = "waitpid(fork() || exit 0, 0); print 6*7";
    says_42(test, &["perl", "-MPOSIX", "-e", script]);
}

fn node(test: &Test) {
    let script = "require('child_process').execFileSync('true'); setTimeout(()=>console.log(42),1)";
    says_42(test, &["node", "-e", script]);
}

fn sqlite(test: &Test) {
    let script = "create table t(n); insert into t values (40),(2); select sum(n) from t;";
    says_42(test, &["sqlite3", "/tmp/x.db", script]);
}

fn versions_of_a_project(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    let script = "git config --global user.name a && git config --global user.email a@b && \
                  git init -q . && echo 1 >f && git add f && git commit -qm one && echo 2 >f && \
                  git commit -qam two && git gc -q && git log --oneline | wc -l && git status --short";
    assert_eq!(sandbox.sh(script).success().text(), "2");
}
