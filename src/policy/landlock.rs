//! The second fence around a program: files by the container's own mounts, TCP
//! ports by annotations (Landlock).

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use super::Rule;
use super::judgement::Judgement;
use crate::host::Facts;
use crate::spec::annotations::{self, TCP_BIND, TCP_CONNECT};
use crate::spec::mount_options;
use crate::spec::namespaces::{Kind, Namespaces};

/// What a program may do, whatever else lets it. Kept in the container's record:
/// `exec` makes the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Files. Without any rule files are not fenced off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathRule>,
    /// Ports that may be bound; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<Vec<u16>>,
    /// Ports that may be connected to; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Vec<u16>>,
    /// The container has a pid namespace of its own.
    pub own_pids: bool,
    /// The container has a network namespace of its own.
    pub own_network: bool,
}

impl Fence {
    /// The part that does not depend on the rule, but on what the bundle says.
    pub fn of_ports(self) -> Option<Self> {
        let any = self.bind.is_some() || self.connect.is_some();
        let files = Vec::new();
        any.then_some(Self { files, ..self })
    }
}

/// What may be done below a path. Everywhere files and directories may be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// The path, in the container.
    pub path: PathBuf,
    /// What may be changed.
    pub writing: Writing,
    /// Files may be executed.
    pub execute: bool,
    /// Devices may be asked for what reading and writing cannot do (ioctl).
    pub devices: bool,
}

/// What may be changed below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writing {
    /// Nothing.
    Nothing,
    /// What is there may be written to: devices, whose mount may be read-only.
    Existing,
    /// Everything, but making device nodes.
    Everything,
}

/// The first ABI that fences TCP ports off.
const TCP_ABI: u32 = 4;

/// The fence of a container, if it gets one.
pub(super) fn fence(spec: &Spec, facts: &Facts, judgement: &mut Judgement<'_>) -> Option<Fence> {
    let obstacle = obstacle(spec, facts);
    let files = fences_files(obstacle, facts, judgement);
    let ports = |name| annotations::ports(spec, name).and_then(Result::ok);
    let (bind, connect) = (ports(TCP_BIND), ports(TCP_CONNECT));
    for (name, _) in [(TCP_BIND, &bind), (TCP_CONNECT, &connect)]
        .iter()
        .filter(|(_, ports)| ports.is_some())
    {
        let old = facts.landlock.is_some_and(|abi| abi < TCP_ABI);
        let old = old.then_some("the kernel's Landlock does not know of ports (Linux 6.7)");
        // Whoever asks for this relies on it.
        if let Some(why) = obstacle.or(old) {
            let text = format!("the ports cannot be fenced off: {why}");
            judgement.refuse(&format!("/annotations/{name}"), text);
        }
    }
    if !files && bind.is_none() && connect.is_none() {
        return None;
    }
    let namespaces = Namespaces::of(spec);
    Some(Fence {
        files: match files {
            true => path_rules(spec),
            false => Vec::new(),
        },
        bind,
        connect,
        own_pids: namespaces.makes(Kind::Pid),
        own_network: namespaces.makes(Kind::Network),
    })
}

/// Why there can be no fence at all.
fn obstacle(spec: &Spec, facts: &Facts) -> Option<&'static str> {
    let process = spec.process().as_ref();
    let privileges = process.and_then(|process| process.no_new_privileges());
    match facts.landlock {
        None => Some(
            "Landlock is not in force: the kernel needs CONFIG_SECURITY_LANDLOCK (Linux 5.13) and \
             landlock in its list of security modules (the boot parameter lsm=)",
        ),
        Some(_) if privileges == Some(false) => Some("without no_new_privs the kernel takes none"),
        Some(_) => None,
    }
}

fn fences_files(obstacle: Option<&str>, facts: &Facts, judgement: &mut Judgement<'_>) -> bool {
    let rule = Rule::Landlock;
    if judgement.gives_up(rule) {
        return false;
    }
    match (obstacle, facts.landlock) {
        (None, Some(abi)) => {
            judgement.enforced(rule, in_words(abi));
            true
        }
        (obstacle, _) => {
            judgement.unsupported(rule, obstacle.unwrap_or_default());
            false
        }
    }
}

/// What the versions of the ABI have brought.
const ADDED: [(u32, &str); 4] = [
    (3, "truncation"),
    (TCP_ABI, "TCP ports"),
    (5, "ioctl of devices"),
    (6, "abstract sockets and signals"),
];

/// What is fenced off, and what this kernel cannot.
fn in_words(abi: u32) -> String {
    let mut words = format!("ABI {abi}, files by the container's own mounts");
    if abi == 1 {
        words += "; files cannot be moved between directories";
    }
    let missing: Vec<_> = ADDED.iter().filter(|(since, _)| abi < *since).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(_, name)| *name).collect();
        words += &format!("; too old for {}", names.join(", "));
    }
    words
}

/// The container's own mounts, as rules: what a mount refuses anyway is refused
/// twice, so that it takes two mistakes to lose it.
fn path_rules(spec: &Spec) -> Vec<PathRule> {
    let root = spec.root().as_ref();
    let readonly = root.is_some_and(|root| root.readonly().unwrap_or(false));
    let mut rules = vec![PathRule {
        path: "/".into(),
        writing: writing(!readonly),
        execute: true,
        devices: false,
    }];
    rules.push(device("/dev"));
    let devices = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.devices().as_deref());
    let elsewhere = devices.unwrap_or_default().iter();
    let elsewhere = elsewhere.filter(|one| !one.path().starts_with("/dev"));
    rules.extend(elsewhere.map(|one| device(one.path())));
    rules.extend(spec.mounts().iter().flatten().map(of_mount));
    rules
}

fn writing(writable: bool) -> Writing {
    match writable {
        true => Writing::Everything,
        false => Writing::Nothing,
    }
}

/// A device, or a directory of them.
fn device(path: impl AsRef<Path>) -> PathRule {
    PathRule {
        path: path.as_ref().to_owned(),
        writing: Writing::Existing,
        execute: false,
        devices: true,
    }
}

fn of_mount(mount: &Mount) -> PathRule {
    let options = mount_options::of(mount);
    let set = options.set | options.recursive_set;
    let superblock = options.superblock.iter().any(|(key, _)| key == "ro");
    PathRule {
        path: Path::new("/").join(mount.destination()),
        writing: writing(set & libc::MOUNT_ATTR_RDONLY == 0 && !superblock),
        execute: set & libc::MOUNT_ATTR_NOEXEC == 0,
        devices: set & libc::MOUNT_ATTR_NODEV == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<PathRule> {
        let spec: Spec = serde_json::from_str(text).unwrap();
        path_rules(&spec)
    }

    #[test]
    fn mounts_become_rules() {
        let rules = rules(
            r#"{"ociVersion":"1.2.0","root":{"path":"r","readonly":true},"mounts":[
                {"destination":"/tmp","type":"tmpfs","options":["nosuid","nodev","noexec"]},
                {"destination":"data","type":"bind","source":"/d","options":["rbind","rro"]},
                {"destination":"/o","type":"overlay","options":["ro","lowerdir=/l"]}],
              "linux":{"devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229},
                {"path":"/srv/dev","type":"c","major":1,"minor":3}]}}"#,
        );
        let seen = |path: &str| {
            let rule = rules
                .iter()
                .find(|rule| rule.path == Path::new(path))
                .unwrap();
            (rule.writing, rule.execute, rule.devices)
        };
        assert_eq!(seen("/"), (Writing::Nothing, true, false));
        assert_eq!(seen("/dev"), (Writing::Existing, false, true));
        assert_eq!(seen("/srv/dev"), (Writing::Existing, false, true));
        assert_eq!(seen("/tmp"), (Writing::Everything, false, false));
        assert_eq!(seen("/data"), (Writing::Nothing, true, true));
        assert_eq!(seen("/o"), (Writing::Nothing, true, true));
        assert_eq!(rules.len(), 6);
    }

    #[test]
    fn old_kernels_are_not_said_to_do_more() {
        assert_eq!(in_words(7), "ABI 7, files by the container's own mounts");
        assert!(
            in_words(4).ends_with("; too old for ioctl of devices, abstract sockets and signals")
        );
        assert!(in_words(1).contains("moved between directories"));
    }
}
