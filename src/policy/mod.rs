//! What capsid insists on, whatever the bundle says.
//!
//! Pure: a checked configuration and facts go in, a hardened configuration and
//! the outcome of every rule come out.

use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::{
    Capabilities, Capability, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace,
    LinuxNamespaceType, PosixRlimitBuilder, PosixRlimitType, Process, Spec,
};

use crate::error::Problem;
use crate::host::{Facts, Subordinate};
use crate::seccomp::Filter;
use crate::spec::ids::IdRange;
use crate::spec::namespaces::{Kind, Namespaces};
use crate::spec::validate::ValidSpec;

mod hardening;
mod level;
mod rule;
mod seccomp;

pub use hardening::{ANNOTATION, By, Hardening};
pub use level::Level;
pub use rule::Rule;

/// A configuration that the rules have been applied to.
#[derive(Debug)]
pub struct HardenedSpec {
    /// How much was insisted on.
    pub level: Level,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The configuration, without `linux.seccomp`.
    pub spec: Spec,
    /// The system calls that the container may make.
    pub filter: Filter,
    /// What each rule came to.
    pub outcomes: Vec<Outcome>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What a rule came to for this container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which one.
    pub rule: Rule,
    /// In force, or not and why.
    pub enforcement: Enforcement,
}

/// Whether a rule is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// In force; what was done for it.
    Enforced(String),
    /// Given up; by whom.
    Relaxed(String),
    /// Wanted, and not to be had here; why.
    Unsupported(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.enforcement {
            Enforcement::Enforced(how) => write!(f, "{}: enforced ({how})", self.rule),
            Enforcement::Relaxed(by) => write!(f, "{}: relaxed by {by}", self.rule),
            Enforcement::Unsupported(why) => write!(f, "{}: unsupported: {why}", self.rule),
        }
    }
}

impl Outcome {
    fn is_enforced(&self) -> bool {
        matches!(self.enforcement, Enforcement::Enforced(_))
    }
}

/// Applies every rule.
///
/// # Errors
///
/// An annotation that relaxes what is no rule, or cannot be relaxed.
pub fn apply(
    valid: ValidSpec,
    facts: &Facts,
    mut hardening: Hardening,
) -> Result<HardenedSpec, Problem> {
    let (bundle, mut spec, warnings) = valid.into_parts();
    hardening.relax_annotated(&spec)?;
    let mut outcomes = Vec::new();
    outcomes.extend(user_namespace(&mut spec, facts));
    outcomes.extend(cgroup_namespace(&mut spec));
    outcomes.push(capabilities(&spec));
    outcomes.extend(hidden_paths(&mut spec));
    if let Some(process) = spec.process_mut() {
        outcomes.push(core_dumps(process));
    }
    outcomes.push(no_new_privileges(&spec));
    let (filter, about) = seccomp::filter(&mut spec, &hardening);
    outcomes.extend(about);
    Ok(HardenedSpec {
        level: hardening.level,
        bundle,
        spec,
        filter,
        outcomes,
        warnings,
    })
}

fn enforced(rule: Rule, how: impl Into<String>) -> Outcome {
    Outcome {
        rule,
        enforcement: Enforcement::Enforced(how.into()),
    }
}

fn relaxed(rule: Rule, by: impl Into<String>) -> Outcome {
    Outcome {
        rule,
        enforcement: Enforcement::Relaxed(by.into()),
    }
}

/// An unprivileged caller always gets a user namespace.
fn user_namespace(spec: &mut Spec, facts: &Facts) -> Option<Outcome> {
    let namespaces = Namespaces::of(spec);
    let linux = spec.linux().as_ref();
    let mapped = linux.is_some_and(|linux| linux.uid_mappings().is_some());
    let whole = namespaces.joins(Kind::User) || (namespaces.makes(Kind::User) && mapped);
    if whole || facts.privileged {
        let has = namespaces.has(Kind::User);
        return has.then(|| enforced(Rule::Userns, "the bundle has one"));
    }
    let ((users, groups), how) = match facts.subordinate.missing() {
        None => (
            subordinate_maps(&facts.subordinate, facts.uid, facts.gid),
            "added, with the caller's subordinate ids".to_owned(),
        ),
        Some((missing, repair)) => (
            own_maps(spec, facts),
            format!("added, with the caller's own ids: {missing}; {repair}"),
        ),
    };
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    if !namespaces.has(Kind::User) {
        let list = linux.namespaces_mut().get_or_insert_with(Vec::new);
        add_namespace(list, LinuxNamespaceType::User);
    }
    linux.set_uid_mappings(Some(mappings(&users)));
    linux.set_gid_mappings(Some(mappings(&groups)));
    Some(enforced(Rule::Userns, how))
}

/// The caller's own ids as those of the process: one is all it may map.
fn own_maps(spec: &Spec, facts: &Facts) -> (Vec<IdRange>, Vec<IdRange>) {
    let user = spec.process().as_ref().map(|process| process.user());
    let (uid, gid) = user.map_or((0, 0), |user| (user.uid(), user.gid()));
    let own = |container, host| {
        vec![IdRange {
            container,
            host,
            size: 1,
        }]
    };
    (own(uid, facts.uid), own(gid, facts.gid))
}

/// The caller's own id as 0, and all subordinate ids after it.
fn subordinate_maps(ids: &Subordinate, uid: u32, gid: u32) -> (Vec<IdRange>, Vec<IdRange>) {
    let map = |own: u32, ranges: &[(u32, u32)]| {
        let mut maps = vec![IdRange {
            container: 0,
            host: own,
            size: 1,
        }];
        let mut next = 1u32;
        for (host, size) in ranges {
            let size = (*size).min(u32::MAX - 1 - next);
            if size > 0 {
                maps.push(IdRange {
                    container: next,
                    host: *host,
                    size,
                });
                next += size;
            }
        }
        maps
    };
    (map(uid, &ids.users), map(gid, &ids.groups))
}

fn add_namespace(namespaces: &mut Vec<LinuxNamespace>, kind: LinuxNamespaceType) {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespaces.push(namespace);
}

fn mappings(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    ranges
        .iter()
        .map(|range| {
            let mapping = LinuxIdMappingBuilder::default()
                .container_id(range.container)
                .host_id(range.host)
                .size(range.size);
            // Every field is set, so there is nothing the builder could miss.
            mapping.build().unwrap_or_default()
        })
        .collect()
}

/// Whoever has a user namespace of its own gets a cgroup namespace as well: it
/// would own the cgroup files it sees (CVE-2023-25809).
fn cgroup_namespace(spec: &mut Spec) -> Option<Outcome> {
    let namespaces = Namespaces::of(spec);
    if namespaces.has(Kind::Cgroup) {
        return Some(enforced(Rule::Cgroupns, "the bundle has one"));
    }
    if !namespaces.has(Kind::User) {
        return Some(relaxed(Rule::Cgroupns, "the bundle, which lists none"));
    }
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    add_namespace(
        linux.namespaces_mut().get_or_insert_with(Vec::new),
        LinuxNamespaceType::Cgroup,
    );
    Some(enforced(Rule::Cgroupns, "added"))
}

fn capabilities(spec: &Spec) -> Outcome {
    let listed = spec
        .process()
        .as_ref()
        .and_then(|process| process.capabilities().as_ref());
    enforced(
        Rule::Capabilities,
        if listed.is_some() {
            "exactly those the bundle lists"
        } else {
            "none: the bundle lists none"
        },
    )
}

/// Paths of procfs and sysfs that tell too much, or change the host, when the
/// bundle does not say which to hide.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of procfs that change the host when they are written.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Whether the bundle grants CAP_SYS_ADMIN in so many words: it asks to be
/// privileged, and hiding paths from someone who can mount is in vain.
fn is_privileged(spec: &Spec) -> bool {
    bounding(spec).contains(&Capability::SysAdmin)
}

/// The capabilities that the bundle grants: those of the bounding set.
fn bounding(spec: &Spec) -> Capabilities {
    let process = spec.process().as_ref();
    let listed = process.and_then(|process| process.capabilities().as_ref());
    let bounding = listed.and_then(|sets| sets.bounding().clone());
    bounding.unwrap_or_default()
}

/// Lists that a bundle leaves out are capsid's own; an empty list is the bundle's word.
fn hidden_paths(spec: &mut Spec) -> [Outcome; 2] {
    let privileged = is_privileged(spec);
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    let own = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
    let judge = |rule, absent, privileged| match (absent, privileged) {
        (false, _) => enforced(rule, "the bundle's own list"),
        (true, false) => enforced(rule, "the default list: the bundle has none"),
        (true, true) => relaxed(rule, "the bundle, which grants CAP_SYS_ADMIN"),
    };
    let outcomes = [
        judge(
            Rule::MaskedPaths,
            linux.masked_paths().is_none(),
            privileged,
        ),
        judge(
            Rule::ReadonlyPaths,
            linux.readonly_paths().is_none(),
            privileged,
        ),
    ];
    if !privileged && linux.masked_paths().is_none() {
        linux.set_masked_paths(own(&MASKED_PATHS));
    }
    if !privileged && linux.readonly_paths().is_none() {
        linux.set_readonly_paths(own(&READONLY_PATHS));
    }
    outcomes
}

/// A core file holds every secret of its process, and a host's core_pattern
/// may hand it to a program outside: none, unless the bundle sets a limit.
pub fn core_dumps(process: &mut Process) -> Outcome {
    let mut limits = process.rlimits().clone().unwrap_or_default();
    if limits
        .iter()
        .any(|limit| limit.typ() == PosixRlimitType::RlimitCore)
    {
        return relaxed(Rule::CoreDumps, "RLIMIT_CORE in the bundle");
    }
    let none = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitCore)
        .soft(0u64)
        .hard(0u64);
    // Every field is set, so there is nothing the builder could miss.
    limits.extend(none.build().ok());
    process.set_rlimits(Some(limits));
    enforced(Rule::CoreDumps, "RLIMIT_CORE 0")
}

fn no_new_privileges(spec: &Spec) -> Outcome {
    match spec.process().as_ref().and_then(Process::no_new_privileges) {
        Some(false) => relaxed(Rule::NoNewPrivs, "noNewPrivileges: false in the bundle"),
        _ => enforced(Rule::NoNewPrivs, "set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_own_id_becomes_root() {
        let ids = Subordinate {
            users: vec![(100_000, 65536)],
            groups: vec![(200_000, 5)],
            helpers: true,
        };
        let (users, groups) = subordinate_maps(&ids, 1000, 1001);
        assert_eq!(
            users[0],
            IdRange {
                container: 0,
                host: 1000,
                size: 1
            }
        );
        assert_eq!(
            users[1],
            IdRange {
                container: 1,
                host: 100_000,
                size: 65536
            }
        );
        assert_eq!(
            groups[1],
            IdRange {
                container: 1,
                host: 200_000,
                size: 5
            }
        );
    }
}
