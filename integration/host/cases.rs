//! How tests are listed: a function, who runs it, what the machine must have.

use crate::roles::{Role, Test};

/// One test function, run once for each of its roles.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(&Test),
}

/// What a test needs of the machine, beyond what its role needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// `systemd-socket-activate` on the host.
    SocketActivate,
    /// A static busybox on the host.
    Busybox,
    /// `CAPSID_TEST_DEBIAN_ROOTFS` names a Debian tree.
    DebianRootfs,
    /// The controllers cpu, io, memory and pids on cgroup2.
    Controllers,
    /// A systemd that manages cgroup2, and the role's bus.
    Systemd,
    /// `CAPSID_TEST_DISK` names a disk that may be written to.
    Disk,
    /// The cgroup controller `cpu`.
    Cpu,
    /// The cgroup controller `hugetlb`, and pages of 2 MiB.
    Hugetlb,
    /// The cgroup controller `io`, and a block device.
    Io,
    /// The cgroup controller `memory`.
    Memory,
    /// The cgroup controller `pids`.
    Pids,
}

impl Need {
    /// The cgroup controller that this is about.
    pub(crate) fn controller(self) -> Option<&'static str> {
        match self {
            Need::Cpu => Some("cpu"),
            Need::Hugetlb => Some("hugetlb"),
            Need::Io => Some("io"),
            Need::Memory => Some("memory"),
            Need::Pids => Some("pids"),
            Need::SocketActivate
            | Need::Busybox
            | Need::DebianRootfs
            | Need::Controllers
            | Need::Systemd
            | Need::Disk => None,
        }
    }
}

/// Why a test does not run here.
pub(crate) struct Skip {
    /// A word for `CAPSID_TEST_ALLOW_SKIP`.
    pub(crate) key: &'static str,
    pub(crate) reason: String,
}

/// Root, a user with subordinate ids, a user without.
pub(crate) const ALL: &[Role] = &[Role::Root, Role::Rootless, Role::Single];
/// Root only.
pub(crate) const ROOT: &[Role] = &[Role::Root];
/// Where more than one id must be mapped.
pub(crate) const RANGES: &[Role] = &[Role::Root, Role::Rootless];
/// Ordinary users only.
pub(crate) const USERS: &[Role] = &[Role::Rootless, Role::Single];

/// `cases! { ROLES [NEEDS]: function, function; ... }`
macro_rules! cases {
    ($($roles:ident $needs:tt: $($run:ident),+ $(,)?;)+) => {
        pub(crate) fn cases() -> Vec<$crate::cases::Case> {
            vec![$($($crate::cases::Case {
                name: stringify!($run),
                roles: $crate::cases::$roles,
                needs: $crate::cases::needs!($needs),
                run: $run,
            },)+)+]
        }
    };
}
pub(crate) use cases;

macro_rules! needs {
    ([$($need:ident),*]) => { &[$($crate::cases::Need::$need),*] };
}
pub(crate) use needs;
