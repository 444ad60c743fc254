//! The digest of a directory tree, as docs/pinning.md defines it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, fstat, fstatat};
use syscalls::Sysno;

use super::digest::{Digest, Hashing};
use super::tree::{DEEPEST, Outcome, failed, list};
use super::{open_host_directory, refuse, verity};
use crate::error::{Error, Result};
use crate::sys::NEWFSTATAT;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::measure::{self, Measured};

/// A tree that is measured: the directory stays open, so that no other can have
/// its inode number.
#[derive(Debug)]
pub struct Tree {
    _directory: OwnedFd,
    /// What it is made of.
    pub digest: Digest,
    /// File system and inode number of the directory.
    pub identity: (u64, u64),
}

impl Tree {
    /// Opens a directory and measures what is in it.
    ///
    /// # Errors
    /// [`Error::Image`] with the entry that cannot be measured: one that may not be
    /// read, a mount point, what nests too deeply. [`Error::System`].
    pub fn measure(path: &Path) -> Result<Self> {
        let directory = open_host_directory(path)?;
        let mut walk = Walk {
            hash: Hashing::new(io::empty()),
            links: BTreeMap::new(),
            path: Vec::new(),
        };
        let root = open(directory.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY);
        let outcome = root.and_then(|root| walk.directory(root.as_fd(), 0));
        outcome.map_err(|problem| {
            let at = path.join(std::ffi::OsStr::from_bytes(&walk.path));
            refuse(at.display(), format!("cannot be measured: {problem}"))
        })?;
        let stat = fd::stat(directory.as_fd());
        let stat = stat.map_err(|failure| Error::system("look at", path.display(), failure))?;
        Ok(Self {
            _directory: directory,
            digest: walk.hash.finish().1,
            identity: (stat.dev, stat.ino),
        })
    }
}

/// Opens one name in a directory, on the same mount, not following a link.
fn open(directory: BorrowedFd<'_>, name: &CStr, flags: i32) -> Outcome<OwnedFd> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = fd::open(At::Dir(directory), name, flags, Resolve::BENEATH_SAME_MOUNT);
    opened.map_err(|failure| match failure.errno {
        libc::EXDEV => "it is a mount point, and what is mounted may be anything".into(),
        _ => failure.to_string(),
    })
}

struct Walk {
    hash: Hashing<io::Empty>,
    /// Paths of files that have more than one name, by file system and inode number.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    /// The entry that is being looked at, below the root.
    path: Vec<u8>,
}

impl Walk {
    fn directory(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Outcome<()> {
        if depth >= DEEPEST {
            return Err(format!("directories nest deeper than {DEEPEST} levels"));
        }
        let stat = fstat(directory).map_err(failed(Sysno::fstat))?;
        self.record('d', &stat, "-", "-");
        let mut names = list(directory)?;
        names.sort_unstable();
        for name in names {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.entry(directory, &name, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, name: &CString, depth: usize) -> Outcome<()> {
        let look = fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        let stat = look.map_err(failed(NEWFSTATAT))?;
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFDIR {
            let inside = open(directory, name, libc::O_RDONLY | libc::O_DIRECTORY)?;
            return self.directory(inside.as_fd(), depth + 1);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let first = Digest::of(first).hex();
                self.record('h', &stat, &first, "-");
                return Ok(());
            }
            self.links
                .insert((stat.st_dev, stat.st_ino), self.path.clone());
        }
        let number = stat.st_rdev;
        let number = format!("{}:{}", libc::major(number), libc::minor(number));
        match kind {
            libc::S_IFREG => return self.file(directory, name),
            libc::S_IFLNK => {
                let target = readlinkat(directory, name.as_c_str());
                let target = target.map_err(failed(Sysno::readlinkat))?;
                self.record('l', &stat, &Digest::of(target.as_bytes()).hex(), "-");
            }
            libc::S_IFCHR => self.record('c', &stat, &number, "-"),
            libc::S_IFBLK => self.record('b', &stat, &number, "-"),
            libc::S_IFIFO => self.record('p', &stat, "-", "-"),
            _ => self.record('s', &stat, "-", "-"),
        }
        Ok(())
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Outcome<()> {
        let file = open(directory, name, libc::O_RDONLY)?;
        // What was opened counts, whatever was there a moment before.
        let stat = fstat(&file).map_err(failed(Sysno::fstat))?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err("it was replaced meanwhile".into());
        }
        let Measured { verity, capability } =
            measure::measure(file.as_fd()).map_err(|failure| failure.to_string())?;
        let digest = match verity {
            Some(bytes) => Digest::from_bytes(bytes),
            None => verity::digest(File::from(file)).map_err(|error| error.to_string())?,
        };
        let capability = match capability.is_empty() {
            true => "-".to_owned(),
            false => hex(&capability),
        };
        self.record('f', &stat, &digest.hex(), &capability);
        Ok(())
    }

    fn record(&mut self, kind: char, stat: &FileStat, value: &str, capability: &str) {
        let mut record = format!(
            "{kind} {:o} {} {} {value} {capability} ",
            stat.st_mode & 0o7777,
            stat.st_uid,
            stat.st_gid
        )
        .into_bytes();
        match self.path.as_slice() {
            b"" => record.push(b'.'),
            path => record.extend_from_slice(path),
        }
        record.push(0);
        self.hash.add(&record);
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
