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
pub(crate) struct Answer {
    pub(crate) value: i64,
    pub(crate) error: i32,
    pub(crate) flags: u32,
}

/// A call that waits for an answer: `struct seccomp_notif`.
pub(crate) struct Asked([u8; 80]);

impl Asked {
    fn long(&self, at: usize) -> u64 {
        self.0[at..at + 8].try_into().map_or(0, u64::from_ne_bytes)
    }

    fn word(&self, at: usize) -> u32 {
        self.0[at..at + 4].try_into().map_or(0, u32::from_ne_bytes)
    }

    /// What an answer names it by.
    pub(crate) fn id(&self) -> u64 {
        self.long(0)
    }

    /// An argument, from 0.
    pub(crate) fn argument(&self, index: usize) -> u64 {
        self.long(32 + 8 * index)
    }

    fn shown(&self) -> serde_json::Value {
        let name = Sysno::new(self.word(16) as usize).map_or("?", |call| call.name());
        let args: Vec<u64> = (0..6).map(|index| self.argument(index)).collect();
        json!({
            "id": self.id(), "pid": self.word(8), "call": name, "arch": self.word(20), "args": args,
        })
    }
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
        say(&call.shown().to_string());
        respond(&listener, call.id(), answer)?;
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
pub(crate) fn next(listener: &OwnedFd) -> Result<Option<Asked>, String> {
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
            Ok(_) => return Ok(Some(Asked(asked))),
            // The caller is gone meanwhile.
            Err(Errno::ENOENT | Errno::EINTR) => {}
            Err(errno) => return Err(format!("SECCOMP_IOCTL_NOTIF_RECV: {errno}")),
        }
    }
}

/// Answers a call. Nothing is allocated: who waits may hold the allocator's lock.
pub(crate) fn respond(listener: &OwnedFd, id: u64, answer: Answer) -> Result<(), String> {
    let mut response = [0u8; 24];
    response[..8].copy_from_slice(&id.to_ne_bytes());
    response[8..16].copy_from_slice(&answer.value.to_ne_bytes());
    response[16..20].copy_from_slice(&answer.error.to_ne_bytes());
    response[20..].copy_from_slice(&answer.flags.to_ne_bytes());
    match raw::ioctl(
        listener.as_raw_fd(),
        SECCOMP_IOCTL_NOTIF_SEND,
        &mut response,
    ) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(format!("SECCOMP_IOCTL_NOTIF_SEND: {errno}")),
    }
}
