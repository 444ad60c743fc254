//! The supervisor's side of a seccomp listener (seccomp_unotify(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use syscalls::Sysno;

use super::{Result, call, reg, request};

const SECCOMP_IOCTL_NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SECCOMP_IOCTL_NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
const SECCOMP_IOCTL_NOTIF_ID_VALID: libc::Ioctl = 0x4008_2102;
const SECCOMP_IOCTL_NOTIF_SET_FLAGS: libc::Ioctl = 0x4008_2104;

/// `struct seccomp_notif`: a call that waits for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Notification {
    /// Its cookie.
    pub id: u64,
    /// The thread, in the supervisor's pid namespace; 0 when it is not visible there.
    pub pid: u32,
    flags: u32,
    /// The number of the call.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where it was made.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

const _: () = assert!(size_of::<Notification>() == 80);

/// What the supervisor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call fails with this error number.
    Errno(i32),
    /// The kernel goes on with the call. No protection: the arguments behind
    /// pointers can change until it does.
    Continue,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// The next call that waits; `ENOENT` when it was interrupted meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification> {
    // The kernel refuses a buffer that is not zero.
    let mut notification = Notification::default();
    // SAFETY: the argument is a live structure of the size in the request.
    unsafe {
        ioctl(
            listener,
            SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut notification as usize,
        )
    }?;
    Ok(notification)
}

/// Answers a call; `ENOENT` when it no longer waits.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<()> {
    const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;
    let (error, flags) = match answer {
        Answer::Errno(errno) => (-errno, 0),
        Answer::Continue => (0, SECCOMP_USER_NOTIF_FLAG_CONTINUE),
    };
    let response = Response {
        id,
        value: 0,
        error,
        flags,
    };
    // SAFETY: the argument is a live structure of the size in the request.
    unsafe {
        ioctl(
            listener,
            SECCOMP_IOCTL_NOTIF_SEND,
            &raw const response as usize,
        )
    }
}

/// Whether a call still waits, so that what was read of its process is of that
/// process and not of a later one with its number.
pub fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the argument is a live 64-bit number.
    unsafe {
        ioctl(
            listener,
            SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id as usize,
        )
    }
    .is_ok()
}

/// Lets caller and supervisor take turns on one CPU, which is several times
/// faster (Linux 6.6).
pub fn take_turns(listener: BorrowedFd<'_>) -> Result<()> {
    const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: usize = 1;
    // SAFETY: the argument is a number, not a pointer.
    unsafe {
        ioctl(
            listener,
            SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
        )
    }
}

/// # Safety
///
/// As for [`call`]: the argument must be what the request reads or writes.
unsafe fn ioctl(listener: BorrowedFd<'_>, number: libc::Ioctl, argument: usize) -> Result<()> {
    let listener = reg(listener.as_raw_fd());
    // SAFETY: the caller answers for the argument.
    unsafe { call(Sysno::ioctl, [listener, request(number), argument, 0, 0, 0]) }.map(drop)
}
