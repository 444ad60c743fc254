//! newuidmap and newgidmap, which map an ordinary user's subordinate ids.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::sys::probe;

/// Both programs.
pub const NAMES: [&str; 2] = ["newuidmap", "newgidmap"];

/// Where they are on every distribution; a caller's PATH may be empty.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];

/// Where a program is; `None` if it is not installed.
pub fn find(name: &str) -> Option<PathBuf> {
    let paths = DIRECTORIES.iter().map(|dir| Path::new(dir).join(name));
    paths.into_iter().find(|path| path.exists())
}

/// What gives a program the right to write the maps of another user's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It belongs to root and has the setuid bit.
    Setuid,
    /// It has capabilities of its own.
    Capabilities,
    /// Neither.
    None,
    /// One of them, and its mount is nosuid, which takes it away.
    Nosuid,
}

/// What gives the program at `path` its right.
pub fn right(path: &Path) -> Right {
    const SETUID: u32 = 0o4000;
    let setuid = fs::metadata(path).is_ok_and(|file| file.uid() == 0 && file.mode() & SETUID != 0);
    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let right = match setuid {
        true => Right::Setuid,
        false if probe::has_file_capabilities(&name) => Right::Capabilities,
        false => return Right::None,
    };
    let nosuid = statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOSUID));
    if nosuid { Right::Nosuid } else { right }
}

/// Whether this process has `no_new_privs`, with which such rights have no effect.
pub fn are_powerless() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("NoNewPrivs:"))
        .is_some_and(|value| value.trim() == "1")
}
