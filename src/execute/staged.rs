//! Attaching the container's root, in one of two ways, and what the joiner minds as
//! root of the host for a container that will not be: see `plan/staged`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{Check, Failure};
use crate::sys::fd::{self, At, Resolve};
use crate::sys::{Result, mount};

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

/// A link of the image must not lead a volume to where proc and sysfs will be
/// mounted and cover it (for procfs, CVE-2019-16884).
pub(super) fn refuse_covered(walk: &Walk<'_>, target: BorrowedFd<'_>, named: &CStr) -> Result<()> {
    let Some(root) = &walk.root else {
        return Ok(());
    };
    let plain = fd::open(
        At::Dir(root.as_fd()),
        named,
        libc::O_PATH,
        Resolve::IN_ROOT_NO_LINKS,
    );
    if !matches!(plain, Err(failure) if failure.is(libc::ELOOP)) {
        return Ok(());
    }
    let (mut above, mut below) = ([0; 4096], [0; 4096]);
    let above = path_of(walk, root.as_fd(), &mut above)?;
    let below = path_of(walk, target, &mut below)?;
    let inside = below.strip_prefix(above).unwrap_or(below);
    let covered = [&b"/proc"[..], b"/sys"].into_iter().any(|kernel| {
        let rest = inside.strip_prefix(kernel);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    });
    match covered {
        true => Err(Failure::check(Check::LinkToMountPoint)),
        false => Ok(()),
    }
}

/// Where an open file is, as the kernel tells it.
fn path_of<'b>(
    walk: &Walk<'_>,
    file: BorrowedFd<'_>,
    buffer: &'b mut [u8; 4096],
) -> Result<&'b [u8]> {
    // "self/fd/" and a number, written without allocating.
    let mut name = *b"self/fd/0000000000\0";
    let mut number = file.as_raw_fd().cast_unsigned();
    for digit in name[8..18].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    let zeros = name[8..17]
        .iter()
        .take_while(|digit| **digit == b'0')
        .count();
    name.copy_within(8 + zeros.., 8);
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| Failure::check(Check::PathTooLong))?;
    let procfs = At::Dir(walk.handles.procfs.as_fd());
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    // "self" is a link of procfs itself.
    let link = fd::open(procfs, name, flags, Resolve::ANY)?;
    let length = fd::read_link(link.as_fd(), buffer)?;
    Ok(&buffer[..length])
}
