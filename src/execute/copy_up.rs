//! Filling a fresh tmpfs with the directory it will cover (`tmpcopyup`).
//!
//! Both trees are walked by descriptor without following links, with buffers
//! on the stack: what is copied comes from the image.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Check, Failure};
use crate::sys::Result;
use crate::sys::fd::{self, At, Resolve};

/// Deeper trees than this would exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Copies what `from` holds into the empty directory `to`.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    directory(from, to, 0)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Failure::check(Check::CopyTooDeep));
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let from = fd::open(At::Dir(from), c".", flags, Resolve::ANY)?;
    let mut buffer = [0u8; 4096];
    loop {
        let length = fd::read_directory(from.as_fd(), &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut entries = &buffer[..length];
        while let Some((name, rest)) = next_entry(entries) {
            entries = rest;
            if name != c"." && name != c".." {
                entry(from.as_fd(), to, name, depth)?;
            }
        }
    }
}

/// The first name of a getdents64(2) buffer and what follows it: an inode
/// number, an offset (8 bytes each), the record's length (2), a type (1), the name.
fn next_entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = usize::from(u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]));
    let name = CStr::from_bytes_until_nul(entries.get(19..length)?).ok()?;
    Some((name, entries.get(length..)?))
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<()> {
    let found = fd::open(
        At::Dir(from),
        name,
        libc::O_PATH | libc::O_NOFOLLOW,
        Resolve::ANY,
    )?;
    let stat = fd::stat(found.as_fd())?;
    let mode = stat.mode & 0o7777;
    if stat.is(libc::S_IFDIR) {
        fd::mkdir(to, name, 0o700)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let made = fd::open(At::Dir(to), name, flags, Resolve::ANY)?;
        directory(found.as_fd(), made.as_fd(), depth + 1)?;
        own(made.as_fd(), &stat)?;
        return fd::chmod(made.as_fd(), mode);
    }
    if stat.is(libc::S_IFLNK) {
        let mut text = [0u8; 4096];
        let length = fd::read_link(found.as_fd(), &mut text[..4095])?;
        text[length] = 0;
        let text =
            CStr::from_bytes_until_nul(&text).map_err(|_| Failure::check(Check::PathTooLong))?;
        return fd::symlink(text, to, name);
    }
    if stat.is(libc::S_IFREG) {
        return file(from, to, name, &stat);
    }
    // Device nodes, sockets and fifos of an image have no business in a tmpfs.
    Ok(())
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &fd::Stat) -> Result<()> {
    let source = fd::open(
        At::Dir(from),
        name,
        libc::O_RDONLY | libc::O_NOFOLLOW,
        Resolve::ANY,
    )?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let copy = fd::open_mode(At::Dir(to), name, flags, 0o600, Resolve::ANY)?;
    while fd::copy(source.as_fd(), copy.as_fd(), 1 << 20)? > 0 {}
    own(copy.as_fd(), stat)?;
    fd::chmod(copy.as_fd(), stat.mode & 0o7777)
}

/// Keeps the owner; an id that the user namespace does not map stays the maker's.
fn own(copy: BorrowedFd<'_>, stat: &fd::Stat) -> Result<()> {
    match fd::chown(copy, stat.uid, stat.gid) {
        Err(failure) if matches!(failure.errno, libc::EINVAL | libc::EPERM) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_copied_with_modes_and_links() {
        let base = std::env::temp_dir().join(format!("capsid-copyup-{}", std::process::id()));
        std::fs::create_dir_all(base.join("from/d")).unwrap();
        std::fs::create_dir_all(base.join("to")).unwrap();
        std::fs::write(base.join("from/d/f"), "text").unwrap();
        std::fs::set_permissions(base.join("from/d/f"), PermissionsExt::from_mode(0o640)).unwrap();
        symlink("/etc/passwd", base.join("from/l")).unwrap();
        let open = |name: &str| OwnedFd::from(std::fs::File::open(base.join(name)).unwrap());
        copy_tree(open("from").as_fd(), open("to").as_fd()).unwrap();
        assert_eq!(
            std::fs::read_to_string(base.join("to/d/f")).unwrap(),
            "text"
        );
        let mode = std::fs::metadata(base.join("to/d/f"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(
            std::fs::read_link(base.join("to/l")).unwrap().as_os_str(),
            "/etc/passwd"
        );
        std::fs::remove_dir_all(&base).unwrap();
    }
}
