//! `capsid features`: what this runtime can do, for engines that ask before they use it.
//!
//! Must work anywhere, silently: containerd, Docker and CRI-O run it at their
//! start, without rights, options or a configuration. What is listed here is a
//! promise: an engine that finds a feature missing refuses or avoids it, which
//! is better than a container without the protection that was asked for.

use std::collections::HashMap;

use clap::{ArgMatches, Command};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    ApparmorBuilder, Arch, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder,
    LinuxFeature, LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MemoryPolicy,
    MemoryPolicyBuilder, MountExtensionsBuilder, NetDevicesBuilder, Seccomp, SeccompBuilder,
    SelinuxBuilder,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::cli::{self, Global};
use crate::error::{Error, Result};
use crate::spec::mount_options;

/// In the order in which they run.
const HOOKS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const NAMESPACES: &[LinuxNamespaceType] = &[
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

const SECCOMP_ACTIONS: &[LinuxSeccompAction] = &[
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

const SECCOMP_OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

#[cfg(target_arch = "x86_64")]
const SECCOMP_ARCHS: &[Arch] = &[Arch::ScmpArchX32, Arch::ScmpArchX86, Arch::ScmpArchX86_64];
#[cfg(target_arch = "aarch64")]
const SECCOMP_ARCHS: &[Arch] = &[Arch::ScmpArchAarch64, Arch::ScmpArchArm];

const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const MEMORY_POLICY_MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];

const MEMORY_POLICY_FLAGS: &[&str] = &[
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

/// Annotations of a bundle that change what capsid does; an engine should not
/// let its users set them.
const UNSAFE_ANNOTATIONS: &[&str] = &["dev.capsid."];

pub(crate) fn command() -> Command {
    Command::new("features")
        .about("Print what this runtime can do, as JSON")
        .long_about(
            "Print the features document of the OCI runtime specification: the versions,\n\
             namespaces, mount options, seccomp actions and so on that this build knows.\n\
             It needs no rights and does not look at the machine.",
        )
        .after_help("Example:\n  capsid features | jq .linux.namespaces")
}

pub(crate) fn run(_: &Global, _: &ArgMatches) -> Result<u8> {
    let text = features()
        .map_err(|e| e.to_string())
        .and_then(|features| to_json(&features).map_err(|e| e.to_string()))
        .map_err(|problem| {
            Error::Usage(format!("describe the features of this build: {problem}"))
        })?;
    cli::print(&text)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

fn features() -> Result<Features, OciSpecError> {
    FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max(cli::SPEC_VERSION)
        .hooks(strings(HOOKS))
        .mount_options(strings(mount_options::KNOWN))
        .linux(linux()?)
        .annotations(HashMap::from([
            (
                "dev.capsid.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("dev.capsid.commit".to_owned(), cli::COMMIT.to_owned()),
        ]))
        .potentially_unsafe_config_annotations(strings(UNSAFE_ANNOTATIONS))
        .build()
}

fn linux() -> Result<LinuxFeature, OciSpecError> {
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_by_key(|capability| capability.index());
    LinuxFeatureBuilder::default()
        .namespaces(NAMESPACES)
        .capabilities(
            capabilities
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
        .cgroup(
            CgroupBuilder::default()
                .v1(false)
                .v2(true)
                .systemd(true)
                .systemd_user(true)
                .rdma(false)
                .build()?,
        )
        .seccomp(seccomp()?)
        .apparmor(ApparmorBuilder::default().enabled(true).build()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?)
        .intel_rdt(
            IntelRdtBuilder::default()
                .enabled(true)
                .schemata(true)
                .monitoring(true)
                .build()?,
        )
        .mount_extensions(
            MountExtensionsBuilder::default()
                .idmap(IDMapBuilder::default().enabled(true).build()?)
                .build()?,
        )
        .memory_policy(memory_policy()?)
        .net_devices(NetDevicesBuilder::default().enabled(true).build()?)
        .build()
}

fn memory_policy() -> Result<MemoryPolicy, OciSpecError> {
    MemoryPolicyBuilder::default()
        .modes(strings(MEMORY_POLICY_MODES))
        .flags(strings(MEMORY_POLICY_FLAGS))
        .build()
}

fn seccomp() -> Result<Seccomp, OciSpecError> {
    SeccompBuilder::default()
        .enabled(true)
        .actions(SECCOMP_ACTIONS)
        .operators(strings(SECCOMP_OPERATORS))
        .archs(SECCOMP_ARCHS)
        .known_flags(strings(SECCOMP_FLAGS))
        .supported_flags(strings(SECCOMP_FLAGS))
        .build()
}

/// Indented by four, without the keys that have nothing to say.
fn to_json(features: &Features) -> serde_json::Result<String> {
    let mut document = serde_json::to_value(features)?;
    drop_nulls(&mut document);
    let mut text = Vec::new();
    document.serialize(&mut Serializer::with_formatter(
        &mut text,
        PrettyFormatter::with_indent(b"    "),
    ))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// oci-spec writes what is absent as `null`, which the schema does not allow.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_reads_back_and_has_no_nulls() {
        let features = features().unwrap();
        let text = to_json(&features).unwrap();
        assert!(
            text.contains("\n    \"ociVersionMin\": \"1.0.0\""),
            "{text}"
        );
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), features);
    }

    #[test]
    fn capabilities_are_in_the_kernels_order() {
        let linux = linux().unwrap();
        let names = linux.capabilities().as_ref().unwrap();
        assert_eq!(names.first().map(String::as_str), Some("CAP_CHOWN"));
        assert_eq!(
            names.last().map(String::as_str),
            Some("CAP_CHECKPOINT_RESTORE")
        );
    }
}
