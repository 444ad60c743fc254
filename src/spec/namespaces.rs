//! The namespaces a configuration lists, and their kinds.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

/// `CLONE_NEWTIME`.
pub const NEW_TIME: u64 = 0x80;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own words")]
pub enum Kind {
    User,
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Kind {
    /// Every kind, in the order they are joined in: the user namespace last, for
    /// what comes after it needs the privileges it gives up.
    pub const ALL: [Kind; 8] = [
        Kind::Network,
        Kind::Ipc,
        Kind::Uts,
        Kind::Cgroup,
        Kind::Pid,
        Kind::Time,
        Kind::Mount,
        Kind::User,
    ];

    /// `CLONE_NEW*`.
    pub fn flag(self) -> u64 {
        let flag = match self {
            Kind::User => libc::CLONE_NEWUSER,
            Kind::Pid => libc::CLONE_NEWPID,
            Kind::Network => libc::CLONE_NEWNET,
            Kind::Mount => libc::CLONE_NEWNS,
            Kind::Ipc => libc::CLONE_NEWIPC,
            Kind::Uts => libc::CLONE_NEWUTS,
            Kind::Cgroup => libc::CLONE_NEWCGROUP,
            Kind::Time => return NEW_TIME,
        };
        u64::from(flag.cast_unsigned())
    }

    /// The word of the runtime specification.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Pid => "pid",
            Kind::Network => "network",
            Kind::Mount => "mount",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// The kind of an entry of `linux.namespaces`.
    pub fn of(namespace: &LinuxNamespace) -> Self {
        match namespace.typ() {
            LinuxNamespaceType::User => Kind::User,
            LinuxNamespaceType::Pid => Kind::Pid,
            LinuxNamespaceType::Network => Kind::Network,
            LinuxNamespaceType::Mount => Kind::Mount,
            LinuxNamespaceType::Ipc => Kind::Ipc,
            LinuxNamespaceType::Uts => Kind::Uts,
            LinuxNamespaceType::Cgroup => Kind::Cgroup,
            LinuxNamespaceType::Time => Kind::Time,
        }
    }
}

/// The names of all kinds in a set of `CLONE_NEW*` flags.
pub fn names(flags: u64) -> String {
    let names: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| flags & kind.flag() != 0)
        .map(|kind| kind.name())
        .collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// The namespaces of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` of those to make.
    pub new: u64,
    /// Those to join, with their files.
    pub joined: Vec<(Kind, PathBuf)>,
}

impl Namespaces {
    /// Reads `linux.namespaces`.
    pub fn of(spec: &Spec) -> Self {
        let mut found = Self::default();
        let listed = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        for namespace in listed.into_iter().flatten() {
            let kind = Kind::of(namespace);
            match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => {
                    found.joined.push((kind, path.clone()));
                }
                _ => found.new |= kind.flag(),
            }
        }
        found
    }

    /// Whether a namespace of this kind is made.
    pub fn makes(&self, kind: Kind) -> bool {
        self.new & kind.flag() != 0
    }

    /// Whether a namespace of this kind is joined.
    pub fn joins(&self, kind: Kind) -> bool {
        self.joined.iter().any(|(k, _)| *k == kind)
    }

    /// The file of the namespace of this kind that is joined.
    pub fn path(&self, kind: Kind) -> Option<&Path> {
        let (_, path) = self.joined.iter().find(|(joined, _)| *joined == kind)?;
        Some(path)
    }

    /// Whether the container has a namespace of this kind that is not the runtime's.
    pub fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind)
    }
}
