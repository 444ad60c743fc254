//! The rest of `linux`: devices, masks, propagation, network devices, and more.

use std::collections::HashMap;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIntelRdt, LinuxMemoryPolicy, LinuxNetDevice,
    LinuxSeccomp, MemoryPolicyFlagType, MemoryPolicyModeType,
};

use super::findings::Findings;
use super::{Caller, clean};
use crate::error::escape;
use crate::spec::namespaces::{Kind, Namespaces};

/// Checks everything that has no file of its own.
pub(super) fn check(
    linux: &Linux,
    namespaces: &Namespaces,
    caller: Caller,
    findings: &mut Findings,
) {
    check_devices(linux.devices().as_deref().unwrap_or_default(), findings);
    for (name, list) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        for (index, path) in list.iter().flatten().enumerate() {
            findings.absolute(format_args!("/linux/{name}/{index}"), Path::new(path));
        }
    }
    check_propagation(linux, findings);
    check_cgroups_path(linux, findings);
    if let Some(label) = linux.mount_label() {
        // It goes into context="..." among the mount data.
        findings.line("/linux/mountLabel", label);
        if label.contains('"') {
            findings.problem("/linux/mountLabel", "contains a quotation mark");
        }
    }
    check_net_devices(linux, namespaces, caller, findings);
    if let Some(seccomp) = linux.seccomp() {
        check_listener(seccomp, findings);
    }
    if linux
        .personality()
        .as_ref()
        .is_some_and(|p| p.flags().as_ref().is_some_and(|f| !f.is_empty()))
    {
        findings.problem("/linux/personality/flags", "no flags are defined");
    }
    if let Some(rdt) = linux.intel_rdt() {
        check_rdt(rdt, findings);
    }
    if let Some(policy) = linux.memory_policy() {
        check_memory_policy(policy, findings);
    }
}

/// Bits of a device number that the kernel has.
const MAJOR_LIMIT: i64 = 1 << 12;
const MINOR_LIMIT: i64 = 1 << 20;

fn check_devices(devices: &[LinuxDevice], findings: &mut Findings) {
    let mut seen = HashMap::new();
    for (index, device) in devices.iter().enumerate() {
        let at = format_args!("/linux/devices/{index}");
        findings.absolute(format_args!("{at}/path"), device.path());
        let (major, minor) = (device.major(), device.minor());
        let kind = match device.typ() {
            LinuxDeviceType::A => {
                findings.problem(
                    format_args!("{at}/type"),
                    "\"a\" is for cgroup rules; a device is c, b, u or p",
                );
                continue;
            }
            LinuxDeviceType::P => 'p',
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        };
        if kind != 'p' {
            check_device_number(major, minor, at, findings);
        }
        let identity = (kind, major, minor);
        if *seen.entry(clean(device.path())).or_insert(identity) != identity {
            let shown = device.path().display();
            findings.problem(at, format!("{shown} is given twice, as different devices"));
        }
    }
}

fn check_device_number(major: i64, minor: i64, at: impl Display, findings: &mut Findings) {
    if (major, minor) == (0, 0) {
        findings.problem(at, "major and minor are required");
    } else if !(0..MAJOR_LIMIT).contains(&major) || !(0..MINOR_LIMIT).contains(&minor) {
        findings.problem(at, format!("{major}:{minor} is not a device number"));
    }
}

fn check_propagation(linux: &Linux, findings: &mut Findings) {
    let known = [
        "",
        "shared",
        "slave",
        "private",
        "unbindable",
        "rshared",
        "rslave",
        "rprivate",
        "runbindable",
    ];
    if let Some(value) = linux.rootfs_propagation()
        && !known.contains(&value.as_str())
    {
        let text = format!(
            "{value:?} is not one of shared, slave, private, unbindable or these with r before"
        );
        findings.problem("/linux/rootfsPropagation", text);
    }
}

/// The path is relative to a cgroup the caller may use; `..` would leave it.
/// A systemd `slice:prefix:name` has colons and passes as one component.
fn check_cgroups_path(linux: &Linux, findings: &mut Findings) {
    let Some(path) = linux.cgroups_path() else {
        return;
    };
    let at = "/linux/cgroupsPath";
    if path.as_os_str().as_bytes().contains(&b'\n') {
        findings.problem(at, "contains a line break");
    } else if !path.as_os_str().is_empty() {
        findings.path(at, path);
    }
    if path.iter().any(|component| component == "..") {
        findings.problem(at, "must not have .. in it");
    }
}

/// The longest name of a network interface, in bytes (`IFNAMSIZ` without the NUL).
const INTERFACE_LIMIT: usize = 15;

fn check_net_devices(
    linux: &Linux,
    namespaces: &Namespaces,
    caller: Caller,
    findings: &mut Findings,
) {
    let devices = linux.net_devices().iter().flatten();
    for (host, device) in devices.clone() {
        let at = format!("/linux/netDevices/{}", escape(host));
        if !namespaces.has(Kind::Network) {
            findings.problem(
                &at,
                "moving a network interface needs a namespace of type network",
            );
        }
        if !caller.privileged {
            findings.problem(
                &at,
                "an unprivileged user cannot move a network interface of the host",
            );
        }
        let inside = device.name().as_deref().filter(|name| !name.is_empty());
        if let Some(name) = inside.filter(|name| name.contains('%') && !is_template(name)) {
            let text = format!("{name:?}: a template has one % in it, followed by d");
            findings.problem(&at, text);
        }
        for name in [Some(host.as_str()), inside].into_iter().flatten() {
            let bad = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
            if matches!(name, "" | "." | "..") || name.len() > INTERFACE_LIMIT || name.contains(bad)
            {
                findings.problem(
                    &at,
                    format!("{name:?} cannot be the name of a network interface"),
                );
            }
        }
    }
    let names = devices.map(|(host, device)| inside_name(host, device));
    let mut names: Vec<_> = names.filter(|name| !is_template(name)).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        let text = format!("two interfaces would be {:?} in the container", pair[0]);
        findings.problem("/linux/netDevices", text);
    }
}

/// In a template the kernel puts a free number.
fn is_template(name: &str) -> bool {
    name.matches('%').count() == 1 && name.contains("%d")
}

fn inside_name<'a>(host: &'a str, device: &'a LinuxNetDevice) -> &'a str {
    let name = device.name().as_deref().filter(|name| !name.is_empty());
    name.unwrap_or(host)
}

fn check_listener(seccomp: &LinuxSeccomp, findings: &mut Findings) {
    let path = seccomp
        .listener_path()
        .as_deref()
        .filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path {
        findings.absolute("/linux/seccomp/listenerPath", path);
    } else if seccomp
        .listener_metadata()
        .as_ref()
        .is_some_and(|metadata| !metadata.is_empty())
    {
        findings.problem(
            "/linux/seccomp/listenerMetadata",
            "has no listenerPath to be sent to",
        );
    }
}

/// The class is a directory in resctrl; `/` alone is its root.
fn check_rdt(rdt: &LinuxIntelRdt, findings: &mut Findings) {
    if let Some(class) = rdt.clos_id()
        && class != "/"
        && (matches!(class.as_str(), "." | "..") || class.contains(['/', '\0', '\n']))
    {
        findings.problem(
            "/linux/intelRdt/closID",
            format!("{class:?} is not the name of a directory"),
        );
    }
    for (name, schema) in [
        ("l3CacheSchema", rdt.l3_cache_schema()),
        ("memBwSchema", rdt.mem_bw_schema()),
    ] {
        if let Some(schema) = schema {
            findings.line(format_args!("/linux/intelRdt/{name}"), schema);
        }
    }
    if let Some(schema) = rdt.mem_bw_schema()
        && !schema.is_empty()
        && !schema.starts_with("MB:")
    {
        let text = format!("{schema:?} does not begin with MB:");
        findings.problem("/linux/intelRdt/memBwSchema", text);
    }
    for (index, schema) in rdt.schemata().iter().flatten().enumerate() {
        findings.c_string(format_args!("/linux/intelRdt/schemata/{index}"), schema);
    }
}

/// What `set_mempolicy(2)` refuses whatever the machine has.
fn check_memory_policy(policy: &LinuxMemoryPolicy, findings: &mut Findings) {
    use MemoryPolicyFlagType::{MpolFNumaBalancing, MpolFRelativeNodes, MpolFStaticNodes};
    use MemoryPolicyModeType::{
        MpolBind, MpolDefault, MpolInterleave, MpolLocal, MpolPreferred, MpolPreferredMany,
        MpolWeightedInterleave,
    };
    let nodes = policy.nodes().as_deref().unwrap_or_default();
    match policy.mode() {
        MpolDefault | MpolLocal if !nodes.is_empty() => {
            findings.problem(
                "/linux/memoryPolicy/nodes",
                format!("{} takes no nodes", policy.mode()),
            );
        }
        MpolBind | MpolInterleave | MpolPreferredMany | MpolWeightedInterleave
            if nodes.is_empty() =>
        {
            findings.problem(
                "/linux/memoryPolicy/nodes",
                format!("{} needs nodes", policy.mode()),
            );
        }
        MpolDefault
        | MpolLocal
        | MpolBind
        | MpolInterleave
        | MpolPreferredMany
        | MpolWeightedInterleave
        | MpolPreferred => {}
    }
    if !nodes.is_empty() && !super::process::is_cpu_list(nodes) {
        let text = format!("{nodes:?} is not a list of nodes like 0-3,7");
        findings.problem("/linux/memoryPolicy/nodes", text);
    }
    let flags = policy.flags().as_deref().unwrap_or_default();
    if flags.contains(&MpolFStaticNodes) && flags.contains(&MpolFRelativeNodes) {
        let text = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        findings.problem("/linux/memoryPolicy/flags", text);
    }
    let of_nodes = [MpolFStaticNodes, MpolFRelativeNodes];
    let bare = nodes.is_empty() && matches!(policy.mode(), MpolLocal | MpolPreferred);
    if let Some(flag) = flags.iter().find(|flag| of_nodes.contains(flag))
        && bare
    {
        let text = format!("{flag} says how nodes are meant, and there are none");
        findings.problem("/linux/memoryPolicy/flags", text);
    }
    if flags.contains(&MpolFNumaBalancing) && !matches!(policy.mode(), MpolBind | MpolPreferredMany)
    {
        let text = format!("{} has no MPOL_F_NUMA_BALANCING", policy.mode());
        findings.problem("/linux/memoryPolicy/flags", text);
    }
}
