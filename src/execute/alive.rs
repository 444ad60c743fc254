//! Whether the first process of a container lives, and signals that reach it
//! and no other.
//!
//! A process id alone is not enough: ids are reused, so a signal meant for a
//! container that died could end a stranger. The start time in the record tells
//! them apart, and a pidfd holds on to the process between check and signal.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use syscalls::Sysno;

use super::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::state::{Container, Record, Status};
use crate::sys;

/// What `/proc/PID/stat` says of a process, as far as capsid asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `D`, `Z` (zombie), `X` (dead), ...
    pub state: u8,
    /// The parent's id.
    pub parent: i32,
    /// When it started, in clock ticks since boot (field 22).
    pub start_time: u64,
}

impl Stat {
    /// Reads one line of `/proc/PID/stat`.
    ///
    /// The second field is the program's name, which the program chooses: it may
    /// contain spaces, parentheses and newlines, so fields are counted from the
    /// last parenthesis.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let name_end = line.iter().rposition(|&b| b == b')')?;
        let rest = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        // Field 3 is the state and 4 the parent; 22 is the 18th after that.
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            start_time,
        })
    }

    /// Reads the process `pid`, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::System`] when procfs cannot be read.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        // 52 numbers and a name of at most 64 bytes.
        let line = start_of(format!("/proc/{pid}/stat"))?;
        Ok(line.and_then(|line| Self::parse(&line)))
    }

    /// Whether it still can do something: neither a zombie nor dead.
    pub fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The first 2048 bytes of a process's file in procfs; `None` if there is no such process.
fn start_of(path: String) -> Result<Option<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = match open(path.as_str(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(Error::nix("open", path, Sysno::openat, errno)),
    };
    let mut start = vec![0; 2048];
    match File::from(file).read(&mut start) {
        Ok(length) => {
            start.truncate(length);
            Ok(Some(start))
        }
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(Error::io("read", path, Sysno::read, &error)),
    }
}

/// The first process of a container, held by a pidfd.
#[derive(Debug)]
pub struct Init {
    pid: i32,
    pidfd: OwnedFd,
}

impl Init {
    /// The first process of `record`, or `None` if it is gone.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn of(record: &Record) -> Result<Option<Self>> {
        Self::open(record.pid, record.start_time)
    }

    /// The process whose namespaces `exec` joins: the first one, or where that
    /// stays as init the program, for the kernel lets nobody but real root look at
    /// a process that hides.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn to_join(record: &Record) -> Result<Option<Self>> {
        let Some(first) = Self::of(record)? else {
            return Ok(None);
        };
        if !record.has_init() {
            return Ok(Some(first));
        }
        // The oldest of its children: orphans are added at the end.
        let children = start_of(format!("/proc/{0}/task/{0}/children", first.pid))?;
        let children = String::from_utf8(children.unwrap_or_default()).unwrap_or_default();
        let program = children.split_ascii_whitespace().next();
        let Some(pid) = program.and_then(|pid| pid.parse().ok()) else {
            return Ok(None);
        };
        let Some(stat) = Stat::of(pid)? else {
            return Ok(None);
        };
        let program = Self::open(pid, stat.start_time)?;
        Ok(program.filter(|_| stat.parent == first.pid))
    }

    /// The process `pid` that started at `start_time`, or `None` if it is gone.
    ///
    /// The pidfd is opened before the start time is compared: once that matches,
    /// the descriptor cannot come to mean another process.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open(pid: i32, start_time: u64) -> Result<Option<Self>> {
        if pid <= 0 {
            return Ok(None);
        }
        let pidfd = match sys::process::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            // EINVAL from kernels before 6.15: the process is gone, its number not yet.
            Err(failure) if failure.is(libc::ESRCH) || failure.is(libc::EINVAL) => return Ok(None),
            Err(failure) => return Err(Error::system("hold on to process", pid, failure)),
        };
        Ok(lives(pid, start_time)?.then_some(Self { pid, pidfd }))
    }

    /// The descriptor that means this process and no other.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The same, for keeps.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Sends a signal; `false` if the process ended meanwhile.
    ///
    /// # Errors
    /// [`Error::System`], with EPERM for a process of another user.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        match sys::process::pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(failure) if failure.is(libc::ESRCH) => Ok(false),
            Err(failure) => {
                let doing = format!("send signal {signal} to process");
                Err(Error::system(doing, self.pid, failure))
            }
        }
    }

    /// Waits until the process has ended, at most so long; whether it has.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn wait_end(&self, patience: Duration) -> Result<bool> {
        let milliseconds = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        sys::process::wait_readable(self.pidfd.as_fd(), Some(milliseconds))
            .map_err(|failure| Error::system("wait for the end of process", self.pid, failure))
    }
}

/// Whether the process `pid` that started at `start_time` lives.
fn lives(pid: i32, start_time: u64) -> Result<bool> {
    let stat = Stat::of(pid)?;
    Ok(stat.is_some_and(|stat| stat.lives() && stat.start_time == start_time))
}

/// Where a container is in its life, from what is there now.
///
/// # Errors
/// [`Error::System`] when procfs or the cgroup cannot be read.
pub fn status(container: &Container, record: &Record) -> Result<Status> {
    if record.pid <= 0 {
        // Whoever creates it holds the lock; without one the creation was interrupted.
        let creating = container.is_locked();
        return Ok(if creating {
            Status::Creating
        } else {
            Status::Stopped
        });
    }
    if !lives(record.pid, record.start_time)? {
        return Ok(Status::Stopped);
    }
    if container.is_pending() {
        return Ok(Status::Creating);
    }
    if let Some(cgroup) = Cgroup::of(record)?
        && cgroup.is_frozen()?
    {
        return Ok(Status::Paused);
    }
    Ok(if container.awaits_start() {
        Status::Created
    } else {
        Status::Running
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 7 3 4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 123 45";

    #[test]
    fn the_name_may_contain_anything() {
        let expected = Stat {
            state: b'S',
            parent: 7,
            start_time: 987_654,
        };
        for name in ["sh", "a b", "x) Z 1 (", ")", "", "\n) R 1", "((("] {
            let line = format!("42 ({name}) {TAIL}\n");
            assert_eq!(Stat::parse(line.as_bytes()), Some(expected), "{name:?}");
        }
        let mut line = b"42 (\xff\xfe) ".to_vec();
        line.extend_from_slice(TAIL.as_bytes());
        assert_eq!(Stat::parse(&line), Some(expected));
    }

    #[test]
    fn cut_lines_are_refused() {
        for line in [
            "",
            "42",
            "42 (sh",
            "42 (sh)",
            "42 (sh) S",
            "42 (sh) S 7 3 4",
            "42 (sh) S x",
        ] {
            assert_eq!(Stat::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn this_process_lives_and_a_zombie_does_not() {
        let own = Stat::of(sys::process::id()).unwrap().unwrap();
        assert!(own.lives());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while Stat::of(pid).unwrap().unwrap().lives() {
            assert!(std::time::Instant::now() < end, "true did not end");
        }
        child.wait().unwrap();
        assert_eq!(Stat::of(pid).unwrap(), None);
    }
}
