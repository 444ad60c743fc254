//! What a new network namespace needs: its loopback device up, and rules for
//! where packets may go.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, owned, reg};
use crate::error::Failure;

/// Brings `lo` up in the caller's network namespace; 127.0.0.1 and ::1 come with it.
pub fn loopback_up() -> Result<()> {
    let socket = call_with_numbers(
        Sysno::socket,
        [
            reg(libc::AF_INET),
            reg(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC),
            0,
            0,
            0,
            0,
        ],
    )
    .map(owned)?;
    /// `struct ifreq`: a name, then a union of 24 bytes that starts with the flags.
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; libc::IFNAMSIZ],
        flags: i16,
        rest: [u8; 22],
    }
    // From linux/sockios.h; its type in libc differs between C libraries.
    const SIOCSIFFLAGS: usize = 0x8914;
    let mut interface = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; 22],
    };
    interface.name[..2].copy_from_slice(b"lo");
    interface.flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: the request is laid out as ifreq, 40 bytes, and lives through the call.
    unsafe {
        call(
            Sysno::ioctl,
            [
                reg(socket.as_raw_fd()),
                SIOCSIFFLAGS,
                &raw mut interface as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// A socket to the kernel's routing in the caller's network namespace; it stays
/// in there when the caller goes elsewhere.
pub fn routing_socket() -> Result<OwnedFd> {
    let kind = reg(libc::SOCK_RAW | libc::SOCK_CLOEXEC);
    let protocol = reg(libc::NETLINK_ROUTE);
    let socket = [reg(libc::AF_NETLINK), kind, protocol, 0, 0, 0];
    call_with_numbers(Sysno::socket, socket).map(owned)
}

/// Sends one request to the kernel's routing in the caller's network namespace
/// and takes its answer.
pub fn change_routing(message: &[u8]) -> Result<()> {
    ask(routing_socket()?.as_fd(), message)
}

/// Sends one request that wants an acknowledgement, and takes it.
pub fn ask(socket: BorrowedFd<'_>, message: &[u8]) -> Result<()> {
    send_request(socket, message)?;
    // An nlmsghdr of 16 bytes, the error number, and the request's own header,
    // with the request behind it when it is refused.
    let mut answer = [0u8; 256];
    let length = receive_answer(socket, &mut answer)?;
    let error = answer.get(16..20).filter(|_| length >= 20);
    match error.and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => match i32::from_ne_bytes(bytes) {
            0 => Ok(()),
            errno => Err(Failure::of(Sysno::sendto, errno.saturating_neg())),
        },
        None => Err(Failure::of(Sysno::recvfrom, libc::EBADMSG)),
    }
}

/// Sends one request.
pub fn send_request(socket: BorrowedFd<'_>, message: &[u8]) -> Result<()> {
    let at = reg(socket.as_raw_fd());
    // SAFETY: the message is read only, and lives through the call; no address is given.
    unsafe {
        call(
            Sysno::sendto,
            [at, message.as_ptr() as usize, message.len(), 0, 0, 0],
        )
    }
    .map(drop)
}

/// Receives one datagram; what does not fit into the buffer is cut off.
pub fn receive_answer(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let at = reg(socket.as_raw_fd());
    // SAFETY: the buffer is writable, as long as is said, and lives through the call.
    unsafe {
        call(
            Sysno::recvfrom,
            [at, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
        )
    }
}
