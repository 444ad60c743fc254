//! Answering the calls that a filter asks about, in the runtime's own process.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::host::program::{Identity, identify};
use crate::seccomp::{Asks, Call, Denials, Judge, Recording};
use crate::sys::notify::{self, Answer, Notification};
use crate::sys::process;

use super::tracer::Tracer;

/// What becomes of the calls that are asked about.
#[derive(Debug)]
pub enum Purpose {
    /// Each is denied as the rules say, and written down for the report.
    Report(Denials),
    /// Each is let through, and written down for a profile.
    Record(Recording),
}

/// Serves a listener.
#[derive(Debug)]
pub struct Supervisor {
    /// What has been written down.
    pub purpose: Purpose,
    judge: Judge,
    listener: Option<OwnedFd>,
    /// The program runs: what is asked about from here on is its own doing.
    begun: bool,
    /// Processes that were killed for what they called.
    killed: BTreeSet<i32>,
}

impl Supervisor {
    /// A supervisor that knows the rules and waits for its listener.
    pub fn new(purpose: Purpose, judge: Judge) -> Self {
        Self {
            purpose,
            judge,
            listener: None,
            begun: false,
            killed: BTreeSet::new(),
        }
    }

    /// What the filter has to ask about.
    pub fn asks(&self) -> Asks {
        match self.purpose {
            Purpose::Report(_) => Asks::AboutDenied,
            Purpose::Record(_) => Asks::AboutAllowed,
        }
    }

    /// Takes the listener over.
    pub fn attach(&mut self, listener: OwnedFd) {
        // Older kernels do not know it, and are slower.
        let _ = notify::take_turns(listener.as_fd());
        self.listener = Some(listener);
    }

    /// The program has been executed. The descriptor becomes readable when
    /// [`serve`](Self::serve) has something to do.
    pub fn begin(&mut self) -> Result<Option<OwnedFd>> {
        self.begun = true;
        let copy = self.listener.as_ref().map(OwnedFd::try_clone).transpose();
        copy.map_err(|error| Error::io("copy", "the seccomp listener", Sysno::fcntl, &error))
    }

    /// Whether a call of this process was answered with its end.
    pub fn has_killed(&self, pid: i32) -> bool {
        self.killed.contains(&pid)
    }

    /// Answers one call; true when nobody is left who could ask.
    pub fn serve(&mut self) -> Result<bool> {
        let Some(listener) = self.listener.take() else {
            return Ok(true);
        };
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::ZERO).is_ok();
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if !ready || !events.contains(PollFlags::POLLIN) {
            let over = events.contains(PollFlags::POLLHUP);
            self.listener = (!over).then_some(listener);
            return Ok(over);
        }
        let outcome = match notify::receive(listener.as_fd()) {
            Ok(asked) => {
                let answer = self.decide(&asked, listener.as_fd());
                notify::answer(listener.as_fd(), asked.id, answer)
            }
            Err(failure) => Err(failure),
        };
        self.listener = Some(listener);
        match outcome {
            // A signal came first, or the process is gone.
            Err(failure) if !failure.is(libc::ENOENT) && !failure.is(libc::EINTR) => {
                Err(Error::system("answer", "a system call", failure))
            }
            _ => Ok(false),
        }
    }

    fn decide(&mut self, asked: &Notification, listener: BorrowedFd<'_>) -> Answer {
        let call = Call {
            arch: asked.arch,
            nr: asked.nr,
            args: asked.args,
        };
        let name = call.name();
        self.begun |= name == Some("execve");
        // Before that, capsid itself reads to wait for this supervisor.
        let own = !self.begun && name == Some("read");
        let denials = match &mut self.purpose {
            Purpose::Record(recording) => {
                if !own {
                    recording.add(&call);
                }
                return Answer::Continue;
            }
            Purpose::Report(denials) => denials,
        };
        let who = identify(asked.pid).filter(|_| notify::still_waits(listener, asked.id));
        let judgement = self.judge.judge(&call);
        if !own {
            let name = who.as_ref().map_or("an unknown program", |who| &who.name);
            denials.add(call, judgement, name.to_owned());
        }
        if let Some(errno) = judgement.errno() {
            return Answer::Errno(errno);
        }
        if let Some(who) = who.filter(|who| kill(who, listener, asked.id)) {
            self.killed.insert(who.process);
        }
        Answer::Errno(libc::EPERM)
    }
}

/// Who looks on while a process is set up.
#[derive(Debug, Default)]
pub struct Watchers<'a> {
    /// Answers calls.
    pub supervisor: Option<&'a mut Supervisor>,
    /// Lets threads go on.
    pub tracer: Option<&'a mut Tracer>,
}

impl Watchers<'_> {
    /// Does what there is to do until something can be read from another descriptor.
    pub fn serve_until(self, other: BorrowedFd<'_>) -> Result<()> {
        let Self {
            mut supervisor,
            mut tracer,
        } = self;
        loop {
            let asked = supervisor.as_ref().and_then(|one| one.listener.as_ref());
            let stopped = tracer.as_ref().map(|tracer| tracer.fd());
            if asked.is_none() && stopped.is_none() {
                return Ok(());
            }
            let others = [asked.map(AsFd::as_fd), stopped];
            let mut fds = vec![PollFd::new(other, PollFlags::POLLIN)];
            fds.extend(
                others
                    .into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            );
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::nix("wait for", "system calls", Sysno::ppoll, errno));
                }
            }
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return Ok(());
            }
            if let Some(tracer) = &mut tracer {
                tracer.serve()?;
            }
            // It looks for itself whether there is a call.
            if let Some(supervisor) = &mut supervisor {
                supervisor.serve()?;
            }
        }
    }
}

/// Ends the process that made a call which the rules answer with its end.
fn kill(who: &Identity, listener: BorrowedFd<'_>, id: u64) -> bool {
    let Ok(pidfd) = process::pidfd_open(who.process) else {
        return false;
    };
    // The number is that of the caller as long as the call waits.
    notify::still_waits(listener, id)
        && process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).is_ok()
}
