//! A hostile program in a sandbox: what it tries on the kernel, on processes
//! and on the network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use nix::sys::signal::Signal;

use crate::cases::cases;
use crate::roles::Test;
use crate::sandboxed::Sandbox;

cases! {
    ALL []: dangerous_calls, processes_outside, the_init, what_the_init_knows,
        a_program_that_wants_to_stay, fork_bombs, priorities, cgroups_and_namespaces,
        typing_into_the_terminal, message_buses, abstract_sockets_with_the_hosts_network,
        the_hosts_network_is_not_configured, the_runtime_itself, secrets_stay_secret;
}

/// What opens the kernel up, and what a sandbox has no use for: with the error
/// that each must come to, whoever the program is.
const CALLS: &[(&str, &str)] = &[
    ("ptrace 0 0 0 0", "EPERM"),
    ("ptrace 16 1 0 0", "EPERM"),
    ("ptrace 16902 1 0 0", "EPERM"),
    ("process_vm_readv 1 buf:16 1 buf:16 1 0", "EPERM"),
    ("process_vm_writev 1 buf:16 1 buf:16 1 0", "EPERM"),
    ("process_madvise 1 buf:16 1 4 0", "EPERM"),
    ("pidfd_getfd 3 0 0", "EPERM"),
    ("kcmp 1 1 0 0 0", "EPERM"),
    // Namespaces: user, mount, time, pid, and by descriptor.
    ("unshare 0x10000000", "EPERM"),
    ("unshare 0x20000", "EPERM"),
    ("unshare 0x80", "EPERM"),
    ("unshare 0x20000000", "EPERM"),
    ("setns 0 0", "EPERM"),
    ("clone 0x10000011 0 0 0 0", "EPERM"),
    ("clone 0x20000011 0 0 0 0", "EPERM"),
    ("clone 0x40000011 0 0 0 0", "EPERM"),
    // Its flags are behind a pointer: C libraries then take clone.
    ("clone3 buf:88 88", "ENOSYS"),
    // The root and mounts, by the old calls and the new ones.
    ("chroot /tmp", "EPERM"),
    ("pivot_root /tmp /tmp", "EPERM"),
    ("mount none /tmp tmpfs 0 0", "EPERM"),
    ("mount /usr /tmp 0 4096 0", "EPERM"),
    ("mount none / 0 0x20 0", "EPERM"),
    ("umount2 /tmp 2", "EPERM"),
    ("umount2 /proc/interrupts 2", "EPERM"),
    ("open_tree -100 /usr 1", "EPERM"),
    ("fsopen tmpfs 0", "EPERM"),
    ("fspick -100 / 0", "EPERM"),
    ("move_mount -100 /tmp -100 /run 0", "EPERM"),
    ("mount_setattr -100 / 0 buf:32 32", "EPERM"),
    ("open_by_handle_at -100 buf:128 0", "EPERM"),
    ("name_to_handle_at -100 /tmp buf:128 buf:8 0", "EPERM"),
    ("mknodat -100 /tmp/device 0x21b6 0x105", "EPERM"),
    // Keys belong to users, and not to namespaces.
    ("add_key user a b 1 -2", "EPERM"),
    ("request_key user a b -2", "EPERM"),
    ("keyctl 0 -3 1", "EPERM"),
    ("keyctl 1 0", "EPERM"),
    // Parts of the kernel where mistakes are found every year.
    ("userfaultfd 0", "EPERM"),
    ("io_uring_setup 4 buf:120", "EPERM"),
    ("bpf 0 buf:144 144", "EPERM"),
    ("perf_event_open buf:128 0 -1 -1 0", "EPERM"),
    ("fanotify_init 0 0", "EPERM"),
    ("memfd_secret 0", "EPERM"),
    ("vmsplice 1 buf:16 1 0", "EPERM"),
    ("move_pages 1 0 0 0 0 0", "EPERM"),
    ("modify_ldt 0 buf:16 16", "EPERM"),
    ("personality 0x40000", "EPERM"),
    ("socket 38 5 0", "EAFNOSUPPORT"),
    ("socket 40 1 0", "EAFNOSUPPORT"),
    ("socket 17 3 768", "EAFNOSUPPORT"),
    ("socket 2 3 1", "EPROTONOSUPPORT"),
    // The machine.
    ("syslog 3 buf:256 256", "EPERM"),
    ("init_module 0 0 0", "EPERM"),
    ("kexec_load 0 0 0 0", "EPERM"),
    ("reboot 0 0 0 0", "EPERM"),
    ("settimeofday buf:16 0", "EPERM"),
];

fn dangerous_calls(test: &Test) {
    for user in ["1000", "0"] {
        let sandbox = Sandbox::new(test)
            .with_probe()
            .with(&["--quiet", "--user", user]);
        let calls = CALLS.iter().map(|(call, _)| *call);
        let words: Vec<&str> = ["/probe", "calls"].into_iter().chain(calls).collect();
        let output = sandbox.run(&words).success();
        let results: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(results.len(), CALLS.len(), "{}", output.stdout);
        for ((call, error), result) in CALLS.iter().zip(results) {
            assert_eq!(result, *error, "{call} as user {user}");
        }
    }
}

fn processes_outside(test: &Test) {
    let mut outside = test.probe(&["sleep"]).start();
    outside.wait_for("READY");
    let pid = outside.pid();
    let calls = [
        format!("kill {pid} 0"),
        format!("kill {pid} 9"),
        format!("kill -{pid} 9"),
        format!("pidfd_open {pid} 0"),
        format!("tgkill {pid} {pid} 9"),
        format!("prlimit64 {pid} 7 0 buf:16"),
        format!("sched_setaffinity {pid} 8 buf:8"),
        format!("setpriority 0 {pid} 19"),
        format!("getpgid {pid}"),
    ];
    let sandbox = Sandbox::new(test).with_probe().with(&["--quiet"]);
    let mut words = vec!["/probe", "calls"];
    words.extend(calls.iter().map(String::as_str));
    // With the host's network too: nothing of processes is behind that.
    for options in [&[][..], &["--net", "host"], &["--user", "0"]] {
        let sandbox = Sandbox::new(test)
            .with_probe()
            .with(&["--quiet"])
            .with(options);
        let output = sandbox.run(&words).success();
        for (call, result) in calls.iter().zip(output.stdout.lines()) {
            assert!(["ESRCH", "EPERM"].contains(&result), "{call}: {result}");
        }
    }
    // Everybody who can be seen: the init and the program itself.
    let seen =
        sandbox.sh("kill -9 -1; ls -d /proc/[0-9]* | wc -l; ls /proc/$$ >/dev/null && echo alive");
    assert_ne!(seen.stdout.trim(), "", "{}", seen.stderr);
    let shown = sandbox.sh(&format!(
        "ls /proc/{pid} /proc/1/task/{pid} 2>/dev/null; cat /proc/[0-9]*/comm"
    ));
    assert!(
        !shown.stdout.contains("probe") && !shown.stdout.contains("capsid"),
        "{}",
        shown.stdout
    );
    assert!(!outside.ended(), "the process outside was ended");
}

/// Signals from inside do not reach it, and so the sandbox stays in order.
fn the_init(test: &Test) {
    // It passes on what it gets: whoever signals it signals themselves.
    let script = "trap '' HUP INT QUIT ILL TRAP ABRT BUS USR1 SEGV USR2 PIPE ALRM TERM TSTP SYS; for s in HUP INT QUIT ILL TRAP ABRT BUS KILL USR1 SEGV USR2 PIPE ALRM TERM STOP TSTP SYS; do \
                  kill -$s 1; done; sleep 0.05; kill -CONT 1; exit 7";
    Sandbox::new(test).sh(script).code(7);
    // It has no descriptor to open and no processor time to lose, and does its work.
    let limits = "/probe calls 'prlimit64 1 7 buf:16 0' 'prlimit64 1 3 buf:16 0'; exit 5";
    let limited = Sandbox::new(test).with_probe().with(&["--quiet"]);
    limited.run(&["sh", "-c", limits]).code(5);
    // Its orphans are collected, and a stopped program does not stop the end.
    Sandbox::new(test)
        .sh("(sleep 100 & ) ; (sh -c 'kill -STOP $$' &); exit 6")
        .code(6);
}

/// The init is a copy of capsid: nothing of what capsid knew may be read there.
fn what_the_init_knows(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--quiet", "--env", "GIVEN=1"]);
    let script = "cd /proc/1; tr '\\0' '\\n' <cmdline; for f in environ maps mem auxv exe cwd/. root/. fd fdinfo/3 \
                  map_files task/1/environ task/1/fd io stack syscall personality; do \
                  (cat $f || ls $f/) 2>/dev/null | grep -q . && echo read $f; \
                  (echo 1 >$f) 2>/dev/null && echo wrote $f; done; \
                  for f in oom_score_adj comm sched autogroup coredump_filter loginuid clear_refs setgroups uid_map; do \
                  (echo 1 >$f) 2>/dev/null && echo wrote $f; done; exit 0";
    let call = sandbox
        .call(&["sh", "-c", script])
        .env("TOKEN", "hunter2-of-the-caller");
    let output = call.output().success();
    assert!(!output.stdout.contains("hunter2"), "{}", output.stdout);
    let state = sandbox.state.display().to_string();
    assert!(!output.stdout.contains(&state), "{}", output.stdout);
    for line in output.stdout.lines() {
        assert!(
            !line.starts_with("read ") && !line.starts_with("wrote "),
            "{}",
            output.stdout
        );
    }
    sandbox.assert_nothing_left();
}

/// It takes back the signal that comes with its parent's end, leaves the session
/// and the process group, and is adopted by the init.
fn a_program_that_wants_to_stay(test: &Test) {
    let sandbox = Sandbox::new(test).with_probe().with(&["--cwd"]);
    let script = "trap '' HUP INT TERM; /probe calls 'prctl 1 0' >/dev/null; \
                  (setsid sh -c 'trap \"\" HUP INT TERM; /probe calls \"prctl 1 0\" >/dev/null; echo up >up; \
                   while sleep 0.02; do echo x >>alive; done' &); \
                  until [ -e up ]; do sleep 0.01; done; echo READY; sleep 100";
    let mut running = sandbox.call(&["sh", "-c", script]).start();
    running.wait_for("READY");
    // capsid has no chance to do anything about it.
    running.signal(Signal::SIGKILL);
    running.stop();
    let length = || fs::metadata(sandbox.dir.join("alive")).map_or(0, |found| found.len());
    let mut before = length();
    for round in 0.. {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = length();
        if now == before {
            break;
        }
        assert!(round < 30, "it goes on");
        before = now;
    }
    sandbox.call(&["true"]).output().success();
    sandbox.assert_nothing_left();
}

fn fork_bombs(test: &Test) {
    let sandbox = Sandbox::new(test)
        .global("--cgroups=best-effort")
        .with_probe();
    let sandbox = sandbox.with(&["--pids", "60"]);
    let bomb = || {
        let output = sandbox.call(&["/probe", "fork", "300"]).output();
        let words: Vec<String> = output.text().split(' ').map(str::to_owned).collect();
        let made: u32 = words[0].parse().unwrap_or(u32::MAX);
        assert!(
            (20..=60).contains(&made),
            "{made} processes: {}",
            output.stderr
        );
        assert_eq!(
            words.get(1).map(String::as_str),
            Some("EAGAIN"),
            "{}",
            output.stdout
        );
    };
    bomb();
    // The caller's own processes are not counted with them, and are not stopped.
    let mut running = sandbox.call(&["/probe", "herd", "50"]).start();
    running.wait_for("READY");
    bomb();
    test.command(&[
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.01 & done; wait",
    ])
    .output()
    .success();
    running.signal(Signal::SIGTERM);
    running.wait().code(143);
    sandbox.assert_nothing_left();
    // Without a word about it there is a limit as well.
    let line = "sed -n 's/^Max processes *\\([0-9]*\\).*/\\1/p' /proc/self/limits";
    let limits = Sandbox::new(test).sh(line).success();
    let most: u32 = limits.text().parse().unwrap_or(u32::MAX);
    let group = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    assert!(most <= 2048 || group.contains("pids"), "{}", limits.stdout);
}

fn priorities(test: &Test) {
    let sandbox = Sandbox::new(test).with_probe().with(&["--quiet"]);
    let calls = [
        "setpriority 0 0 -5",
        "setpriority 2 0 -5",
        "sched_setscheduler 0 1 buf:4",
        "sched_setattr 0 buf:56 0",
        "ioprio_set 1 0 0x2001",
        "mlockall 7",
        "prlimit64 0 4 buf:16 0",
    ];
    let mut words = vec!["/probe", "calls"];
    words.extend(calls);
    let output = sandbox.run(&words).success();
    for (call, result) in calls.iter().zip(output.stdout.lines()).take(5) {
        assert!(
            ["EPERM", "EACCES", "ENOSYS"].contains(&result),
            "{call}: {result}"
        );
    }
    let score = "cat /proc/self/oom_score_adj; echo -1000 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    let output = Sandbox::new(test).sh(score).success();
    let scores: Vec<i32> = output
        .stdout
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    assert!(
        scores.len() == 2 && scores[0] >= 300 && scores[1] >= 300,
        "{scores:?}"
    );
}

fn cgroups_and_namespaces(test: &Test) {
    // Nowhere is a file that moves a process to another cgroup.
    let script = "find / -path /usr -prune -o -path /proc -prune -o -name cgroup.procs -print -o -name tasks -print 2>/dev/null; \
                  ls /sys; cat /proc/self/cgroup | grep ^0:; \
                  for f in uid_map gid_map setgroups; do echo '0 0 1' >/proc/self/$f; done 2>/dev/null && echo wrote; \
                  nsenter -t 1 -a true && echo entered; exit 0";
    let output = Sandbox::new(test).with(&["--quiet"]).sh(script).success();
    assert_eq!(output.stdout, "0::/\n", "{}", output.stderr);
}

/// TIOCSTI and its like, on a terminal of its own and on what may be left of the caller's.
fn typing_into_the_terminal(test: &Test) {
    let probe = test.machine.probe.display().to_string();
    for tty in ["yes", "no"] {
        let sandbox = Sandbox::new(test)
            .with_probe()
            .with(&["--quiet", "--tty", tty]);
        let words = [
            "/probe",
            "calls",
            "ioctl 0 0x5412 x",
            "ioctl 1 0x5412 x",
            "ioctl 0 0x541c buf:8",
            "ioctl 0 0x5423 buf:8",
        ];
        let call = sandbox.call(&words);
        // The high half of the request is not what the kernel looks at.
        let output = call
            .through(&[probe.as_str(), "pty", "24x80", "--"])
            .output();
        let errors = output
            .stdout
            .lines()
            .filter(|line| line.trim() == "ENOTTY")
            .count();
        assert_eq!(errors, 4, "{tty}: {}", output.stdout);
        sandbox.assert_nothing_left();
    }
}

fn message_buses(test: &Test) {
    let sandbox = Sandbox::new(test).with_probe();
    let runtime = sandbox.directory("runtime");
    let bus = runtime.join("a-bus");
    // Nobody listens: capsid itself asks for the user's systemd there.
    drop(UnixListener::bind(&bus).unwrap_or_else(|error| panic!("{error}")));
    test.give(&bus);
    let address = format!("unix:path={}", bus.display());
    for options in [&[][..], &["--net", "host"]] {
        let sandbox = Sandbox::new(test).with_probe().with(options);
        let script = format!(
            "env | grep -iE 'bus|xdg|display|ssh|docker|wayland|gpg'; \
             for s in {} /run/dbus/system_bus_socket /var/run/dbus/system_bus_socket /run/user/*/bus /run/docker.sock \
             /run/systemd/private /tmp/.X11-unix/X0; do test -e $s && echo there: $s; done; \
             find / -path /usr -prune -o -path /proc -prune -o -type s -print 2>/dev/null; exit 0",
            bus.display()
        );
        let call = sandbox.call(&["sh", "-c", &script]);
        let call = call
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .env("XDG_RUNTIME_DIR", &runtime);
        let call = call
            .env("SSH_AUTH_SOCK", &bus)
            .env("DISPLAY", ":0")
            .env("DOCKER_HOST", &address);
        assert_eq!(call.output().success().stdout, "");
    }
}

fn abstract_sockets_with_the_hosts_network(test: &Test) {
    let name = format!("capsid-sandbox-{}-{}", std::process::id(), test.role.name());
    let mut listener = test.probe(&["abstract-listen", &name]).start();
    listener.wait_for("READY");
    let connect = |options: &[&str]| {
        let sandbox = Sandbox::new(test).with_probe().with(options);
        sandbox.run(&["/probe", "abstract-connect", &name])
    };
    assert_eq!(connect(&["--net", "host"]).code(1).text(), "EPERM");
    assert_eq!(connect(&[]).code(1).text(), "ECONNREFUSED");
    // It is the fence that holds where the network is shared.
    connect(&["--net", "host", "--relax", "landlock"]).success();
}

fn the_hosts_network_is_not_configured(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--net", "host", "--user", "0", "--quiet"]);
    let script = "for c in 'link add x type dummy' 'link set lo down' 'address add 203.0.113.9/32 dev lo' \
                  'route add 203.0.113.0/24 dev lo'; do ip $c 2>/dev/null && echo did $c; done; \
                  echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward && echo wrote; exit 0";
    assert_eq!(sandbox.sh(script).success().stdout, "");
    // Privileged ports are the host's too.
    let probe = Sandbox::new(test)
        .with_probe()
        .with(&["--net", "host", "--user", "0", "--quiet"]);
    let first: u32 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    if first > 81 {
        let output = probe.run(&["/probe", "serve", "81", "x"]).failure();
        assert!(output.stderr.contains("bind"), "{}", output.stderr);
    }
}

/// CVE-2019-5736: by every name that leads to it.
fn the_runtime_itself(test: &Test) {
    let before = fs::read(&test.machine.runtime).unwrap_or_default();
    let runtime = test.machine.runtime.display().to_string();
    let sandbox = Sandbox::new(test).with_probe().with(&["--quiet"]);
    for file in [
        "/proc/1/exe",
        "/proc/self/exe",
        "/proc/1/map_files",
        runtime.as_str(),
    ] {
        sandbox.run(&["/probe", "append", file, "x"]).code(1);
    }
    // The interpreter of a script is the sandbox's own, and not whoever starts it.
    let script = sandbox.file("script", "#!/proc/self/exe\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("{error}"));
    let shown = Sandbox::new(test).with(&["--ro", &script.display().to_string()]);
    let output = shown
        .run(&[&script.display().to_string(), "--version"])
        .failure();
    assert!(!output.stdout.contains("spec:"), "{}", output.stdout);
    assert!(
        fs::read(&test.machine.runtime).unwrap_or_default() == before,
        "the runtime's binary changed"
    );
}

fn secrets_stay_secret(test: &Test) {
    const SECRET: &str = "hunter2-in-a-file";
    let sandbox = Sandbox::new(test);
    let file = sandbox.file("token", SECRET).display().to_string();
    let sandbox = sandbox.with(&["--secret", &format!("token={file}"), "--cwd"]);
    let script = "cat /run/secrets/token >/dev/null && echo READY; until [ -e go ]; do sleep 0.01; done; \
                  cat /proc/1/environ /proc/self/environ /proc/1/cmdline /proc/self/mountinfo 2>/dev/null; exit 0";
    let mut running = sandbox.call(&["sh", "-c", script]).start();
    running.wait_for("READY");
    let find = format!("grep -rl {SECRET} {} || echo none", sandbox.state.display());
    assert_eq!(test.command(&["sh", "-c", &find]).output().text(), "none");
    for name in ["environ", "cmdline"] {
        let known =
            fs::read_to_string(format!("/proc/{}/{name}", running.pid())).unwrap_or_default();
        assert!(!known.contains(SECRET), "{name}: {known}");
    }
    sandbox.file("go", "");
    let output = running.wait().success();
    assert!(!output.stdout.contains(SECRET), "{}", output.stdout);
    sandbox.assert_nothing_left();
}
