//! Descriptors that the caller has open: which ones the program gets, and that
//! nobody else does.

use crate::error::{Error, Result};

/// Which descriptors after 2 the program gets: (all, those for socket activation).
pub(super) fn preserved(asked: u32, activation: bool) -> Result<(i32, i32)> {
    let listen = if activation { listen_fds() } else { 0 };
    let all = i32::try_from(asked)
        .ok()
        .and_then(|asked| asked.checked_add(listen));
    let all = all.filter(|all| *all < i32::MAX - 3);
    let all =
        all.ok_or_else(|| Error::Usage("--preserve-fds: no such number of descriptors".into()))?;
    match (3..3 + all).find(|fd| !crate::sys::fd::is_open(*fd)) {
        Some(fd) => Err(Error::Usage(format!(
            "unable to stat preserved-fd {fd} (of {all}): it is not open"
        ))),
        None => Ok((all, listen)),
    }
}

/// `LISTEN_FDS`, if `LISTEN_PID` says that they are for this process.
fn listen_fds() -> i32 {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<i32>().ok())
    };
    let for_us = number("LISTEN_PID") == i32::try_from(std::process::id()).ok();
    if for_us {
        number("LISTEN_FDS").unwrap_or(0).max(0)
    } else {
        0
    }
}

/// What the caller left open is neither for hooks nor for helpers.
pub(super) fn close_on_exec() -> Result<()> {
    crate::sys::fd::close_range_on_exec(3)
        .map_err(|failure| Error::system("mark", "the caller's descriptors", failure))
}
