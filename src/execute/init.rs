//! The first process as the container's init.
//!
//! It has nothing that an attacker could want: no capability, no descriptor, no
//! argument, nobody may trace it, and the program's own filter is on it. It makes
//! three calls for the rest of its life. Its end is the end of the pid namespace:
//! the kernel kills everything that is left there.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::plan::init::InitStep;
use crate::sys::process::{self, Cloned};
use crate::sys::restrict::{self, CapabilitySets};
use crate::sys::{Result, fd, mount, signal};

use super::child::Walk;

/// Clones the process that goes on to the program; the caller stays as init and
/// comes back only when it cannot.
pub fn split(walk: &Walk<'_>, step: &InitStep) -> Result<()> {
    let (reader, writer) = fd::pipe()?;
    // What is sent to the container from here on waits until init passes it on.
    signal::hold_all()?;
    match process::clone(0, None)? {
        Cloned::Child => {
            drop(writer);
            become_leader(reader, step)
        }
        Cloned::Parent { pid, pidfd } => {
            drop((reader, pidfd));
            withdraw(walk, &writer, step)?;
            serve(pid)
        }
    }
}

/// A session of its own: the terminal's keys reach the program and all it starts,
/// a shell in it controls its jobs, and a suspended program, which nobody could
/// wake, cannot be: the kernel stops no group without a parent in its session.
fn become_leader(init: OwnedFd, step: &InitStep) -> Result<()> {
    // Nothing of the program runs until init has withdrawn.
    let mut byte = [0u8; 1];
    fd::read(init.as_fd(), &mut byte)?;
    drop(init);
    process::new_session()?;
    if let (true, Some(terminal)) = (step.terminal, fd::standard(0)) {
        process::take_terminal(terminal)?;
    }
    process::default_signals()
}

/// Gives up everything.
fn withdraw(walk: &Walk<'_>, writer: &OwnedFd, step: &InitStep) -> Result<()> {
    let socket = walk.socket().as_raw_fd();
    let writer = writer.as_raw_fd();
    let (low, high) = (socket.min(writer), socket.max(writer));
    for (first, last) in [(0, low - 1), (low + 1, high - 1)] {
        if first <= last {
            fd::close_range(first, last.cast_unsigned())?;
        }
    }
    fd::close_range(high + 1, u32::MAX)?;
    mount::change_directory(c"/")?;
    process::set_name(c"init")?;
    walk.handles.own_arguments.overwrite(b"init");
    // A change of identity may have made it dumpable again.
    process::hide()?;
    restrict::set_ambient_capabilities(0)?;
    restrict::set_capabilities(CapabilitySets::default())?;
    restrict::no_new_privileges()?;
    if let Some(filter) = &step.filter {
        restrict::load_filter(&filter.instructions, filter.flags).map(drop)?;
    }
    // The end of the connection says that the program runs: not for init to keep.
    fd::close(socket)?;
    fd::close(writer)
}

/// Passes signals on and takes the status of whoever ends, until the program does.
fn serve(program: i32) -> ! {
    loop {
        if let Some(status) = reap(program, libc::WNOHANG) {
            process::exit(status)
        }
        match signal::take() {
            Ok(libc::SIGCHLD) => {}
            Ok(number) => pass_on(program, number),
            Err(failure) if failure.is(libc::EINTR) => {}
            // Nothing known makes it fail. Then the program at least is waited for.
            Err(_) => {
                if let Some(status) = reap(program, 0) {
                    process::exit(status)
                }
            }
        }
    }
}

/// What a terminal sends to a whole group goes to the whole group, and
/// everything else to the program, as if it were process 1 itself.
fn pass_on(program: i32, number: i32) {
    let group = matches!(number, libc::SIGINT | libc::SIGQUIT);
    let target = if group { -program } else { program };
    // Gone already: its status is about to be taken.
    let _ = process::kill(target, number);
}

/// Takes the status of all that have ended; the program's own as an exit code.
fn reap(program: i32, options: i32) -> Option<i32> {
    loop {
        match signal::wait_any(options) {
            Ok(Some((pid, status))) if pid == program => return Some(exit_code(status)),
            Ok(Some(_)) => {}
            Err(failure) if failure.is(libc::EINTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// As a shell has it. Process 1 of a pid namespace cannot end itself by a signal.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(7 << 8), 7);
        assert_eq!(exit_code(libc::SIGKILL), 137);
        // With a core file.
        assert_eq!(exit_code(0x80 | libc::SIGSEGV), 139);
    }
}
