//! The state of other users, as root reads it.
//!
//! It is in directories of theirs, so all of it is their word: a directory can be
//! a link, a mount that never answers, or a million entries; a record a pipe, a
//! link, or what it should not be. Nothing is followed, no mount is crossed but
//! that of the user's own tmpfs, no lock is taken, and sizes are bounded.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstat};
use syscalls::Sysno;

use super::directory::{Container, RECORD, Root};
use super::{FORMAT, Record, check_id};
use crate::error::{Error, Result};
use crate::host::mountinfo;

/// Where the system has users keep what lasts as long as they are logged in.
const RUNTIME_DIRECTORIES: &str = "/run/user";

/// More containers of one user are not listed.
const MOST: usize = 4096;

/// Honest records are a tenth of it.
const LARGEST: u64 = 1 << 20;

/// Containers of one user.
#[derive(Debug)]
pub struct OfUser {
    /// The user, by who owns the directory.
    pub uid: u32,
    root: Root,
}

/// The state roots of all users who have one. `broken` hears what is not as it
/// should be, which is then left out.
///
/// # Errors
/// [`Error::System`] when nothing can be told of users or mounts at all.
pub fn of_users(broken: &mut dyn FnMut(&Path, String)) -> Result<Vec<OfUser>> {
    let top = Path::new(RUNTIME_DIRECTORIES);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let all = match nix::fcntl::open(top, flags, Mode::empty()) {
        Ok(all) => all,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::nix("open", top.display(), Sysno::openat, errno)),
    };
    let mounts = mountinfo::read()?;
    let mut found = Vec::new();
    for name in bounded_names(&all)? {
        let Ok(uid) = name.parse::<u32>() else {
            continue;
        };
        let path = top.join(&name);
        // A file system of the user's own would be asked, and need not answer.
        let mut mounted = mounts.iter().rev().filter(|mount| mount.point == path);
        if mounted.next().is_some_and(|mount| mount.kind != "tmpfs") {
            broken(&path, "not looked into: it is no tmpfs".into());
            continue;
        }
        match open_root(&all, &name, uid) {
            Ok(Some(dir)) => found.push(OfUser {
                uid,
                root: Root {
                    dir: Rc::new(dir),
                    path: path.join("capsid"),
                },
            }),
            Ok(None) => {}
            Err(problem) => broken(&path, problem),
        }
    }
    found.sort_by_key(|one| one.uid);
    Ok(found)
}

fn open_root(all: &OwnedFd, name: &str, uid: u32) -> Result<Option<OwnedFd>, String> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let own = ResolveFlag::empty();
    let home = open(all, name, flags, own).map_err(|errno| not_opened(name, errno))?;
    let inside = ResolveFlag::RESOLVE_NO_XDEV;
    let root = match open(&home, "capsid", flags, inside) {
        Err(Errno::ENOENT) => return Ok(None),
        opened => opened.map_err(|errno| not_opened("capsid", errno))?,
    };
    for dir in [&home, &root] {
        owned(dir, uid)?;
    }
    Ok(Some(root))
}

fn open(dir: &OwnedFd, name: &str, flags: OFlag, also: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | also);
    openat2(dir, name, how)
}

fn not_opened(name: &str, errno: Errno) -> String {
    let text = crate::error::errno_text(errno as i32);
    format!("{name} is no directory of capsid's: {text}")
}

fn owned(file: &impl AsFd, uid: u32) -> Result<FileStat, String> {
    let stat = fstat(file).map_err(|errno| crate::error::errno_text(errno as i32))?;
    match stat.st_uid == uid {
        true => Ok(stat),
        false => Err(format!("belongs to user {} and not to {uid}", stat.st_uid)),
    }
}

/// At most [`MOST`] names in a directory.
fn bounded_names(dir: &OwnedFd) -> Result<Vec<String>> {
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let entries = std::fs::read_dir(&path)
        .map_err(|error| Error::io("list the directory", &path, Sysno::getdents64, &error))?;
    let names = entries.flatten().take(MOST);
    Ok(names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

impl OfUser {
    /// The containers, sorted by id.
    pub fn containers(&self, broken: &mut dyn FnMut(&Path, String)) -> Vec<(Container, Record)> {
        let mut names = match bounded_names(&self.root.dir) {
            Ok(names) => names,
            Err(error) => {
                broken(self.root.path(), error.to_string());
                return Vec::new();
            }
        };
        names.retain(|name| check_id(name).is_ok());
        names.sort_unstable();
        let mut found = Vec::new();
        for id in names {
            match self.find(&id) {
                Ok(one) => found.extend(one),
                Err(problem) => broken(&self.root.path.join(&id), problem),
            }
        }
        found
    }

    /// A container by its id; nothing for what is none, and while it begins.
    ///
    /// # Errors
    /// What is wrong with its directory or its record.
    pub fn find(&self, id: &str) -> Result<Option<(Container, Record)>, String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let dir = match open(&self.root.dir, id, flags, ResolveFlag::RESOLVE_NO_XDEV) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            opened => opened.map_err(|errno| not_opened(id, errno))?,
        };
        owned(&dir, self.uid)?;
        let Some(record) = self.record(&dir, id)? else {
            return Ok(None);
        };
        let container = Container {
            root: Rc::clone(&self.root.dir),
            dir,
            id: id.to_owned(),
            path: self.root.path.join(id),
        };
        Ok(Some((container, record)))
    }

    fn record(&self, dir: &OwnedFd, id: &str) -> Result<Option<Record>, String> {
        // A pipe in its place must not make root wait.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match open(dir, RECORD, flags, ResolveFlag::RESOLVE_NO_XDEV) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.map_err(|errno| not_opened(RECORD, errno))?,
        };
        let stat = owned(&file, self.uid)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(format!("{RECORD} is no regular file"));
        }
        let mut bytes = Vec::new();
        let length = File::from(file)
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        if length as u64 > LARGEST {
            return Err(format!("{RECORD} has more than {LARGEST} bytes"));
        }
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{RECORD} is no record of this capsid: {error}"))?;
        if record.format != FORMAT || record.id != id {
            return Err(format!("{RECORD} is of another version or container"));
        }
        Ok(Some(record))
    }
}
