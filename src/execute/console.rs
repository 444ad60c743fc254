//! Handing descriptors to whoever asked for them: consoles and pidfds.

use std::io::IoSlice;
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
