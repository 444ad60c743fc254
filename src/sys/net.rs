//! The one thing a new network namespace needs: its loopback device up.

use std::os::fd::AsRawFd;

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, owned, reg};

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
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    request.flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: the request is laid out as ifreq, 40 bytes, and lives through the call.
    unsafe {
        call(
            Sysno::ioctl,
            [
                reg(socket.as_raw_fd()),
                libc::SIOCSIFFLAGS as usize,
                &raw mut request as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}
