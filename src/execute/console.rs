//! Handing descriptors to whoever asked for them: consoles and pidfds.

use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use syscalls::Sysno;

use crate::error::{Error, Result};

/// Sends a descriptor with a name to a listening AF_UNIX socket, as one message.
pub fn send_to(socket: &Path, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        Error::io(
            "connect to the socket",
            socket.display(),
            Sysno::connect,
            &error,
        )
    })?;
    send_over(&stream, fd, name).map_err(|errno| {
        Error::nix(
            "send a descriptor to the socket",
            socket.display(),
            Sysno::sendmsg,
            errno,
        )
    })
}

fn send_over(stream: &UnixStream, fd: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    let fds: [RawFd; 1] = [fd.as_raw_fd()];
    sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(name.as_bytes())],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )
    .map(drop)
}

/// Writes a pid file: decimal, no newline, complete or not at all, readable by all.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |sysno, error: &std::io::Error| {
        Error::io("write the pid file", path.display(), sysno, error)
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let mut file = match options.open(&temporary) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // Left by a runtime that was killed in between.
            std::fs::remove_file(&temporary).map_err(|error| failed(Sysno::unlink, &error))?;
            options.open(&temporary)
        }
        other => other,
    }
    .map_err(|error| failed(Sysno::openat, &error))?;
    file.write_all(pid.to_string().as_bytes())
        .map_err(|error| failed(Sysno::write, &error))?;
    std::fs::rename(&temporary, path).map_err(|error| failed(Sysno::rename, &error))
}
