//! Files that only the program is to know, on a file system that is never written
//! to a disk.
//!
//! A plan is printed and logged, so it has neither their contents nor their names.

use std::ffi::CString;
use std::fmt;

/// Where they are, in the container.
pub const DIRECTORY: &std::ffi::CStr = c"/run/secrets";

/// Makes the files of the secrets that come with a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretsStep {
    /// How many there are.
    pub count: usize,
    /// Who may read them, in the container.
    pub uid: u32,
    /// Their group, in the container.
    pub gid: u32,
    /// `linux.mountLabel`.
    pub label: Option<CString>,
}

impl fmt::Display for SecretsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(
            f,
            "mount ramfs on /run/secrets (mode=500,uid={},gid={}) ro nosuid nodev noexec, filled \
             with {} secret{plural}",
            self.uid, self.gid, self.count
        )
    }
}
