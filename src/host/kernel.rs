//! The kernel's version, its security modules, and which of its parts answer.

use std::fs;

use crate::error::Failure;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::{probe, process};

/// A kernel's version without its last part: `(6, 12)`.
pub type Version = (u16, u16);

/// The oldest kernel with all that capsid asks for.
pub const FLOOR: Version = (5, 14);

/// The version of the running kernel, and its whole name; `None` where procfs does not show it.
pub fn running() -> Option<(Version, String)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    Some((parse(release)?, release.to_owned()))
}

fn parse(release: &str) -> Option<Version> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The security modules in force, in their order; `None` where securityfs is not visible.
pub fn security_modules() -> Option<Vec<String>> {
    let text = fs::read_to_string("/sys/kernel/security/lsm").ok()?;
    Some(text.trim().split(',').map(str::to_owned).collect())
}

/// openat2(2), on the root directory.
///
/// # Errors
/// ENOSYS before Linux 5.6; EPERM where a seccomp filter forbids it.
pub fn openat2() -> Result<(), Failure> {
    fd::open(At::Cwd, c"/", libc::O_PATH, Resolve::NO_MAGICLINKS).map(drop)
}

/// pidfd_open(2), on this process.
///
/// # Errors
/// ENOSYS before Linux 5.3.
pub fn pidfd() -> Result<(), Failure> {
    process::pidfd_open(process::id()).map(drop)
}

/// A part of seccomp: an action or a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompPart {
    /// Its name in a profile.
    pub name: &'static str,
    /// `SECCOMP_RET_*` or `SECCOMP_FILTER_FLAG_*`.
    ask: Ask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Action(u32),
    Flags(u64),
}

const NEW_LISTENER: u64 = 1 << 3;

/// All that profiles may name besides allow and errno, and the listener.
pub const SECCOMP: [SeccompPart; 10] = [
    action("SCMP_ACT_ERRNO", libc::SECCOMP_RET_ERRNO),
    action("SCMP_ACT_KILL_PROCESS", libc::SECCOMP_RET_KILL_PROCESS),
    action("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG),
    action("SCMP_ACT_TRAP", libc::SECCOMP_RET_TRAP),
    action("SCMP_ACT_TRACE", libc::SECCOMP_RET_TRACE),
    flags("SECCOMP_FILTER_FLAG_TSYNC", 1),
    flags("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    flags("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    action("SCMP_ACT_NOTIFY", libc::SECCOMP_RET_USER_NOTIF),
    // Known only together with a listener.
    flags(
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        1 << 5 | NEW_LISTENER,
    ),
];

const fn action(name: &'static str, number: u32) -> SeccompPart {
    let ask = Ask::Action(number);
    SeccompPart { name, ask }
}

const fn flags(name: &'static str, flags: u64) -> SeccompPart {
    let ask = Ask::Flags(flags);
    SeccompPart { name, ask }
}

impl SeccompPart {
    /// Whether the kernel has it.
    pub fn is_there(&self) -> bool {
        match self.ask {
            Ask::Action(number) => probe::seccomp_action(number),
            Ask::Flags(flags) => probe::seccomp_flags(flags),
        }
        .is_ok()
    }
}

/// The version of Landlock's ABI; `None` where it is not in force.
pub fn landlock() -> Option<usize> {
    probe::landlock_version().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        assert_eq!(parse("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse("5.14.0-503.el9.x86_64"), Some((5, 14)));
        assert_eq!(parse("5.10-rc1"), Some((5, 10)));
        assert_eq!(parse("x"), None);
        assert_eq!(parse(""), None);
        assert!((5, 4) < FLOOR && (10, 1) > FLOOR);
    }

    #[test]
    fn what_does_not_exist_is_not_there() {
        // The number of no action, and a flag far beyond the last.
        assert!(!action("none", 0x1234_0000).is_there());
        assert!(!flags("none", 1 << 30).is_there());
        assert!(SECCOMP[0].is_there());
    }
}
