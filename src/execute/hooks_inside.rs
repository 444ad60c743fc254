//! Hooks that run inside the container's namespaces: createContainer and
//! startContainer. They are children of the container's first process.

use std::os::fd::AsFd;

use crate::error::{Call, Check, Failure};
use crate::plan::steps::HookStep;
use crate::sys::process::{self, Cloned, Pointers};
use crate::sys::{Result, fd};

use super::child::Walk;

/// Runs the next hook to its end.
pub fn run(walk: &mut Walk<'_>, hook: &HookStep) -> Result<()> {
    let index = walk.hook;
    walk.hook += 1;
    let (reader, writer) = fd::pipe()?;
    let pidfd = match process::clone(0, None)? {
        Cloned::Child => {
            let failure = become_hook(walk, hook, &walk.handles.hooks[index], reader.as_fd());
            process::exit(failure.errno.min(127))
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(reader);
    feed(writer.as_fd(), hook);
    drop(writer);
    wait(&pidfd.1, pidfd.0, hook.timeout)
}

fn become_hook(
    walk: &Walk<'_>,
    hook: &HookStep,
    pointers: &(Pointers, Pointers),
    input: std::os::fd::BorrowedFd<'_>,
) -> Failure {
    let outcome = (|| {
        // A session of its own, so that a timeout ends all it started.
        process::new_session()?;
        fd::duplicate_to(input, 0)?;
        if let Some(output) = &walk.handles.hook_output {
            fd::duplicate_to(output.as_fd(), 1)?;
            fd::duplicate_to(output.as_fd(), 2)?;
        }
        fd::close_range(3, u32::MAX)?;
        process::default_signals()
    })();
    match outcome {
        Err(failure) => failure,
        Ok(()) => process::execute(&hook.path, &pointers.0, &pointers.1),
    }
}

/// Writes the container's state; a hook that does not read it is no failure.
fn feed(writer: std::os::fd::BorrowedFd<'_>, hook: &HookStep) {
    let mut digits = [0u8; 11];
    let pid = decimal(process::id().unsigned_abs(), &mut digits);
    for mut part in [hook.state.0.as_slice(), pid, hook.state.1.as_slice()] {
        while !part.is_empty() {
            match fd::write(writer, part) {
                Ok(written) => part = &part[written..],
                Err(_) => return,
            }
        }
    }
}

/// A number in decimal digits, without allocation.
fn decimal(mut number: u32, digits: &mut [u8; 11]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

fn wait(pidfd: &std::os::fd::OwnedFd, pid: i32, timeout: Option<i64>) -> Result<()> {
    let milliseconds = timeout.map(|seconds| seconds.saturating_mul(1000));
    if !process::wait_readable(pidfd.as_fd(), milliseconds)? {
        // The hook leads a process group of its own.
        let _ = process::kill(-pid, libc::SIGKILL);
        process::wait(pid, 0)?;
        return Err(Failure::check(Check::HookTimedOut));
    }
    match process::wait(pid, 0)? {
        Some(0) => Ok(()),
        status => Err(Failure {
            call: Call::check(Check::HookFailed),
            errno: status.unwrap_or(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_allocation() {
        let mut digits = [0; 11];
        assert_eq!(decimal(0, &mut digits), b"0");
        assert_eq!(decimal(u32::MAX, &mut digits), b"4294967295");
    }
}
