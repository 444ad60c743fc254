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
    /// The tests run as root, whatever the role.
    RealRoot,
    /// `systemd-socket-activate` on the host.
    SocketActivate,
    /// A static busybox on the host.
    Busybox,
    /// pasta, and a network of the tests' own that it can leave.
    Pasta,
    /// A network of the tests' own, and iproute2.
    Network,
    /// curl in /usr/bin.
    Curl,
    /// A C compiler and make in /usr/bin.
    Compiler,
    /// git where a sandbox finds it.
    Git,
    /// node in /usr/bin.
    Node,
    /// perl in /usr/bin.
    Perl,
    /// python3 in /usr/bin.
    Python,
    /// sqlite3 in /usr/bin.
    Sqlite,
    /// A Rust toolchain that runs the tests.
    Toolchain,
    /// tmux and less in /usr/bin.
    Tmux,
    /// vim where a sandbox finds it.
    Vim,
    /// runc on the host.
    Runc,
    /// `CAPSID_TEST_DEBIAN_ROOTFS` names a Debian tree.
    DebianRootfs,
    /// The controllers cpu, io, memory and pids on cgroup2.
    Controllers,
    /// A systemd that manages cgroup2, and the role's bus.
    Systemd,
    /// `CAPSID_TEST_DISK` names a disk that may be written to.
    Disk,
    /// `CAPSID_TEST_VERITY` names a directory where files can have fs-verity.
    Verity,
    /// The cgroup controller `cpuset`, and two processors.
    Cpuset,
    /// The cgroup controller `hugetlb`, and free pages of 2 MiB.
    HugePages,
    /// A place to swap to.
    Swap,
    /// The disk of `CAPSID_TEST_DISK` has the scheduler BFQ.
    Bfq,
    /// The cgroup controller `rdma`, and a device.
    Rdma,
    /// The cgroup controller `cpu`.
    Cpu,
    /// The cgroup controller `hugetlb`.
    Hugetlb,
    /// The cgroup controller `io`, and a block device.
    Io,
    /// The cgroup controller `memory`.
    Memory,
    /// The cgroup controller `pids`.
    Pids,
}

impl Need {
    /// The programs of the host that this is about.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Need::Compiler => &["gcc", "make"],
            Need::Pasta => &["pasta"],
            Need::Curl => &["curl"],
            Need::Git => &["git"],
            Need::Node => &["node"],
            Need::Perl => &["perl"],
            Need::Python => &["python3"],
            Need::Sqlite => &["sqlite3"],
            Need::Tmux => &["tmux", "less"],
            Need::Vim => &["vim"],
            Need::Runc => &["runc"],
            _ => &[],
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
/// An ordinary user with subordinate ids.
pub(crate) const RANGED: &[Role] = &[Role::Rootless];
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
