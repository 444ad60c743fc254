//! Cgroup limits: values no kernel takes, and names that become file names.

use oci_spec::runtime::{LinuxDeviceType, LinuxPids, LinuxResources, Spec};

use super::findings::Findings;
use crate::error::escape;

/// Reads such a limit of a configuration as none, in so many words: see [`is_zero_pids`].
pub(super) fn read_zero_pids(spec: &mut Spec) {
    let version = spec.version().clone();
    if let Some(linux) = spec.linux_mut()
        && let Some(resources) = linux.resources_mut()
        && is_zero_pids(resources, &version)
    {
        let mut unlimited = LinuxPids::default();
        unlimited.set_limit(-1);
        resources.set_pids(Some(unlimited));
    }
}

/// Takes such a limit out of an update: what is not named stays as it is.
pub(super) fn drop_zero_pids(resources: &mut LinuxResources, version: &str) {
    if is_zero_pids(resources, version) {
        resources.set_pids(None);
    }
}

/// Before version 1.3 a limit of 0 could not be told from none, and engines
/// write it for "no limit" (podman: `--pids-limit=-1`). From 1.3 on it is a 0.
fn is_zero_pids(resources: &LinuxResources, version: &str) -> bool {
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok());
    let limit = resources.pids().as_ref().map(LinuxPids::limit);
    limit == Some(0) && minor.is_some_and(|minor: u32| minor < 3)
}

/// Checks all limits.
pub(super) fn check(resources: &LinuxResources, findings: &mut Findings) {
    check_limits(resources, findings);
    check_device_rules(resources, findings);
    check_block_io(resources, findings);
    check_names(resources, findings);
}

/// -1 means no limit; other negative numbers mean nothing.
fn check_limits(resources: &LinuxResources, findings: &mut Findings) {
    let mut limits = Vec::new();
    if let Some(memory) = resources.memory() {
        limits.push(("memory/limit", memory.limit()));
        limits.push(("memory/reservation", memory.reservation()));
        limits.push(("memory/swap", memory.swap()));
    }
    if let Some(cpu) = resources.cpu() {
        limits.push(("cpu/quota", cpu.quota()));
    }
    if let Some(pids) = resources.pids() {
        limits.push(("pids/limit", Some(pids.limit())));
    }
    for (name, limit) in limits {
        if let Some(limit) = limit
            && limit < -1
        {
            let text = format!("{limit} is not a limit; -1 means none");
            findings.problem(format_args!("/linux/resources/{name}"), text);
        }
    }
    let Some(cpu) = resources.cpu() else { return };
    if let Some(idle) = cpu.idle()
        && !(0..=1).contains(&idle)
    {
        findings.problem(
            "/linux/resources/cpu/idle",
            format!("{idle} is neither 0 nor 1"),
        );
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list {
            findings.line(format_args!("/linux/resources/cpu/{name}"), list);
        }
    }
}

fn check_device_rules(resources: &LinuxResources, findings: &mut Findings) {
    for (index, rule) in resources.devices().iter().flatten().enumerate() {
        let at = format_args!("/linux/resources/devices/{index}");
        if let Some(LinuxDeviceType::U | LinuxDeviceType::P) = rule.typ() {
            findings.problem(format_args!("{at}/type"), "a rule is for a, b or c");
        }
        if let Some(access) = rule.access()
            && let Some(other) = access.chars().find(|c| !matches!(c, 'r' | 'w' | 'm'))
        {
            findings.problem(
                format_args!("{at}/access"),
                format!("{other:?} is not one of r, w and m"),
            );
        }
        for (name, number) in [("major", rule.major()), ("minor", rule.minor())] {
            if let Some(number) = number
                && (number < -1 || number > i64::from(u32::MAX))
            {
                let text = format!("{number} is not a device number; -1 means all");
                findings.problem(format_args!("{at}/{name}"), text);
            }
        }
    }
}

fn check_block_io(resources: &LinuxResources, findings: &mut Findings) {
    let Some(block) = resources.block_io() else {
        return;
    };
    let throttles = [
        ("throttleReadBpsDevice", block.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", block.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", block.throttle_read_iops_device()),
        (
            "throttleWriteIOPSDevice",
            block.throttle_write_iops_device(),
        ),
    ];
    let throttled = throttles.iter().flat_map(|(name, list)| {
        let devices = list.iter().flatten().enumerate();
        devices.map(move |(index, device)| (*name, index, device.major(), device.minor()))
    });
    let weights = block.weight_device().iter().flatten().enumerate();
    let weighted =
        weights.map(|(index, device)| ("weightDevice", index, device.major(), device.minor()));
    for (name, index, major, minor) in throttled.chain(weighted) {
        if major < 0 || minor < 0 {
            let at = format_args!("/linux/resources/blockIO/{name}/{index}");
            findings.problem(at, format!("{major}:{minor} is not a device number"));
        }
    }
}

/// Names that become part of a file's name in the cgroup, or of a line in one:
/// they must not lead elsewhere.
fn check_names(resources: &LinuxResources, findings: &mut Findings) {
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        if !is_page_size(limit.page_size()) {
            let text = format!("{:?} is not a page size like 2MB", limit.page_size());
            findings.problem(
                format_args!("/linux/resources/hugepageLimits/{index}/pageSize"),
                text,
            );
        }
    }
    for (key, value) in resources.unified().iter().flatten() {
        let at = format!("/linux/resources/unified/{}", escape(key));
        if key.is_empty() || key.contains(['/', '\0']) || !key.contains('.') || key.starts_with('.')
        {
            findings.problem(&at, "not the name of a cgroup file like memory.high");
        }
        findings.c_string(&at, value);
    }
    for device in resources.rdma().iter().flatten().map(|(device, _)| device) {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c == '\0') {
            findings.problem(
                format_args!("/linux/resources/rdma/{}", escape(device)),
                "not the name of a device",
            );
        }
    }
}

/// Whether this is the size in a file name like `hugetlb.2MB.max`.
fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|n| {
        !n.is_empty() && !n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit())
    })
}
