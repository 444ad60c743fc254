//! What capsid insists on, whatever the bundle says.
//!
//! Pure: a checked configuration and facts go in, a hardened configuration and
//! the outcome of every rule come out.

use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Spec,
};

use crate::host::{Facts, Subordinate};
use crate::spec::ids::IdRange;
use crate::spec::namespaces::{Kind, Namespaces};
use crate::spec::validate::ValidSpec;

/// A configuration that the rules have been applied to.
#[derive(Debug)]
pub struct HardenedSpec {
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// What each rule came to.
    pub outcomes: Vec<Outcome>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What a rule came to for this container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The rule's id, as in docs/hardening.md.
    pub rule: &'static str,
    /// In force, or not and why.
    pub enforcement: Enforcement,
}

/// Whether a rule is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// In force; what was done for it.
    Enforced(String),
    /// The bundle itself asks for less, in so many words.
    Relaxed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.enforcement {
            Enforcement::Enforced(how) => write!(f, "{}: enforced ({how})", self.rule),
            Enforcement::Relaxed(by) => write!(f, "{}: relaxed by {by}", self.rule),
        }
    }
}

/// Applies every rule.
pub fn apply(valid: ValidSpec, facts: &Facts) -> HardenedSpec {
    let (bundle, mut spec, warnings) = valid.into_parts();
    let mut outcomes = Vec::new();
    outcomes.extend(user_namespace(&mut spec, facts));
    outcomes.extend(cgroup_namespace(&mut spec));
    outcomes.push(capabilities(&spec));
    outcomes.push(no_new_privileges(&spec));
    HardenedSpec {
        bundle,
        spec,
        outcomes,
        warnings,
    }
}

fn enforced(rule: &'static str, how: impl Into<String>) -> Outcome {
    Outcome {
        rule,
        enforcement: Enforcement::Enforced(how.into()),
    }
}

fn relaxed(rule: &'static str, by: impl Into<String>) -> Outcome {
    Outcome {
        rule,
        enforcement: Enforcement::Relaxed(by.into()),
    }
}

/// An unprivileged caller always gets a user namespace.
fn user_namespace(spec: &mut Spec, facts: &Facts) -> Option<Outcome> {
    if Namespaces::of(spec).has(Kind::User) {
        return Some(enforced("userns", "the bundle has one"));
    }
    if facts.privileged {
        return None;
    }
    let (users, groups, how) = if facts.subordinate.usable() {
        let (users, groups) = subordinate_maps(&facts.subordinate, facts.uid, facts.gid);
        (users, groups, "added, with the caller's subordinate ids")
    } else {
        let user = spec
            .process()
            .as_ref()
            .map_or((0, 0), |p| (p.user().uid(), p.user().gid()));
        let own = |container, host| {
            vec![IdRange {
                container,
                host,
                size: 1,
            }]
        };
        (
            own(user.0, facts.uid),
            own(user.1, facts.gid),
            "added, with the caller's own ids",
        )
    };
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    add_namespace(
        linux.namespaces_mut().get_or_insert_with(Vec::new),
        LinuxNamespaceType::User,
    );
    linux.set_uid_mappings(Some(mappings(&users)));
    linux.set_gid_mappings(Some(mappings(&groups)));
    Some(enforced("userns", how))
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
        return Some(enforced("cgroupns", "the bundle has one"));
    }
    if !namespaces.makes(Kind::User) {
        return Some(relaxed("cgroupns", "the bundle, which lists none"));
    }
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    add_namespace(
        linux.namespaces_mut().get_or_insert_with(Vec::new),
        LinuxNamespaceType::Cgroup,
    );
    Some(enforced("cgroupns", "added"))
}

fn capabilities(spec: &Spec) -> Outcome {
    let listed = spec
        .process()
        .as_ref()
        .and_then(|process| process.capabilities().as_ref());
    enforced(
        "capabilities",
        if listed.is_some() {
            "exactly those the bundle lists"
        } else {
            "none: the bundle lists none"
        },
    )
}

fn no_new_privileges(spec: &Spec) -> Outcome {
    match spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::no_new_privileges)
    {
        Some(false) => relaxed("no-new-privs", "noNewPrivileges: false in the bundle"),
        _ => enforced("no-new-privs", "set"),
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
