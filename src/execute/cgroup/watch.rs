//! Waiting for memory to run out in a cgroup, or for its end.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syscalls::Sysno;

use super::{Cgroup, read_all};
use crate::error::Result;

/// `memory.events`, open: the kernel reports changes since it was last read.
#[derive(Debug)]
pub struct MemoryEvents(File);

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time is over.
    Nothing,
    /// A number in `memory.events` has changed.
    Memory,
    /// The process has ended, or the cgroup is gone.
    Ended,
}

impl Cgroup {
    /// Opens `memory.events`; `None` without the controller, or when the cgroup is gone.
    ///
    /// # Errors
    /// [`Error::System`](crate::error::Error::System).
    pub fn watch_memory(&self) -> Result<Option<MemoryEvents>> {
        match self.open_file("memory.events", OFlag::O_RDONLY) {
            Ok(file) => {
                let mut file = File::from(file);
                // Unread, the file counts as unchanged or changed at random.
                match read_all(&mut file) {
                    Ok(_) => Ok(Some(MemoryEvents(file))),
                    Err(Errno::ENODEV) => Ok(None),
                    Err(errno) => Err(self.failed("read", "memory.events", Sysno::read, errno)),
                }
            }
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(self.failed("open", "memory.events", Sysno::openat2, errno)),
        }
    }

    /// Waits for a change of `memory.events` or the end of a process, at most so long.
    ///
    /// # Errors
    /// [`Error::System`](crate::error::Error::System).
    pub fn wait_memory(
        &self,
        events: Option<&MemoryEvents>,
        process: BorrowedFd<'_>,
        patience: Duration,
    ) -> Result<Woken> {
        // Rounded up, or the last millisecond would be waited for in a busy loop.
        let milliseconds = i32::try_from(patience.as_millis().saturating_add(1));
        let timeout = PollTimeout::try_from(milliseconds.unwrap_or(i32::MAX));
        let mut fds = vec![PollFd::new(process, PollFlags::POLLIN)];
        if let Some(events) = events {
            fds.push(PollFd::new(events.0.as_fd(), PollFlags::POLLPRI));
        }
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(self.failed("poll", "memory.events", Sysno::ppoll, errno)),
        }
        let has = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        if fds.first().is_some_and(has) {
            return Ok(Woken::Ended);
        }
        let Some(events) = events.filter(|_| fds.get(1).is_some_and(has)) else {
            return Ok(Woken::Nothing);
        };
        // Read, so that the next wait is for the next change.
        match events.read_again() {
            Ok(()) => Ok(Woken::Memory),
            Err(Errno::ENODEV) => Ok(Woken::Ended),
            Err(errno) => Err(self.failed("read", "memory.events", Sysno::read, errno)),
        }
    }
}

impl MemoryEvents {
    fn read_again(&self) -> Result<(), Errno> {
        let mut buffer = [0; 1024];
        nix::sys::uio::pread(&self.0, &mut buffer, 0).map(drop)
    }
}
