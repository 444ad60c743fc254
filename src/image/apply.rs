//! A layer's entries, applied to a directory.
//!
//! Nothing is written outside that directory, whatever the bytes are. The
//! directory of an entry is resolved by the kernel with the root as its end
//! (RESOLVE_IN_ROOT): a layer may put files below a link of another layer, such
//! as `lib` -> `usr/lib`, and a link that leads out leads to a place inside.
//! The last name is never followed: what stands there is removed first.
//!
//! Everything belongs to the caller. setuid and setgid bits and extended
//! attributes are dropped: ownership does not mean what it meant to the layer.
//! Directories keep `u+rwx`, so that the tree can be removed by its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, mkdirat};
use nix::unistd::{linkat, symlinkat};
use syscalls::Sysno;

use super::tar::{Entry, Kind, Reader, Time};
use super::tree::{self, Outcome, failed};
use crate::execute::lookup::{self, Make};
use crate::sys::NEWFSTATAT;
use crate::sys::fd::{self, At, Resolve};

/// What whiteouts are called: a file that is no more, or all of a directory.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other files of aufs, which Docker once packed too.
const AUFS: &[u8] = b".wh..wh.";

const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// A directory that layers are applied to.
pub struct Applier<'a> {
    root: BorrowedFd<'a>,
    /// An empty directory beside it, where trees are taken apart.
    scrap: BorrowedFd<'a>,
    /// How many entries may still come.
    left: u64,
    /// What each directory (by inode number) is to have as its time.
    times: BTreeMap<u64, Time>,
    /// What this layer put into each directory: its own whiteouts spare it.
    own: BTreeMap<u64, BTreeSet<CString>>,
    /// Directories that this layer emptied already.
    opaque: BTreeSet<u64>,
    buffer: Vec<u8>,
}

/// What went wrong, at which entry.
#[derive(Debug)]
pub struct Fault {
    /// Its name as it stands in the archive; none when the archive is damaged.
    pub entry: Option<Vec<u8>>,
    /// What is wrong with it.
    pub problem: String,
}

impl<'a> Applier<'a> {
    /// Nothing applied yet. At most so many entries will be.
    pub fn new(root: BorrowedFd<'a>, scrap: BorrowedFd<'a>, entries: u64) -> Self {
        Self {
            root,
            scrap,
            left: entries,
            times: BTreeMap::new(),
            own: BTreeMap::new(),
            opaque: BTreeSet::new(),
            buffer: vec![0; 64 << 10],
        }
    }

    /// Applies one layer, on top of those before.
    ///
    /// # Errors
    /// The first entry that is refused or fails; what was applied stays.
    pub fn layer(&mut self, reader: &mut Reader<impl Read>) -> Result<(), Fault> {
        self.own.clear();
        self.opaque.clear();
        let damaged = |error: std::io::Error| Fault {
            entry: None,
            problem: error.to_string(),
        };
        while let Some(entry) = reader.next_entry().map_err(damaged)? {
            self.entry(&entry, reader).map_err(|problem| Fault {
                entry: Some(entry.path),
                problem,
            })?;
        }
        Ok(())
    }

    /// Gives directories their times, after the last layer.
    ///
    /// # Errors
    /// A sentence, also when directories nest too deeply.
    pub fn finish(self) -> Outcome<()> {
        tree::set_times(self.root, &self.times, 0)
    }

    fn entry(&mut self, entry: &Entry, reader: &mut Reader<impl Read>) -> Outcome<()> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err("the image has more entries than are allowed for its size".into());
        };
        self.left = left;
        let names = names(&entry.path)?;
        match entry.kind {
            Kind::Device => return Err("device nodes are not unpacked".into()),
            Kind::Fifo => return Err("named pipes are not unpacked".into()),
            _ => {}
        }
        let Some((last, above)) = names.split_last() else {
            return self.root_itself(entry);
        };
        if names
            .iter()
            .any(|name| name.starts_with(AUFS) && *name != OPAQUE)
        {
            return Ok(());
        }
        if above.iter().any(|name| name.starts_with(WHITEOUT)) {
            return Err("a whiteout is not a directory".into());
        }
        let above = c_string(&above.join(&b'/'))?;
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return self.whiteout(&above, last, hidden);
        }
        let name = c_string(last)?;
        let parent = self.parent(&above)?;
        match entry.kind {
            Kind::Directory => self.directory(parent.as_fd(), &name, entry)?,
            Kind::Symlink => self.symlink(parent.as_fd(), &name, entry)?,
            Kind::HardLink => self.hard_link(parent.as_fd(), &name, entry)?,
            _ => self.file(parent.as_fd(), &name, entry, reader)?,
        }
        let parent = tree::inode(parent.as_fd())?;
        self.own.entry(parent).or_default().insert(name);
        Ok(())
    }

    /// An entry `./`.
    fn root_itself(&mut self, entry: &Entry) -> Outcome<()> {
        if entry.kind != Kind::Directory {
            return Err("the root of an image is a directory".into());
        }
        let root = tree::enter(self.root, c".")?;
        self.own_directory(root.as_fd(), entry)
    }

    /// The directory that a container path leads to, made where it is missing.
    fn parent(&self, path: &CStr) -> Outcome<OwnedFd> {
        match open_directory(self.root, path) {
            Err(failure) if failure.is(libc::ENOENT) => {
                lookup::open_or_make(self.root, path, Make::Directory)
            }
            other => other,
        }
        .map_err(|failure| format!("open its directory: {failure}"))
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Outcome<()> {
        let there = status(parent, name)?;
        if there.is_none_or(|stat| stat.st_mode & libc::S_IFMT != libc::S_IFDIR) {
            self.make_room(parent, name, there.is_some())?;
            mkdirat(parent, name, Mode::S_IRWXU).map_err(failed(Sysno::mkdirat))?;
        }
        let directory = tree::enter(parent, name)?;
        self.own_directory(directory.as_fd(), entry)
    }

    fn own_directory(&mut self, directory: BorrowedFd<'_>, entry: &Entry) -> Outcome<()> {
        let mode = Mode::from_bits_truncate(entry.mode & 0o1777) | Mode::S_IRWXU;
        fchmod(directory, mode).map_err(failed(Sysno::fchmod))?;
        self.times.insert(tree::inode(directory)?, entry.modified);
        Ok(())
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        entry: &Entry,
        reader: &mut Reader<impl Read>,
    ) -> Outcome<()> {
        self.make_room(parent, name, true)?;
        // A new inode in any case: what stood there may have other names.
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = fd::open_mode(
            At::Dir(parent),
            name,
            flags,
            0o600,
            Resolve::IN_ROOT_NO_LINKS,
        );
        let mut file: std::fs::File = file.map_err(|failure| failure.to_string())?.into();
        loop {
            let length = reader
                .read(&mut self.buffer)
                .map_err(|error| error.to_string())?;
            if length == 0 {
                break;
            }
            file.write_all(&self.buffer[..length])
                .map_err(|error| format!("write: {error}"))?;
        }
        fchmod(&file, Mode::from_bits_truncate(entry.mode & 0o777))
            .map_err(failed(Sysno::fchmod))?;
        tree::set_time(parent, name, entry.modified)
    }

    fn symlink(&mut self, parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Outcome<()> {
        if entry.link.is_empty() || entry.link.len() >= PATH_MAX {
            return Err("the text of a symbolic link has 1 to 4095 bytes".into());
        }
        let text = c_string(&entry.link)?;
        self.make_room(parent, name, true)?;
        symlinkat(text.as_c_str(), parent, name).map_err(failed(Sysno::symlinkat))?;
        tree::set_time(parent, name, entry.modified)
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Outcome<()> {
        let about = |problem: String| {
            let link = String::from_utf8_lossy(&entry.link);
            format!("hard link to {link:?}: {problem}")
        };
        let names = names(&entry.link).map_err(about)?;
        let Some((last, above)) = names.split_last() else {
            return Err(about("a directory has no other names".into()));
        };
        let above = c_string(&above.join(&b'/'))?;
        let last = c_string(last)?;
        let from = open_directory(self.root, &above)
            .map_err(|failure| about(format!("open its directory: {failure}")))?;
        let Some(target) = status(from.as_fd(), &last)? else {
            return Err(about("there is no such file".into()));
        };
        if target.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(about("a directory has no other names".into()));
        }
        let there = status(parent, name)?;
        let same = |stat: &FileStat| (stat.st_dev, stat.st_ino) == (target.st_dev, target.st_ino);
        if there.as_ref().is_some_and(same) {
            return Ok(());
        }
        self.make_room(parent, name, there.is_some())?;
        // Without AT_SYMLINK_FOLLOW: a symbolic link gets another name, not what it leads to.
        linkat(&from, last.as_c_str(), parent, name, AtFlags::empty())
            .map_err(|errno| about(failed(Sysno::linkat)(errno)))
    }

    /// Removes what lower layers have of a name, or all of a directory.
    fn whiteout(&mut self, above: &CStr, name: &[u8], hidden: &[u8]) -> Outcome<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err("a whiteout names no file".into());
        }
        let parent = match open_directory(self.root, above) {
            Ok(parent) => parent,
            // Nothing there to be hidden.
            Err(failure) if failure.is(libc::ENOENT) => return Ok(()),
            Err(failure) => return Err(format!("open its directory: {failure}")),
        };
        let inode = tree::inode(parent.as_fd())?;
        if name == OPAQUE {
            if !self.opaque.insert(inode) {
                return Ok(());
            }
            let (own, times) = (&self.own, &mut self.times);
            let keep = |parent: u64, name: &CStr| {
                own.get(&parent).is_some_and(|names| names.contains(name))
            };
            let mut gone = |inode: u64| {
                times.remove(&inode);
            };
            let directory = tree::enter(parent.as_fd(), c".")?;
            return tree::prune(directory.as_fd(), &keep, &mut gone, 0).map(drop);
        }
        let hidden = c_string(hidden)?;
        let own = self.own.get(&inode);
        if own.is_some_and(|names| names.contains(&hidden)) {
            return Ok(());
        }
        self.make_room(parent.as_fd(), &hidden, true)
    }

    /// Removes what stands at a name, if anything does.
    fn make_room(&mut self, parent: BorrowedFd<'_>, name: &CStr, there: bool) -> Outcome<()> {
        if !there {
            return Ok(());
        }
        let (times, own, opaque) = (&mut self.times, &mut self.own, &mut self.opaque);
        // Numbers of inodes are used again.
        let mut gone = |inode: u64| {
            times.remove(&inode);
            own.remove(&inode);
            opaque.remove(&inode);
        };
        tree::remove(parent, name, self.scrap, &mut gone)
    }
}

/// The names of a path, without empty ones and `.`.
fn names(path: &[u8]) -> Outcome<Vec<&[u8]>> {
    if path.is_empty() {
        return Err("an empty name".into());
    }
    if path.len() >= PATH_MAX {
        return Err("the name is longer than 4095 bytes".into());
    }
    if path.starts_with(b"/") {
        return Err("an absolute name, which could mean a place outside the image".into());
    }
    let names = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = names.filter(|name| !matches!(*name, b"" | b".")).collect();
    for name in &names {
        if *name == b".." {
            return Err("\"..\" in a name, which could lead out of the image".into());
        }
        if name.len() > NAME_MAX {
            return Err("a part of the name is longer than 255 bytes".into());
        }
    }
    Ok(names)
}

fn c_string(bytes: &[u8]) -> Outcome<CString> {
    CString::new(bytes).map_err(|_| "a NUL in a name".into())
}

/// Opens the directory that a container path leads to.
fn open_directory(root: BorrowedFd<'_>, path: &CStr) -> crate::sys::Result<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    fd::open(At::Dir(root), path, flags, Resolve::IN_ROOT)
}

/// What stands at a name; a symbolic link is not followed.
fn status(parent: BorrowedFd<'_>, name: &CStr) -> Outcome<Option<FileStat>> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(failed(NEWFSTATAT)(errno)),
    }
}
