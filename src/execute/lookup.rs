//! Finding and making mount points below the container's root, by descriptor.
//!
//! The kernel resolves every path with the root as its end (openat2(2),
//! RESOLVE_IN_ROOT). Only where something is missing does a walk of our own
//! make it, one name at a time, each opened without following links and each
//! link's text walked again from the root: no path made of strings is trusted
//! twice (CVE-2021-30465, CVE-2024-45310). Nothing here allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Check, Failure};
use crate::sys::Result;
use crate::sys::directory;
use crate::sys::fd::{self, At, Resolve};

const PATH_MAX: usize = 4096;
/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// What to make where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

/// Opens (`O_PATH`) what a container path leads to.
pub fn open(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    fd::open(At::Dir(root), path, libc::O_PATH, Resolve::IN_ROOT)
}

/// The same for a directory that no symbolic link may lead to.
pub fn open_plain_directory(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    fd::open(At::Dir(root), path, flags, Resolve::IN_ROOT_NO_LINKS)
}

/// Opens what a container path leads to, making what is missing.
pub fn open_or_make(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd> {
    match open(root, path) {
        Err(failure) if failure.is(libc::ENOENT) => Walk::new(path.to_bytes())?.run(root, make),
        other => other,
    }
}

/// The same, for a path that no symbolic link may be in.
pub fn open_or_make_plain(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd> {
    match fd::open(At::Dir(root), path, libc::O_PATH, Resolve::IN_ROOT_NO_LINKS) {
        Err(failure) if failure.is(libc::ENOENT) => {
            Walk::new(path.to_bytes())?.without_links().run(root, make)
        }
        Err(failure) if failure.is(libc::ELOOP) => Err(Failure::check(Check::LinkToMountPoint)),
        other => other,
    }
}

/// Opens the directory of a path, making it, and gives the last name.
pub fn open_parent<'p>(root: BorrowedFd<'_>, path: &'p CStr) -> Result<(OwnedFd, &'p CStr)> {
    let bytes = path.to_bytes_with_nul();
    let slash = bytes
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let name = CStr::from_bytes_with_nul(&bytes[slash..])
        .map_err(|_| Failure::check(Check::PathTooLong))?;
    let mut buffer = Buffer::new();
    buffer.push(&bytes[..slash])?;
    if slash == 0 {
        buffer.push(b"/")?;
    }
    let directory = open_or_make(root, buffer.c_str()?, Make::Directory)?;
    Ok((directory, name))
}

/// A path under construction, always with room for its NUL.
struct Buffer {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Buffer {
    const fn new() -> Self {
        Self {
            bytes: [0; PATH_MAX],
            length: 0,
        }
    }

    fn push(&mut self, more: &[u8]) -> Result<()> {
        let end = self.length + more.len();
        if end >= PATH_MAX {
            return Err(Failure::check(Check::PathTooLong));
        }
        self.bytes[self.length..end].copy_from_slice(more);
        self.length = end;
        self.bytes[end] = 0;
        Ok(())
    }

    fn truncate(&mut self, length: usize) {
        self.length = length;
        self.bytes[length] = 0;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn c_str(&self) -> Result<&CStr> {
        CStr::from_bytes_with_nul(&self.bytes[..=self.length])
            .map_err(|_| Failure::check(Check::PathTooLong))
    }
}

/// The walk that makes what is missing.
struct Walk {
    /// What was walked: no links in it, relative to the root.
    done: Buffer,
    /// What is left.
    rest: Buffer,
    links: usize,
    /// How many there may be, and what is said of one more.
    most_links: usize,
    too_many: Check,
}

impl Walk {
    fn new(path: &[u8]) -> Result<Self> {
        let mut rest = Buffer::new();
        rest.push(path)?;
        Ok(Self {
            done: Buffer::new(),
            rest,
            links: 0,
            most_links: MAX_LINKS,
            too_many: Check::TooManyLinks,
        })
    }

    fn without_links(self) -> Self {
        Self {
            most_links: 0,
            too_many: Check::LinkToMountPoint,
            ..self
        }
    }

    fn run(mut self, root: BorrowedFd<'_>, make: Make) -> Result<OwnedFd> {
        let mut here = fd::open(At::Dir(root), c".", libc::O_PATH, Resolve::IN_ROOT)?;
        loop {
            let (start, end) = self.next_name();
            if start == end {
                return Ok(here);
            }
            let last = self.rest.as_bytes()[end..].iter().all(|byte| *byte == b'/');
            let name = &self.rest.as_bytes()[start..end];
            if name == b"." {
                self.rest_from(end);
                continue;
            }
            if name == b".." {
                self.up();
                self.rest_from(end);
                here = self.reopen(root)?;
                continue;
            }
            let make = if last { make } else { Make::Directory };
            here = self.enter(root, here.as_fd(), (start, end), make)?;
        }
    }

    /// Where the next name begins and ends in the rest.
    fn next_name(&self) -> (usize, usize) {
        let rest = self.rest.as_bytes();
        let start = rest
            .iter()
            .position(|byte| *byte != b'/')
            .unwrap_or(rest.len());
        let length = rest[start..]
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(rest.len() - start);
        (start, start + length)
    }

    /// Opens or makes one name, or takes up the text of a link.
    fn enter(
        &mut self,
        root: BorrowedFd<'_>,
        here: BorrowedFd<'_>,
        name: (usize, usize),
        make: Make,
    ) -> Result<OwnedFd> {
        let before = self.done.length;
        self.done.push(b"/")?;
        let mut text = Buffer::new();
        text.push(&self.rest.as_bytes()[name.0..name.1])?;
        self.done.push(text.as_bytes())?;
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let open = |name: &CStr| fd::open(At::Dir(here), name, flags, Resolve::IN_ROOT_NO_LINKS);
        let found = match open(text.c_str()?) {
            Err(failure) if failure.is(libc::ENOENT) => {
                self.make(here, text.c_str()?, make)?;
                open(text.c_str()?)?
            }
            other => other?,
        };
        let stat = fd::stat(found.as_fd())?;
        if !stat.is(libc::S_IFLNK) {
            self.rest_from(name.1);
            return Ok(found);
        }
        self.links += 1;
        if self.links > self.most_links {
            return Err(Failure::check(self.too_many));
        }
        self.done.truncate(before);
        self.take_up_link(found.as_fd(), name.1)?;
        self.reopen(root)
    }

    fn make(&self, here: BorrowedFd<'_>, name: &CStr, make: Make) -> Result<()> {
        let made = match make {
            Make::Directory => directory::mkdir(here, name, 0o755),
            Make::File => directory::mknod(here, name, libc::S_IFREG | 0o644, 0),
        };
        match made {
            // Somebody else made it in the meantime: what it is shows when it is opened.
            Err(failure) if failure.is(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// The link's text takes the place of its name.
    fn take_up_link(&mut self, link: BorrowedFd<'_>, end: usize) -> Result<()> {
        let mut text = [0u8; PATH_MAX];
        let length = fd::read_link(link, &mut text)?;
        if text[..length].first() == Some(&b'/') {
            self.done.truncate(0);
        }
        let mut rest = Buffer::new();
        rest.push(&text[..length])?;
        rest.push(&self.rest.as_bytes()[end..])?;
        self.rest = rest;
        Ok(())
    }

    fn rest_from(&mut self, start: usize) {
        let length = self.rest.length - start;
        self.rest.bytes.copy_within(start..self.rest.length, 0);
        self.rest.truncate(length);
    }

    fn up(&mut self) {
        let cut = self
            .done
            .as_bytes()
            .iter()
            .rposition(|byte| *byte == b'/')
            .unwrap_or(0);
        self.done.truncate(cut);
    }

    /// Opens what was walked so far; whatever was put in its place is no link.
    fn reopen(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        let path = if self.done.length == 0 {
            c"."
        } else {
            self.done.c_str()?
        };
        fd::open(At::Dir(root), path, libc::O_PATH, Resolve::IN_ROOT_NO_LINKS)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("capsid-lookup-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).unwrap();
            Self(path)
        }

        fn root(&self) -> OwnedFd {
            std::fs::File::open(self.0.join("root")).unwrap().into()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let tree = Tree::new("make");
        let root = tree.root();
        open_or_make(root.as_fd(), c"/a/./b//c", Make::Directory).unwrap();
        open_or_make(root.as_fd(), c"/a/b/f", Make::File).unwrap();
        assert!(tree.0.join("root/a/b/c").is_dir());
        assert!(tree.0.join("root/a/b/f").is_file());
    }

    #[test]
    fn links_stay_inside_and_dangling_ones_are_completed() {
        let tree = Tree::new("links");
        let root = tree.root();
        let inside = tree.0.join("root");
        symlink("/run/resolve/stub.conf", inside.join("resolv.conf")).unwrap();
        symlink("../../../../outside", inside.join("up")).unwrap();
        open_or_make(root.as_fd(), c"/resolv.conf", Make::File).unwrap();
        assert!(inside.join("run/resolve/stub.conf").is_file());
        open_or_make(root.as_fd(), c"/up/x", Make::Directory).unwrap();
        assert!(inside.join("outside/x").is_dir());
        assert!(!tree.0.join("outside").exists());
    }

    #[test]
    fn loops_end() {
        let tree = Tree::new("loop");
        let root = tree.root();
        symlink("b/x", tree.0.join("root/a")).unwrap();
        symlink("a", tree.0.join("root/b")).unwrap();
        let failure = open_or_make(root.as_fd(), c"/a/y", Make::Directory).unwrap_err();
        let ours = failure == Failure::check(Check::TooManyLinks);
        assert!(ours || failure.is(libc::ELOOP), "{failure:?}");
    }

    #[test]
    fn nothing_is_made_through_links_where_there_may_be_none() {
        let tree = Tree::new("no-links");
        let root = tree.root();
        std::fs::create_dir(tree.0.join("root/real")).unwrap();
        symlink("real", tree.0.join("root/link")).unwrap();
        for path in [c"/link", c"/link/new", c"/real/../link/a/b"] {
            let failure = open_or_make_plain(root.as_fd(), path, Make::Directory).unwrap_err();
            assert_eq!(failure, Failure::check(Check::LinkToMountPoint), "{path:?}");
        }
        assert_eq!(
            std::fs::read_dir(tree.0.join("root/real")).unwrap().count(),
            0
        );
        open_or_make_plain(root.as_fd(), c"/real/new/f", Make::File).unwrap();
        assert!(tree.0.join("root/real/new/f").is_file());
    }

    #[test]
    fn parents_are_made_and_names_split_off() {
        let tree = Tree::new("parent");
        let root = tree.root();
        let (_directory, name) = open_parent(root.as_fd(), c"/dev/x/node").unwrap();
        assert_eq!(name, c"node");
        assert!(tree.0.join("root/dev/x").is_dir());
        let (_directory, name) = open_parent(root.as_fd(), c"node").unwrap();
        assert_eq!(name, c"node");
    }

    #[test]
    fn a_plain_directory_is_not_reached_through_links() {
        let tree = Tree::new("plain");
        let root = tree.root();
        std::fs::create_dir(tree.0.join("root/real")).unwrap();
        symlink("real", tree.0.join("root/proc")).unwrap();
        assert!(open_plain_directory(root.as_fd(), c"/proc").is_err());
        assert!(open_plain_directory(root.as_fd(), c"/real").is_ok());
    }
}
