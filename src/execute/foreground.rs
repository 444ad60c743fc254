//! Standing in for the program in the foreground: signals go in, its output and
//! its exit status come out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::sys::{process, signal};

use super::tracer::Tracer;

/// Gives the container's terminal the size of the caller's, if that has one.
pub fn take_callers_size(master: BorrowedFd<'_>) {
    if let Ok((rows, columns)) = process::terminal_size(std::io::stdin().as_fd())
        && rows > 0
    {
        // A terminal of the wrong size is still a terminal.
        let _ = process::set_terminal_size(master, rows, columns);
    }
}

/// Signals held back from before the clone, so that none gets lost in between.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks every signal that can be passed on, and takes them from a descriptor.
    pub fn hold() -> Result<Self> {
        let mut set = SigSet::all();
        // What the program's own faults raise is not for others.
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
        ] {
            set.remove(fault);
        }
        let failed = |errno| Error::nix("hold back", "signals", Sysno::rt_sigprocmask, errno);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { fd })
    }
}

/// Something else to act on while the program runs.
pub struct Watch<'a> {
    /// Readable when there is something to do.
    pub fd: BorrowedFd<'a>,
    /// Does it; true when there will be nothing more.
    pub act: Box<dyn FnMut() -> Result<bool> + 'a>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exit(u8),
    /// By the signal of this number.
    Signal(u8),
}

impl Ended {
    /// What a wait status says; `None` if the process has only stopped.
    fn of_status(status: i32) -> Option<Self> {
        let low = |value: i32| u8::try_from(value).unwrap_or(u8::MAX);
        match status & 0x7f {
            0x7f => None,
            0 => Some(Ended::Exit(low(status >> 8 & 0xff))),
            number => Some(Ended::Signal(low(number))),
        }
    }

    /// The same where an init stood in between: process 1 of a pid namespace
    /// cannot end by a signal and says it as a shell does.
    #[must_use]
    pub fn said_by_init(self) -> Self {
        match self {
            Ended::Exit(status @ 129..=192) => Ended::Signal(status - 128),
            other => other,
        }
    }

    /// What a shell says of it: the status, or 128 and the number of the signal.
    pub fn status(self) -> u8 {
        match self {
            Ended::Exit(status) => status,
            Ended::Signal(number) => 128 + number,
        }
    }
}

/// The process to wait for.
pub struct Attended<'a> {
    /// Its number.
    pub pid: i32,
    /// The same, beyond reuse of the number.
    pub pidfd: BorrowedFd<'a>,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
    /// Who traces it.
    pub tracer: Option<&'a mut Tracer>,
}

/// Waits for the end of the process.
pub fn attend(
    signals: &Signals,
    process: Attended<'_>,
    mut watches: Vec<Watch<'_>>,
) -> Result<Ended> {
    let Attended {
        pid,
        pidfd,
        console,
        tracer,
    } = process;
    let mut relay = console.map(Relay::new);
    // A tracer has taken SIGCHLD itself until now.
    let mut children = Children {
        pid,
        pending: tracer.is_some(),
        tracer,
    };
    let ended = loop {
        let timeout = match children.pending {
            true => PollTimeout::ZERO,
            false => PollTimeout::NONE,
        };
        let due = wait_for_something(signals, relay.as_ref(), &watches, timeout)?;
        for place in (0..watches.len()).rev() {
            if due[place] && (watches[place].act)()? {
                watches.remove(place);
            }
        }
        if let Some(relay) = &mut relay {
            relay.pump();
        }
        take_signals(signals, &mut children, pidfd, relay.as_ref());
        if let Some(ended) = children.reap()? {
            break ended;
        }
    };
    if let Some(relay) = &mut relay {
        relay.drain();
    }
    Ok(ended)
}

/// Waits; which of the watches have something to do.
fn wait_for_something(
    signals: &Signals,
    relay: Option<&Relay>,
    watches: &[Watch<'_>],
    timeout: PollTimeout,
) -> Result<Vec<bool>> {
    let mut fds = vec![PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
    fds.extend(
        watches
            .iter()
            .map(|watch| PollFd::new(watch.fd, PollFlags::POLLIN)),
    );
    if let Some(relay) = relay {
        if relay.master_open {
            fds.push(PollFd::new(relay.master.as_fd(), PollFlags::POLLIN));
        }
        if let Some(input) = &relay.input {
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
    }
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(vec![false; watches.len()]),
        Err(errno) => return Err(Error::nix("wait for", "signals", Sysno::ppoll, errno)),
    }
    let due = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    Ok(fds[1..=watches.len()].iter().map(due).collect())
}

/// Passes on what came.
fn take_signals(
    signals: &Signals,
    children: &mut Children<'_>,
    pidfd: BorrowedFd<'_>,
    relay: Option<&Relay>,
) {
    while let Ok(Some(info)) = signals.fd.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => children.pending = true,
            Ok(Signal::SIGWINCH) => {
                if let Some(relay) = relay {
                    relay.resize();
                }
            }
            // Whatever the number: also real-time signals, which have no name.
            _ => drop(process::pidfd_send_signal(pidfd, number)),
        }
    }
}

/// Who is to be waited for: as subreaper the runtime inherits the container's
/// orphans, and as tracer it hears of all that stop.
struct Children<'a> {
    /// The program, or its init.
    pid: i32,
    tracer: Option<&'a mut Tracer>,
    /// There may be a status to take.
    pending: bool,
}

impl Children<'_> {
    /// Takes the status of every child that has ended, and lets traced threads go
    /// on; how the program ended, once it has.
    fn reap(&mut self) -> Result<Option<Ended>> {
        /// Threads that stop without end must not keep signals and output waiting.
        const AT_ONCE: usize = 64;
        let mut ended = None;
        if !self.pending {
            return Ok(ended);
        }
        for _ in 0..AT_ONCE {
            let failed = |failure| Error::system("wait for process", self.pid, failure);
            let next = match signal::wait_any(libc::WNOHANG) {
                Err(failure) if failure.is(libc::EINTR) => continue,
                other => other.map_err(failed)?,
            };
            let Some((pid, status)) = next else {
                self.pending = false;
                break;
            };
            if let Some(tracer) = &mut self.tracer {
                tracer.changed(pid, status);
            }
            if pid == self.pid {
                ended = Ended::of_status(status).or(ended);
            }
        }
        Ok(ended)
    }
}

/// The caller's terminal in front of the container's.
struct Relay {
    master: File,
    /// Standard input, until its end.
    input: Option<File>,
    /// The caller's terminal settings, to be put back.
    before: Option<Termios>,
    master_open: bool,
}

impl Relay {
    fn new(master: OwnedFd) -> Self {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok();
        if let Some(settings) = &before {
            let mut raw = settings.clone();
            termios::cfmakeraw(&mut raw);
            // Not being able to is no reason not to run: lines come one by one then.
            let _ = termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw);
        }
        // Without standard input there is nothing to pass on, and that is all.
        let input = stdin.as_fd().try_clone_to_owned().ok().map(File::from);
        Self {
            master: File::from(master),
            input,
            before,
            master_open: true,
        }
    }

    fn resize(&self) {
        take_callers_size(self.master.as_fd());
    }

    fn pump(&mut self) {
        if self.master_open && ready(self.master.as_fd()) {
            self.master_open = copy(&mut self.master, &mut std::io::stdout());
        }
        if let Some(input) = &mut self.input
            && ready(input.as_fd())
            && !copy(input, &mut self.master)
        {
            self.input = None;
        }
    }

    /// What the program wrote before it ended.
    fn drain(&mut self) {
        while self.master_open && ready(self.master.as_fd()) {
            self.master_open = copy(&mut self.master, &mut std::io::stdout());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn ready(fd: BorrowedFd<'_>) -> bool {
    process::wait_readable(fd, Some(0)).unwrap_or(false)
}

/// Copies what is there; false at the end of the source, or when the other side is gone.
fn copy(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut buffer = [0u8; 4096];
    match from.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => to
            .write_all(&buffer[..length])
            .and_then(|()| to.flush())
            .is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
    }
}
