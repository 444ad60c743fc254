//! Datagrams with at most one descriptor beside them, without allocation.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use super::{Result, call, owned, reg};

/// A connected pair of SOCK_SEQPACKET sockets: message boundaries are kept, and
/// the end of one side is seen by the other as end of file.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0i32; 2];
    // SAFETY: the buffer holds the two ints the call writes.
    unsafe {
        call(
            Sysno::socketpair,
            [
                reg(libc::AF_UNIX),
                reg(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC),
                0,
                ends.as_mut_ptr() as usize,
                0,
                0,
            ],
        )
    }?;
    Ok((owned(reg(ends[0])), owned(reg(ends[1]))))
}

/// The control buffer for one descriptor: `struct cmsghdr`, one int, padding.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    fd: i32,
    padding: i32,
}

/// Size of the control buffer; the type of `msg_controllen` differs between C libraries.
#[cfg(target_env = "musl")]
const CONTROL_SIZE: u32 = 24;
/// Size of the control buffer; the type of `msg_controllen` differs between C libraries.
#[cfg(not(target_env = "musl"))]
const CONTROL_SIZE: usize = 24;

const _: () = assert!(size_of::<Control>() == 24);

/// `CMSG_LEN(sizeof(int))` on 64-bit Linux.
const CONTROL_LENGTH: usize = size_of::<usize>() + 3 * size_of::<i32>();

fn header(vector: &mut libc::iovec, control: Option<&mut Control>) -> libc::msghdr {
    // SAFETY: all zero bytes are a valid msghdr: no name, no vectors, no control data.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    if let Some(control) = control {
        header.msg_control = std::ptr::from_mut(control).cast();
        header.msg_controllen = CONTROL_SIZE;
    }
    header
}

/// Sends one message, with a descriptor if given.
///
/// Without one by write(2), which every filter allows; sendmsg(2) a filter for
/// a program without network may well refuse.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    if fd.is_none() {
        return super::fd::write(socket, bytes).map(drop);
    }
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control {
        length: CONTROL_LENGTH,
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fd: fd.map_or(-1, |f| f.as_raw_fd()),
        padding: 0,
    };
    let header = header(&mut vector, fd.is_some().then_some(&mut control));
    // SAFETY: the header points to a live vector, whose buffer is live, and to a live control block.
    unsafe {
        call(
            Sysno::sendmsg,
            [
                reg(socket.as_raw_fd()),
                &raw const header as usize,
                reg(libc::MSG_NOSIGNAL),
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// Receives one message and a descriptor sent with it; 0 bytes mean that the peer is gone.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control {
        length: 0,
        level: 0,
        kind: 0,
        fd: -1,
        padding: 0,
    };
    let mut header = header(&mut vector, Some(&mut control));
    let size = loop {
        // SAFETY: the header points to a live vector, whose buffer is writable, and to a
        // live control block of the size it says.
        let outcome = unsafe {
            call(
                Sysno::recvmsg,
                [
                    reg(socket.as_raw_fd()),
                    &raw mut header as usize,
                    reg(libc::MSG_CMSG_CLOEXEC),
                    0,
                    0,
                    0,
                ],
            )
        };
        match outcome {
            Err(failure) if failure.is(libc::EINTR) => {}
            other => break other?,
        }
    };
    let came = control.length >= CONTROL_LENGTH
        && control.level == libc::SOL_SOCKET
        && control.kind == libc::SCM_RIGHTS
        && control.fd >= 0;
    Ok((size, came.then(|| owned(reg(control.fd)))))
}

/// accept4(2) without the peer's address.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    loop {
        let outcome = super::call_with_numbers(
            Sysno::accept4,
            [
                reg(listener.as_raw_fd()),
                0,
                0,
                reg(libc::SOCK_CLOEXEC),
                0,
                0,
            ],
        );
        match outcome {
            Err(failure) if failure.is(libc::EINTR) => {}
            other => return other.map(owned),
        }
    }
}
