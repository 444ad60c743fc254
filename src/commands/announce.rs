//! Telling whoever asked for it what was made: pid file, pidfd, terminal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::SECCOMP_FD_NAME;
use serde_json::{Value, json};

use super::{hooks, pid_file};
use crate::error::{Error, Result};
use crate::execute::parent::Launched;
use crate::execute::{console, foreground};
use crate::state::Record;
use crate::sys;

/// Who is to be told what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announce<'a> {
    /// `--console-socket`.
    pub(super) console_socket: Option<&'a Path>,
    /// `--pidfd-socket`.
    pub(super) pidfd_socket: Option<&'a Path>,
    /// `--pid-file`.
    pub(super) pid_file: Option<&'a Path>,
    /// What the pidfd is of: runc's words `standard` and `setns`.
    pub(super) kind: &'static str,
}

impl Announce<'_> {
    /// Hands the terminal on, or gives it back for the foreground, with the caller's size.
    pub(super) fn console(&self, master: OwnedFd) -> Result<Option<OwnedFd>> {
        match self.console_socket {
            Some(socket) => {
                console::send_to(socket, master.as_fd(), "/dev/pts/ptmx").map(|()| None)
            }
            None => {
                foreground::take_callers_size(master.as_fd());
                Ok(Some(master))
            }
        }
    }

    /// Tells of the process. One that nobody was told of would never be
    /// waited for, so a failure ends it.
    pub(super) fn process(&self, launched: &Launched) -> Result<()> {
        let told = self.tell(launched);
        if told.is_err() {
            let _ = sys::process::pidfd_send_signal(launched.pidfd.as_fd(), libc::SIGKILL);
            let _ = sys::process::wait(launched.pid, 0);
        }
        told
    }

    fn tell(&self, launched: &Launched) -> Result<()> {
        if let Some(socket) = self.pidfd_socket {
            console::send_to(socket, launched.pidfd.as_fd(), self.kind)?;
        }
        match self.pid_file {
            Some(path) => pid_file::write(path, launched.pid),
            None => Ok(()),
        }
    }
}

/// Sends the listener of a process's filter to the supervisor that the profile
/// names, with the container process state of the runtime specification.
pub(super) fn listener(record: &Record, status: &str, pid: i32, listener: &OwnedFd) -> Result<()> {
    let profile = record.filter.bundle();
    let Some(socket) = profile.and_then(|profile| profile.listener_path().as_deref()) else {
        return Err(Error::Missing {
            doing: "hand on the listener of the seccomp filter".into(),
            missing: "the profile names no supervisor".into(),
            repair: "set linux.seccomp.listenerPath".into(),
        });
    };
    let state = hooks::state_of(record, status, record.pid);
    let mut message = json!({
        "ociVersion": record.oci_version,
        "fds": [SECCOMP_FD_NAME],
        "pid": pid,
        // It was JSON a moment ago.
        "state": serde_json::from_slice::<Value>(&state).unwrap_or_default(),
    });
    if let Some(metadata) = profile.and_then(|profile| profile.listener_metadata().as_ref()) {
        message["metadata"] = json!(metadata);
    }
    console::send_to(socket, listener.as_fd(), &message.to_string())
}

/// runc's rule and words: a terminal that outlives the caller needs someone to take it.
pub(super) fn check_terminal(terminal: bool, detach: bool, socket: Option<&Path>) -> Result<()> {
    let usage = |text: &str| Err(Error::Usage(text.into()));
    match (terminal && detach, socket) {
        (true, None) => {
            usage("cannot allocate tty if the runtime will detach without setting console socket")
        }
        (false, Some(_)) => {
            usage("cannot use console socket if the runtime will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}
