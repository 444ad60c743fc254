//! Directory trees as a whole: removed, pruned, given their times.
//!
//! By descriptor throughout, and never deeper on the stack than
//! [`DEEPEST`]: how deep a layer nests is for the layer to say.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{UtimensatFlags, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use syscalls::Sysno;

use super::tar::Time;
use crate::error::Failure;
use crate::state::names;
use crate::sys::NEWFSTATAT;
use crate::sys::fd::{self, At, Resolve};

/// How deep directories may nest in an image. Each level holds a descriptor
/// while the tree is walked.
pub(super) const DEEPEST: usize = 256;

/// What went wrong at an entry, as a sentence.
pub(super) type Outcome<T> = Result<T, String>;

/// A failed call, as a sentence.
pub(super) fn failed(call: Sysno) -> impl Fn(Errno) -> String {
    move |errno| Failure::of(call, errno as i32).to_string()
}

/// The names in a directory.
pub(super) fn list(directory: BorrowedFd<'_>) -> Outcome<Vec<CString>> {
    let names = names(&directory).map_err(|error| error.to_string())?;
    let texts = names.into_iter().map(|name| CString::new(name.into_vec()));
    texts
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// Opens a directory for reading; a symbolic link is none.
pub(super) fn enter(directory: BorrowedFd<'_>, name: &CStr) -> Outcome<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    fd::open(At::Dir(directory), name, flags, Resolve::IN_ROOT_NO_LINKS)
        .map_err(|failure| failure.to_string())
}

/// Removes a name and all below it. `scrap` is an empty directory on the same
/// file system. `gone` hears the inode number of each directory that is no more.
pub(super) fn remove(
    directory: BorrowedFd<'_>,
    name: &CStr,
    scrap: BorrowedFd<'_>,
    gone: &mut dyn FnMut(u64),
) -> Outcome<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => {
            renameat(directory, name, scrap, c"0").map_err(failed(Sysno::renameat))?;
            clear(scrap, gone)
        }
        Err(errno) => Err(failed(Sysno::unlinkat)(errno)),
    }
}

/// Removes all that is in a directory.
///
/// Level by level: directories are moved up into this one before they are
/// emptied, so that depth costs neither stack nor descriptors.
pub(super) fn clear(directory: BorrowedFd<'_>, gone: &mut dyn FnMut(u64)) -> Outcome<()> {
    let mut number = 1u64;
    loop {
        let names = list(directory)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if unlink(directory, &name)? {
                continue;
            }
            let inside = enter(directory, &name)?;
            gone(inode(inside.as_fd())?);
            for child in list(inside.as_fd())? {
                if !unlink(inside.as_fd(), &child)? {
                    move_up(inside.as_fd(), &child, directory, &mut number)?;
                }
            }
            unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir)
                .map_err(failed(Sysno::unlinkat))?;
        }
    }
}

/// Whether it could be unlinked; a directory cannot.
fn unlink(directory: BorrowedFd<'_>, name: &CStr) -> Outcome<bool> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(true),
        Err(Errno::EISDIR) => Ok(false),
        Err(errno) => Err(failed(Sysno::unlinkat)(errno)),
    }
}

/// Moves a directory to a name that is free, or that of an empty directory.
fn move_up(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, number: &mut u64) -> Outcome<()> {
    loop {
        *number += 1;
        let free = CString::new(number.to_string()).map_err(|error| error.to_string())?;
        match renameat(from, name, to, free.as_c_str()) {
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            other => return other.map_err(failed(Sysno::renameat)),
        }
    }
}

/// Removes all below a directory but what `keep` says of its directory's inode
/// number and its name; whether anything is left.
pub(super) fn prune(
    directory: BorrowedFd<'_>,
    keep: &dyn Fn(u64, &CStr) -> bool,
    gone: &mut dyn FnMut(u64),
    depth: usize,
) -> Outcome<bool> {
    let own = inode(directory)?;
    let mut left = false;
    for name in list(directory)? {
        let kept = keep(own, &name);
        if !kept && unlink(directory, &name)? {
            continue;
        }
        if !is_directory(directory, &name)? {
            left = true;
            continue;
        }
        let inside = enter_level(directory, &name, depth)?;
        if prune(inside.as_fd(), keep, gone, depth + 1)? || kept {
            left = true;
            continue;
        }
        gone(inode(inside.as_fd())?);
        unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir)
            .map_err(failed(Sysno::unlinkat))?;
    }
    Ok(left)
}

/// Gives each directory the time that is known for its inode number: it could
/// not have it before all was in it.
pub(super) fn set_times(
    directory: BorrowedFd<'_>,
    times: &BTreeMap<u64, Time>,
    depth: usize,
) -> Outcome<()> {
    for name in list(directory)? {
        if is_directory(directory, &name)? {
            let inside = enter_level(directory, &name, depth)?;
            set_times(inside.as_fd(), times, depth + 1)?;
        }
    }
    match times.get(&inode(directory)?) {
        Some(time) => set_time(directory, c".", *time),
        None => Ok(()),
    }
}

/// utimensat(2) of one name, which may be a symbolic link; the time of last
/// access stays what it is.
pub(super) fn set_time(directory: BorrowedFd<'_>, name: &CStr, time: Time) -> Outcome<()> {
    let modified = TimeSpec::new(time.seconds, time.nanoseconds.into());
    utimensat(
        directory,
        name,
        &TimeSpec::UTIME_OMIT,
        &modified,
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(failed(Sysno::utimensat))
}

fn is_directory(directory: BorrowedFd<'_>, name: &CStr) -> Outcome<bool> {
    let stat =
        fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed(NEWFSTATAT))?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn enter_level(directory: BorrowedFd<'_>, name: &CStr, depth: usize) -> Outcome<OwnedFd> {
    if depth >= DEEPEST {
        return Err(format!(
            "directories nest deeper than {DEEPEST} levels, which no image needs"
        ));
    }
    enter(directory, name)
}

/// The inode number of what is open.
pub(super) fn inode(file: BorrowedFd<'_>) -> Outcome<u64> {
    let stat = fd::stat(file).map_err(|failure| failure.to_string())?;
    Ok(stat.ino)
}
