//! pasta(1): the way from a container's network namespace to the host's network,
//! as ordinary connections of the caller.
//!
//! It is started while the first process waits for its id maps: later that
//! process is closed to other processes of the user, and its namespaces with it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use syscalls::Sysno;

use super::hooks;
use crate::error::{Error, Result};
use crate::host::id_programs;
use crate::sys::spawn;

/// How long it may take to set the network up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pipe in which it says that it is ready.
const READY: &str = "pasta";

/// What passes through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Ports of the host's loopback that loopback inside leads to.
    pub out: Vec<u16>,
    /// Ports inside that the host's loopback leads to.
    pub into: Vec<u16>,
    /// The address inside at which the host's resolver answers.
    pub resolver: Option<&'static str>,
}

/// A pasta that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Pasta {
    child: Child,
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // It may have ended by itself, with the namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it is installed.
///
/// # Errors
/// [`Error::Missing`].
pub fn program() -> Result<PathBuf> {
    id_programs::find("pasta").ok_or_else(|| Error::Missing {
        doing: "attach the network".into(),
        missing: "pasta is not installed".into(),
        repair: "apt install passt; or give --net none or --net host".into(),
    })
}

impl Passage {
    /// Attaches it to the network namespace of a process, and waits until the
    /// network is there. `directory` is the container's own, open and by name.
    ///
    /// # Errors
    /// [`Error::Missing`] with pasta's own words.
    pub fn attach(&self, pid: i32, directory: (BorrowedFd<'_>, &Path)) -> Result<Pasta> {
        // It writes its number when it is ready; a named pipe can be waited for.
        let (within, ready) = (directory.0, directory.1.join(READY));
        let failed = |sysno| move |errno| Error::nix("make", READY, sysno, errno);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknodat(within, READY, SFlag::S_IFIFO, mode, 0).map_err(failed(Sysno::mknodat))?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let reader = openat(within, READY, flags, Mode::empty());
        let reader = File::from(reader.map_err(failed(Sysno::openat))?);
        let mut words = hooks::memory_file("the words of pasta")?;
        let mut command = Command::new(program()?);
        command.args(self.arguments(pid));
        command.arg("--pid").arg(&ready).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let io = |error| Error::io("start", "pasta", Sysno::execve, &error);
        command.stderr(words.try_clone().map_err(io)?);
        // Ctrl-C is for the program inside, which may go on.
        command.process_group(0);
        spawn::end_with_parent(&mut command);
        let mut pasta = Pasta {
            child: command.spawn().map_err(io)?,
        };
        let outcome = pasta.wait_ready(reader);
        // It goes with the directory in any case.
        let _ = unlinkat(within, READY, UnlinkatFlags::NoRemoveDir);
        match outcome {
            Ok(None) => Ok(pasta),
            Ok(Some(how)) => Err(Error::Missing {
                doing: "attach the network with pasta".into(),
                missing: hooks::with_output(&how, &mut words),
                repair: "see what it says; --net none and --net host do without it".into(),
            }),
            Err(error) => Err(Error::io("wait for", "pasta", Sysno::ppoll, &error)),
        }
    }

    fn arguments(&self, pid: i32) -> Vec<String> {
        let mut arguments: Vec<String> = ["--foreground", "--quiet", "--config-net"]
            .map(String::from)
            .into();
        // The gateway's address would lead to the host's own loopback.
        arguments.push("--no-map-gw".into());
        let mut pair = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        pair("--tcp-ports", list(&self.into, "127.0.0.1/"));
        pair("--tcp-ns", list(&self.out, ""));
        pair("--udp-ports", "none".into());
        pair("--udp-ns", "none".into());
        if let Some(address) = self.resolver {
            pair("--dns-forward", address.into());
        }
        pair("--userns", format!("/proc/{pid}/ns/user"));
        pair("--netns", format!("/proc/{pid}/ns/net"));
        if nix::unistd::geteuid().is_root() {
            // Nobody may not enter a namespace that root made.
            pair("--runas", "0:0".into());
        }
        arguments
    }
}

/// `8080,9090`, or `none`.
fn list(ports: &[u16], before: &str) -> String {
    if ports.is_empty() {
        return "none".into();
    }
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("{before}{}", ports.join(","))
}

impl Pasta {
    /// `None` when it is ready; how it ended otherwise.
    fn wait_ready(&mut self, mut reader: File) -> std::io::Result<Option<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut number = [0; 32];
            match reader.read(&mut number) {
                Ok(1..) => return Ok(None),
                // Nobody has it open, or nothing is written yet.
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(hooks::describe(status)));
            }
            if Instant::now() >= end {
                return Ok(Some(format!("not ready after {} s", PATIENCE.as_secs())));
            }
            // In slices: a pipe that nobody has opened yet is never reported.
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(2u8))?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_passed() {
        let nothing = Passage::default().arguments(7).join(" ");
        for part in [
            "--tcp-ports none",
            "--tcp-ns none",
            "--udp-ports none",
            "--udp-ns none",
            "--no-map-gw",
            "--netns /proc/7/ns/net",
        ] {
            assert!(nothing.contains(part), "{part}: {nothing}");
        }
        assert!(!nothing.contains("dns"), "{nothing}");
        let some = Passage {
            out: vec![80, 81],
            into: vec![8080],
            resolver: Some("169.254.1.1"),
        };
        let some = some.arguments(7).join(" ");
        for part in [
            "--tcp-ports 127.0.0.1/8080",
            "--tcp-ns 80,81",
            "--dns-forward 169.254.1.1",
        ] {
            assert!(some.contains(part), "{part}: {some}");
        }
    }
}
