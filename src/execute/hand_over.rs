//! Handing the descriptor of a filter's listener to the runtime.
//!
//! It exists once the filter is loaded, and then the filter decides whether
//! this process may still send it: a profile need not know of sendmsg, and a
//! filter that asks about every call would wait for a supervisor who does not
//! have the descriptor yet. So a messenger sends it: a process without the
//! filter that shares the descriptors of this one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{self, Check, Error, Failure};
use crate::plan::filter::FilterStep;
use crate::sys::process::{self, Cloned};
use crate::sys::{Result, fd, restrict};

use super::protocol::{self, ToParent};

/// Loads a filter that returns a listener, and waits until the runtime has it.
pub fn load(filter: &FilterStep, socket: BorrowedFd<'_>) -> Result<()> {
    let (messenger, listener) = next_descriptors(socket)?;
    // Nobody here will wait for the messenger: the kernel forgets it when it
    // ends. The flag does not survive exec.
    process::forget_children()?;
    let files = u64::from(libc::CLONE_FILES.cast_unsigned());
    let pidfd = match process::clone(files, None)? {
        Cloned::Child => process::exit(i32::from(deliver(socket, messenger, listener).is_err())),
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    let loaded = load_with_wishes(filter);
    match loaded {
        Ok(Some(made)) if made.as_raw_fd() == listener && pidfd.as_raw_fd() == messenger => {
            // The messenger closes both; close(2) might be denied here by now.
            std::mem::forget((made, pidfd));
            protocol::await_proceed_filtered(socket)
        }
        other => {
            let _ = process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            // Its parent is to be there as long as it is: see `Delivery::await_end`.
            let _ = process::wait_readable(pidfd.as_fd(), None);
            other.and(Err(Failure::check(Check::BadMessage)))
        }
    }
}

/// The numbers that the next two descriptors will have: the messenger knows
/// them before they exist.
fn next_descriptors(socket: BorrowedFd<'_>) -> Result<(i32, i32)> {
    let first = fd::duplicate_above(socket, 0)?;
    let second = fd::duplicate_above(socket, 0)?;
    Ok((first.as_raw_fd(), second.as_raw_fd()))
}

/// Loads it with the flags that the kernel knows.
fn load_with_wishes(filter: &FilterStep) -> Result<Option<OwnedFd>> {
    let instructions = &filter.instructions;
    match restrict::load_filter(instructions, filter.flags | filter.wishes) {
        Err(failure) if failure.is(libc::EINVAL) && filter.wishes != 0 => {
            restrict::load_filter(instructions, filter.flags)
        }
        other => other,
    }
}

/// The messenger's work. How it learns that the listener exists must not take a
/// call of the filtered process, so it looks until it does: less than a
/// millisecond.
fn deliver(socket: BorrowedFd<'_>, messenger: i32, listener: i32) -> Result<()> {
    while !fd::is_open(listener) {
        process::yield_now();
    }
    let gone = || Failure::check(Check::BadMessage);
    let own = fd::adopt(messenger).ok_or_else(gone)?;
    protocol::tell_parent(socket, &ToParent::Messenger(own))?;
    let made = fd::adopt(listener).ok_or_else(gone)?;
    protocol::tell_parent(socket, &ToParent::Listener(made))
}

/// The runtime's side: what the messenger has brought so far.
#[derive(Debug, Default)]
pub struct Delivery {
    messenger: Option<OwnedFd>,
}

impl Delivery {
    /// The messenger has announced itself.
    pub fn expect(&mut self, messenger: OwnedFd) {
        self.messenger = Some(messenger);
    }

    /// The messenger has brought all: waits until it has ended. The program must not
    /// meet it, and when the process that it is a child of ends first, because nobody
    /// takes the listener, what is left of it would stay the container's for ever.
    ///
    /// # Errors
    /// [`Error::System`] when it cannot be waited for.
    pub fn await_end(&mut self) -> error::Result<()> {
        let Some(messenger) = self.messenger.take() else {
            return Ok(());
        };
        process::wait_readable(messenger.as_fd(), None)
            .map(drop)
            .map_err(|failure| Error::system("wait for", "the messenger", failure))
    }
}
