//! The rules about namespaces: who is root, and who may make more of them.

use std::collections::HashMap;

use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Spec,
};

use super::judgement::Judgement;
use super::process::is_privileged;
use super::{Rule, userns};
use crate::host::{Facts, Subordinate};
use crate::spec::ids::IdRange;
use crate::spec::namespaces::{Kind, Namespaces};
use crate::spec::validate::sysctl;

/// How many user namespaces may be made inside; a value of each user namespace.
const NESTED: &str = "user.max_user_namespaces";
/// Its path below `/proc/sys`.
const NESTED_PATH: &str = "user/max_user_namespaces";

/// Applies them.
///
/// The first id of a container of root that got ids of its own by this.
pub(super) fn apply(spec: &mut Spec, facts: &Facts, judgement: &mut Judgement<'_>) -> Option<u32> {
    let given = user_namespace(spec, facts, judgement);
    host_root_map(spec, facts, judgement);
    cgroup_namespace(spec, judgement);
    given
}

/// An unprivileged caller always gets a user namespace, and a container of root
/// wherever it can have one.
fn user_namespace(spec: &mut Spec, facts: &Facts, judgement: &mut Judgement<'_>) -> Option<u32> {
    let rule = Rule::Userns;
    let namespaces = Namespaces::of(spec);
    let linux = spec.linux().as_ref();
    let mapped = linux.is_some_and(|linux| linux.uid_mappings().is_some());
    let whole = namespaces.joins(Kind::User) || (namespaces.makes(Kind::User) && mapped);
    if whole || (facts.privileged && namespaces.has(Kind::User)) {
        judgement.enforced(rule, "the bundle has one");
        return None;
    }
    if facts.is_real_root() {
        return userns::give(spec, facts, judgement);
    }
    if facts.privileged {
        judgement.enforced(rule, "the one that capsid itself runs in");
        return None;
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
    judgement.enforced(rule, how);
    None
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

pub(super) fn add_namespace(namespaces: &mut Vec<LinuxNamespace>, kind: LinuxNamespaceType) {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespaces.push(namespace);
}

pub(super) fn mappings(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
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

/// Whoever is id 0 of the host may write what belongs to it, core_pattern among
/// it, whatever user namespace it is in and without any capability.
fn host_root_map(spec: &Spec, facts: &Facts, judgement: &mut Judgement<'_>) {
    let rule = Rule::HostRootMap;
    let namespaces = Namespaces::of(spec);
    if judgement.gives_up(rule) {
        return;
    }
    if !facts.is_real_root() {
        return judgement.enforced(rule, "the caller is not root of the machine");
    }
    if !namespaces.has(Kind::User) {
        return judgement.relaxed(rule, "the bundle, which has no user namespace");
    }
    if namespaces.joins(Kind::User) {
        let why = "the user namespace is joined, and its map is whoever's made it";
        return judgement.unsupported(rule, why);
    }
    let Some(linux) = spec.linux() else {
        return;
    };
    for (list, at) in [
        (linux.uid_mappings(), "/linux/uidMappings"),
        (linux.gid_mappings(), "/linux/gidMappings"),
    ] {
        let mut ranges = list.iter().flatten();
        if let Some(index) = ranges.position(|range| range.host_id() == 0 && range.size() > 0) {
            judgement.refuse(
                &format!("{at}/{index}/hostID"),
                "maps id 0 of the host, who owns /proc/sys and most other files: map ids that \
                 nobody has, or give the rule up with --relax host-root-map",
            );
        }
    }
    judgement.enforced(rule, "id 0 of the host is not mapped");
}

/// In a user namespace of its own every program has all capabilities, and so
/// reaches code of the kernel that is root's alone elsewhere.
///
/// To be called once it is known which paths are read-only.
pub(super) fn forbid_nested(spec: &mut Spec, facts: &Facts, judgement: &mut Judgement<'_>) {
    let rule = Rule::NestedUserns;
    if judgement.gives_up(rule) {
        return;
    }
    if !Namespaces::of(spec).makes(Kind::User) {
        let why = "no user namespace is made for it, and the setting is one of the namespace";
        return judgement.unsupported(rule, why);
    }
    if is_privileged(spec) {
        return judgement.relaxed(rule, super::process::PRIVILEGED);
    }
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    if let Some((name, value)) = own_setting(linux) {
        if value.trim() == "0" {
            return judgement.enforced(rule, "user.max_user_namespaces 0, as the bundle says");
        }
        let at = format!("/linux/sysctl/{}", crate::error::escape(&name));
        return judgement.asks_for_less(rule, &at, &format!("it sets {NESTED} to {value}"));
    }
    if facts.read_only_sysctls {
        let why = "/proc/sys is read-only here, as it is inside of containers";
        return judgement.unsupported(rule, why);
    }
    let sysctls = linux.sysctl_mut().get_or_insert_with(HashMap::new);
    sysctls.insert(NESTED.into(), "0".into());
    keep_from_writing(linux);
    judgement.enforced(rule, format!("{NESTED} 0"));
}

/// What the bundle itself sets, in any spelling.
fn own_setting(linux: &Linux) -> Option<(String, String)> {
    let mut sysctls = linux.sysctl().iter().flatten();
    sysctls
        .find(|(name, _)| sysctl::path(name).as_deref() == Some(NESTED_PATH))
        .map(|(name, value)| (name.clone(), value.clone()))
}

/// Whoever has CAP_SYS_RESOURCE inside could write it back, but for a read-only
/// mount that takes CAP_SYS_ADMIN to undo.
fn keep_from_writing(linux: &mut Linux) {
    let paths = linux.readonly_paths_mut().get_or_insert_with(Vec::new);
    let covered = ["/proc", "/proc/sys", "/proc/sys/user"];
    if !paths
        .iter()
        .any(|path| covered.contains(&path.trim_end_matches('/')))
    {
        paths.push("/proc/sys/user".into());
    }
}

/// Whoever has a user namespace of its own gets a cgroup namespace as well: it
/// would own the cgroup files it sees (CVE-2023-25809).
fn cgroup_namespace(spec: &mut Spec, judgement: &mut Judgement<'_>) {
    let rule = Rule::Cgroupns;
    let namespaces = Namespaces::of(spec);
    if namespaces.has(Kind::Cgroup) {
        return judgement.enforced(rule, "the bundle has one");
    }
    if judgement.gives_up(rule) {
        return;
    }
    if !namespaces.has(Kind::User) && !judgement.is_strict() {
        return judgement.relaxed(rule, "the bundle, which lists none");
    }
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    add_namespace(
        linux.namespaces_mut().get_or_insert_with(Vec::new),
        LinuxNamespaceType::Cgroup,
    );
    judgement.enforced(rule, "added");
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
