//! `<root>/<id>/`: made, locked, written, read, removed.
//!
//! Everything below the root goes by a checked name relative to an open
//! directory and never follows a symbolic link, so no id and no entry that
//! somebody left there leads out of the state directory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use syscalls::Sysno;

use super::{FORMAT, PENDING_SOCKET, Record, START_SOCKET, check_id, names};
use crate::error::{Error, Life, Result};

/// The record.
pub(super) const RECORD: &str = "state.json";

/// The record while it is written.
const RECORD_NEW: &str = "state.json.new";

/// No honest record comes near this; a larger file is not read into memory.
const RECORD_LIMIT: u64 = 16 << 20;

/// How deep a state directory may nest before its removal is given up: the root
/// of a sandbox has mount points of at most 64 levels.
const DEPTH_LIMIT: u8 = 80;

/// The directory that holds one directory per container.
#[derive(Debug)]
pub struct Root {
    pub(super) dir: Rc<OwnedFd>,
    pub(super) path: PathBuf,
}

/// The state directory of one container.
#[derive(Debug)]
pub struct Container {
    pub(super) root: Rc<OwnedFd>,
    pub(super) dir: OwnedFd,
    pub(super) id: String,
    pub(super) path: PathBuf,
}

/// An exclusive hold on a container, until dropped.
///
/// The lock is on the directory's open file, so it ends with the process that
/// holds it: a killed runtime leaves nothing locked. A child that inherited the
/// descriptor would keep it alive, which is why dropping unlocks explicitly.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    _dir: Flock<OwnedFd>,
}

/// A new container's directory, locked; removed again when dropped, unless kept.
#[derive(Debug)]
#[must_use]
pub struct Slot {
    container: Container,
    lock: Option<Lock>,
    kept: bool,
}

impl Root {
    /// Opens a root that exists.
    ///
    /// # Errors
    /// [`Error::System`] when there is none; see [`Root::open_if_any`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::try_open(path).map_err(|errno| Self::failed(path, errno))
    }

    /// Opens a root, or `None` if there is none: no container was ever created.
    ///
    /// # Errors
    /// [`Error::System`] for any other failure.
    pub fn open_if_any(path: &Path) -> Result<Option<Self>> {
        match Self::try_open(path) {
            Ok(root) => Ok(Some(root)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Self::failed(path, errno)),
        }
    }

    /// Opens a root, which is made with mode 0700 if it does not exist.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open_or_create(path: &Path) -> Result<Self> {
        if let Some(root) = Self::open_if_any(path)? {
            return Ok(root);
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| {
                Error::io(
                    "make the state directory",
                    path.display(),
                    Sysno::mkdirat,
                    &e,
                )
            })?;
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of a new container, with mode 0711, and locks it.
    ///
    /// # Errors
    /// [`Life::InvalidId`]; [`Life::Exists`], and then that container is untouched.
    pub fn reserve(&self, id: &str) -> Result<Slot> {
        check_id(id)?;
        match mkdirat(&*self.dir, id, Mode::from_bits_truncate(0o711)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(Life::Exists.into()),
            Err(errno) => {
                let path = self.path.join(id);
                return Err(Error::nix("make", path.display(), Sysno::mkdirat, errno));
            }
        }
        let container = self.find(id)?;
        let mut slot = Slot {
            container,
            lock: None,
            kept: false,
        };
        // mkdir went through the caller's umask, which must not decide this.
        fchmod(&slot.container.dir, Mode::from_bits_truncate(0o711))
            .map_err(|e| slot.container.failed("set the mode of", Sysno::fchmod, e))?;
        slot.lock = slot.container.try_lock()?;
        // Only a forced delete can have come in between, which removes it.
        if slot.lock.is_none() {
            return Err(Life::Exists.into());
        }
        Ok(slot)
    }

    /// Opens the directory of a container.
    ///
    /// # Errors
    /// [`Life::InvalidId`], [`Life::DoesNotExist`].
    pub fn find(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let path = self.path.join(id);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        match open_beneath(&self.dir, id, flags) {
            Ok(dir) => Ok(Container {
                root: Rc::clone(&self.dir),
                dir,
                id: id.to_owned(),
                path,
            }),
            // A file or a symbolic link of that name is not a container either.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Err(Life::DoesNotExist.into()),
            Err(errno) => Err(Error::nix("open", path.display(), Sysno::openat2, errno)),
        }
    }

    /// The names of all directories here that can be containers, sorted.
    ///
    /// # Errors
    /// [`Error::System`] when the root cannot be read.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for name in names(&*self.dir)? {
            let Ok(id) = name.into_string() else { continue };
            if check_id(&id).is_err() {
                continue;
            }
            let kind = fstatat(&*self.dir, id.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            if kind.is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn try_open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self {
            dir: Rc::new(dir),
            path: path.to_owned(),
        })
    }

    fn failed(path: &Path, errno: Errno) -> Error {
        Error::nix(
            "open the state directory",
            path.display(),
            Sysno::openat,
            errno,
        )
    }
}

impl Container {
    /// The container's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its state directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its state directory, open for reading: what the start socket's name is relative to.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Writes the record; whoever reads at the same time sees the old one or the new one.
    ///
    /// The caller holds the lock. There is no fsync: the directory is on a tmpfs,
    /// and after a power failure no container of a record is left anyway.
    ///
    /// # Errors
    /// [`Error::System`]; the old record is then still there.
    pub fn save(&self, record: &Record) -> Result<()> {
        let json = serde_json::to_vec(record)
            .map_err(|e| self.unusable(format!("the record cannot be written as JSON: {e}")))?;
        // Truncating, for a writer that was killed leaves its file behind.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let how = how(flags).mode(Mode::from_bits_truncate(0o600));
        let new = openat2(&self.dir, RECORD_NEW, how)
            .map_err(|e| self.failed("make the new state.json in", Sysno::openat2, e))?;
        fchmod(&new, Mode::from_bits_truncate(0o600))
            .map_err(|e| self.failed("set the mode of the new state.json in", Sysno::fchmod, e))?;
        File::from(new).write_all(&json).map_err(|e| {
            Error::io(
                "write the new state.json in",
                self.path.display(),
                Sysno::write,
                &e,
            )
        })?;
        renameat(&self.dir, RECORD_NEW, &self.dir, RECORD)
            .map_err(|e| self.failed("replace state.json in", Sysno::renameat, e))
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`Life::DoesNotExist`] while there is none; [`Error::State`] when it
    /// cannot be understood, with the way out.
    pub fn load(&self) -> Result<Record> {
        let bytes = self.read_record()?;
        let parsed = serde_json::from_slice::<Record>(&bytes);
        match parsed {
            Ok(record) if record.format != FORMAT => {
                Err(self.wrong_format(u64::from(record.format)))
            }
            Ok(record) if record.id != self.id => Err(self.unusable(format!(
                "it is the record of another container, {:?}",
                record.id
            ))),
            Ok(record) => Ok(record),
            // A record of another format may lack what this one has: say that
            // rather than which field happened to be missed first.
            Err(error) => match serde_json::from_slice::<serde_json::Value>(&bytes) {
                Ok(value) => match value.get("format").and_then(serde_json::Value::as_u64) {
                    Some(format) if format != u64::from(FORMAT) => Err(self.wrong_format(format)),
                    _ => Err(self.unusable(format!("it is not a record of capsid: {error}"))),
                },
                Err(_) => Err(self.unusable(format!("it is damaged or incomplete: {error}"))),
            },
        }
    }

    /// What can still be told of a record that [`Container::load`] refuses, as JSON.
    pub(crate) fn load_raw(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.read_record().ok()?).ok()
    }

    /// Takes the lock, unless somebody else has it.
    ///
    /// # Errors
    /// [`Life::DoesNotExist`] when the container was deleted meanwhile.
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        // A descriptor of its own: locks of one open file do not exclude each other.
        let own = openat2(&self.dir, ".", how(OFlag::O_RDONLY | OFlag::O_DIRECTORY));
        let own = match own {
            Ok(own) => own,
            Err(Errno::ENOENT) => return Err(Life::DoesNotExist.into()),
            Err(errno) => return Err(self.failed("open", Sysno::openat2, errno)),
        };
        let dir = match Flock::lock(own, FlockArg::LockExclusiveNonblock) {
            Ok(dir) => dir,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(self.failed("lock", Sysno::flock, errno)),
        };
        // Deleted while this waited, and perhaps created anew: then the lock is
        // on a directory that has lost its name.
        let held = fstat(&*dir).map_err(|e| self.failed("read the status of", Sysno::fstat, e))?;
        let named = fstatat(&*self.root, self.id.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        if !named.is_ok_and(|named| (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)) {
            return Err(Life::DoesNotExist.into());
        }
        Ok(Some(Lock { _dir: dir }))
    }

    /// Takes the lock, waiting for it at most so long.
    ///
    /// # Errors
    /// [`Life::DoesNotExist`] when the container was deleted meanwhile;
    /// [`Error::State`] when another capsid still works on it.
    pub fn lock(&self, patience: Duration) -> Result<Lock> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Error::State {
                    file: self.path.clone(),
                    problem: format!(
                        "another capsid process has been working on this container for {} s; \
                         wait for it or end it (fuser {} names it)",
                        patience.as_secs(),
                        self.path.display()
                    ),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether somebody works on it now: creates, starts or deletes it.
    pub fn is_locked(&self) -> bool {
        matches!(self.try_lock(), Ok(None))
    }

    /// Whether its first process waits for `start`.
    pub fn awaits_start(&self) -> bool {
        self.has(START_SOCKET)
    }

    /// Whether its first process exists and is still being set up.
    pub fn is_pending(&self) -> bool {
        self.has(PENDING_SOCKET)
    }

    fn has(&self, name: &str) -> bool {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Takes the start socket's name away: the container is no longer `created`.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn forget_start(&self) -> Result<()> {
        unlinkat(&self.dir, START_SOCKET, UnlinkatFlags::NoRemoveDir)
            .map_err(|errno| self.failed("remove the start socket of", Sysno::unlinkat, errno))
    }

    /// Removes the directory and all that is in it. That it is gone already is no failure.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn remove(&self) -> Result<()> {
        // The record last: as long as anything is left, `delete` finds its way.
        for name in [START_SOCKET, RECORD_NEW, RECORD] {
            // What fails here fails below as well, and is reported there.
            let _ = unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir);
        }
        match self.remove_directory() {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                empty(&self.dir, &self.path, DEPTH_LIMIT)?;
                self.remove_directory()
                    .map_err(|e| self.failed("remove", Sysno::unlinkat, e))
            }
            Err(errno) => Err(self.failed("remove", Sysno::unlinkat, errno)),
            Ok(()) => Ok(()),
        }
    }

    fn remove_directory(&self) -> Result<(), Errno> {
        match unlinkat(&*self.root, self.id.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn read_record(&self) -> Result<Vec<u8>> {
        let file = match openat2(&self.dir, RECORD, how(OFlag::O_RDONLY)) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Err(Life::DoesNotExist.into()),
            Err(errno) => return Err(self.failed("open state.json in", Sysno::openat2, errno)),
        };
        let mut bytes = Vec::with_capacity(4096);
        File::from(file)
            .take(RECORD_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("read state.json in", self.path.display(), Sysno::read, &e))?;
        Ok(bytes)
    }

    fn wrong_format(&self, format: u64) -> Error {
        self.unusable(format!(
            "it has format {format}, this capsid reads format {FORMAT}: another version made it"
        ))
    }

    fn unusable(&self, problem: String) -> Error {
        let way_out = format!(
            "{problem}; remove the container with: capsid delete --force {}",
            self.id
        );
        Error::State {
            file: self.path.join(RECORD),
            problem: way_out,
        }
    }

    fn failed(&self, doing: &str, sysno: Sysno, errno: Errno) -> Error {
        Error::nix(doing, self.path.display(), sysno, errno)
    }
}

impl Slot {
    /// The container that is being created.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The creation succeeded: the directory stays. The lock ends with the returned value.
    pub fn keep(mut self) -> Option<Lock> {
        self.kept = true;
        self.lock.take()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            // The failure that led here is what will be reported.
            let _ = self.container.remove();
        }
    }
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn open_beneath(dir: &OwnedFd, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat2(dir, name, how(flags))
}

/// Empties a directory without following a link or crossing a mount.
fn empty(dir: &OwnedFd, path: &Path, depth: u8) -> Result<()> {
    for name in names(dir)? {
        let path = path.join(&name);
        match unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            Err(Errno::EISDIR | Errno::EPERM) if depth > 0 => {
                // An empty one needs no reading, and may not allow it.
                if unlinkat(dir, name.as_os_str(), UnlinkatFlags::RemoveDir).is_ok() {
                    continue;
                }
            }
            Err(errno) => return Err(Error::nix("remove", path.display(), Sysno::unlinkat, errno)),
        }
        let below = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let inner = openat2(dir, name.as_os_str(), how(flags).resolve(below))
            .map_err(|e| Error::nix("open", path.display(), Sysno::openat2, e))?;
        empty(&inner, &path, depth - 1)?;
        unlinkat(dir, name.as_os_str(), UnlinkatFlags::RemoveDir)
            .map_err(|e| Error::nix("remove", path.display(), Sysno::unlinkat, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
