//! What `capsid spec` writes: the container of `runc spec`, for a person to edit,
//! with the masks that the policy gives a bundle without a list.

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType,
    LinuxResources, Mount, Process, Root, Spec,
};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

const CAPABILITIES: [Capability; 3] = [
    Capability::AuditWrite,
    Capability::Kill,
    Capability::NetBindService,
];

/// Paths of procfs and sysfs that tell too much, or change the host, when the
/// bundle does not say which to hide.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
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

/// Destination, type, source and options of each mount.
const MOUNTS: [(&str, &str, &str, &str); 7] = [
    ("/proc", "proc", "proc", ""),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        "nosuid strictatime mode=755 size=65536k",
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        "nosuid noexec nodev mode=1777 size=65536k",
    ),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        "nosuid noexec nodev relatime ro",
    ),
];

/// `/sys` without a network namespace of one's own: the kernel gives no new
/// sysfs to a user namespace that does not own the network namespace.
const ROOTLESS_SYS: (&str, &str, &str, &str) =
    ("/sys", "none", "/sys", "rbind nosuid noexec nodev ro");

/// The configuration a person starts from: a shell on a terminal, in a
/// read-only root. `rootless` has the caller's effective user and group id when
/// the container must work without privileges; `cgroup_v2` says whether the
/// host's cgroups are such that a cgroup namespace is of use.
pub fn default_spec(rootless: Option<(u32, u32)>, cgroup_v2: bool) -> Spec {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));
    let mut spec = Spec::default();
    spec.set_version("1.3.0".to_owned())
        .set_process(Some(process()))
        .set_root(Some(root))
        .set_hostname(Some("capsid".to_owned()))
        .set_mounts(Some(mounts(rootless.is_some())))
        .set_annotations(None)
        .set_linux(Some(linux(rootless, cgroup_v2)));
    spec
}

/// `sh` on a terminal with at most 1024 files: the rest is what oci-spec's own default says.
fn process() -> Process {
    let mut capabilities = LinuxCapabilities::default();
    let set = Some(CAPABILITIES.into_iter().collect());
    capabilities
        .set_bounding(set.clone())
        .set_effective(set.clone())
        .set_permitted(set)
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = Process::default();
    process
        .set_terminal(Some(true))
        .set_capabilities(Some(capabilities));
    process
}

fn mounts(rootless: bool) -> Vec<Mount> {
    MOUNTS
        .iter()
        .map(|row| {
            if rootless && row.0 == "/sys" {
                &ROOTLESS_SYS
            } else {
                row
            }
        })
        .map(|(destination, typ, source, options)| {
            let options: Vec<String> = options
                .split_whitespace()
                // Group 5 is not mapped in a container with one group.
                .filter(|option| {
                    !rootless || !(option.starts_with("gid=") || option.starts_with("uid="))
                })
                .map(str::to_owned)
                .collect();
            let mut mount = Mount::default();
            mount
                .set_destination((*destination).into())
                .set_typ(Some((*typ).to_owned()))
                .set_source(Some((*source).into()))
                .set_options((!options.is_empty()).then_some(options));
            mount
        })
        .collect()
}

fn linux(rootless: Option<(u32, u32)>, cgroup_v2: bool) -> Linux {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let (mut linux, namespaces) = match rootless {
        Some((euid, egid)) => (
            Linux::rootless(euid, egid),
            [Pid, Ipc, Uts, Mount].as_slice(),
        ),
        None => (Linux::default(), [Pid, Network, Ipc, Uts, Mount].as_slice()),
    };
    let mut namespaces = namespaces.to_vec();
    namespaces.extend(cgroup_v2.then_some(Cgroup));
    namespaces.extend(rootless.is_some().then_some(User));
    let namespaces = namespaces.into_iter().map(|typ| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        namespace
    });
    linux
        .set_namespaces(Some(namespaces.collect()))
        .set_resources(rootless.is_none().then(deny_devices))
        .set_masked_paths(Some(MASKED_PATHS.map(str::to_owned).to_vec()))
        .set_readonly_paths(Some(READONLY_PATHS.map(str::to_owned).to_vec()));
    linux
}

/// No device but those every container has.
fn deny_devices() -> LinuxResources {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![rule]));
    resources
}

/// The configuration as text: indented with tabs and in the order people know
/// from runc. The same for the same configuration, although the types keep
/// capabilities in sets without an order.
pub fn to_json(spec: &Spec) -> String {
    // Neither can fail: all keys are strings, no map holds a float, and the
    // writer is memory.
    let mut document = serde_json::to_value(spec).expect("a configuration is JSON");
    if let Some(Value::Object(sets)) = document.pointer_mut("/process/capabilities") {
        for names in sets.values_mut().filter_map(Value::as_array_mut) {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    let mut text = Vec::new();
    let tabs = PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, tabs);
    Ordered(&document)
        .serialize(&mut writer)
        .expect("memory can be written to");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Keys in the order they are written; others follow in alphabetical order.
const ORDER: [&str; 36] = [
    "ociVersion",
    "process",
    "root",
    "hostname",
    "mounts",
    "linux",
    "terminal",
    "user",
    "uid",
    "gid",
    "args",
    "env",
    "cwd",
    "capabilities",
    "bounding",
    "effective",
    "permitted",
    "rlimits",
    "destination",
    "type",
    "source",
    "options",
    "hard",
    "soft",
    "path",
    "readonly",
    "containerID",
    "hostID",
    "size",
    "uidMappings",
    "gidMappings",
    "resources",
    "allow",
    "namespaces",
    "maskedPaths",
    "readonlyPaths",
];

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(elements) => {
                let mut sequence = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    sequence.serialize_element(&Ordered(element))?;
                }
                sequence.end()
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(name, _)| {
                    let rank = ORDER.iter().position(|known| known == name);
                    (rank.unwrap_or(ORDER.len()), *name)
                });
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Ordered(value))?;
                }
                map.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(value: &Value) -> Vec<&str> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect()
    }

    #[test]
    fn text_is_stable_and_in_runc_order() {
        let text = to_json(&default_spec(None, true));
        assert!(text.starts_with(
            "{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,"
        ));
        for _ in 0..16 {
            assert_eq!(to_json(&default_spec(None, true)), text);
        }
        let again: Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(again, default_spec(None, true));
    }

    #[test]
    fn privileged_template() {
        let document = serde_json::to_value(default_spec(None, true)).unwrap();
        let types: Vec<&str> = document["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert_eq!(
            document["linux"]["resources"]["devices"][0]["access"],
            "rwm"
        );
        assert_eq!(document["linux"]["resources"]["devices"][0]["allow"], false);
        assert_eq!(document["process"]["noNewPrivileges"], true);
        assert_eq!(document["process"]["rlimits"][0]["type"], "RLIMIT_NOFILE");
        let sets = document["process"]["capabilities"].as_object().unwrap();
        assert_eq!(
            sets.keys().collect::<Vec<_>>(),
            ["bounding", "effective", "permitted"]
        );
        assert_eq!(
            strings(&document["mounts"][2]["options"]).last(),
            Some(&"gid=5")
        );
        assert!(document.get("annotations").is_none());
        assert!(document["linux"].get("uidMappings").is_none());
        assert!(document["linux"].get("seccomp").is_none());
        let v1 = serde_json::to_value(default_spec(None, false)).unwrap();
        assert_eq!(v1["linux"]["namespaces"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn rootless_template() {
        let document = serde_json::to_value(default_spec(Some((1000, 100)), true)).unwrap();
        let types: Vec<&str> = document["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!(document["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(document["linux"]["gidMappings"][0]["hostID"], 100);
        assert_eq!(document["linux"]["gidMappings"][0]["size"], 1);
        assert!(document["linux"].get("resources").is_none());
        assert!(!strings(&document["mounts"][2]["options"]).contains(&"gid=5"));
        let sys = &document["mounts"][5];
        assert_eq!(
            (&sys["type"], &sys["source"]),
            (&"none".into(), &"/sys".into())
        );
        assert_eq!(
            strings(&sys["options"]),
            ["rbind", "nosuid", "noexec", "nodev", "ro"]
        );
    }

    #[test]
    fn every_known_key_is_written_by_one_of_the_templates() {
        let both = to_json(&default_spec(None, true)) + &to_json(&default_spec(Some((1, 1)), true));
        for key in ORDER {
            assert!(both.contains(&format!("\"{key}\":")), "{key}");
        }
    }
}
