//! A child process that tries out what a container's first process does: the
//! only way to learn what seccomp filters, security modules and sysctls allow.
//!
//! All it makes ends with it: nothing is mounted where anybody else sees it.

use std::os::fd::AsFd;

use crate::error::{Call, Failure};
use crate::sys::mount::{self, Attributes};
use crate::sys::process::{self, Cloned};
use crate::sys::{Result, fd};

/// What is tried in the child's new namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Cutting the mounts off from those outside: the first thing done in a mount namespace.
    FirstMount,
    /// fsopen(2) to fsmount(2) of a tmpfs, not attached.
    FileSystem,
    /// mount_setattr(2) of that tmpfs.
    Attributes,
    /// A procfs for the new pid namespace, not attached.
    Procfs,
    /// A network namespace.
    Network,
    /// An IPC namespace.
    Ipc,
    /// A namespace for host names.
    HostName,
    /// A cgroup namespace.
    Cgroup,
    /// A time namespace.
    Time,
}

/// In the order in which they are tried.
pub const PARTS: [Part; 9] = [
    Part::FirstMount,
    Part::FileSystem,
    Part::Attributes,
    Part::Procfs,
    Part::Network,
    Part::Ipc,
    Part::HostName,
    Part::Cgroup,
    Part::Time,
];

/// How each part went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial(Vec<(Part, Option<Failure>)>);

impl Trial {
    /// Why a part failed; `None` if it works.
    pub fn failure(&self, part: Part) -> Option<Failure> {
        let found = self.0.iter().find(|(tried, _)| *tried == part);
        found.and_then(|(_, failure)| *failure)
    }
}

/// Tries all parts in new mount and pid namespaces, and with `user` in a new
/// user namespace around them.
///
/// # Errors
/// The namespaces cannot be made: why clone3(2) failed.
pub fn run(user: bool) -> Result<Trial> {
    let mut flags = number(libc::CLONE_NEWNS | libc::CLONE_NEWPID);
    if user {
        flags |= number(libc::CLONE_NEWUSER);
    }
    let (reader, writer) = fd::pipe()?;
    let pid = match process::clone(flags, None)? {
        Cloned::Child => {
            for part in PARTS {
                // Without a reader there is nobody to tell.
                let _ = fd::write(writer.as_fd(), &message(attempt(part)));
            }
            process::exit(0)
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(writer);
    let mut outcomes = Vec::new();
    for part in PARTS {
        let mut bytes = [0; 4];
        match fd::read(reader.as_fd(), &mut bytes) {
            Ok(4) => outcomes.push((part, failure(bytes))),
            // It was killed: a filter may do that instead of answering.
            _ => outcomes.push((part, Some(Failure::check(crate::error::Check::PeerGone)))),
        }
    }
    process::wait(pid, 0)?;
    Ok(Trial(outcomes))
}

/// The trial of clone3(2) itself, without any namespace.
///
/// # Errors
/// ENOSYS before Linux 5.3, or where a seccomp filter hides it.
pub fn clone3() -> Result<()> {
    match process::clone(0, None)? {
        Cloned::Child => process::exit(0),
        Cloned::Parent { pid, .. } => process::wait(pid, 0).map(drop),
    }
}

const fn number(flags: i32) -> u64 {
    flags.cast_unsigned() as u64
}

fn attempt(part: Part) -> Result<()> {
    match part {
        Part::FirstMount => mount::set_propagation(c"/", libc::MS_REC | libc::MS_PRIVATE),
        Part::FileSystem => detached(c"tmpfs").map(drop),
        Part::Attributes => {
            let read_only = Attributes {
                set: libc::MOUNT_ATTR_RDONLY,
                ..Attributes::default()
            };
            mount::set_attributes(detached(c"tmpfs")?.as_fd(), &read_only, false)
        }
        Part::Procfs => detached(c"proc").map(drop),
        Part::Network => process::unshare(number(libc::CLONE_NEWNET)),
        Part::Ipc => process::unshare(number(libc::CLONE_NEWIPC)),
        Part::HostName => process::unshare(number(libc::CLONE_NEWUTS)),
        Part::Cgroup => process::unshare(number(libc::CLONE_NEWCGROUP)),
        Part::Time => process::unshare(process::CLONE_NEWTIME),
    }
}

fn detached(kind: &std::ffi::CStr) -> Result<std::os::fd::OwnedFd> {
    mount::make_mount(mount::open_file_system(kind)?.as_fd(), 0)
}

/// The numbers of call and error; zeros for a success.
fn message(outcome: Result<()>) -> [u8; 4] {
    let Err(failure) = outcome else { return [0; 4] };
    let [a, b] = failure.call.to_wire().to_ne_bytes();
    let [c, d] = u16::try_from(failure.errno)
        .unwrap_or(u16::MAX)
        .to_ne_bytes();
    [a, b, c, d]
}

fn failure([a, b, c, d]: [u8; 4]) -> Option<Failure> {
    let errno = u16::from_ne_bytes([c, d]);
    (errno != 0).then(|| Failure {
        call: Call::from_wire(u16::from_ne_bytes([a, b])),
        errno: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_arrive_as_they_were_sent() {
        let sent = Failure::of(syscalls::Sysno::fsmount, libc::EPERM);
        assert_eq!(failure(message(Err(sent))), Some(sent));
        assert_eq!(failure(message(Ok(()))), None);
    }
}
