//! Standard input, output and error of a sandbox that nobody waits for.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::sys::fd;

/// The caller's own three, while /dev/null is in their place.
pub(super) struct Streams {
    own: Vec<(i32, OwnedFd)>,
}

impl Streams {
    /// Puts /dev/null in their place: what is cloned now inherits that.
    pub(super) fn cut_off() -> Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| Error::io("open", "/dev/null", Sysno::openat, &error))?;
        let mut own = Vec::new();
        for number in 0..=2 {
            // One that is closed stays so.
            if let Some(stream) = fd::standard(number) {
                own.push((number, fd::duplicate_above(stream, 3).map_err(failed)?));
                fd::duplicate_to(null.as_fd(), number).map_err(failed)?;
            }
        }
        Ok(Self { own })
    }

    /// Puts the caller's own back.
    pub(super) fn put_back(self) -> Result<()> {
        for (number, stream) in self.own {
            fd::duplicate_to(stream.as_fd(), number).map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(failure: Failure) -> Error {
    Error::system("copy", "a standard stream", failure)
}
