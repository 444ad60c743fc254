//! What the filters of this process make of calls, asked without making them.
//!
//! A thread loads one more filter, which has every call wait for an answer. An
//! errno of the filters that were there before counts for more than that, so
//! the calls that do get as far as the listener are those that nobody denies.

use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use syscalls::{Errno, Sysno};

use crate::act::say;
use crate::calls::numbers;
use crate::supervise::{Answer, next, respond};
use crate::{Outcome, raw};

/// A number and its arguments; the last argument is not the caller's to choose.
pub(crate) type Call = (i64, [usize; 6]);

/// The last argument of the calls that are only asked about.
const MARK: usize = 0x6361_7073;
/// What they return when nobody denies them.
const REACHED: i64 = 0x5eed;
/// There is no listener yet.
const WAITING: RawFd = -1;

/// For each call the errno that a filter gives, none where it would reach the kernel.
pub(crate) fn answers(calls: Vec<Call>) -> Result<Vec<Option<Errno>>, String> {
    let listening = Arc::new(AtomicI32::new(WAITING));
    let shared = Arc::clone(&listening);
    let asking = std::thread::spawn(move || ask(calls, &shared));
    let fd = loop {
        match listening.load(Ordering::Acquire) {
            WAITING if asking.is_finished() => break None,
            WAITING => std::thread::sleep(Duration::from_millis(1)),
            fd => break Some(fd),
        }
    };
    if let Some(fd) = fd {
        attend(&OwnedFd::from(raw::inherited(fd)))?;
    }
    asking
        .join()
        .map_err(|_| "the thread that asks panicked".to_owned())?
}

/// A line for each call, whose arguments are numbers: `kernel`, or the errno's name.
pub(crate) fn print(calls: &[&str]) -> Outcome {
    let calls: Result<Vec<Call>, String> = calls.iter().map(|call| numbers(call)).collect();
    for answer in answers(calls?)? {
        say(answer.map_or("kernel", |errno| errno.name().unwrap_or("unnamed error")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Executes a program where a call fails if one of its arguments is a number, as on
/// a kernel that does not know that command.
pub(crate) fn lack(name: &str, place: u32, value: u32, errno: u32, words: &[&str]) -> Outcome {
    let number: Sysno = name.parse().map_err(|()| format!("no call {name}"))?;
    let number = u32::try_from(number.id()).map_err(|error| error.to_string())?;
    let [program, args @ ..] = words else {
        return Err("no program to execute".into());
    };
    // Number of the call, and the lower half of the argument, in struct seccomp_data.
    load(
        &mut [
            instruction(LOAD, 0, 0, 0),
            instruction(EQUALS, 0, 3, number),
            instruction(LOAD, 0, 0, 16 + 8 * place),
            instruction(EQUALS, 0, 1, value),
            instruction(RETURN, 0, 0, 0x0005_0000 | errno),
            instruction(RETURN, 0, 0, 0x7fff_0000),
        ],
        0,
    )?;
    let error = std::process::Command::new(program).args(args).exec();
    Err(format!("{program}: {error}"))
}

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u8 = 0x20;
const EQUALS: u8 = 0x15;
const RETURN: u8 = 0x06;

/// A struct sock_filter.
fn instruction(code: u8, yes: u8, no: u8, operand: u32) -> [u8; 8] {
    let [a, b, c, d] = operand.to_ne_bytes();
    let [low, high] = u16::from(code).to_ne_bytes();
    [low, high, yes, no, a, b, c, d]
}

/// `SECCOMP_SET_MODE_FILTER`; what the call returns.
fn load(program: &mut [[u8; 8]], flags: usize) -> Result<usize, String> {
    // struct sock_fprog
    let mut header = [0u8; 16];
    header[0] = u8::try_from(program.len()).map_err(|error| error.to_string())?;
    header[8..].copy_from_slice(&(program.as_mut_ptr() as usize).to_ne_bytes());
    raw::call_with(Sysno::seccomp, [1, flags, 0, 0, 0, 0], 2, &mut header)
        .map_err(|errno| format!("seccomp: {errno}"))
}

/// The thread under the additional filter. Its calls wait, so that it must not
/// share a lock with the one that answers.
fn ask(calls: Vec<Call>, listening: &AtomicI32) -> Result<Vec<Option<Errno>>, String> {
    let mut found: Vec<Option<Errno>> = Vec::with_capacity(calls.len());
    // PR_SET_NO_NEW_PRIVS, without which only root may load a filter.
    let _ = raw::call(Sysno::prctl, [38, 1, 0, 0, 0, 0]);
    // SECCOMP_RET_USER_NOTIF with SECCOMP_FILTER_FLAG_NEW_LISTENER.
    let fd = load(&mut [instruction(RETURN, 0, 0, 0x7fc0_0000)], 8)?;
    listening.store(RawFd::try_from(fd).unwrap_or(WAITING), Ordering::Release);
    for (nr, mut args) in calls {
        args[5] = MARK;
        found.push(match raw::call_number(nr, args) {
            Ok(value) if i64::try_from(value) == Ok(REACHED) => None,
            Ok(_) => Some(Errno::new(0)),
            Err(errno) => Some(errno),
        });
    }
    Ok(found)
}

/// Calls that are only asked about get their answer, all others are made.
fn attend(listener: &OwnedFd) -> Result<(), String> {
    while let Some(asked) = next(listener)? {
        let answer = if asked.argument(5) == MARK as u64 {
            Answer {
                value: REACHED,
                error: 0,
                flags: 0,
            }
        } else {
            // SECCOMP_USER_NOTIF_FLAG_CONTINUE
            Answer {
                value: 0,
                error: 0,
                flags: 1,
            }
        };
        respond(listener, asked.id(), answer)?;
    }
    Ok(())
}
