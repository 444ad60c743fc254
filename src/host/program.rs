//! Who a thread is, for messages.

use std::fs;

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
