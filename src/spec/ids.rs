//! One range of an id map.

use std::fmt;

use oci_spec::runtime::LinuxIdMapping;

/// One line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl IdRange {
    /// Whether an id of the container is in it.
    pub fn contains(&self, id: u32) -> bool {
        id.checked_sub(self.container)
            .is_some_and(|offset| offset < self.size)
    }
}

impl From<&LinuxIdMapping> for IdRange {
    fn from(mapping: &LinuxIdMapping) -> Self {
        Self {
            container: mapping.container_id(),
            host: mapping.host_id(),
            size: mapping.size(),
        }
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{} -> {}", self.container, self.size, self.host)
    }
}
