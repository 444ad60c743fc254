//! System calls by name or number, one or many, by one process or several.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use syscalls::{Errno, Sysno};

use crate::act::{c_string, number, print_call, say};
use crate::{Outcome, raw};

/// `syscall NAME ARG...`: numbers are numbers (0x allowed, negative too), the
/// rest are strings passed by address; `buf:N` is a zeroed buffer of N bytes.
pub(crate) fn one(name: &str, words: &[&str]) -> Outcome {
    print_call(make(name, words)?)
}

/// Each call of one word, in one process, and a line for each.
pub(crate) fn all(calls: &[&str]) -> Outcome {
    for call in calls {
        say(&outcome(make_words(call)?));
    }
    Ok(ExitCode::SUCCESS)
}

/// The same call again and again, `#` in it being the number of the round; the
/// last result is printed.
pub(crate) fn repeat(count: u64, call: &str) -> Outcome {
    let mut last = String::new();
    for round in 0..count {
        last = outcome(make_words(&call.replace('#', &round.to_string()))?);
    }
    say(&last);
    Ok(ExitCode::SUCCESS)
}

/// The call once in each of `count` threads, all at once.
#[allow(
    clippy::disallowed_methods,
    reason = "the probe is not the runtime: it never clones while threads run"
)]
pub(crate) fn threads(count: usize, call: &str) -> Outcome {
    let started: Vec<_> = (0..count)
        .map(|_| {
            let call = call.to_owned();
            std::thread::spawn(move || make_words(&call))
        })
        .collect();
    for thread in started {
        let result = thread.join().map_err(|_| "a thread panicked".to_owned())?;
        say(&outcome(result?));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a program `count` times, one after the other, and says how each ended.
pub(crate) fn spawn(count: usize, program: &str, args: &[&str]) -> Outcome {
    for _ in 0..count {
        let status = Command::new(program)
            .args(args)
            .status()
            .map_err(|error| format!("{program}: {error}"))?;
        match status.code() {
            Some(code) => say(&format!("code {code}")),
            None => say(&format!("signal {}", status.signal().unwrap_or(0))),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A call by the entry of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn int80(nr: &str) -> Outcome {
    say(&format!("returned {}", raw::call_32(number(nr)?)));
    Ok(ExitCode::SUCCESS)
}

/// There is no such entry.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn int80(nr: &str) -> Outcome {
    Err(format!("{nr}: only on x86_64"))
}

fn outcome(result: Result<usize, Errno>) -> String {
    match result {
        Ok(value) => format!("ok {value}"),
        Err(errno) => errno.name().unwrap_or("unnamed error").to_owned(),
    }
}

fn make_words(call: &str) -> Result<Result<usize, Errno>, String> {
    let words: Vec<&str> = call.split_whitespace().collect();
    match words.as_slice() {
        [name, args @ ..] => make(name, args),
        [] => Err("an empty call".to_owned()),
    }
}

/// The number of a call that has a name or is one.
fn call_number(name: &str) -> Result<i64, String> {
    match parse_number(name) {
        Some(number) => i64::try_from(number).map_err(|_| format!("{name}: too large")),
        None => {
            let known = name.parse::<Sysno>();
            Ok(i64::from(
                known.map_err(|_| format!("{name}: unknown call"))?.id(),
            ))
        }
    }
}

/// A call whose arguments are numbers.
pub(crate) fn numbers(call: &str) -> Result<(i64, [usize; 6]), String> {
    let mut words = call.split_whitespace();
    let nr = call_number(words.next().ok_or("an empty call")?)?;
    let mut args = [0usize; 6];
    for (slot, word) in args.iter_mut().zip(words) {
        *slot = parse_number(word).ok_or_else(|| format!("{word}: no number"))?;
    }
    Ok((nr, args))
}

fn make(name: &str, words: &[&str]) -> Result<Result<usize, Errno>, String> {
    let nr = call_number(name)?;
    let mut args = [0usize; 6];
    // Buffers live until after the call.
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    for (slot, word) in args.iter_mut().zip(words) {
        if let Some(value) = parse_number(word) {
            *slot = value;
            continue;
        }
        let mut buffer = match word.strip_prefix("buf:") {
            Some(size) => vec![0u8; number(size)?],
            None => c_string(word)?,
        };
        *slot = buffer.as_mut_ptr() as usize;
        buffers.push(buffer);
    }
    let result = raw::call_number(nr, args);
    drop(buffers);
    if name == "clone" && result == Ok(0) {
        // The child of a clone that nobody denied: its parent goes on.
        std::process::exit(0);
    }
    Ok(result)
}

fn parse_number(word: &str) -> Option<usize> {
    if let Some(hex) = word.strip_prefix("0x") {
        return usize::from_str_radix(hex, 16).ok();
    }
    let value: i128 = word.parse().ok()?;
    isize::try_from(value)
        .map(isize::cast_unsigned)
        .or_else(|_| usize::try_from(value))
        .ok()
}
