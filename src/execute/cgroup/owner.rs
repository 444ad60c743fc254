//! Giving a cgroup to the user of its container.

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};
use syscalls::Sysno;

use super::Cgroup;
use crate::error::{Error, Result};

/// The kernel's list of files that may be given away with a cgroup.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// What is on it since it exists.
const ALWAYS: &str = "cgroup.procs cgroup.threads cgroup.subtree_control";

/// Gives the directory and the files that may go with it to a user. Its limits
/// are in other files and stay the caller's.
///
/// # Errors
/// [`Error::System`].
pub(super) fn give(cgroup: &Cgroup, uid: u32) -> Result<()> {
    let failed = |file: &str, errno| {
        let what = cgroup.path().join(file);
        let doing = format!("give to user {uid}");
        Error::nix(doing, what.display(), Sysno::fchownat, errno)
    };
    let owner = Some(Uid::from_raw(uid));
    fchownat(&cgroup.dir, "", owner, None, AtFlags::AT_EMPTY_PATH)
        .map_err(|errno| failed("", errno))?;
    let list = crate::host::text(LIST);
    let list = if list.is_empty() { ALWAYS } else { &list };
    for file in list.split_ascii_whitespace() {
        match fchownat(&cgroup.dir, file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Not every cgroup has all of them.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(file, errno)),
        }
    }
    Ok(())
}
