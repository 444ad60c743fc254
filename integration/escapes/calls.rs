//! Calls that the filters shut. Most are asked of the filters alone: a kernel that
//! lacks the code behind a call refuses it too, and would hide a filter that does not.

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::roles::{Role, Test};
use crate::seccomp::{allow, with_profile};

cases! {
    ALL []: socket_families, netlink_protocols, unknown_calls, calls_of_32_bits, new_namespaces,
        doors_of_the_kernel, file_handles;
}

/// Gives up both filters: the profile and what is under every profile.
const UNFILTERED: &[&str] = &["--relax", "seccomp-default,seccomp-floor"];

/// What the filters say to each call.
#[track_caller]
fn asked(bundle: Bundle, options: &[&str], calls: &[String]) -> Vec<String> {
    let mut words = vec!["ask"];
    words.extend(calls.iter().map(String::as_str));
    let call = bundle.args(&words);
    let output = call.run_call(&[]).globally(options).output().success();
    let answers: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), calls.len(), "{output:?}");
    answers
}

/// Insists on the answers under the default profile and under one that allows
/// everything, and that without the filters all these calls reach the kernel.
#[track_caller]
fn shut(test: &Test, rows: &[(String, &str)]) {
    let calls: Vec<String> = rows.iter().map(|(call, _)| call.clone()).collect();
    for bundle in [Bundle::new(test), with_profile(test, allow())] {
        for ((call, answer), found) in rows.iter().zip(asked(bundle, &[], &calls)) {
            holds!(found == *answer, "{call}: {found}, not {answer}");
        }
    }
    for (call, found) in calls
        .iter()
        .zip(asked(Bundle::new(test), UNFILTERED, &calls))
    {
        assert_eq!(found, "kernel", "{call} without filters");
    }
}

/// Each family there can be, by both calls that take one.
fn socket_families(test: &Test) {
    let mut rows = Vec::new();
    for family in 0..46_u64 {
        let answer = match family {
            // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
            1 | 2 | 10 | 16 => "kernel",
            _ => "EAFNOSUPPORT",
        };
        for call in ["socket", "socketpair"] {
            rows.push((format!("{call} {family} 3 0"), answer));
            if answer != "kernel" {
                // The kernel takes the low 32 bits.
                let high = family | 1 << 32;
                rows.push((format!("{call} {high:#x} 3 0"), answer));
            }
        }
    }
    shut(test, &rows);
}

fn netlink_protocols(test: &Test) {
    let answer = |protocol| match protocol {
        // ROUTE, SOCK_DIAG, KOBJECT_UEVENT, GENERIC
        0 | 4 | 15 | 16 => "kernel",
        // AUDIT: programs that log in take no other errno for "not there".
        9 => "EINVAL",
        _ => "EPROTONOSUPPORT",
    };
    let row = |protocol: u32| (format!("socket 16 3 {protocol}"), answer(protocol));
    let rows: Vec<_> = (0..32).map(row).collect();
    shut(test, &rows);
}

/// Calls newer than the profile: a library falls back to older ones on ENOSYS
/// only, and what nobody has looked at must not be reached.
fn unknown_calls(test: &Test) {
    let calls: Vec<String> = [480, 500, 600, 1000].map(|nr: u32| nr.to_string()).into();
    let mut all = calls.clone();
    all.push("bpf 0 0 0".to_owned());
    let found = asked(Bundle::new(test), &[], &all);
    for (call, found) in calls.iter().zip(&found) {
        holds!(found == "ENOSYS", "call {call}: {found}");
    }
    holds!(found.last().is_some_and(|bpf| bpf == "EPERM"), "{found:?}");
    for found in asked(Bundle::new(test), UNFILTERED, &all) {
        assert_eq!(found, "kernel", "without filters");
    }
}

/// The second and third door into an x86_64 kernel, with numbers of their own.
fn calls_of_32_bits(test: &Test) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    // getpid, socket and setns as x32 has them.
    let rows = ["0x40000027", "0x40000029 38 5 0", "0x40000134 -1 0"];
    let rows: Vec<_> = rows.map(|call| (call.to_owned(), "ENOSYS")).into();
    shut(test, &rows);
    if test.probe(&["int80", "20"]).output().code != 0 {
        // This kernel has no such entry.
        return;
    }
    for bundle in [Bundle::new(test), with_profile(test, allow())] {
        let output = bundle.run_probe(&["int80", "20"]);
        holds!(
            output.code == 159 && output.text().is_empty(),
            "{}",
            output.text()
        );
    }
    let bundle = Bundle::new(test).args(&["int80", "20"]);
    let output = bundle.run_call(&[]).globally(UNFILTERED).output();
    assert_eq!(
        output.success().text(),
        "returned 1",
        "the process's own id"
    );
}

/// By every call that makes or enters one, for each type.
fn new_namespaces(test: &Test) {
    let mut rows = Vec::new();
    for flag in [
        0x2_0000_u64,
        0x200_0000,
        0x400_0000,
        0x800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ] {
        for bits in [flag, flag | 1 << 40] {
            rows.push((format!("unshare {bits:#x}"), "EPERM"));
            rows.push((format!("clone {:#x}", bits | 17), "EPERM"));
        }
    }
    rows.push(("unshare 0x80".to_owned(), "EPERM"));
    rows.push(("setns 0 0x10000000".to_owned(), "EPERM"));
    // Its flags are behind a pointer, where no filter can look.
    rows.push(("clone3 0 0".to_owned(), "ENOSYS"));
    shut(test, &rows);
    // Threads are made without it.
    let output = Bundle::new(test).run_probe(&["threads", "4", "getpid"]);
    assert_eq!(output.success().text(), ["ok 1"; 4].join("\n"));
}

/// What exploits of the kernel begin with and hardly any program does.
fn doors_of_the_kernel(test: &Test) {
    let calls = [
        "io_uring_setup 1 0",
        "io_uring_enter 0 0 0 0 0",
        "io_uring_register 0 0 0 0",
        "userfaultfd 0",
        "userfaultfd 1",
        "bpf 5 0 0",
        "perf_event_open 0 0 0 0 0",
        "keyctl 0 0 0",
        "add_key 0 0 0 0 0",
        "request_key 0 0 0 0",
        "pidfd_getfd 0 0 0",
    ];
    let rows: Vec<_> = calls.map(|call| (call.to_owned(), "EPERM")).into();
    shut(test, &rows);
}

/// Files by their number, past every directory in between (`shocker`).
fn file_handles(test: &Test) {
    let attack = ["shocker", "/bin/probe"];
    for options in [&[][..], UNFILTERED] {
        let bundle = Bundle::new(test).args(&attack);
        let output = bundle.run_call(&[]).globally(options).output();
        holds!(output.text() == "EPERM", "{options:?}: {}", output.text());
    }
    let granted = Bundle::new(test).edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            let name = json!("CAP_DAC_READ_SEARCH");
            push(&mut config["process"]["capabilities"][set], name);
        }
    });
    let bundle = granted.args(&attack);
    let options: &[&str] = match test.role {
        Role::Root => &["--relax", "userns"],
        // In a user namespace the capability is none for the host's file systems.
        _ => &[],
    };
    let output = bundle.run_call(&[]).globally(options).output();
    let denied = output.text() == "EPERM";
    assert_eq!(denied, test.rootless(), "{}", output.text());
}
