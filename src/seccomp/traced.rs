//! Calls that name a file or a peer: which argument does, what is wanted of it,
//! and a filter that gives exactly these to a tracer.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

use super::abi;
use super::filter::{Filter, Profile};

/// What a call names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A file.
    File {
        /// The argument with the directory that a relative path begins at; without
        /// one that is the working directory.
        directory: Option<usize>,
        /// The argument with the path.
        path: usize,
        /// What is wanted of it.
        wants: Wants,
        /// A path that is not there can be the other one of two.
        lone: bool,
    },
    /// A peer, or for `bind` the own address: the arguments with a socket's
    /// address and its length.
    Address(usize, usize),
}

/// What a call wants of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// To look at it.
    Look,
    /// To execute it.
    Execute,
    /// To change it, or the directory it is in.
    Change,
    /// To make it.
    Make,
    /// What the flags of `open` in this argument say.
    Flags(usize),
    /// What the `struct open_how` behind this argument says.
    FlagsBehind(usize),
    /// What the mode of `access` in this argument says.
    Mode(usize),
}

const fn file(directory: Option<usize>, path: usize, wants: Wants) -> Named {
    Named::File {
        directory,
        path,
        wants,
        lone: true,
    }
}

/// The last of two paths, where something is made.
const fn second(directory: Option<usize>, path: usize) -> Named {
    Named::File {
        directory,
        path,
        wants: Wants::Make,
        lone: false,
    }
}

const HERE: Option<usize> = None;
const AT: Option<usize> = Some(0);

/// Every call that names something, with an architecture's own among them.
const CALLS: [(&str, Named); 51] = [
    ("open", file(HERE, 0, Wants::Flags(1))),
    ("openat", file(AT, 1, Wants::Flags(2))),
    ("openat2", file(AT, 1, Wants::FlagsBehind(2))),
    ("creat", file(HERE, 0, Wants::Make)),
    ("access", file(HERE, 0, Wants::Mode(1))),
    ("faccessat", file(AT, 1, Wants::Mode(2))),
    ("faccessat2", file(AT, 1, Wants::Mode(2))),
    ("stat", file(HERE, 0, Wants::Look)),
    ("stat64", file(HERE, 0, Wants::Look)),
    ("lstat", file(HERE, 0, Wants::Look)),
    ("lstat64", file(HERE, 0, Wants::Look)),
    ("newfstatat", file(AT, 1, Wants::Look)),
    ("fstatat64", file(AT, 1, Wants::Look)),
    ("statx", file(AT, 1, Wants::Look)),
    ("statfs", file(HERE, 0, Wants::Look)),
    ("statfs64", file(HERE, 0, Wants::Look)),
    ("readlink", file(HERE, 0, Wants::Look)),
    ("readlinkat", file(AT, 1, Wants::Look)),
    ("chdir", file(HERE, 0, Wants::Look)),
    ("execve", file(HERE, 0, Wants::Execute)),
    ("execveat", file(AT, 1, Wants::Execute)),
    ("truncate", file(HERE, 0, Wants::Change)),
    ("truncate64", file(HERE, 0, Wants::Change)),
    ("mkdir", file(HERE, 0, Wants::Make)),
    ("mkdirat", file(AT, 1, Wants::Make)),
    ("mknod", file(HERE, 0, Wants::Make)),
    ("mknodat", file(AT, 1, Wants::Make)),
    ("rmdir", file(HERE, 0, Wants::Change)),
    ("unlink", file(HERE, 0, Wants::Change)),
    ("unlinkat", file(AT, 1, Wants::Change)),
    ("rename", second(HERE, 1)),
    ("renameat", second(Some(2), 3)),
    ("renameat2", second(Some(2), 3)),
    ("link", second(HERE, 1)),
    ("linkat", second(Some(2), 3)),
    ("symlink", second(HERE, 1)),
    ("symlinkat", second(Some(1), 2)),
    ("chmod", file(HERE, 0, Wants::Change)),
    ("fchmodat", file(AT, 1, Wants::Change)),
    ("fchmodat2", file(AT, 1, Wants::Change)),
    ("chown", file(HERE, 0, Wants::Change)),
    ("lchown", file(HERE, 0, Wants::Change)),
    ("fchownat", file(AT, 1, Wants::Change)),
    ("utime", file(HERE, 0, Wants::Change)),
    ("utimes", file(HERE, 0, Wants::Change)),
    ("futimesat", file(AT, 1, Wants::Change)),
    ("utimensat", file(AT, 1, Wants::Change)),
    ("utimensat_time64", file(AT, 1, Wants::Change)),
    ("connect", Named::Address(1, 2)),
    ("bind", Named::Address(1, 2)),
    (SENDTO, Named::Address(4, 5)),
];

/// It has an address where the socket is not connected: without one it is as
/// frequent as write, and names nothing.
const SENDTO: &str = "sendto";

/// What a call of this name names.
pub fn named(call: &str) -> Option<Named> {
    let found = CALLS.iter().find(|(name, _)| *name == call);
    found.map(|(_, named)| *named)
}

/// A filter that gives these calls to a tracer and allows all others; what another
/// filter denies is denied before.
pub fn filter() -> Filter {
    let mut names: Vec<String> = CALLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.retain(|name| name != SENDTO);
    let rule = |names: Vec<String>| {
        let mut rule = LinuxSyscall::default();
        rule.set_names(names)
            .set_action(LinuxSeccompAction::ScmpActTrace);
        rule
    };
    let address = LinuxSeccompArgBuilder::default()
        .index(4usize)
        .value(0u64)
        .op(LinuxSeccompOperator::ScmpCmpNe)
        .build();
    let mut addressed = rule(vec![SENDTO.to_owned()]);
    // Every field is set, so there is nothing the builder could miss.
    addressed.set_args(address.ok().map(|address| vec![address]));
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActAllow)
        // What comes another way into the kernel is for the other filter to judge.
        .set_architectures(Some(abi::all().iter().map(|abi| abi.arch).collect()))
        .set_syscalls(Some(vec![rule(names), addressed]));
    Filter {
        profile: Profile::Bundle(Box::new(profile)),
        floor: false,
        granted: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

    use super::*;
    use crate::seccomp::Call;

    /// Numbers of calls by the kernel's tables for both machines.
    const NUMBERS: [(&str, u32, u32); 7] = [
        ("openat", 257, 56),
        ("newfstatat", 262, 79),
        ("execve", 59, 221),
        ("unlinkat", 263, 35),
        ("connect", 42, 203),
        ("sendto", 44, 206),
        ("faccessat2", 439, 439),
    ];

    #[test]
    fn numbers_of_both_architectures_have_these_names() {
        for (name, x86_64, aarch64) in NUMBERS {
            let own = if cfg!(target_arch = "x86_64") {
                x86_64
            } else {
                aarch64
            };
            let native = abi::native();
            assert_eq!(abi::name_of(native.audit, own), Some(name));
            let spelled = Sysno::new(own as usize).map(|call| call.name());
            // The kernel's own word for it on aarch64.
            let same = spelled == Some(name) || spelled == Some("fstatat");
            assert!(same, "{name}: {spelled:?}");
            assert!(named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn paths_are_where_the_calls_have_them() {
        let path = |name: &str| match named(name) {
            Some(Named::File {
                directory, path, ..
            }) => (directory, path),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(path("openat"), (Some(0), 1));
        assert_eq!(path("symlinkat"), (Some(1), 2));
        assert_eq!(path("renameat2"), (Some(2), 3));
        assert_eq!(named("read"), None);
        assert_eq!(named("connect"), Some(Named::Address(1, 2)));
    }

    #[test]
    fn only_calls_that_name_something_go_to_the_tracer() {
        let judge = filter().judge().unwrap();
        let native = abi::native();
        let judged = |name: &str, args: [u64; 6]| {
            let (nr, _) = native.calls().find(|(_, known)| *known == name).unwrap();
            let arch = native.audit;
            judge.judge(&Call { arch, nr, args }).ret & libc::SECCOMP_RET_ACTION_FULL
        };
        for name in ["openat", "execve", "connect", "unlinkat", "statx"] {
            assert_eq!(judged(name, [0; 6]), libc::SECCOMP_RET_TRACE, "{name}");
        }
        for name in [
            "read", "write", "mmap", "futex", "sendto", "ptrace", "clone",
        ] {
            assert_eq!(judged(name, [0; 6]), libc::SECCOMP_RET_ALLOW, "{name}");
        }
        let addressed = [0, 0, 0, 0, 77, 16];
        assert_eq!(judged("sendto", addressed), libc::SECCOMP_RET_TRACE);
        // What is newer than this list is not the tracer's to deny.
        let unknown = Call {
            arch: native.audit,
            nr: 5000,
            args: [0; 6],
        };
        assert_eq!(judge.judge(&unknown).ret, libc::SECCOMP_RET_ALLOW);
        let names: Vec<_> = CALLS.iter().map(|(name, _)| *name).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name} twice");
        }
    }
}
