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
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::sys::process;

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

/// Waits for the end of the process.
pub fn attend(
    signals: &Signals,
    pid: i32,
    pidfd: BorrowedFd<'_>,
    console: Option<OwnedFd>,
    mut watches: Vec<Watch<'_>>,
) -> Result<Ended> {
    let mut relay = console.map(Relay::new);
    let ended = loop {
        wait_for_something(signals, relay.as_ref(), &watches)?;
        for place in (0..watches.len()).rev() {
            let watch = &mut watches[place];
            if ready(watch.fd) && (watch.act)()? {
                watches.remove(place);
            }
        }
        if let Some(relay) = &mut relay {
            relay.pump();
        }
        if let Some(ended) = take_signals(signals, pid, pidfd, relay.as_ref())? {
            break ended;
        }
    };
    if let Some(relay) = &mut relay {
        relay.drain();
    }
    Ok(ended)
}

fn wait_for_something(
    signals: &Signals,
    relay: Option<&Relay>,
    watches: &[Watch<'_>],
) -> Result<()> {
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
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::nix("wait for", "signals", Sysno::ppoll, errno)),
    }
}

/// Passes on what came; how the program ended, once it has.
fn take_signals(
    signals: &Signals,
    pid: i32,
    pidfd: BorrowedFd<'_>,
    relay: Option<&Relay>,
) -> Result<Option<Ended>> {
    let mut ended = None;
    while let Ok(Some(info)) = signals.fd.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => ended = reap(pid)?.or(ended),
            Ok(Signal::SIGWINCH) => {
                if let Some(relay) = relay {
                    relay.resize();
                }
            }
            // Whatever the number: also real-time signals, which have no name.
            _ => drop(process::pidfd_send_signal(pidfd, number)),
        }
    }
    Ok(ended)
}

/// Takes the status of every child that has ended: as subreaper the runtime
/// inherits the container's orphans.
fn reap(pid: i32) -> Result<Option<Ended>> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(child, code)) if child == Pid::from_raw(pid) => {
                let status = u8::try_from(code & 0xff).unwrap_or(u8::MAX);
                ended = Some(Ended::Exit(status));
            }
            Ok(WaitStatus::Signaled(child, signal, _)) if child == Pid::from_raw(pid) => {
                let number = u8::try_from(signal as i32).unwrap_or(0);
                ended = Some(Ended::Signal(number));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::nix("wait for process", pid, Sysno::wait4, errno)),
        }
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
