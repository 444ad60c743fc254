//! Namespaces and what needs one.

use oci_spec::runtime::Spec;

use super::findings::Findings;
use super::ids;
use crate::error::escape;
use crate::spec::namespaces::{Kind, Namespaces};

/// Some engines write an empty path where they mean none.
pub(super) fn drop_empty_paths(spec: &mut Spec) {
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let Some(mut namespaces) = linux.namespaces().clone() else {
        return;
    };
    for namespace in &mut namespaces {
        if namespace
            .path()
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            namespace.set_path(None);
        }
    }
    linux.set_namespaces(Some(namespaces));
}

fn listed(spec: &Spec) -> &[oci_spec::runtime::LinuxNamespace] {
    let linux = spec.linux().as_ref();
    let list = linux.and_then(|linux| linux.namespaces().as_deref());
    list.unwrap_or_default()
}

/// Checks the list itself, id mappings and time offsets.
pub(super) fn check(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    let mut seen = Vec::new();
    for (index, namespace) in listed(spec).iter().enumerate() {
        let at = format_args!("/linux/namespaces/{index}");
        if seen.contains(&namespace.typ()) {
            findings.problem(
                at,
                format!(
                    "a namespace of type {} is given twice",
                    Kind::of(namespace).name()
                ),
            );
        } else {
            seen.push(namespace.typ());
        }
        if let Some(path) = namespace.path() {
            findings.absolute(format_args!("{at}/path"), path);
        }
    }
    // Without one, the container's mounts and its new root would be the runtime's own.
    if !namespaces.has(Kind::Mount) {
        findings.problem("/linux/namespaces", "a namespace of type mount is required");
    }
    check_mappings(spec, namespaces, findings);
    check_time_offsets(spec, namespaces, findings);
}

fn check_mappings(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    let Some(linux) = spec.linux() else { return };
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    ids::check_mappings(uids, "/linux/uidMappings", findings);
    ids::check_mappings(gids, "/linux/gidMappings", findings);
    let (given, at) = match (uids.is_empty(), gids.is_empty()) {
        (true, true) => return,
        (false, _) => ("uidMappings", "/linux/uidMappings"),
        (true, false) => ("gidMappings", "/linux/gidMappings"),
    };
    if !namespaces.has(Kind::User) {
        findings.problem(at, "mappings need a namespace of type user");
    } else if namespaces.path(Kind::User).is_some() {
        // containerd and CRI-O write both for every container of a pod with a
        // user namespace, so this cannot be an error as it stands.
        findings.warning(
            at,
            "the user namespace is joined by path and keeps its own mappings",
        );
    } else if uids.is_empty() != gids.is_empty() {
        let text = format!("{given} alone: users and groups have to be mapped together");
        findings.problem(at, text);
    }
}

fn check_time_offsets(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    let offsets = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.time_offsets().as_ref());
    let Some(offsets) = offsets.filter(|offsets| !offsets.is_empty()) else {
        return;
    };
    if !namespaces.makes(Kind::Time) {
        let text =
            "offsets need a new namespace of type time: they cannot change once a process is in it";
        findings.problem("/linux/timeOffsets", text);
    }
    for (clock, offset) in offsets {
        let at = format_args!("/linux/timeOffsets/{}", escape(clock)).to_string();
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            findings.problem(
                &at,
                "not a clock with an offset; those are monotonic and boottime",
            );
        }
        if offset.nanosecs().unwrap_or_default() > 999_999_999 {
            findings.problem(format_args!("{at}/nanosecs"), "not in 0..=999999999");
        }
    }
}
