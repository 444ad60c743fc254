//! A caller in a chroot.
//!
//! pivot_root(2) puts the container's root in the place of the caller's. Where that is
//! not the root of the mount namespace, the host's tree stays above it. Whoever joins
//! the namespace with setns(2), as `exec` does, begins at the namespace's root: it would
//! run in the host's files, and with it the container's program.

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Check, Failure};
use crate::spec::namespaces::Kind;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::{Result, process};

use super::own_namespace;

/// Joins the mount namespace that this process is in, which leads to its root, and
/// refuses when that is another root than before. The process goes no further then.
pub(super) fn expect(procfs: BorrowedFd<'_>) -> Result<()> {
    let before = root()?;
    let namespace = own_namespace::open(procfs, Kind::Mount)?;
    process::join_namespace(namespace.as_fd(), Kind::Mount.flag())?;
    match root()? == before {
        true => Ok(()),
        false => Err(Failure::check(Check::CalledInChroot)),
    }
}

/// Mount and inode, for a chroot can be to a mount of the same directory.
fn root() -> Result<(u64, u64)> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let root = fd::open(At::Cwd, c"/", flags, Resolve::ANY)?;
    Ok((fd::mount_id(root.as_fd())?, fd::stat(root.as_fd())?.ino))
}
