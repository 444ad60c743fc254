//! Attaching the container's root, in one of two ways, and what the joiner minds as
//! root of the host for a container that will not be: see `plan/staged`.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Check, Failure};
use crate::plan::mounts::{MountStep, What};
use crate::sys::fd::{self, At, Resolve};
use crate::sys::{Result, directory, mount};

use super::child::Walk;

fn open_root(path: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    fd::open(At::Cwd, path, flags, Resolve::ANY)
}

/// A copy of the root file system's mount, onto itself.
pub(super) fn attach_root(walk: &mut Walk<'_>, path: &CStr) -> Result<()> {
    let directory = open_root(path)?;
    let tree = mount::clone_tree_of(directory.as_fd(), true)?;
    mount::attach(tree.as_fd(), directory.as_fd())?;
    walk.root = Some(tree);
    Ok(())
}

/// The working directory leads whoever is cloned next into it, through directories
/// that are closed to everybody but the host's root.
pub(super) fn attach_mapped(walk: &mut Walk<'_>, path: &CStr, source: usize) -> Result<()> {
    let directory = open_root(path)?;
    let tree = walk.handles.sources[source].as_ref();
    let tree = tree.ok_or(Failure::of(syscalls::Sysno::open_tree, libc::EBADF))?;
    let (there, mapped) = (fd::stat(directory.as_fd())?, fd::stat(tree.as_fd())?);
    let expected = walk.handles.covers.unwrap_or((mapped.dev, mapped.ino));
    if (there.dev, there.ino) != expected {
        // Somebody changed what the path leads to since it was opened.
        return Err(Failure::check(Check::NotRealDirectory));
    }
    mount::attach(tree.as_fd(), directory.as_fd())?;
    fd::change_directory(tree.as_fd())?;
    walk.root = Some(fd::duplicate_above(tree.as_fd(), 0)?);
    Ok(())
}

pub(super) fn attach_inherited(walk: &mut Walk<'_>) -> Result<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory = fd::open(At::Cwd, c".", flags, Resolve::ANY)?;
    let tree = mount::clone_tree_of(directory.as_fd(), true)?;
    mount::attach(tree.as_fd(), directory.as_fd())?;
    walk.root = Some(tree);
    Ok(())
}

/// The directory of a devpts belongs to who makes it, and so does its ptmx; that of an
/// mqueue to who made the ipc namespace, with ids from before there were any inside.
pub(super) fn give_away(tree: BorrowedFd<'_>, step: &MountStep) -> Result<()> {
    let (Some(owner), What::FileSystem { kind, .. }) = (step.owner, &step.what) else {
        return Ok(());
    };
    if kind.as_c_str() == c"devpts" {
        directory::chown_at(tree, c"ptmx", owner, owner)?;
    }
    fd::chown(tree, owner, owner)
}

/// Opens the terminal again, where the process can see it: by the mount that the
/// mounter has opened it by, its path would be that of no file inside.
pub(super) fn name_terminal(walk: &mut Walk<'_>) -> Result<()> {
    let (Some(root), Some(there)) = (&walk.root, &walk.terminal) else {
        return Err(Failure::of(syscalls::Sysno::openat2, libc::EBADF));
    };
    let there = fd::stat(there.as_fd())?;
    // The path and a number, written without allocating.
    let mut path = *b"/dev/pts/0000000000\0";
    let mut number = libc::minor(there.rdev);
    for digit in path[9..19].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    let zeros = path[9..18].iter().take_while(|digit| **digit == b'0');
    let zeros = zeros.count();
    path.copy_within(9 + zeros.., 9);
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Failure::check(Check::PathTooLong))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let root = At::Dir(root.as_fd());
    let terminal = fd::open(root, path, flags, Resolve::IN_ROOT_NO_LINKS)?;
    let found = fd::stat(terminal.as_fd())?;
    if (found.dev, found.ino) != (there.dev, there.ino) {
        return Err(Failure::check(Check::NotDevpts));
    }
    walk.terminal = Some(terminal);
    Ok(())
}
