//! System calls: the only unsafe code.
//!
//! Thin wrappers that know nothing of containers. They go straight to the
//! kernel (the `syscalls` crate's instruction sequence) and not through the C
//! library, for three reasons: most of them run in the child between clone and
//! exec, where nothing may allocate or take a lock; an error comes back with
//! the call's number, so that a message can name it; and libc has no wrapper
//! for half of them. Descriptors go in as `BorrowedFd` and come out as
//! `OwnedFd`, always close-on-exec.

#![allow(unsafe_code, reason = "the only place where it is allowed")]

mod allocator;
pub mod arguments;
pub mod bpf;
pub mod directory;
pub mod fd;
pub mod guard;
pub mod landlock;
pub mod measure;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod notify;
pub mod probe;
pub mod process;
pub mod restrict;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod trace;

use std::os::fd::{FromRawFd, OwnedFd};

use syscalls::Sysno;

use crate::error::Failure;

/// newfstatat(2), for messages: the crate of system calls has another name for it
/// on aarch64.
pub const NEWFSTATAT: Sysno = {
    #[cfg(target_arch = "aarch64")]
    {
        Sysno::fstatat
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        Sysno::newfstatat
    }
};

/// What every wrapper returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// Calls the kernel with up to six arguments.
///
/// # Safety
///
/// Every argument that the call takes as a pointer must point to memory of the
/// size and kind the call reads or writes, alive until the call returns.
unsafe fn call(sysno: Sysno, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller answers for the pointers; all other arguments are plain numbers.
    let outcome = unsafe { syscalls::syscall6(sysno, a, b, c, d, e, f) };
    outcome.map_err(|errno| Failure::of(sysno, errno.into_raw()))
}

/// Calls the kernel with numbers only: nothing the call could read or write through.
fn call_with_numbers(sysno: Sysno, arguments: [usize; 6]) -> Result<usize> {
    // SAFETY: only wrappers of calls without pointer arguments, or with null
    // where the call accepts it, come here.
    unsafe { call(sysno, arguments) }
}

/// A C `int` or descriptor as a register: sign-extended, as the ABI has it.
const fn reg(value: i32) -> usize {
    (value as isize).cast_unsigned()
}

/// An ioctl(2) request as a register; its type differs between C libraries.
const fn request(number: libc::Ioctl) -> usize {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "all requests are positive and have 32 bits"
    )]
    let number = number as usize;
    number
}

/// The descriptor a call just made.
fn owned(raw: usize) -> OwnedFd {
    let raw = i32::try_from(raw).unwrap_or(-1);
    // SAFETY: the kernel returned this number as a new descriptor, which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
