//! Standard input, output and error of a sandbox without a terminal of its own.
//!
//! The caller's terminal is never handed in: whoever holds it can read what is
//! typed later, and on older kernels type by itself (TIOCSTI). Where one of the
//! three is a terminal, the program gets a pipe, and capsid copies.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::execute::foreground::Watch;
use crate::sys::fd;

/// The caller's own three, while others are in their place.
pub(super) struct Streams {
    own: Vec<(i32, OwnedFd)>,
    copies: Vec<Copy>,
}

/// What is copied between a pipe and the terminal.
struct Copy {
    from: File,
    to: Option<File>,
}

impl Copy {
    fn watch(&mut self) -> Watch<'_> {
        let (from, to) = (&self.from, &mut self.to);
        Watch {
            fd: from.as_fd(),
            act: Box::new(move || Ok(step(from, to))),
        }
    }
}

/// Refuses a directory of the host as one of the three: below it the program
/// would reach by `openat` and `fchdir` what no mount shows it, and Landlock,
/// which knows nothing of modes, owners and times, would be all that is left.
pub(super) fn refuse_directories() -> Result<()> {
    for (number, stream) in open_ones() {
        let found = fstat(stream).map_err(|errno| {
            let error = std::io::Error::from(errno);
            Error::io("look at", "a standard stream", Sysno::fstat, &error)
        })?;
        if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            return Err(Error::Usage(format!(
                "descriptor {number} is a directory, and all below it would be open to the program; \
                 redirect it from /dev/null, and give the directory with --ro or --rw"
            )));
        }
    }
    Ok(())
}

impl Streams {
    /// Leaves them as they are.
    pub(super) fn kept() -> Self {
        Self {
            own: Vec::new(),
            copies: Vec::new(),
        }
    }

    /// Puts /dev/null in the place of all three: what is cloned now inherits that.
    pub(super) fn cut_off() -> Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| Error::io("open", "/dev/null", Sysno::openat, &error))?;
        let mut streams = Self::kept();
        for (number, stream) in open_ones() {
            streams.replace(number, stream, null.as_fd())?;
        }
        Ok(streams)
    }

    /// Puts a pipe in the place of each that is a terminal.
    pub(super) fn without_terminal() -> Result<Self> {
        let mut streams = Self::kept();
        for (number, stream) in open_ones().filter(|(_, stream)| stream.is_terminal()) {
            let terminal = File::from(fd::duplicate_above(stream, 3).map_err(failed)?);
            let (reader, writer) = fd::pipe().map_err(failed)?;
            let (theirs, copy) = match number {
                0 => (
                    reader,
                    Copy {
                        from: terminal,
                        to: Some(writer.into()),
                    },
                ),
                _ => (
                    writer,
                    Copy {
                        from: reader.into(),
                        to: Some(terminal),
                    },
                ),
            };
            streams.replace(number, stream, theirs.as_fd())?;
            streams.copies.push(copy);
        }
        Ok(streams)
    }

    fn replace(
        &mut self,
        number: i32,
        stream: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
    ) -> Result<()> {
        let own = fd::duplicate_above(stream, 3).map_err(failed)?;
        self.own.push((number, own));
        fd::duplicate_to(other, number).map_err(failed)
    }

    /// Puts the caller's own back, once the program has what it gets.
    pub(super) fn put_back(&mut self) -> Result<()> {
        for (number, stream) in self.own.drain(..) {
            fd::duplicate_to(stream.as_fd(), number).map_err(failed)?;
        }
        Ok(())
    }

    /// What to watch while the program runs.
    pub(super) fn watches(&mut self) -> Vec<Watch<'_>> {
        let copies = self.copies.iter_mut();
        copies.map(Copy::watch).collect()
    }

    /// Copies what the program wrote before it ended.
    pub(super) fn drain(&mut self) {
        for copy in &mut self.copies {
            while copy.to.is_some() && readable(&copy.from) {
                step(&copy.from, &mut copy.to);
            }
        }
    }
}

/// Those of 0, 1 and 2 that are open. One that is closed stays so.
fn open_ones() -> impl Iterator<Item = (i32, BorrowedFd<'static>)> {
    (0..=2).filter_map(|number| Some((number, fd::standard(number)?)))
}

/// Copies once; true when there will be nothing more.
fn step(mut from: &File, to: &mut Option<File>) -> bool {
    let Some(file) = to else {
        return true;
    };
    if !writable(file) {
        // A program that does not read what is typed must not keep capsid from
        // signals and from the timeout.
        std::thread::sleep(Duration::from_millis(10));
        return false;
    }
    let mut buffer = [0u8; 4096];
    let done = match from.read(&mut buffer) {
        Ok(0) => true,
        Ok(length) => file.write_all(&buffer[..length]).is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::Interrupted,
    };
    if done {
        // The program reads to the end of its input.
        *to = None;
    }
    done
}

/// Room for a whole buffer, or nobody at the other end.
fn writable(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

fn readable(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

fn failed(failure: Failure) -> Error {
    Error::system("copy", "a standard stream", failure)
}
