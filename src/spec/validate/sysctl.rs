//! Kernel parameters: only those that belong to a namespace of the container.

use std::path::Path;

use oci_spec::runtime::Linux;

use super::clean;
use super::findings::Findings;
use crate::error::escape;
use crate::spec::namespaces::{Kind, Namespaces};

/// Parameters of an IPC namespace outside `fs/mqueue`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// The path below `/proc/sys` of a parameter, as `sysctl(8)` reads names: the
/// first `.` or `/` in it is the separator, and the other of the two stands for
/// a `.` inside a component (`net.ipv4.conf.eth0/100.forwarding`).
///
/// What is checked and what is written have to be the same file, so everything
/// that writes a parameter must take its path from here. `None` for a name with
/// an empty component, `.` or `..`: such a name leads out of `/proc/sys`.
pub fn path(name: &str) -> Option<String> {
    let dots = name
        .find(['.', '/'])
        .is_none_or(|at| name.as_bytes()[at] == b'.');
    let swapped: String = match dots {
        false => name.to_owned(),
        true => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    };
    let proper = |component: &str| !matches!(component, "" | "." | "..");
    swapped.split('/').all(proper).then_some(swapped)
}

/// Checks all parameters: a parameter of the host would change every other
/// container too, and `kernel.core_pattern` runs programs (CVE-2022-0811).
pub(super) fn check(linux: &Linux, namespaces: &Namespaces, findings: &mut Findings) {
    for (name, value) in linux.sysctl().iter().flatten() {
        let at = format!("/linux/sysctl/{}", escape(name));
        // One write is one value: a second line would be another one.
        findings.line(&at, value);
        if name.contains(['\0', '\n']) {
            findings.problem(&at, "the name contains a NUL byte or a line break");
            continue;
        }
        match path(name) {
            None => findings.problem(&at, "not the name of a kernel parameter"),
            Some(path) => check_owner(&path, &at, namespaces, findings),
        }
    }
}

/// Checks that the container has the namespace a parameter belongs to.
fn check_owner(path: &str, at: &str, namespaces: &Namespaces, findings: &mut Findings) {
    use Kind::{Ipc, Network, User, Uts};
    let typ = if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        Ipc
    } else if path.starts_with("net/") {
        Network
    } else if path == "kernel/domainname" {
        Uts
    } else if path.starts_with("user/") {
        User
    } else if path == "kernel/hostname" {
        return findings.problem(at, "set /hostname instead");
    } else {
        return findings.problem(
            at,
            "not in a separate kernel namespace: it would change the host",
        );
    };
    let typ_name = typ.name();
    if !namespaces.has(typ) {
        let text =
            format!("not allowed without a namespace of type {typ_name}: it would change the host");
        findings.problem(at, text);
    } else if namespaces.path(typ).is_some_and(is_runtimes_own) {
        let text = format!("not allowed in the host's namespace of type {typ_name}");
        findings.problem(at, text);
    }
}

/// Whether a namespace's path is plainly the host's or the runtime's. Another
/// path may lead there too: whoever joins it has to compare the files.
fn is_runtimes_own(path: &Path) -> bool {
    let path = clean(path);
    ["/proc/1/", "/proc/self/", "/proc/thread-self/"]
        .iter()
        .any(|own| path.starts_with(own))
}
