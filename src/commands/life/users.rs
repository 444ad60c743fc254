//! Containers of other users, of which root believes the kernel and not the record.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use crate::error::{Error, Result};
use crate::execute::alive::Init;
use crate::execute::cgroup::Cgroup;
use crate::host::cgroup::CgroupFacts;
use crate::state::{Container, Record, Status};
use crate::sys::namespace;

/// Fails for all but root of the machine: nobody else can look there.
pub(super) fn for_root_only() -> Result<()> {
    if nix::unistd::geteuid().is_root() && !crate::host::in_user_namespace() {
        return Ok(());
    }
    Err(Error::Missing {
        doing: "look at containers of all users".into(),
        missing: "only root of the machine can read what belongs to other users".into(),
        repair: "run it as root, or leave --all-users out".into(),
    })
}

/// The first process, if there is one that is the user's: of a user namespace that
/// this user made. A record can name any process there is.
pub(super) fn init(record: &Record, uid: u32) -> Option<Init> {
    // Held by its pidfd, so that the number stays its own.
    let init = Init::of(record).ok()??;
    let namespace = File::open(format!("/proc/{}/ns/user", record.pid)).ok()?;
    let owner = namespace::owner(namespace.as_fd()).ok()?;
    (owner == uid).then_some(init)
}

/// Where a container is in its life, without a lock that its user could be kept
/// waiting by, and without a look at paths that the record names.
pub(super) fn status(container: &Container, record: &Record, init: Option<&Init>) -> Status {
    if record.pid <= 0 || init.is_some() && container.is_pending() {
        return Status::Creating;
    }
    if init.is_none() {
        return Status::Stopped;
    }
    if container.awaits_start() {
        return Status::Created;
    }
    match is_frozen(record.pid) {
        true => Status::Paused,
        false => Status::Running,
    }
}

/// Whether the cgroup that the kernel says a process is in is frozen.
fn is_frozen(pid: i32) -> bool {
    let frozen = || {
        let facts = CgroupFacts::of(pid).ok()?;
        let directory = facts.own_directory(facts.mount.as_deref()?);
        Cgroup::open(&directory).ok()??.is_frozen().ok()
    };
    frozen().unwrap_or(false)
}

/// Whether a process is in the pid namespace that this one is in.
pub(super) fn in_own_pid_namespace(pid: i32) -> bool {
    let namespace = |pid: &str| {
        let found = std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
        Some((found.dev(), found.ino()))
    };
    namespace("self") == namespace(&pid.to_string())
}
