//! One entry of `mounts`, ready to carry out.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

use oci_spec::runtime::Mount;

use super::ids::IdMaps;
use super::steps::Text;
use super::{BindSource, Idmap, Opener, c_string};
use crate::error::Problem;
use crate::spec::ids::IdRange;
use crate::spec::mount_options::{self, IdmapKind, MountOptions};
use crate::spec::namespaces::{Kind, Namespaces};

mod words;

use words::{attribute_names, option_text};
pub(super) use words::{propagation_flags, propagation_name};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStep {
    /// Where, as a path inside the container.
    pub target: CString,
    /// What is mounted.
    pub what: What,
    /// `MOUNT_ATTR_*` to set on the mount.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MOUNT_ATTR_*` to set on the mount and all below it.
    pub recursive_set: u64,
    /// `MOUNT_ATTR_*` to clear on the mount and all below it.
    pub recursive_clear: u64,
    /// `MS_*` propagation changes, in order.
    pub propagation: Vec<u64>,
    /// Fill a tmpfs with what the directory below it holds.
    pub copy_up: bool,
    /// `MOUNT_ATTR_*` to set as well, unless what is bound is a device node: a
    /// volume brings neither devices nor setuid programs in by itself.
    pub volume: u64,
    /// The mount point must be a directory reached without any symbolic link:
    /// for proc and sysfs, whose place decides what masks and labels act on
    /// (CVE-2019-19921, CVE-2025-54867).
    pub plain_directory: bool,
    /// The mount point must be reached without any symbolic link: an earlier
    /// mount of a sandbox brings along links that a program has made, and these
    /// must not lead a later one over /proc or /dev.
    pub plain_target: bool,
    /// Who is to own the directory, where that is not who makes the file system.
    pub owner: Option<u32>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A new file system.
    FileSystem {
        /// Its type.
        kind: CString,
        /// Its options, as fsconfig(2) takes them.
        options: Vec<(CString, Option<CString>)>,
    },
    /// One of the plan's bind sources.
    Bind(usize),
}

impl MountStep {
    /// Takes the read-only attribute off a tmpfs that will have things made in
    /// it, and says where it is to be set later.
    pub(super) fn without_read_only(&mut self) -> Option<CString> {
        let tmpfs =
            matches!(&self.what, What::FileSystem { kind, .. } if kind.as_c_str() == c"tmpfs");
        let late = tmpfs && self.set & libc::MOUNT_ATTR_RDONLY != 0;
        if late {
            self.set &= !libc::MOUNT_ATTR_RDONLY;
        }
        late.then(|| self.target.clone())
    }

    /// Whether it is an overlay whose layers are named relative to the
    /// container's root, where earlier mounts have put them. Only a sandbox says
    /// so, in whose root no image can have put a link.
    pub fn layers_inside(&self) -> bool {
        let What::FileSystem { kind, options } = &self.what else {
            return false;
        };
        let layers: [&CStr; 3] = [c"lowerdir", c"upperdir", c"workdir"];
        let relative = |(key, value): &(CString, Option<CString>)| {
            let value = value.as_ref().map_or(&b"/"[..], |value| value.to_bytes());
            layers.contains(&key.as_c_str()) && !value.starts_with(b"/")
        };
        kind.as_c_str() == c"overlay" && options.iter().any(relative)
    }

    /// The step in one line.
    pub(super) fn describe(&self, sources: &[BindSource]) -> String {
        let mut line = match &self.what {
            What::FileSystem { kind, options } => {
                let mut text = format!("mount {} on {}", Text(kind), Text(&self.target));
                let options: Vec<_> = options
                    .iter()
                    .map(|(k, v)| option_text(k, v.as_deref()))
                    .collect();
                if !options.is_empty() {
                    text += &format!(" ({})", options.join(","));
                }
                text
            }
            What::Bind(index) => {
                let source = sources.get(*index);
                let path = source.map_or_else(String::new, |s| Text(&s.path).to_string());
                let recursive = source.is_some_and(|s| s.recursive);
                let idmap = if source.is_some_and(|s| s.idmap.is_some()) {
                    ", idmapped"
                } else {
                    ""
                };
                let kind = if recursive {
                    "bind recursively"
                } else {
                    "bind"
                };
                let plain = match source.is_some_and(|s| s.plain) {
                    true => " (not through any link)",
                    false => "",
                };
                format!("{kind} {path}{plain} on {}{idmap}", Text(&self.target))
            }
        };
        for (prefix, set, clear) in [
            ("", self.set, self.clear),
            ("r", self.recursive_set, self.recursive_clear),
        ] {
            for word in attribute_names(set, clear) {
                line += &format!(" {prefix}{word}");
            }
        }
        for flags in &self.propagation {
            line += &format!(" {}", propagation_name(*flags));
        }
        if self.volume != 0 {
            let names = attribute_names(self.volume, 0).join(" ");
            line += &format!(" {names} (but for a device node)");
        }
        if self.copy_up {
            line += ", filled from the directory below";
        }
        if self.plain_target {
            line += ", where no link leads";
        }
        if let Some(owner) = self.owner {
            line += &format!(", owned by user and group {owner}");
        }
        line
    }
}

/// What mounts depend on besides their own words.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The bundle, for relative sources.
    pub bundle: &'a std::path::Path,
    /// The container's namespaces.
    pub namespaces: &'a Namespaces,
    /// Its id maps.
    pub ids: Option<&'a IdMaps>,
    /// The caller has root's privileges.
    pub privileged: bool,
    /// The host's root mounts what the container's namespaces do not own.
    pub staged: bool,
    /// `linux.mountLabel`.
    pub label: Option<&'a str>,
    /// Binds get nosuid and nodev (rule `volumes`).
    pub harden_volumes: bool,
    /// The container's cgroup on the host's cgroup2 mount, to show where no
    /// cgroup namespace can be had.
    pub cgroup: Option<&'a std::path::Path>,
    /// No link leads to what is bound, nor to where anything is mounted.
    pub plain_paths: bool,
}

/// Plans one entry of `mounts`; a bind source is added to `sources`.
pub fn plan(
    mount: &Mount,
    index: usize,
    setting: &Setting<'_>,
    sources: &mut Vec<BindSource>,
) -> Result<MountStep, Problem> {
    let at = format!("/mounts/{index}");
    let options = mount_options::of(mount);
    if options.remount {
        return Err(Problem::new(
            format!("{at}/options"),
            "remount changes a mount that is there; give its options where it is mounted",
        ));
    }
    let kind = mount.typ().as_deref().unwrap_or_default();
    let mut destination = mount.destination().as_os_str().as_bytes().to_vec();
    if destination.first() != Some(&b'/') {
        destination.insert(0, b'/');
    }
    let target = c_string(destination, &format!("{at}/destination"))?;
    let mut step = MountStep {
        target,
        what: What::Bind(sources.len()),
        set: options.set,
        clear: options.clear,
        recursive_set: options.recursive_set,
        recursive_clear: options.recursive_clear,
        propagation: options.propagation.clone(),
        copy_up: options.copy_up,
        volume: 0,
        plain_directory: matches!(kind, "proc" | "sysfs") && !options.bind,
        plain_target: setting.plain_paths,
        owner: None,
    };
    if options.bind {
        if setting.harden_volumes {
            step.volume = volume_attributes(mount, &step);
        }
        sources.push(bind_source(mount, &at, &options, setting)?);
    } else if let Some(path) = replacement(kind, setting) {
        step.plain_directory = false;
        // What comes from the host in place of an own instance must not be
        // writable from inside (CVE-2023-25809).
        step.recursive_set |= libc::MOUNT_ATTR_RDONLY;
        step.clear &= !libc::MOUNT_ATTR_RDONLY;
        sources.push(BindSource {
            path,
            recursive: true,
            opener: opener(setting),
            idmap: None,
            plain: false,
        });
    } else {
        step.what = file_system(mount, kind, &at, &options, setting)?;
    }
    Ok(step)
}

/// nosuid and nodev, unless the bundle sets or clears them itself. What is bound
/// below /dev is devices by intent.
fn volume_attributes(mount: &Mount, step: &MountStep) -> u64 {
    if step.target.to_bytes() == b"/dev" || step.target.to_bytes().starts_with(b"/dev/") {
        return 0;
    }
    let words = mount.options().as_deref().unwrap_or_default();
    let says = |options: [&str; 4]| words.iter().any(|word| options.contains(&word.as_str()));
    let mut attributes = 0;
    if !says(["suid", "nosuid", "rsuid", "rnosuid"]) {
        attributes |= libc::MOUNT_ATTR_NOSUID;
    }
    if !says(["dev", "nodev", "rdev", "rnodev"]) {
        attributes |= libc::MOUNT_ATTR_NODEV;
    }
    attributes
}

fn opener(setting: &Setting<'_>) -> Opener {
    // With a user namespace the child no longer has the privilege to reach
    // every source; without one it has all that the runtime has.
    let user_namespace = setting.namespaces.has(Kind::User);
    if setting.privileged && user_namespace {
        Opener::Runtime
    } else {
        Opener::Child
    }
}

fn bind_source(
    mount: &Mount,
    at: &str,
    options: &MountOptions,
    setting: &Setting<'_>,
) -> Result<BindSource, Problem> {
    let at_source = format!("{at}/source");
    let source = mount
        .source()
        .as_ref()
        .filter(|s| !s.as_os_str().is_empty());
    let source = source.ok_or_else(|| Problem::new(&*at_source, "a bind mount needs a source"))?;
    let path = c_string(
        setting.bundle.join(source).as_os_str().as_bytes(),
        &at_source,
    )?;
    let ranges = |list: &Option<Vec<oci_spec::runtime::LinuxIdMapping>>| -> Vec<IdRange> {
        list.iter().flatten().map(IdRange::from).collect()
    };
    let users = ranges(mount.uid_mappings());
    let groups = ranges(mount.gid_mappings());
    let idmap = match (options.idmap, users.is_empty()) {
        (None, true) => None,
        (kind, none) => Some(Idmap {
            recursive: matches!(kind, Some(IdmapKind::Recursive)),
            maps: (!none).then(|| IdMaps::new(users, groups, setting.privileged, (0, 0))),
        }),
    };
    if idmap.as_ref().is_some_and(|idmap| idmap.maps.is_none()) && setting.ids.is_none() {
        return Err(Problem::new(
            at,
            "idmap without mappings takes those of a new user namespace; this one is joined: \
             list uidMappings and gidMappings of the mount",
        ));
    }
    if idmap.is_some() && !setting.privileged {
        return Err(Problem::new(
            at,
            "idmapped mounts need root: the kernel lets only the owner of the file system make them",
        ));
    }
    let opener = if idmap.is_some() {
        Opener::Runtime
    } else {
        opener(setting)
    };
    Ok(BindSource {
        path,
        recursive: options.recursive_bind,
        opener,
        idmap,
        plain: setting.plain_paths,
    })
}

/// What is bound from the host where the kernel refuses an own instance: sysfs
/// and mqueue belong to the network and ipc namespace, which a process in a
/// new user namespace does not own unless they are new too, as procfs does to the
/// pid namespace; cgroup2 shows the
/// whole tree without a cgroup namespace.
fn replacement(kind: &str, setting: &Setting<'_>) -> Option<CString> {
    let namespaces = setting.namespaces;
    // Whoever joins a user namespace may find one it owns beside it.
    let foreign = |kind| {
        namespaces.has(Kind::User)
            && !namespaces.makes(kind)
            && (namespaces.makes(Kind::User) || !namespaces.joins(kind))
    };
    match kind {
        "sysfs" if foreign(Kind::Network) && !setting.staged => Some(c"/sys".to_owned()),
        "mqueue" if foreign(Kind::Ipc) => Some(c"/dev/mqueue".to_owned()),
        "proc" if foreign(Kind::Pid) => Some(c"/proc".to_owned()),
        "cgroup" | "cgroup2" if !namespaces.has(Kind::Cgroup) => {
            let path = setting
                .cgroup
                .unwrap_or(std::path::Path::new("/sys/fs/cgroup"));
            CString::new(path.as_os_str().as_bytes()).ok()
        }
        _ => None,
    }
}

/// File systems whose read-only state is a matter of the mount, not of the
/// superblock, which others may share.
const KERNEL_FILE_SYSTEMS: [&str; 7] = [
    "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", "ramfs",
];

fn file_system(
    mount: &Mount,
    kind: &str,
    at: &str,
    options: &MountOptions,
    setting: &Setting<'_>,
) -> Result<What, Problem> {
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    if kind.is_empty() {
        return Err(Problem::new(
            format!("{at}/type"),
            "a mount that is no bind needs a type",
        ));
    }
    let kernel_own = KERNEL_FILE_SYSTEMS.contains(&kind);
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    // The source is what a block file system is on, and only a name for the rest.
    if let Some(source) = mount
        .source()
        .as_ref()
        .filter(|s| !s.as_os_str().is_empty())
    {
        pairs.push(("source".into(), Some(source.to_string_lossy().into_owned())));
    }
    for (key, value) in &options.superblock {
        if !(kernel_own && matches!(key.as_str(), "ro" | "rw")) {
            pairs.push((key.clone(), value.clone()));
        }
    }
    for word in &options.data {
        match word.split_once('=') {
            Some((key, value)) => pairs.extend(value_pairs(kind, key, value, setting)),
            None => pairs.push((word.clone(), None)),
        }
    }
    if let Some(label) = setting.label.filter(|label| !label.is_empty())
        && matches!(kind, "tmpfs" | "devpts" | "mqueue" | "overlay" | "ramfs")
    {
        pairs.push(("context".into(), Some(label.into())));
    }
    let options = pairs
        .into_iter()
        .map(|(key, value)| {
            let at = format!("{at}/options");
            Ok((
                c_string(key, &at)?,
                value.map(|value| c_string(value, &at)).transpose()?,
            ))
        })
        .collect::<Result<_, Problem>>()?;
    Ok(What::FileSystem {
        kind: c_string(kind, &format!("{at}/type"))?,
        options,
    })
}

/// One option, as fsconfig(2) accepts it.
fn value_pairs(
    kind: &str,
    key: &str,
    value: &str,
    setting: &Setting<'_>,
) -> Vec<(String, Option<String>)> {
    // A group that the user namespace does not map would be EINVAL; devpts then
    // takes the opener's own group.
    let unmapped = |id: &str| {
        let id = id.parse();
        matches!((setting.ids, id), (Some(ids), Ok(id)) if !ids.maps_group(id))
    };
    if kind == "devpts" && key == "gid" && unmapped(value) {
        return Vec::new();
    }
    // A value of more than 255 bytes is EINVAL; overlay takes its layers one by one as well.
    if kind == "overlay" && key == "lowerdir" && value.len() > 255 && !value.contains('\\') {
        return value
            .split(':')
            .map(|layer| ("lowerdir+".into(), Some(layer.into())))
            .collect();
    }
    vec![(key.to_owned(), Some(value.to_owned()))]
}
