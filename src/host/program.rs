//! Who a thread is and where, for messages.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// What `/proc/TID/status` says of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name (`comm`), at most 15 bytes, which the program chooses.
    pub name: String,
    /// The id of its process.
    pub process: i32,
}

/// The thread of an id in this pid namespace, if there is one that may be seen.
pub fn identify(thread: u32) -> Option<Identity> {
    let status = fs::read(format!("/proc/{thread}/status")).ok()?;
    parse(&String::from_utf8_lossy(&status))
}

/// The directory behind a thread's descriptor, or the one it is in, as its own mount
/// namespace has it.
pub fn directory(thread: i32, descriptor: Option<i32>) -> Option<PathBuf> {
    let link = match descriptor {
        Some(number) => format!("/proc/{thread}/fd/{number}"),
        None => format!("/proc/{thread}/cwd"),
    };
    fs::read_link(link).ok()
}

/// Whether a path leads to something, a link that leads nowhere included.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether the caller may read a file.
pub fn is_readable(path: &Path) -> bool {
    access(path, AccessFlags::R_OK).is_ok()
}

fn parse(status: &str) -> Option<Identity> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches('\t'))
    };
    Some(Identity {
        // The kernel escapes line breaks and backslashes in it.
        name: field("Name:")?.to_owned(),
        process: field("Tgid:")?.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_is_found() {
        let own = identify(std::process::id()).unwrap();
        assert_eq!(own.process, std::process::id().cast_signed());
        assert!(!own.name.is_empty());
        assert_eq!(identify(u32::MAX), None);
    }

    #[test]
    fn a_name_can_have_spaces() {
        let found = parse("Name:\ta b \nUmask:\t0022\nTgid:\t7\nPid:\t9\n").unwrap();
        assert_eq!(found.name, "a b ");
        assert_eq!(found.process, 7);
    }
}
