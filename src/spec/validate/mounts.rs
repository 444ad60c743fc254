//! Mounts: each by itself, and what may be mounted on `/proc`.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use super::findings::Findings;
use super::{clean, ids};
use crate::spec::mount_options::{self, MountOptions};
use crate::spec::namespaces::{Kind, Namespaces};

/// Files below `/proc` that may be covered: lxcfs emulates them, and none of
/// them is one the runtime or the kernel's protections rely on. Anything else
/// there could be a fake that labels or sysctls are then written to
/// (CVE-2019-16884, CVE-2019-19921).
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Checks all mounts.
pub(super) fn check(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let at = format!("/mounts/{index}");
        let options = mount_options::of(mount);
        check_destination(mount, &options, &at, findings);
        check_source(mount, &options, &at, findings);
        check_options(mount, &options, &at, findings);
        check_idmap(mount, &options, &at, namespaces, findings);
    }
}

fn check_destination(mount: &Mount, options: &MountOptions, at: &str, findings: &mut Findings) {
    let destination = mount.destination();
    let at = format_args!("{at}/destination");
    findings.path(at, destination);
    if destination.as_os_str().is_empty() {
        return;
    }
    if !destination.is_absolute() {
        findings.warning(
            at,
            "a relative destination is deprecated; it is taken as relative to /",
        );
    }
    let shown = destination.display();
    let cleaned = clean(destination);
    if cleaned == Path::new("/") {
        findings.problem(
            at,
            "nothing can be mounted over the container's root; set /root/path instead",
        );
    } else if cleaned == Path::new("/proc") {
        // The host's own /proc is what a container without a pid namespace of its own gets.
        let host = options.bind
            && mount
                .source()
                .as_deref()
                .is_some_and(|source| clean(source) == cleaned);
        if !host && (options.bind || mount.typ().as_deref() != Some("proc")) {
            findings.problem(
                at,
                format!("{shown} cannot be mounted because it is not of type proc"),
            );
        }
    } else if cleaned.starts_with("/proc")
        && !COVERABLE.iter().any(|path| cleaned == Path::new(path))
    {
        findings.problem(
            at,
            format!("{shown} cannot be mounted because it is inside /proc"),
        );
    }
}

fn check_source(mount: &Mount, options: &MountOptions, at: &str, findings: &mut Findings) {
    let typ = mount.typ().as_deref().unwrap_or_default();
    findings.c_string(format_args!("{at}/type"), typ);
    if !options.bind && !options.remount && typ.is_empty() {
        findings.problem(
            format_args!("{at}/type"),
            "missing: only a bind mount needs none",
        );
    }
    match mount.source().as_deref() {
        Some(source) if !source.as_os_str().is_empty() => {
            findings.path(format_args!("{at}/source"), source);
        }
        _ if options.bind && !options.remount => {
            findings.problem(
                format_args!("{at}/source"),
                "missing: a bind mount shows something",
            );
        }
        _ => {}
    }
}

fn check_options(mount: &Mount, options: &MountOptions, at: &str, findings: &mut Findings) {
    for (index, option) in mount.options().iter().flatten().enumerate() {
        findings.c_string(format_args!("{at}/options/{index}"), option);
    }
    let at = format_args!("{at}/options");
    if options.bind && !options.data.is_empty() {
        let text = format!(
            "bind mounts cannot have any filesystem-specific options applied: {}",
            options.data.join(",")
        );
        findings.problem(at, text);
    }
    if options.copy_up && (options.bind || mount.typ().as_deref() != Some("tmpfs")) {
        findings.problem(at, "tmpcopyup is for mounts of type tmpfs only");
    }
}

fn check_idmap(
    mount: &Mount,
    options: &MountOptions,
    at: &str,
    namespaces: &Namespaces,
    findings: &mut Findings,
) {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    ids::check_mappings(uids, &format!("{at}/uidMappings"), findings);
    ids::check_mappings(gids, &format!("{at}/gidMappings"), findings);
    let mapped = !uids.is_empty() || !gids.is_empty();
    if !mapped && options.idmap.is_none() {
        return;
    }
    if !options.bind {
        findings.problem(at, "id mappings are for bind mounts only");
    }
    if mapped && (uids.is_empty() || gids.is_empty()) {
        findings.problem(at, "uidMappings and gidMappings have to be given together");
    }
    if !mapped && !namespaces.has(Kind::User) {
        let text =
            "idmap needs uidMappings and gidMappings of the mount, or a namespace of type user";
        findings.problem(format_args!("{at}/options"), text);
    }
}
