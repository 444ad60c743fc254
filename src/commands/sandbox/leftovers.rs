//! Sandboxes whose capsid was killed.
//!
//! A sandbox in the foreground has a file in its state directory that its capsid
//! keeps locked. The lock ends with that capsid, however it ends; the next one
//! then removes what is left. Locks are seen from every pid namespace, process
//! numbers are not.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use syscalls::Sysno;

use crate::commands::{hooks, life};
use crate::error::{Error, Result};
use crate::log;
use crate::state::{Container, Root};

/// How ids of sandboxes begin.
pub(super) const PREFIX: &str = "sandbox-";

/// The locked file.
const OWNER: &str = "owner";

/// That this capsid is there.
#[must_use]
pub(super) struct Owner {
    _lock: Flock<File>,
}

/// Marks a sandbox as that of this process.
pub(super) fn own(container: &Container) -> Result<Owner> {
    let failed =
        |call, errno| Error::nix("lock", container.path().join(OWNER).display(), call, errno);
    let file = open(container, OFlag::O_RDWR | OFlag::O_CREAT)
        .map_err(|errno| failed(Sysno::openat2, errno))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| failed(Sysno::flock, errno))?;
    Ok(Owner { _lock: lock })
}

fn open(container: &Container, flags: OFlag) -> nix::Result<File> {
    let mut how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    if flags.contains(OFlag::O_CREAT) {
        how = how.mode(Mode::from_bits_truncate(0o600));
    }
    openat2(container.dir(), OWNER, how).map(File::from)
}

/// Removes sandboxes that nobody waits for any more. What cannot be removed is
/// no reason not to run.
pub(super) fn sweep(root: &Path) -> Result<()> {
    let Some(directory) = Root::open_if_any(root)? else {
        return Ok(());
    };
    for id in directory.list()?.iter().filter(|id| id.starts_with(PREFIX)) {
        let Ok(container) = directory.find(id) else {
            continue;
        };
        let abandoned = !container.is_locked()
            && open(&container, OFlag::O_RDWR)
                .is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok());
        if abandoned && let Err(error) = life::delete::delete(root, id, true, &hooks::run_poststop)
        {
            log::debug(error);
        }
    }
    Ok(())
}
