//! The supervisor of a seccomp listener, on the host's side (seccomp_unotify(2)).

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::json;
use syscalls::{Errno, Sysno};

use crate::act::{number, say};
use crate::{Outcome, raw};

const SECCOMP_IOCTL_NOTIF_RECV: u64 = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND: u64 = 0xc018_2101;

/// What every call is answered with: the last three members of
/// `struct seccomp_notif_resp`.
#[derive(Clone, Copy)]
struct Answer {
    value: i64,
    error: i32,
    flags: u32,
}

/// Listens, says READY, and answers every call of every listener that is sent.
#[allow(
    clippy::disallowed_methods,
    reason = "the probe is not the runtime: it never clones while threads run"
)]
pub(crate) fn supervise(socket: &str, answer: &[&str]) -> Outcome {
    let (value, error, flags) = match answer {
        ["value", value] => (number(value)?, 0, 0),
        ["errno", error] => (0, -number::<i32>(error)?, 0),
        ["continue"] => (0, 0, 1),
        ["hang-up"] => (0, 0, 0),
        other => return Err(format!("{other:?}: no such answer")),
    };
    let answer = (answer != ["hang-up"]).then_some(Answer {
        value,
        error,
        flags,
    });
    let sockets = UnixListener::bind(socket).map_err(|error| format!("{socket}: {error}"))?;
    say("READY");
    loop {
        let (stream, _) = sockets
            .accept()
            .map_err(|error| format!("accept: {error}"))?;
        let Some(answer) = answer else {
            // The descriptor in the message goes with it.
            drop(raw::receive_fd(&stream)?);
            continue;
        };
        std::thread::spawn(move || {
            if let Err(problem) = attend(&stream, answer) {
                say(&format!("PROBLEM {problem}"));
            }
        });
    }
}

fn attend(stream: &UnixStream, answer: Answer) -> Result<(), String> {
    let (payload, mut descriptors) = raw::receive_fd(stream)?;
    let count = descriptors.len();
    let listener = descriptors.pop().ok_or("no descriptor came")?;
    let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
    let target = std::fs::read_link(&path).unwrap_or_default();
    say(&json!({
        "payload": String::from_utf8_lossy(&payload),
        "descriptors": count,
        "target": target.to_string_lossy(),
        "rest": rest(stream)?,
    })
    .to_string());
    while let Some(call) = next(&listener)? {
        say(&call.to_string());
        let id = call["id"].as_u64().unwrap_or(0);
        respond(&listener, id, answer)?;
    }
    say("END");
    Ok(())
}

/// How many bytes come after the first message, before the sender closes.
fn rest(stream: &UnixStream) -> Result<usize, String> {
    let copy = stream.try_clone().map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let mut file = File::from(OwnedFd::from(copy));
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .map_err(|error| format!("the socket: {error}"))
}

/// The next call that waits; none when nobody is left who could make one.
fn next(listener: &OwnedFd) -> Result<Option<serde_json::Value>, String> {
    loop {
        // struct pollfd: descriptor, POLLIN (1), what came.
        let mut poll = [0u8; 8];
        poll[..4].copy_from_slice(&listener.as_raw_fd().to_ne_bytes());
        poll[4] = 1;
        raw::call_with(Sysno::poll, [0, 1, usize::MAX, 0, 0, 0], 0, &mut poll)
            .map_err(|errno| format!("poll: {errno}"))?;
        if poll[6] & 1 == 0 {
            return Ok(None);
        }
        let mut asked = [0u8; 80];
        match raw::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, &mut asked) {
            Ok(_) => {}
            // The caller is gone meanwhile.
            Err(Errno::ENOENT | Errno::EINTR) => continue,
            Err(errno) => return Err(format!("SECCOMP_IOCTL_NOTIF_RECV: {errno}")),
        }
        let long = |at: usize| asked[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        let word = |at: usize| asked[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
        let name = Sysno::new(word(16) as usize).map_or("?", |call| call.name());
        let args: Vec<u64> = (0..6).map(|index| long(32 + 8 * index)).collect();
        return Ok(Some(json!({
            "id": long(0), "pid": word(8), "call": name, "arch": word(20), "args": args,
        })));
    }
}

fn respond(listener: &OwnedFd, id: u64, answer: Answer) -> Result<(), String> {
    let mut response = Vec::with_capacity(24);
    response.extend(id.to_ne_bytes());
    response.extend(answer.value.to_ne_bytes());
    response.extend(answer.error.to_ne_bytes());
    response.extend(answer.flags.to_ne_bytes());
    match raw::ioctl(
        listener.as_raw_fd(),
        SECCOMP_IOCTL_NOTIF_SEND,
        &mut response,
    ) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(format!("SECCOMP_IOCTL_NOTIF_SEND: {errno}")),
    }
}
