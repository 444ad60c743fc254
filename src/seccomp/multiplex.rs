//! The i386 system calls behind `socketcall` and `ipc`.
//!
//! 32-bit x86 programs may reach these through one number whose first argument
//! tells which is meant. A profile names the call it means, so a rule for
//! `socket` has to cover `socketcall(SYS_SOCKET, ...)` as well, or a denial
//! would not hold for 32-bit programs.

use super::condition::Condition;

/// Names, the multiplexer, and its first argument (`SYS_*` of `linux/net.h`,
/// or the numbers of `linux/ipc.h`), sorted by name.
static CALLS: [(&str, Multiplexer, u64); 32] = [
    ("accept", Multiplexer::Socketcall, 5),
    ("accept4", Multiplexer::Socketcall, 18),
    ("bind", Multiplexer::Socketcall, 2),
    ("connect", Multiplexer::Socketcall, 3),
    ("getpeername", Multiplexer::Socketcall, 7),
    ("getsockname", Multiplexer::Socketcall, 6),
    ("getsockopt", Multiplexer::Socketcall, 15),
    ("listen", Multiplexer::Socketcall, 4),
    ("msgctl", Multiplexer::Ipc, 14),
    ("msgget", Multiplexer::Ipc, 13),
    ("msgrcv", Multiplexer::Ipc, 12),
    ("msgsnd", Multiplexer::Ipc, 11),
    ("recv", Multiplexer::Socketcall, 10),
    ("recvfrom", Multiplexer::Socketcall, 12),
    ("recvmmsg", Multiplexer::Socketcall, 19),
    ("recvmsg", Multiplexer::Socketcall, 17),
    ("semctl", Multiplexer::Ipc, 3),
    ("semget", Multiplexer::Ipc, 2),
    ("semop", Multiplexer::Ipc, 1),
    ("semtimedop", Multiplexer::Ipc, 4),
    ("send", Multiplexer::Socketcall, 9),
    ("sendmmsg", Multiplexer::Socketcall, 20),
    ("sendmsg", Multiplexer::Socketcall, 16),
    ("sendto", Multiplexer::Socketcall, 11),
    ("setsockopt", Multiplexer::Socketcall, 14),
    ("shmat", Multiplexer::Ipc, 21),
    ("shmctl", Multiplexer::Ipc, 24),
    ("shmdt", Multiplexer::Ipc, 22),
    ("shmget", Multiplexer::Ipc, 23),
    ("shutdown", Multiplexer::Socketcall, 13),
    ("socket", Multiplexer::Socketcall, 1),
    ("socketpair", Multiplexer::Socketcall, 8),
];

/// A system call that stands for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Multiplexer {
    Socketcall,
    Ipc,
}

/// The name of the multiplexer through which `name` can be reached, and the
/// condition under which it is.
pub(super) fn route(name: &str) -> Option<(&'static str, Condition)> {
    let index = CALLS
        .binary_search_by_key(&name, |(name, _, _)| name)
        .ok()?;
    let (_, multiplexer, call) = CALLS[index];
    Some(match multiplexer {
        Multiplexer::Socketcall => ("socketcall", Condition::first_argument(0xffff_ffff, call)),
        // The upper half of ipc's first argument is a version number.
        Multiplexer::Ipc => ("ipc", Condition::first_argument(0xffff, call)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_known() {
        assert!(CALLS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, _, _) in CALLS {
            assert!(super::super::names::tables().row(name).is_some(), "{name}");
            assert!(route(name).is_some(), "{name}");
        }
        assert_eq!(route("read"), None);
    }
}
