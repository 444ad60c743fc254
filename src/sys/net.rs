//! What a new network namespace needs: its loopback device up, and rules for
//! where packets may go.

use std::os::fd::AsRawFd;

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

/// Sends one request to the kernel's routing in the caller's network namespace
/// and takes its answer.
pub fn change_routing(message: &[u8]) -> Result<()> {
    let kind = reg(libc::SOCK_RAW | libc::SOCK_CLOEXEC);
    let socket = [
        reg(libc::AF_NETLINK),
        kind,
        reg(libc::NETLINK_ROUTE),
        0,
        0,
        0,
    ];
    let socket = call_with_numbers(Sysno::socket, socket).map(owned)?;
    let at = reg(socket.as_raw_fd());
    // SAFETY: the message is read only, and lives through the call; no address is given.
    unsafe {
        call(
            Sysno::sendto,
            [at, message.as_ptr() as usize, message.len(), 0, 0, 0],
        )
    }?;
    // An nlmsghdr of 16 bytes, the error number, and the request's own header.
    let mut answer = [0u8; 256];
    // SAFETY: the buffer is writable, as long as is said, and lives through the call.
    let length = unsafe {
        call(
            Sysno::recvfrom,
            [at, answer.as_mut_ptr() as usize, answer.len(), 0, 0, 0],
        )
    }?;
    let error = answer.get(16..20).filter(|_| length >= 20);
    match error.and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => match i32::from_ne_bytes(bytes) {
            0 => Ok(()),
            errno => Err(Failure::of(Sysno::sendto, errno.saturating_neg())),
        },
        None => Err(Failure::of(Sysno::recvfrom, libc::EBADMSG)),
    }
}
