//! The namespaces of the process at hand, by their files.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::spec::namespaces::Kind;
use crate::sys::Result;
use crate::sys::fd::{self, At, Resolve};

/// Opens one, below a procfs of the host.
pub(super) fn open(procfs: BorrowedFd<'_>, kind: Kind) -> Result<OwnedFd> {
    // A namespace file is a magic link, so it cannot be opened with the usual care.
    fd::open(At::Dir(procfs), file(kind), libc::O_RDONLY, Resolve::ANY)
}

fn file(kind: Kind) -> &'static CStr {
    match kind {
        Kind::Pid => c"self/ns/pid",
        Kind::Ipc => c"self/ns/ipc",
        Kind::Network => c"self/ns/net",
        Kind::Cgroup => c"self/ns/cgroup",
        Kind::User => c"self/ns/user",
        Kind::Uts => c"self/ns/uts",
        Kind::Time => c"self/ns/time",
        Kind::Mount => c"self/ns/mnt",
    }
}
