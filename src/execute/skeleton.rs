//! Making the root directory of a sandbox.
//!
//! It is made in the container's own state directory, which only the caller can
//! write and no program runs in yet. Names still never follow a link.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::sandbox::{Entry, Skeleton};

/// Makes the directory `name` in `parent` and everything of a skeleton in it.
/// The process's umask takes nothing off that the sandbox's user needs.
///
/// # Errors
/// [`Error::System`], with the path.
pub fn make(parent: BorrowedFd<'_>, name: &str, skeleton: &Skeleton) -> Result<()> {
    let directory = Mode::from_bits_truncate(0o755);
    let failed = |path: &Path, call, errno| {
        Error::nix("make", Path::new(name).join(path).display(), call, errno)
    };
    mkdirat(parent, name, directory)
        .map_err(|errno| failed(Path::new(""), Sysno::mkdirat, errno))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let root = open(parent, Path::new(name), flags)
        .map_err(|errno| failed(Path::new(""), Sysno::openat2, errno))?;
    for (path, entry) in skeleton.entries() {
        match entry {
            Entry::Directory => mkdirat(&root, path, directory)
                .map_err(|errno| failed(path, Sysno::mkdirat, errno))?,
            Entry::Shared => {
                let make = |errno| failed(path, Sysno::mkdirat, errno);
                mkdirat(&root, path, directory).map_err(make)?;
                let all = Mode::from_bits_truncate(0o777);
                fchmodat(&root, path, all, FchmodatFlags::FollowSymlink)
                    .map_err(|errno| failed(path, Sysno::fchmodat, errno))?;
            }
            Entry::Link(target) => symlinkat(target, &root, path)
                .map_err(|errno| failed(path, Sysno::symlinkat, errno))?,
            Entry::File(text) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                let file = open(root.as_fd(), path, flags)
                    .map_err(|errno| failed(path, Sysno::openat2, errno))?;
                let written = std::fs::File::from(file).write_all(text.as_bytes());
                written
                    .map_err(|error| Error::io("write", path.display(), Sysno::write, &error))?;
            }
        }
    }
    Ok(())
}

/// Removes what [`make`] made, as far as it is still there: each thing is known,
/// and need not be looked for. What remains is for whoever removes the rest.
pub fn remove(parent: BorrowedFd<'_>, name: &str, skeleton: &Skeleton) {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let Ok(root) = open(parent, Path::new(name), flags) else {
        return;
    };
    for (path, entry) in skeleton.entries().rev() {
        let kind = match entry {
            Entry::Directory | Entry::Shared => UnlinkatFlags::RemoveDir,
            Entry::File(_) | Entry::Link(_) => UnlinkatFlags::NoRemoveDir,
        };
        let _ = unlinkat(&root, path, kind);
    }
    let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
}

fn open(directory: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mut how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    if flags.contains(OFlag::O_CREAT) {
        how = how.mode(Mode::from_bits_truncate(0o644));
    }
    openat2(directory, path, how)
}
