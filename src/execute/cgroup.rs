//! A container's cgroup: frozen, killed, listed, removed. `make` makes it.
//!
//! Every file is opened below the cgroup's own descriptor, which was checked to
//! be on cgroup2: a path that has come to lead elsewhere reaches nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::state::{Record, names};
use crate::sys;

mod handing_down;
mod limits;
mod make;
mod owner;
mod update;
mod watch;

pub use handing_down::{not_handed_down, not_listed};
pub use make::{LeftOut, Made, adopt, make, refuse_populated};
pub use update::update;
pub use watch::{MemoryEvents, Woken};

/// How long a freeze may take: a process in an uninterruptible wait holds it up.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a killed cgroup may take to become empty and removable.
const REMOVE_PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup directory that is open.
#[derive(Debug)]
pub struct Cgroup {
    dir: OwnedFd,
    path: PathBuf,
}

impl Cgroup {
    /// Opens the cgroup of a container; `None` if it has none or no more.
    ///
    /// # Errors
    /// [`Error::System`]; [`Error::Missing`] if the directory is not a cgroup.
    pub fn of(record: &Record) -> Result<Option<Self>> {
        match &record.cgroup {
            Some(cgroup) => Self::open(&cgroup.path),
            None => Ok(None),
        }
    }

    /// Opens the cgroup at an absolute path; `None` if there is none.
    ///
    /// # Errors
    /// As [`Cgroup::of`].
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(AT_FDCWD, path, how) {
            Ok(dir) => Self::from_dir(dir, path.to_owned()).map(Some),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(Error::nix(
                "open the cgroup",
                path.display(),
                Sysno::openat2,
                errno,
            )),
        }
    }

    fn from_dir(dir: OwnedFd, path: PathBuf) -> Result<Self> {
        match fstatfs(&dir).map(|fs| fs.filesystem_type()) {
            Ok(CGROUP2_SUPER_MAGIC) => Ok(Self { dir, path }),
            Ok(_) => Err(Error::Missing {
                doing: format!("use the cgroup {}", path.display()),
                missing: "the directory is not on a cgroup2 file system".into(),
                repair: "mount cgroup2 there again, as it was when the container was created"
                    .into(),
            }),
            Err(errno) => Err(Error::nix("examine", path.display(), Sysno::fstatfs, errno)),
        }
    }

    /// The directory, `O_PATH`: what `CLONE_INTO_CGROUP` takes.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was frozen by `pause`. A frozen ancestor does not count: `resume` could not undo that.
    ///
    /// # Errors
    /// [`Error::System`]; a cgroup that is being removed is not frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.read("cgroup.freeze") {
            Ok(content) => Ok(content.trim() == "1"),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(self.failed("read", "cgroup.freeze", Sysno::read, errno)),
        }
    }

    /// Freezes or thaws all processes in it, and below it; a freeze is waited for.
    ///
    /// # Errors
    /// [`Error::System`]; [`Error::Missing`] after ten seconds, with everything thawed again.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.write("cgroup.freeze", value)
            .map_err(|e| self.failed("write to", "cgroup.freeze", Sysno::write, e))?;
        // A thaw that an ancestor's freeze withholds would never be reported.
        if !on || self.wait_frozen()? {
            return Ok(());
        }
        // Half frozen is worse than running; the timeout is what gets reported.
        let _ = self.write("cgroup.freeze", "0");
        Err(Error::Missing {
            doing: format!("freeze the cgroup {}", self.path.display()),
            missing: format!(
                "timeout of {} s reached waiting for the cgroup to freeze",
                FREEZE_PATIENCE.as_secs()
            ),
            repair: "a process in state D (ps -o pid,stat,wchan) holds it up: try again when that has ended".into(),
        })
    }

    /// Waits until it and all below it is frozen: the kernel says so of a cgroup
    /// with processes of its own before it is true of those below.
    fn wait_frozen(&self) -> Result<bool> {
        let start = Instant::now();
        if !self.wait_event("frozen", true, FREEZE_PATIENCE)? {
            return Ok(false);
        }
        for below in self.tree()?.into_iter().skip(1) {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let level = match self.open_file(&below, flags) {
                Ok(dir) => Self::from_dir(dir, self.path.join(&below))?,
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                Err(errno) => return Err(self.failed("open", &below, Sysno::openat2, errno)),
            };
            let left = FREEZE_PATIENCE.saturating_sub(start.elapsed());
            if !level.wait_event("frozen", true, left)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What one of its files holds; `None` if the kernel has no such file here, or
    /// the cgroup is gone.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn content(&self, file: &str) -> Result<Option<String>> {
        match self.read(file) {
            Ok(content) => Ok(Some(content)),
            // What the kernel was booted without says EOPNOTSUPP (pressure).
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.failed("read", file, Sysno::read, errno)),
        }
    }

    /// Sends SIGKILL to every process in it and below it, also to those that fork meanwhile.
    ///
    /// # Errors
    /// [`Error::System`]. That it is gone already is no failure.
    pub fn kill(&self) -> Result<()> {
        match self.write("cgroup.kill", "1") {
            Ok(()) | Err(Errno::ENODEV) => Ok(()),
            // Not in a threaded cgroup, and not before Linux 5.14.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => self.kill_one_by_one(),
            Err(errno) => Err(self.failed("write to", "cgroup.kill", Sysno::write, errno)),
        }
    }

    /// Frozen first, so that nothing forks while the list is walked; SIGKILL
    /// ends frozen processes too.
    fn kill_one_by_one(&self) -> Result<()> {
        let was_frozen = self.is_frozen()?;
        if !was_frozen {
            // Best effort: without it there may be stragglers, which the next round finds.
            let _ = self.write("cgroup.freeze", "1");
        }
        for _ in 0..64 {
            let pids = self.pids()?;
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                match sys::process::kill(pid, Signal::SIGKILL as i32) {
                    Ok(()) => {}
                    Err(failure) if failure.is(libc::ESRCH) => {}
                    Err(failure) => {
                        return Err(Error::system("send SIGKILL to process", pid, failure));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if !was_frozen {
            let _ = self.write("cgroup.freeze", "0");
        }
        Ok(())
    }

    /// The processes in it and below it, as the runtime's pid namespace numbers them, sorted.
    ///
    /// # Errors
    /// [`Error::System`]; an empty list for a cgroup that is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for below in self.tree()? {
            let file = below.join("cgroup.procs");
            let content = match self.read(&file) {
                Ok(content) => content,
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                // A threaded cgroup: its processes are listed by the one above it.
                Err(Errno::EOPNOTSUPP) => continue,
                Err(errno) => return Err(self.failed("read", &file, Sysno::read, errno)),
            };
            // 0 stands for a process outside the runtime's pid namespace.
            pids.extend(
                content
                    .lines()
                    .filter_map(|l| l.parse::<i32>().ok())
                    .filter(|p| *p > 0),
            );
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether a process is in it or below it.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn is_populated(&self) -> Result<bool> {
        match self.read("cgroup.events") {
            Ok(events) => Ok(event(&events, "populated") == Some(true)),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(self.failed("read", "cgroup.events", Sysno::read, errno)),
        }
    }

    /// Removes it with all that a container made below it. Its processes must
    /// have been killed; those that are still ending are waited for.
    ///
    /// # Errors
    /// [`Error::System`] with EBUSY when it is not empty after ten seconds.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_PATIENCE;
        let mut pause = Duration::from_micros(100);
        loop {
            let errno = match remove_at(AT_FDCWD, &self.path) {
                Ok(()) => return Ok(()),
                Err(errno @ (Errno::EBUSY | Errno::ENOTEMPTY)) => errno,
                Err(errno) => {
                    let path = self.path.display();
                    return Err(Error::nix(
                        "remove the cgroup",
                        path,
                        Sysno::unlinkat,
                        errno,
                    ));
                }
            };
            self.remove_below()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let path = self.path.display();
                return Err(Error::nix(
                    "remove the cgroup",
                    path,
                    Sysno::unlinkat,
                    errno,
                ));
            }
            // Empty already: then only the kernel's own release is awaited.
            if self.wait_event("populated", false, left)? {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }

    /// Deepest first. What is still busy is tried again in the next round.
    fn remove_below(&self) -> Result<()> {
        for below in self.tree()?.into_iter().skip(1).rev() {
            match remove_at(&self.dir, &below) {
                Ok(()) | Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
                Err(errno) => {
                    let path = self.path.join(&below);
                    return Err(Error::nix(
                        "remove the cgroup",
                        path.display(),
                        Sysno::unlinkat,
                        errno,
                    ));
                }
            }
        }
        Ok(())
    }

    /// The relative paths of this cgroup (`""`) and of all below it, parents first.
    fn tree(&self) -> Result<Vec<PathBuf>> {
        let mut tree = vec![PathBuf::new()];
        let mut next = 0;
        while let Some(below) = tree.get(next).cloned() {
            next += 1;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let dir = match self.open_file(if next == 1 { Path::new(".") } else { &below }, flags) {
                Ok(dir) => dir,
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                Err(errno) => return Err(self.failed("open", &below, Sysno::openat2, errno)),
            };
            for name in names(&dir)? {
                // All files have a controller's or `cgroup`'s prefix, and so may
                // a directory: only opening it as one tells for certain.
                let path = below.join(&name);
                if is_file_name(&name) && self.open_file(&path, flags | OFlag::O_PATH).is_err() {
                    continue;
                }
                tree.push(path);
            }
        }
        Ok(tree)
    }

    /// Waits until an event of `cgroup.events` has this value; `false` after `patience`.
    fn wait_event(&self, name: &str, value: bool, patience: Duration) -> Result<bool> {
        let failed = |errno| self.failed("read", "cgroup.events", Sysno::read, errno);
        let deadline = Instant::now() + patience;
        loop {
            // Opened anew each time: the poll below reports changes since the last read.
            let file = match self.open_file("cgroup.events", OFlag::O_RDONLY) {
                Ok(file) => file,
                // A cgroup that is gone is neither populated nor frozen.
                Err(Errno::ENOENT | Errno::ENODEV) => return Ok(!value),
                Err(errno) => return Err(failed(errno)),
            };
            let mut file = File::from(file);
            let content = match read_all(&mut file) {
                Ok(content) => content,
                Err(Errno::ENODEV) => return Ok(!value),
                Err(errno) => return Err(failed(errno)),
            };
            if event(&content, name) == Some(value) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // In slices: a missed wake-up then costs a moment and not the whole time.
            let slice = left.min(Duration::from_millis(100));
            let milliseconds = u16::try_from(slice.as_millis()).unwrap_or(100).max(1);
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            match poll(&mut fds, PollTimeout::from(milliseconds)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(self.failed("poll", "cgroup.events", Sysno::ppoll, errno));
                }
            }
        }
    }

    fn open_file(&self, name: impl AsRef<Path>, flags: OFlag) -> Result<OwnedFd, Errno> {
        let below = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(below);
        openat2(&self.dir, name.as_ref(), how)
    }

    fn read(&self, name: impl AsRef<Path>) -> Result<String, Errno> {
        read_all(&mut File::from(self.open_file(name, OFlag::O_RDONLY)?))
    }

    fn write(&self, name: impl AsRef<Path>, value: &str) -> Result<(), Errno> {
        // One write per value: the kernel takes each write as a whole.
        let mut file = File::from(self.open_file(name, OFlag::O_WRONLY)?);
        file.write(value.as_bytes())
            .map(drop)
            .map_err(|e| errno_of(&e))
    }

    fn failed(&self, doing: &str, name: impl AsRef<Path>, sysno: Sysno, errno: Errno) -> Error {
        let path = self.path.join(name);
        Error::system(doing, path.display(), Failure::of(sysno, errno as i32))
    }
}

/// Removes a directory; that it is gone is what was wanted.
fn remove_at(dir: impl AsFd, path: &Path) -> Result<(), Errno> {
    match unlinkat(dir, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether a name looks like a file that the kernel puts in every cgroup directory.
fn is_file_name(name: &OsStr) -> bool {
    name.as_bytes().contains(&b'.')
}

/// One value of a file like `cgroup.events`: lines of a name and 0 or 1.
fn event(content: &str, name: &str) -> Option<bool> {
    content.lines().find_map(|line| match line.split_once(' ') {
        Some((key, value)) if key == name => Some(value == "1"),
        _ => None,
    })
}

fn read_all(file: &mut File) -> Result<String, Errno> {
    let mut content = String::new();
    file.read_to_string(&mut content)
        .map_err(|e| errno_of(&e))?;
    Ok(content)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests;
