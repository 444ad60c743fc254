//! sd_notify(3) across the container's border: the program writes to a socket
//! inside, the runtime passes on that it is ready, and nothing else.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::sys::process;

/// Name of the directory below the container's state, bound on /run/notify.
const DIRECTORY: &str = "notify";

/// The socket that the container's program writes to.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    /// The service manager's own socket.
    manager: PathBuf,
}

/// The service manager that started the runtime, if it wants to be told.
pub(super) fn manager() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// Makes the directory for the socket; `create` binds it into the container.
pub(super) fn make_directory(state: &Path) -> Result<PathBuf> {
    let directory = state.join(DIRECTORY);
    let failed =
        |sysno, error: &std::io::Error| Error::io("make", directory.display(), sysno, error);
    std::fs::create_dir(&directory).map_err(|error| failed(Sysno::mkdirat, &error))?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| failed(Sysno::fchmodat, &error))?;
    Ok(directory)
}

impl Notify {
    /// Makes the socket, if the container was created for one and somebody wants to know.
    pub(super) fn bind(state: &Path) -> Result<Option<Self>> {
        let path = state.join(DIRECTORY).join("notify.sock");
        let Some(manager) = manager().filter(|_| state.join(DIRECTORY).is_dir()) else {
            return Ok(None);
        };
        let failed = |sysno, error: &std::io::Error| {
            Error::io("make the socket", path.display(), sysno, error)
        };
        let socket = UnixDatagram::bind(&path).map_err(|error| failed(Sysno::bind, &error))?;
        // Any user of the container may write to it; its directory is bound
        // read-only, so nobody can put another in its place.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))
            .map_err(|error| failed(Sysno::fchmodat, &error))?;
        Ok(Some(Self { socket, manager }))
    }

    /// What becomes readable when the program has something to say.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until the program is ready, or has ended, and tells the manager.
    pub(super) fn forward(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        loop {
            // A second at most between looks at whether the program still lives.
            let came = process::wait_readable(self.socket(), Some(1000))
                .map_err(|failure| Error::system("wait for", "readiness", failure))?;
            let over = match came {
                true => self.pass_on(pid)?,
                false => process::wait_readable(pidfd, Some(0)).unwrap_or(true),
            };
            if over {
                return Ok(());
            }
        }
    }

    /// Reads one message; passes on that the program is ready, and then gives true.
    pub(super) fn pass_on(&self, pid: i32) -> Result<bool> {
        let failed = |sysno, error: &std::io::Error| {
            Error::io("pass readiness on to", self.manager.display(), sysno, error)
        };
        let mut buffer = [0u8; 4096];
        let length = self
            .socket
            .recv(&mut buffer)
            .map_err(|error| failed(Sysno::recvfrom, &error))?;
        let Some(ready) = ready_line(&buffer[..length]) else {
            return Ok(false);
        };
        let message = [ready, format!("\nMAINPID={pid}").as_bytes()].concat();
        let manager = UnixDatagram::unbound().map_err(|error| failed(Sysno::socket, &error))?;
        manager
            .send_to(&message, &self.manager)
            .map_err(|error| failed(Sysno::sendto, &error))?;
        Ok(true)
    }
}

/// The line that says so: anything else a container says is not for the host.
fn ready_line(message: &[u8]) -> Option<&[u8]> {
    message
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"READY="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readiness_is_passed_on() {
        assert_eq!(
            ready_line(b"STATUS=x\nREADY=1\nMAINPID=1"),
            Some(&b"READY=1"[..])
        );
        assert_eq!(ready_line(b"MAINPID=1"), None);
    }
}
