//! Signals of an init, which takes them one by one instead of being interrupted.

use std::mem::MaybeUninit;

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, reg};

/// Every signal, as a kernel's set of 64.
static ALL: u64 = u64::MAX;

/// rt_sigprocmask(2): holds every signal back. To process 1 of a pid namespace
/// this is the difference between a signal that waits and one that is dropped.
pub fn hold_all() -> Result<()> {
    // SAFETY: the mask is a live 64-bit set of the size passed.
    unsafe {
        call(
            Sysno::rt_sigprocmask,
            [
                reg(libc::SIG_SETMASK),
                &raw const ALL as usize,
                0,
                size_of::<u64>(),
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// rt_sigtimedwait(2) without a limit: takes the next of the signals held back.
pub fn take() -> Result<i32> {
    // SAFETY: the set is a live 64-bit set of the size passed; information and time may be null.
    let signal = unsafe {
        call(
            Sysno::rt_sigtimedwait,
            [&raw const ALL as usize, 0, 0, size_of::<u64>(), 0, 0],
        )
    }?;
    Ok(i32::try_from(signal).unwrap_or(0))
}

/// wait4(2) for any child: its number and its wait status. `None` when there is
/// none that has ended, with `WNOHANG`, or none at all.
pub fn wait_any(options: i32) -> Result<Option<(i32, i32)>> {
    let mut status = MaybeUninit::<i32>::zeroed();
    // SAFETY: the status is an int the call may write; the usage pointer may be null.
    let outcome = unsafe {
        call(
            Sysno::wait4,
            [reg(-1), status.as_mut_ptr() as usize, reg(options), 0, 0, 0],
        )
    };
    // SAFETY: all zero bytes are a valid int, and the call wrote nothing else.
    let status = unsafe { status.assume_init() };
    match outcome {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((i32::try_from(pid).unwrap_or(0), status))),
        Err(failure) if failure.is(libc::ECHILD) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// `PR_SET_PDEATHSIG`: this signal comes when the parent ends. A change of
/// identity takes it off again.
pub fn at_end_of_parent(signal: i32) -> Result<()> {
    call_with_numbers(
        Sysno::prctl,
        [reg(libc::PR_SET_PDEATHSIG), reg(signal), 0, 0, 0, 0],
    )
    .map(drop)
}

/// getppid(2).
pub fn parent() -> i32 {
    // It cannot fail.
    call_with_numbers(Sysno::getppid, [0; 6]).map_or(0, |pid| i32::try_from(pid).unwrap_or(0))
}
