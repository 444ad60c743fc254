//! User and group ids and their mappings.

use oci_spec::runtime::{LinuxIdMapping, Process, Spec};

use super::Caller;
use super::findings::Findings;
use crate::spec::namespaces::{Kind, Namespaces};

/// The most lines of `/proc/PID/uid_map` the kernel takes.
const LINES: usize = 340;

/// The highest id plus one: 4294967295 itself is not an id.
const END: u64 = u32::MAX as u64;

/// Checks one list of mappings that stands at `at`.
pub(super) fn check_mappings(mappings: &[LinuxIdMapping], at: &str, findings: &mut Findings) {
    if mappings.len() > LINES {
        let text = format!(
            "{} mappings; the kernel takes at most {LINES}",
            mappings.len()
        );
        findings.problem(at, text);
        return;
    }
    for (index, mapping) in mappings.iter().enumerate() {
        let at = format_args!("{at}/{index}");
        if mapping.size() == 0 {
            findings.problem(at, "size must not be 0");
        }
        for (side, first) in [
            ("containerID", mapping.container_id()),
            ("hostID", mapping.host_id()),
        ] {
            if u64::from(first) + u64::from(mapping.size()) > END {
                findings.problem(
                    at,
                    format!("{side} {first} and its size go beyond the last id, 4294967294"),
                );
            }
        }
        for (other, earlier) in mappings[..index].iter().enumerate() {
            let sides = [
                (
                    "containerID",
                    mapping.container_id(),
                    earlier.container_id(),
                ),
                ("hostID", mapping.host_id(), earlier.host_id()),
            ];
            for (side, first, start) in sides {
                if overlap(first, mapping.size(), start, earlier.size()) {
                    findings.problem(at, format!("overlaps mapping {other} on the {side} side"));
                }
            }
        }
    }
}

fn overlap(a: u32, a_size: u32, b: u32, b_size: u32) -> bool {
    let (a, b) = (u64::from(a), u64::from(b));
    a < b + u64::from(b_size) && b < a + u64::from(a_size)
}

fn is_mapped(id: u32, mappings: &[LinuxIdMapping]) -> bool {
    mappings
        .iter()
        .any(|m| overlap(id, 1, m.container_id(), m.size()))
}

/// Checks that the process can have the ids it asks for.
///
/// Without mappings nothing can be said: a user namespace that is joined has
/// its own, and one that is made gets them from the policy.
pub(super) fn check_process(
    process: &Process,
    spec: &Spec,
    namespaces: &Namespaces,
    caller: Caller,
    findings: &mut Findings,
) {
    let Some(linux) = spec.linux() else { return };
    if !namespaces.has(Kind::User) {
        return;
    }
    let user = process.user();
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    if !uids.is_empty() && !is_mapped(user.uid(), uids) {
        let text = format!("user {} is not mapped in /linux/uidMappings", user.uid());
        findings.problem("/process/user/uid", text);
    }
    if gids.is_empty() {
        return;
    }
    if !is_mapped(user.gid(), gids) {
        let text = format!("group {} is not mapped in /linux/gidMappings", user.gid());
        findings.problem("/process/user/gid", text);
    }
    let additional = user.additional_gids().as_deref().unwrap_or_default();
    for (index, &gid) in additional.iter().enumerate() {
        if !is_mapped(gid, gids) {
            let text = format!("group {gid} is not mapped in /linux/gidMappings");
            findings.problem(format_args!("/process/user/additionalGids/{index}"), text);
        }
    }
    let single = matches!(gids, [only] if only.size() == 1);
    // An unprivileged caller may write such a map only after giving up
    // setgroups(2): a group may be there to take rights away (CVE-2014-8989).
    if !caller.privileged && single && !additional.is_empty() {
        findings.problem(
            "/process/user/additionalGids",
            "the kernel denies setgroups(2) to an unprivileged user with one mapped group; \
             map a range from /etc/subgid or leave additionalGids out",
        );
    }
}
