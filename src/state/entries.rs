//! The names in a directory that is open.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};

use syscalls::Sysno;

use crate::error::{Error, Result};

/// The names in the directory `dir`, without `.` and `..`, in the kernel's order.
///
/// Goes through the descriptor, so the directory that is listed is the one that
/// was opened and checked, whatever its path names by now. `O_PATH` is enough.
///
/// # Errors
/// [`Error::System`] with the number that reading the directory gave.
pub fn names(dir: &impl AsFd) -> Result<Vec<OsString>> {
    let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let failed = |error| Error::io("list the directory", &path, Sysno::getdents64, &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    Ok(names)
}
