//! User and group id maps of a user namespace.

use std::fmt;

use crate::spec::ids::IdRange;

/// The maps of a user namespace and who writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// For user ids.
    pub users: Vec<IdRange>,
    /// For group ids.
    pub groups: Vec<IdRange>,
    /// Who writes them.
    pub writer: Writer,
}

/// Who writes the id maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The runtime, which has the privilege.
    Runtime,
    /// The runtime, for its own ids only. The kernel then demands that
    /// setgroups(2) is denied, or a process could shed a group that keeps it
    /// from a file.
    RuntimeOwnIdOnly,
    /// newuidmap and newgidmap, which check /etc/subuid and /etc/subgid.
    Helpers,
}

impl IdMaps {
    /// Plans the maps. Root writes its own; an ordinary user may map exactly its
    /// own user and group, and needs the helpers for anything else.
    pub fn new(
        users: Vec<IdRange>,
        groups: Vec<IdRange>,
        privileged: bool,
        caller: (u32, u32),
    ) -> Self {
        let own = |ranges: &[IdRange], id: u32| matches!(ranges, [range] if range.size == 1 && range.host == id);
        let writer = if privileged {
            Writer::Runtime
        } else if own(&users, caller.0) && own(&groups, caller.1) {
            Writer::RuntimeOwnIdOnly
        } else {
            Writer::Helpers
        };
        Self {
            users,
            groups,
            writer,
        }
    }

    /// Whether a user id of the container stands for anyone.
    pub fn maps_user(&self, id: u32) -> bool {
        self.users.iter().any(|range| range.contains(id))
    }

    /// Whether a group id of the container stands for anyone.
    pub fn maps_group(&self, id: u32) -> bool {
        self.groups.iter().any(|range| range.contains(id))
    }
}

/// The maps as the kernel and the helpers take them: one line each, or one word each.
pub fn lines(ranges: &[IdRange]) -> String {
    ranges
        .iter()
        .map(|r| format!("{} {} {}\n", r.container, r.host, r.size))
        .collect()
}

impl fmt::Display for IdMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ranges: &[IdRange]| {
            ranges
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        write!(
            f,
            "users {}; groups {}",
            list(&self.users),
            list(&self.groups)
        )?;
        f.write_str(match self.writer {
            Writer::Runtime => " (written by the runtime)",
            Writer::RuntimeOwnIdOnly => " (the caller's own ids; setgroups denied)",
            Writer::Helpers => " (written by newuidmap and newgidmap)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(container: u32, host: u32, size: u32) -> IdRange {
        IdRange {
            container,
            host,
            size,
        }
    }

    #[test]
    fn an_ordinary_user_writes_only_its_own_id() {
        let own = vec![range(0, 1000, 1)];
        let maps = IdMaps::new(own.clone(), own.clone(), false, (1000, 1000));
        assert_eq!(maps.writer, Writer::RuntimeOwnIdOnly);
        let maps = IdMaps::new(own.clone(), own.clone(), false, (1000, 1001));
        assert_eq!(maps.writer, Writer::Helpers);
        let more = vec![range(0, 1000, 1), range(1, 100_000, 65536)];
        assert_eq!(
            IdMaps::new(more, own.clone(), false, (1000, 1000)).writer,
            Writer::Helpers
        );
        assert_eq!(
            IdMaps::new(own.clone(), own, true, (0, 0)).writer,
            Writer::Runtime
        );
    }

    #[test]
    fn ranges_contain_their_ends() {
        let maps = IdMaps::new(
            vec![range(10, 0, 5)],
            vec![range(0, 0, u32::MAX)],
            true,
            (0, 0),
        );
        assert!(maps.maps_user(10) && maps.maps_user(14));
        assert!(!maps.maps_user(9) && !maps.maps_user(15));
        assert!(maps.maps_group(u32::MAX - 1) && !maps.maps_group(u32::MAX));
    }
}
