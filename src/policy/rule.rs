//! The rules by name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Level;

/// A rule of docs/hardening.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Root of the container is nobody on the host.
    Userns,
    /// Host id 0 is not mapped by a caller who could.
    HostRootMap,
    /// No user namespaces inside the one that capsid made.
    NestedUserns,
    /// A filter where the bundle has none.
    SeccompDefault,
    /// Denials under every filter.
    SeccompFloor,
    /// No capability but those listed.
    Capabilities,
    /// no_new_privs, unless the bundle says false.
    NoNewPrivs,
    /// Paths of procfs and sysfs that cannot be read.
    MaskedPaths,
    /// Paths of procfs that cannot be written.
    ReadonlyPaths,
    /// A limit of processes where the bundle has none.
    Pids,
    /// What ends when memory ends.
    Memory,
    /// A cgroup namespace for whoever has a user namespace.
    Cgroupns,
    /// A session keyring of its own.
    Keyring,
    /// No core files.
    CoreDumps,
    /// A session, and a terminal of its own.
    Tty,
    /// No device nodes and no setuid programs on binds.
    Volumes,
    /// The runtime's own file is out of reach.
    #[serde(rename = "self")]
    Oneself,
}

impl Rule {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Rule; 17] = [
        Rule::Userns,
        Rule::HostRootMap,
        Rule::NestedUserns,
        Rule::SeccompDefault,
        Rule::SeccompFloor,
        Rule::Capabilities,
        Rule::NoNewPrivs,
        Rule::MaskedPaths,
        Rule::ReadonlyPaths,
        Rule::Pids,
        Rule::Memory,
        Rule::Cgroupns,
        Rule::Keyring,
        Rule::CoreDumps,
        Rule::Tty,
        Rule::Volumes,
        Rule::Oneself,
    ];

    /// Its name in docs/hardening.md, on the command line and in annotations.
    pub fn id(self) -> &'static str {
        match self {
            Rule::Userns => "userns",
            Rule::HostRootMap => "host-root-map",
            Rule::NestedUserns => "nested-userns",
            Rule::SeccompDefault => "seccomp-default",
            Rule::SeccompFloor => "seccomp-floor",
            Rule::Capabilities => "capabilities",
            Rule::NoNewPrivs => "no-new-privs",
            Rule::MaskedPaths => "masked-paths",
            Rule::ReadonlyPaths => "readonly-paths",
            Rule::Pids => "pids",
            Rule::Memory => "memory",
            Rule::Cgroupns => "cgroupns",
            Rule::Keyring => "keyring",
            Rule::CoreDumps => "core-dumps",
            Rule::Tty => "tty",
            Rule::Volumes => "volumes",
            Rule::Oneself => "self",
        }
    }

    /// Whether it can be given up by name. The others hold at every level:
    /// runc keeps them too, and no program needs them gone.
    pub fn can_be_relaxed(self) -> bool {
        !matches!(self, Rule::Capabilities | Rule::Tty | Rule::Oneself)
    }

    /// The lowest level that wants it.
    pub fn least_level(self) -> Level {
        match self {
            Rule::Userns | Rule::Keyring | Rule::Capabilities | Rule::Tty | Rule::Oneself => {
                Level::Compat
            }
            _ => Level::Baseline,
        }
    }

    /// The rule of that name, if it can be relaxed.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub fn relaxable(name: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|rule| rule.id() == name && rule.can_be_relaxed());
        known.ok_or_else(|| {
            let all = Self::ALL.into_iter().filter(|rule| rule.can_be_relaxed());
            let all: Vec<_> = all.map(Rule::id).collect();
            format!(
                "{name:?} is no rule that can be relaxed; these can: {}",
                all.join(", ")
            )
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
