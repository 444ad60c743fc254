//! Facts about this machine and the caller, read once, as plain data.

pub mod cgroup;
pub mod controllers;
pub mod id_programs;
pub mod kernel;
pub mod mountinfo;
pub mod offered;
pub mod overlay;
pub mod policy_file;
pub mod program;
pub mod trial;
pub mod userland;

use std::fs;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::sys::process::capabilities;

/// What decisions depend on besides the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Effective user id 0, in whatever user namespace.
    pub privileged: bool,
    /// The runtime itself is in a user namespace other than the first.
    pub in_user_namespace: bool,
    /// setgroups(2) is possible in the runtime's own user namespace.
    pub may_set_groups: bool,
    /// `/proc/sys` is mounted read-only, as in most containers.
    pub read_only_sysctls: bool,
    /// The version of Landlock's ABI, where it is in force.
    pub landlock: Option<u32>,
    /// The caller's permitted capabilities, one bit each.
    pub capabilities: u64,
    /// What an unprivileged caller may map besides its own ids.
    pub subordinate: Subordinate,
    /// Ids of its own for a container of root, or why it can have none. Looked
    /// for only where they may be wanted.
    pub offered: Option<Result<OfferedIds, String>>,
}

/// Ids that nobody else has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferedIds {
    /// The first of them: of users and of groups.
    pub first: u32,
    /// Entries of `mounts` that bind a device node, whose ids stay as they are.
    pub devices: Vec<usize>,
}

/// Ids that /etc/subuid and /etc/subgid give an ordinary user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subordinate {
    /// User id ranges: first id and count.
    pub users: Vec<(u32, u32)>,
    /// Group id ranges.
    pub groups: Vec<(u32, u32)>,
    /// newuidmap and newgidmap are installed.
    pub helpers: bool,
}

impl Subordinate {
    /// What keeps the caller from mapping more than its own ids, and the command
    /// that repairs it; `None` when nothing does.
    pub fn missing(&self) -> Option<(&'static str, &'static str)> {
        self.missing_ranges().or_else(|| self.missing_programs())
    }

    /// The same for the ranges alone.
    pub fn missing_ranges(&self) -> Option<(&'static str, &'static str)> {
        let missing = self.users.is_empty() || self.groups.is_empty();
        missing.then_some((
            "no range in /etc/subuid and /etc/subgid",
            "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        ))
    }

    /// The same for the programs alone.
    pub fn missing_programs(&self) -> Option<(&'static str, &'static str)> {
        (!self.helpers).then_some((
            "newuidmap and newgidmap are not installed",
            "as root: apt install uidmap",
        ))
    }
}

impl Facts {
    /// Whether the caller is root of the machine, and not of a user namespace
    /// alone: only the former loads device filters and may idmap anything.
    pub fn is_real_root(&self) -> bool {
        self.privileged && !self.in_user_namespace
    }

    /// Reads them from the running system.
    pub fn read() -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        let privileged = uid == 0;
        let in_user_namespace = in_user_namespace();
        Self {
            uid,
            gid,
            privileged,
            in_user_namespace,
            may_set_groups: !in_user_namespace || text("/proc/self/setgroups").trim() != "deny",
            read_only_sysctls: statvfs("/proc/sys")
                .is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY)),
            landlock: kernel::landlock().and_then(|abi| u32::try_from(abi).ok()),
            capabilities: capabilities().map_or(0, |sets| sets.permitted),
            subordinate: if privileged {
                Subordinate::default()
            } else {
                subordinate(uid)
            },
            offered: None,
        }
    }
}

/// The whole of a small file of the kernel's; empty when it cannot be read.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Whether this process is in a user namespace that does not have all ids.
pub fn in_user_namespace() -> bool {
    !initial_map(&text("/proc/self/uid_map"))
}

/// Whether an id map is that of the first user namespace.
fn initial_map(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let first = [words.next(), words.next(), words.next()];
    first == [Some("0"), Some("0"), Some("4294967295")] && words.next().is_none()
}

fn subordinate(uid: u32) -> Subordinate {
    let name = user_name(&text("/etc/passwd"), uid);
    Subordinate {
        users: ranges(&text("/etc/subuid"), uid, name.as_deref()),
        groups: ranges(&text("/etc/subgid"), uid, name.as_deref()),
        helpers: id_programs::NAMES
            .iter()
            .all(|name| id_programs::find(name).is_some()),
    }
}

/// The name of a user in the host's /etc/passwd.
///
/// Read as text: getpwuid(3) would load modules into a static program.
pub fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == uid && !name.is_empty()).then(|| name.to_owned())
    })
}

/// The ranges of one user: lines `name-or-uid:first:count`.
fn ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            let first: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            let ours = who == number || Some(who) == name;
            (ours && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
        })
        .collect()
}

/// The caller's hard `RLIMIT_NPROC`; `None` without a limit, or where procfs is hidden.
pub fn process_limit() -> Option<u64> {
    let limits = text("/proc/self/limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max processes"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The sysctls that decide who may make user namespaces; not every kernel has all.
pub const USER_NAMESPACE_SETTINGS: [&str; 3] = [
    "user.max_user_namespaces",
    "kernel.unprivileged_userns_clone",
    APPARMOR_SETTING,
];

const APPARMOR_SETTING: &str = "kernel.apparmor_restrict_unprivileged_userns";

/// The number that a sysctl has; `None` where this kernel does not have it, or it is hidden.
pub fn setting(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    text(&path).trim().parse().ok()
}

/// Why an unprivileged caller cannot make a user namespace: what is missing and the repair.
pub fn user_namespace_obstacle() -> (String, String) {
    if setting("user.max_user_namespaces") == Some(0) {
        return (
            "user namespaces are switched off (user.max_user_namespaces is 0)".into(),
            "as root: sysctl user.max_user_namespaces=15000".into(),
        );
    }
    if setting("kernel.unprivileged_userns_clone") == Some(0) {
        return (
            "user namespaces are for root only (kernel.unprivileged_userns_clone is 0)".into(),
            "as root: sysctl kernel.unprivileged_userns_clone=1".into(),
        );
    }
    if let Some(restriction) = apparmor_restriction() {
        return restriction;
    }
    (
        "the kernel or a security module refuses user namespaces to this caller".into(),
        "in a chroot nobody gets one; otherwise look at the kernel's log, and at the seccomp profile if this is a container itself".into(),
    )
}

/// Ubuntu's restriction: the namespace is made, and has no privileges inside.
pub fn apparmor_restriction() -> Option<(String, String)> {
    let missing = "AppArmor lets only programs with a profile use user namespaces";
    let repair = "as root: give capsid a profile with `userns,` in /etc/apparmor.d/capsid and load it with \
                  apparmor_parser -r /etc/apparmor.d/capsid (the README shows it)";
    (setting(APPARMOR_SETTING) == Some(1)).then(|| (missing.into(), repair.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text =
            "alice:100000:65536\n1000:300000:10\nbob:1:1\n#x\nalice:4294967295:2\nalice:5:0\n";
        assert_eq!(
            ranges(text, 1000, Some("alice")),
            [(100_000, 65536), (300_000, 10)]
        );
        assert_eq!(ranges(text, 1001, None), []);
    }

    #[test]
    fn the_first_user_namespace_maps_everything() {
        assert!(initial_map("         0          0 4294967295\n"));
        assert!(!initial_map("         0       1000          1\n"));
        assert!(!initial_map(""));
    }

    #[test]
    fn names_are_read_from_passwd() {
        let text = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbroken\n";
        assert_eq!(user_name(text, 1000).as_deref(), Some("alice"));
        assert_eq!(user_name(text, 7), None);
    }
}
