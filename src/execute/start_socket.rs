//! How `start` reaches a created container's first process.
//!
//! runc has a fifo here: `start` opens it and never learns whether the program
//! could be executed. A connection carries the same eight bytes of failure as
//! creation does, and its end says that the program runs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::renameat;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::state::{PENDING_SOCKET, START_SOCKET};

/// Makes the socket in a container's state directory, under a name that `start`
/// does not know yet.
pub fn listen(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let failed = |sysno| move |errno| Error::nix("make", PENDING_SOCKET, sysno, errno);
    let socket = new_socket()?;
    let address = address(directory, PENDING_SOCKET)?;
    socket::bind(socket.as_raw_fd(), &address).map_err(failed(Sysno::bind))?;
    // Before anyone can connect: whoever may, starts the container.
    let owner = Mode::S_IRUSR | Mode::S_IWUSR;
    fchmodat(
        directory,
        PENDING_SOCKET,
        owner,
        FchmodatFlags::FollowSymlink,
    )
    .map_err(failed(Sysno::fchmodat))?;
    let one = Backlog::new(1).map_err(failed(Sysno::listen))?;
    socket::listen(&socket.as_fd(), one).map_err(failed(Sysno::listen))?;
    Ok(socket)
}

/// Gives it its name: from here on the container is `created`.
pub fn publish(directory: BorrowedFd<'_>) -> Result<()> {
    renameat(directory, PENDING_SOCKET, directory, START_SOCKET)
        .map_err(|errno| Error::nix("name", START_SOCKET, Sysno::renameat, errno))
}

/// Connects to it; this is what lets the container run.
pub fn connect(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let socket = new_socket()?;
    socket::connect(socket.as_raw_fd(), &address(directory, START_SOCKET)?)
        .map_err(|errno| Error::nix("connect to", START_SOCKET, Sysno::connect, errno))?;
    Ok(socket)
}

fn new_socket() -> Result<OwnedFd> {
    socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| Error::nix("make", "a socket", Sysno::socket, errno))
}

/// By way of the directory's descriptor: an address is limited to 107 bytes,
/// a state directory is not.
fn address(directory: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    UnixAddr::new(path.as_str()).map_err(|errno| Error::nix("name", &path, Sysno::bind, errno))
}
