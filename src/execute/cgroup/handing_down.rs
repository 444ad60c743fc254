//! Why a controller does not reach a cgroup, in words: for `create` when it fails, and for `doctor` before.

use std::path::Path;

use nix::errno::Errno;
use syscalls::Sysno;

use crate::error::Error;

/// The error for a level that has a controller and does not hand it down.
pub fn not_handed_down(level: &Path, controller: &str, errno: Errno) -> Error {
    let file = level.join("cgroup.subtree_control");
    let (missing, repair) = match errno {
        Errno::EBUSY => (
            "the cgroup has processes of its own (EBUSY), so it cannot hand controllers down",
            "move them to a child cgroup first, or set linux.cgroupsPath to a place without processes",
        ),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => (
            "no permission to write there",
            "have the controller delegated: Delegate=cpu cpuset io memory pids in the unit \
             (systemctl edit user@.service), then log in again",
        ),
        Errno::EOPNOTSUPP => (
            "the cgroup is threaded (EOPNOTSUPP)",
            "set linux.cgroupsPath to a place outside of threaded cgroups",
        ),
        _ => {
            return Error::nix(
                format!("write +{controller} to"),
                file.display(),
                Sysno::write,
                errno,
            );
        }
    };
    Error::Missing {
        doing: format!("write +{controller} to {}", file.display()),
        missing: missing.into(),
        repair: repair.into(),
    }
}

/// What is missing where a level does not list a controller, and the repair.
pub fn not_listed(mount: &Path, level: &Path, controller: &str) -> (String, String) {
    let missing = format!(
        "the controller {controller} is not available: {} does not list it",
        level.join("cgroup.controllers").display()
    );
    let repair = if level == mount {
        format!(
            "cgroup v1 holds it (boot with systemd.unified_cgroup_hierarchy=1 or \
             cgroup_no_v1={controller}), the kernel lacks it (/proc/cgroups), or this mount shows \
             a part of the hierarchy that does not have it"
        )
    } else {
        format!(
            "have it delegated: write +{controller} to cgroup.subtree_control of its parent, or \
             Delegate={controller} in the systemd unit"
        )
    };
    (missing, repair)
}
