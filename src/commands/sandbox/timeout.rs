//! Ending a sandbox that takes too long.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::execute::foreground::Watch;
use crate::sys::process;

/// What a program has to end by itself once it was told.
const GRACE: Duration = Duration::from_secs(5);

/// The exit code after it: that of timeout(1).
pub(super) const CODE: u8 = 124;

/// Tells a process to end after some time, and ends it a little later.
pub(super) struct Timeout {
    timer: TimerFd,
    pidfd: OwnedFd,
    told: Cell<bool>,
}

impl Timeout {
    pub(super) fn of(pidfd: &OwnedFd, time: Duration) -> Result<Self> {
        let failed = |errno| Error::nix("set", "the timer", Sysno::timerfd_settime, errno);
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(failed)?;
        let pidfd = pidfd.try_clone();
        let timeout = Self {
            timer,
            pidfd: pidfd.map_err(|error| Error::io("copy", "a pidfd", Sysno::fcntl, &error))?,
            told: Cell::new(false),
        };
        timeout.arm(time)?;
        Ok(timeout)
    }

    fn arm(&self, time: Duration) -> Result<()> {
        // Zero would switch the timer off.
        let time = TimeSpec::from(time.max(Duration::from_nanos(1)));
        let once = Expiration::OneShot(time);
        let set = self.timer.set(once, TimerSetTimeFlags::empty());
        set.map_err(|errno| Error::nix("set", "the timer", Sysno::timerfd_settime, errno))
    }

    /// What to watch while the program runs.
    pub(super) fn watch(&self) -> Watch<'_> {
        Watch {
            fd: self.timer.as_fd(),
            act: Box::new(|| self.act()),
        }
    }

    /// Whether the time was over before the program was.
    pub(super) fn is_over(&self) -> bool {
        self.told.get()
    }

    fn act(&self) -> Result<bool> {
        let second = self.told.replace(true);
        let signal = if second { libc::SIGKILL } else { libc::SIGTERM };
        // Whoever has ended needs no signal.
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), signal);
        if !second {
            self.arm(GRACE)?;
        }
        Ok(second)
    }
}
