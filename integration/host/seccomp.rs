//! System call filters as processes meet them: the default profile, the floor
//! under every profile.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::roles::Test;
use crate::runtime::Output;

cases! {
    ALL []: default_profile, default_profile_in_exec, default_of_create_stays, every_process_has_it,
        floor_sockets, floor_calls, floor_leaves_the_rest, floor_in_exec, other_entries,
        profile_over_floor, laxer_actions_stay_below_the_floor;
}

/// A profile without rules.
pub(crate) fn allow() -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW" })
}

pub(crate) fn with_profile<'t>(test: &'t Test, profile: Value) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["linux"]["seccomp"] = profile)
}

/// Calls, each with what it comes to. An answer that starts with `ok` need not
/// say which number comes back.
pub(crate) type Row<'a> = (&'a str, &'a str);

/// Default profile and no capabilities. Without a filter this kernel answers
/// each otherwise, whatever it was built with and whoever asks.
pub(crate) const DEFAULT_DENIES: &[Row] = &[
    ("mount 0 0 0 0 0", "EPERM"),
    ("process_vm_readv 1 0 0 0 0 0", "EPERM"),
    ("name_to_handle_at -1 0 0 0 0", "EPERM"),
    ("chroot 0", "EPERM"),
    ("vmsplice -1 0 0 0", "EPERM"),
    ("open_tree -1 0 0", "EPERM"),
    ("personality 0x40000", "EPERM"),
    ("ioctl -1 0x5412 0", "ENOTTY"),
    ("memfd_secret 0xff", "ENOSYS"),
];

/// The floor, under whichever profile; the same is true of these.
pub(crate) const FLOOR_DENIES: &[Row] = &[
    ("unshare 0x10000000", "EPERM"),
    ("setns -1 0", "EPERM"),
    ("clone3 0 0", "ENOSYS"),
    ("setsockopt -1 6 31 0 0", "ENOPROTOOPT"),
    ("setsockopt -1 0x700000006 0x70000001f 0 0", "ENOPROTOOPT"),
    ("socket 17 3 0", "EAFNOSUPPORT"),
    ("socket 0x100000001 1 0", "EAFNOSUPPORT"),
    ("socketpair 0x100000001 1 0 buf:8", "EAFNOSUPPORT"),
    ("socket 16 3 2", "EPROTONOSUPPORT"),
    ("pidfd_getfd -1 0 0", "EPERM"),
    ("keyctl 0 -3 0", "EPERM"),
    ("bpf 99 buf:64 64", "EPERM"),
    ("perf_event_open 0 0 0 0 0", "EPERM"),
];

/// What no filter of the project is in the way of.
pub(crate) const ALLOWED: &[Row] = &[
    ("getpid", "ok"),
    ("socket 1 1 0", "ok"),
    ("socket 2 1 0", "ok"),
    ("socket 2 2 0", "ok"),
    ("socket 10 1 0", "ok"),
    ("socketpair 1 0x80001 0 buf:8", "ok"),
    ("socket 16 3 0", "ok"),
    ("socket 16 0x80003 15", "ok"),
    ("socket 16 3 16", "ok"),
    ("ioctl -1 0x5401 0", "EBADF"),
    ("setsockopt -1 6 1 0 0", "EBADF"),
    ("setsockopt -1 1 31 0 0", "EBADF"),
    ("pipe2 buf:8 0x80800", "ok"),
    ("clone 17", "ok"),
    ("unshare 0x400", "ok"),
    ("personality 0xffffffff", "ok"),
    ("memfd_create name 0", "ok"),
    ("getpriority 0 0", "ok"),
];

/// Has the probe make the calls, in one process.
#[track_caller]
pub(crate) fn make(bundle: Bundle, rows: &[Row]) -> Vec<String> {
    lines(&bundle.run_probe(&words(rows)).success(), rows)
}

fn words<'a>(rows: &[Row<'a>]) -> Vec<&'a str> {
    let calls = rows.iter().map(|(call, _)| *call);
    std::iter::once("calls").chain(calls).collect()
}

#[track_caller]
fn lines(output: &Output, rows: &[Row]) -> Vec<String> {
    let lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), rows.len(), "a line for each call: {output:?}");
    lines
}

#[track_caller]
fn expect(found: &[String], rows: &[Row]) {
    for (line, (call, answer)) in found.iter().zip(rows) {
        let right = line == answer || *answer == "ok" && line.starts_with("ok ");
        assert!(right, "{call}: {line}, not {answer}");
    }
}

/// Insists that nobody denied what these rows deny.
#[track_caller]
pub(crate) fn expect_other(found: &[String], rows: &[Row]) {
    for (line, (call, answer)) in found.iter().zip(rows) {
        assert_ne!(line, answer, "{call}");
    }
}

#[track_caller]
pub(crate) fn check(bundle: Bundle, rows: &[Row]) {
    expect(&make(bundle, rows), rows);
}

fn default_profile(test: &Test) {
    let report = Bundle::new(test).report();
    report.expect("/seccomp", json!(2));
    report.expect("/seccomp_filters", json!(1));
    check(Bundle::new(test), DEFAULT_DENIES);
    // The default profile has an errno of its own only where the floor has it too.
    check(Bundle::new(test), FLOOR_DENIES);
    check(Bundle::new(test), ALLOWED);
}

fn default_profile_in_exec(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    container.exec_report(&[]).expect("/seccomp", json!(2));
    for rows in [DEFAULT_DENIES, FLOOR_DENIES, ALLOWED] {
        let output = container.exec(&[], &words(rows)).success();
        expect(&lines(&output, rows), rows);
    }
    // More capabilities for one process are no other filter.
    let flags = ["--cap", "CAP_NET_ADMIN", "--cap", "CAP_BPF"];
    let output = container.exec(&flags, &words(FLOOR_DENIES));
    if output.code == 0 {
        expect(&lines(&output, FLOOR_DENIES), FLOOR_DENIES);
    }
    container.end();
}

/// What becomes of config.json after `create` loosens nothing.
fn default_of_create_stays(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let mut container = bundle.create();
    let mut edited = bundle.config.clone();
    edited["linux"]["seccomp"] = allow();
    edited["annotations"] = json!({ "dev.capsid.relax": "seccomp-default,seccomp-floor" });
    edited["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    bundle.save_text(&edited.to_string());
    container.start();
    container.wait_for("READY");
    for rows in [DEFAULT_DENIES, FLOOR_DENIES] {
        let output = container.exec(&[], &words(rows)).success();
        expect(&lines(&output, rows), rows);
    }
    container.end();
}

/// Children and threads have the filter of whoever made them.
fn every_process_has_it(test: &Test) {
    let bundle = Bundle::new(test);
    let words = ["spawn", "1", "/bin/probe", "calls", "mount 0 0 0 0 0"];
    let output = bundle.run_probe(&words).success();
    assert_eq!(output.text(), "EPERM\ncode 0");
    let output = Bundle::new(test).run_probe(&["threads", "3", "setns -1 0"]);
    assert_eq!(output.success().text(), "EPERM\nEPERM\nEPERM");
}

fn floor_sockets(test: &Test) {
    let families = (0..=47).filter(|family| ![1, 2, 10, 16].contains(family));
    let calls: Vec<String> = families
        .flat_map(|family| {
            let high = format!("socket {:#x} 3 0", family | 1_u64 << 32);
            [
                format!("socket {family} 3 0"),
                format!("socketpair {family} 3 0 buf:8"),
                high,
            ]
        })
        .chain(["socket -1 3 0".to_owned()])
        .collect();
    let rows: Vec<Row> = calls.iter().map(|call| (&**call, "EAFNOSUPPORT")).collect();
    check(with_profile(test, allow()), &rows);
    // SOCK_PACKET and SOCK_DCCP, with SOCK_CLOEXEC too.
    let types: Vec<Row> = ["socket 2 10 0", "socket 2 0x8000a 0", "socket 10 10 768"]
        .into_iter()
        .chain(["socket 2 6 33", "socket 10 0x80006 33", "socket 1 6 0"])
        .map(|call| (call, "ESOCKTNOSUPPORT"))
        .collect();
    check(with_profile(test, allow()), &types);
    let netlink: Vec<String> = [1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 14]
        .into_iter()
        .chain(17..=31)
        .flat_map(|protocol| [protocol, protocol | 1_u64 << 32])
        .map(|protocol| format!("socket 16 3 {protocol:#x}"))
        .collect();
    let rows: Vec<Row> = netlink
        .iter()
        .map(|call| (&**call, "EPROTONOSUPPORT"))
        .chain([
            ("socket 16 3 9", "EINVAL"),
            ("socket 16 0x80802 9", "EINVAL"),
        ])
        .collect();
    check(with_profile(test, allow()), &rows);
}

fn floor_calls(test: &Test) {
    check(with_profile(test, allow()), FLOOR_DENIES);
    let eperm = [
        "ioctl -1 0x5412 0",
        "ioctl -1 0x541c 0",
        "ioctl -1 0x5423 0",
        "ioctl -1 0xffffffff00005412 0",
        "unshare 0x80",
        "setns 0 0x10000000",
        "io_uring_setup 1 buf:120",
        "io_uring_enter -1 0 0 0 0 0",
        "io_uring_register -1 0 0 0",
        "userfaultfd 1",
        "add_key user name value 5 -3",
        "request_key user name 0 -3",
        "keyctl 1 name",
    ];
    let mut rows: Vec<Row> = eperm.into_iter().map(|call| (call, "EPERM")).collect();
    // No multiple of a flag is a way around it, nor are bits above the 32 that count.
    let flags = [
        0x2_0000_u64,
        0x200_0000,
        0x400_0000,
        0x800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ];
    let made: Vec<String> = flags
        .into_iter()
        .flat_map(|flag| {
            [
                format!("clone {:#x}", flag | 17),
                format!("clone {:#x}", 1 << 40 | flag | 0x100 | 17),
                format!("unshare {flag:#x}"),
                format!("unshare {:#x}", 1 << 40 | flag | 0x400),
            ]
        })
        .collect();
    rows.extend(made.iter().map(|call| (&**call, "EPERM")));
    rows.extend([
        ("pipe2 buf:8 0x80", "EINVAL"),
        ("pipe2 buf:8 0x80880", "EINVAL"),
        ("clone3 buf:88 88", "ENOSYS"),
    ]);
    check(with_profile(test, allow()), &rows);
}

fn floor_leaves_the_rest(test: &Test) {
    check(with_profile(test, allow()), ALLOWED);
    let found = make(with_profile(test, allow()), DEFAULT_DENIES);
    let rest: Vec<(String, Row)> = found
        .into_iter()
        .zip(DEFAULT_DENIES.iter().copied())
        // The floor has it as well, with another answer.
        .filter(|(_, (call, _))| !call.starts_with("ioctl"))
        .collect();
    for (line, (call, answer)) in rest {
        assert_ne!(line, answer, "{call}");
    }
}

fn floor_in_exec(test: &Test) {
    let bundle = with_profile(test, allow()).args(&["sleep"]);
    let container = bundle.ready();
    for rows in [FLOOR_DENIES, ALLOWED] {
        let output = container.exec(&[], &words(rows)).success();
        expect(&lines(&output, rows), rows);
    }
    container.end();
}

/// The other two kinds of programs of an x86_64 kernel, whose numbers mean other calls.
fn other_entries(test: &Test) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    // getpid, socket with AF_ALG, setns; as x32 has them.
    let rows = [
        ("0x40000027", "ENOSYS"),
        ("0x40000029 38 5 0", "ENOSYS"),
        ("0x40000134 -1 0", "ENOSYS"),
        ("0x40000000", "ENOSYS"),
        ("0x400003e8", "ENOSYS"),
    ];
    for profile in [Value::Null, allow()] {
        let fresh = || match &profile {
            Value::Null => Bundle::new(test),
            profile => with_profile(test, profile.clone()),
        };
        check(fresh(), &rows);
        // 20 is getpid there, 41 dup, 11 execve.
        let host = test.probe(&["int80", "20"]).output();
        let killed = if host.code == 0 { 159 } else { host.code };
        let output = fresh().run_probe(&["int80", "20"]).code(killed);
        assert_eq!(output.text(), "");
        let bundle = fresh().args(&["sleep"]);
        let container = bundle.ready();
        container.exec(&[], &["int80", "20"]).code(killed);
        container.end();
    }
}

fn rules(rules: &Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })
}

/// Where the profile is stricter than the floor, the profile decides.
fn profile_over_floor(test: &Test) {
    for (action, code) in [
        ("SCMP_ACT_KILL_PROCESS", 159),
        ("SCMP_ACT_KILL", 159),
        ("SCMP_ACT_TRAP", 159),
    ] {
        let profile = rules(&json!([{ "names": ["keyctl"], "action": action }]));
        let bundle = with_profile(test, profile);
        let output = bundle.run_probe(&["syscall", "keyctl", "0"]).code(code);
        assert_eq!(output.text(), "", "{action}");
    }
    let profile = rules(&json!([
        { "names": ["setns", "clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
        { "names": ["keyctl", "bpf"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
    ]));
    check(
        with_profile(test, profile),
        &[
            ("setns -1 0", "EOPNOTSUPP"),
            ("clone3 0 0", "EOPNOTSUPP"),
            ("keyctl 0 -3 0", "EPERM"),
            ("socket 38 5 0", "EACCES"),
            ("socket 1 1 0", "EACCES"),
        ],
    );
}

/// Naming a call is not allowing what the floor denies.
fn laxer_actions_stay_below_the_floor(test: &Test) {
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let names = [
            "setns",
            "unshare",
            "clone3",
            "socket",
            "keyctl",
            "pidfd_getfd",
        ];
        let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": names, "action": action },
        ]});
        let floor: Vec<Row> = FLOOR_DENIES
            .iter()
            .copied()
            .filter(|(call, _)| {
                names
                    .iter()
                    .any(|name| call.split(' ').next() == Some(name))
            })
            .collect();
        assert_eq!(floor.len(), 8);
        let bundle = with_profile(test, profile).edit(|config| {
            let allowed = json!({
                "names": ["execve", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "prlimit64",
                    "set_tid_address", "set_robust_list", "rseq", "readlinkat", "readlink",
                    "getrandom", "poll", "rt_sigaction", "sigaltstack", "write", "futex",
                    "exit_group", "exit", "newfstatat", "mremap", "read", "close", "openat",
                    "sched_getaffinity", "rt_sigprocmask", "fstat", "fcntl", "ioctl", "madvise"],
                "action": "SCMP_ACT_ALLOW"
            });
            push(&mut config["linux"]["seccomp"]["syscalls"], allowed);
        });
        check(bundle, &floor);
    }
}
