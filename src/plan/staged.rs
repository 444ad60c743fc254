//! What the host's root does for a container of root that gets a user namespace
//! unasked: it makes everything that is mounted.
//!
//! The joiner attaches the root file system in a mount namespace of the host's root,
//! clones the first process into the container's other namespaces, and clones the
//! mounter into the pid namespace of that. The mounter is the host's root still, in the
//! namespaces that proc, sysfs, mqueue and cgroup2 show: it mounts them, volumes, masks
//! and all the rest. Then the first process makes the container's mount namespace. It
//! is a copy in another user namespace, where the kernel locks what was copied: container
//! root can neither detach anything nor make a read-only mount writable, whatever
//! capabilities it gets. Device nodes are made, with the owners that the bundle names.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::enter::Enter;
use super::mounts::{MountStep, What};
use super::steps::{EnterStep, RootStep};
use super::{BindSource, Idmap, Opener, c_string};
use crate::error::Problem;
use crate::policy::IDS;
use crate::spec::namespaces::Kind;

/// What the staging depends on.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The first of the container's ids outside.
    pub first: u32,
    /// The root file system, absolute.
    pub rootfs: &'a Path,
    /// The program may use low ports, in a network that is there.
    pub low_ports: bool,
}

/// Moves what the host's root does from the root phase to joiner and mounter.
pub fn stage(
    stage: &Stage<'_>,
    enter: &mut Enter,
    root: Vec<RootStep>,
    sources: &mut Vec<BindSource>,
) -> Result<Vec<RootStep>, Problem> {
    let path = c_string(stage.rootfs.as_os_str().as_bytes(), "/root/path")?;
    let attach = RootStep::AttachMapped {
        path: path.clone(),
        source: sources.len(),
    };
    sources.push(BindSource {
        path,
        recursive: true,
        opener: Opener::Runtime,
        idmap: Some(Idmap {
            recursive: true,
            maps: None,
        }),
        plain: false,
    });
    let joins_network = enter.paths.iter().any(|(kind, _)| *kind == Kind::Network);
    let mut sorted = Sorted {
        first: stage.first,
        joins_network,
        early: Vec::new(),
        mounter: Vec::new(),
        kept: Vec::new(),
    };
    if stage.low_ports && joins_network {
        sorted.early.extend(low_ports(&root));
    }
    root.into_iter().for_each(|step| sorted.sort(step));
    let slave = RootStep::Propagation(libc::MS_SLAVE | libc::MS_REC);
    let time = |step: &EnterStep| matches!(step, EnterStep::TimeOffsets(_));
    let before = enter.joiner.iter().position(time);
    let at = before.unwrap_or(enter.joiner.len());
    let steps = sorted.early.into_iter().map(boxed);
    let steps = steps.chain([EnterStep::NewMountNamespace]);
    let steps = steps.chain([slave, attach].map(boxed));
    enter.joiner.splice(at..at, steps);
    // The first is the joiner's: its children are there then. From the cgroup namespace it
    // could not clone the mounter into the cgroup, where cgroup2 has nsdelegate.
    let shown = [Kind::Pid, Kind::Ipc, Kind::Network, Kind::Cgroup];
    let shown = shown.into_iter().filter(|kind| is_own(enter, *kind));
    enter.mounter = shown.map(EnterStep::JoinFirst).collect();
    // Other ids make a process dumpable where fs.suid_dumpable says so.
    let ids = [EnterStep::FileSystemIds(stage.first), EnterStep::Hide];
    enter.mounter.extend(ids);
    enter.mounter.extend(sorted.mounter.into_iter().map(boxed));
    let copy = [EnterStep::AwaitMounts, EnterStep::NewMountNamespace];
    enter.first.extend(copy);
    Ok(sorted.kept)
}

/// Whether the first process gets a new namespace of the kind.
fn is_own(enter: &Enter, kind: Kind) -> bool {
    let cgroup = kind == Kind::Cgroup && enter.first.contains(&EnterStep::NewCgroupNamespace);
    cgroup || enter.new & kind.flag() != 0
}

fn boxed(step: RootStep) -> EnterStep {
    EnterStep::Root(Box::new(step))
}

/// A capability for low ports means nothing in a network of another owner: there
/// they are opened to everybody, unless the bundle says where they begin.
fn low_ports(root: &[RootStep]) -> Option<RootStep> {
    const FILE: &CStr = c"sys/net/ipv4/ip_unprivileged_port_start";
    let said = root
        .iter()
        .any(|step| matches!(step, RootStep::Sysctl { file, .. } if file.as_c_str() == FILE));
    (!said).then(|| RootStep::Sysctl {
        file: FILE.to_owned(),
        value: c"0".to_owned(),
    })
}

struct Sorted {
    first: u32,
    joins_network: bool,
    /// In the network namespace that is joined.
    early: Vec<RootStep>,
    mounter: Vec<RootStep>,
    kept: Vec<RootStep>,
}

impl Sorted {
    fn sort(&mut self, mut step: RootStep) {
        let first = self.first;
        match &mut step {
            RootStep::AttachRoot { .. } => return self.kept.push(RootStep::AttachInherited),
            RootStep::Sysctl { file, value } => {
                let (file, value) = (std::mem::take(file), std::mem::take(value));
                return self.sysctl(file, value);
            }
            RootStep::Mount(mount) => {
                shift_owners(mount, first);
                self.kept.extend(late_propagation(mount));
            }
            RootStep::Device(device) => {
                device.bind = false;
                device.uid = device.uid.saturating_add(first);
                device.gid = device.gid.saturating_add(first);
            }
            RootStep::Console { uid, .. } => {
                *uid = uid.saturating_add(first);
                self.kept.push(RootStep::NamedTerminal);
            }
            RootStep::Secrets(secrets) => {
                secrets.uid = secrets.uid.saturating_add(first);
                secrets.gid = secrets.gid.saturating_add(first);
            }
            RootStep::Link { .. }
            | RootStep::RuntimeHooks
            | RootStep::WorkingDirectory(_)
            | RootStep::Mask(_)
            | RootStep::ReadonlyPath(_)
            | RootStep::ReadonlyMount(_)
            | RootStep::ReadonlyRoot => {}
            _ => return self.kept.push(step),
        }
        self.mounter.push(step);
    }

    /// Those of a network that is joined are the host's root's to write. Groups
    /// that may ping are numbered as the writer numbers them, who must have them all.
    fn sysctl(&mut self, file: CString, mut value: CString) {
        let early = self.joins_network && file.to_bytes().starts_with(b"sys/net/");
        if file.as_c_str() == c"sys/net/ipv4/ping_group_range" {
            let shift = if early { self.first } else { 0 };
            value = ping_groups(&value, shift).unwrap_or(value);
        }
        let steps = if early {
            &mut self.early
        } else {
            &mut self.kept
        };
        steps.push(RootStep::Sysctl { file, value });
    }
}

/// Takes off a mount what would not survive the copy, for the copy to get it.
fn late_propagation(mount: &mut MountStep) -> Vec<RootStep> {
    let changed = |flags: &u64| flags & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0;
    if !mount.propagation.iter().any(changed) {
        return Vec::new();
    }
    let late = |flags| RootStep::MountPropagation {
        path: mount.target.clone(),
        flags,
    };
    let late = mount.propagation.iter().copied().map(late).collect();
    mount.propagation.clear();
    late
}

fn ping_groups(range: &CStr, shift: u32) -> Option<CString> {
    let numbers = range.to_str().ok()?.split_ascii_whitespace();
    let numbers: Option<Vec<u32>> = numbers.map(|number| number.parse().ok()).collect();
    let &[least, most] = numbers?.as_slice() else {
        return None;
    };
    // An empty range forbids it to everybody.
    let empty = least > most;
    let most = if empty { most } else { most.min(IDS - 1) };
    let shift = if empty { 0 } else { shift };
    let (least, most) = (least.checked_add(shift)?, most.checked_add(shift)?);
    CString::new(format!("{least} {most}")).ok()
}

/// The host's root names owners as the host numbers them. Directories of devpts and
/// mqueue belong to the host's root at first, whatever the options say.
fn shift_owners(mount: &mut MountStep, first: u32) {
    let What::FileSystem { kind, options } = &mut mount.what else {
        return;
    };
    let of_the_host = [c"devpts", c"mqueue"].contains(&kind.as_c_str());
    mount.owner = of_the_host.then_some(first);
    for (key, value) in options {
        let text = value.as_ref().and_then(|value| value.to_str().ok());
        let id: Option<u32> = text.and_then(|text| text.parse().ok());
        if let ("uid" | "gid", Some(id)) = (key.to_str().unwrap_or_default(), id) {
            *value = CString::new(id.saturating_add(first).to_string()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &CStr, target: &CStr) -> RootStep {
        RootStep::Mount(MountStep {
            target: target.to_owned(),
            what: What::FileSystem {
                kind: kind.to_owned(),
                options: vec![(c"uid".to_owned(), Some(c"7".to_owned()))],
            },
            set: 0,
            clear: 0,
            recursive_set: 0,
            recursive_clear: 0,
            propagation: Vec::new(),
            copy_up: false,
            volume: 0,
            plain_directory: false,
            plain_target: false,
            owner: None,
        })
    }

    #[test]
    fn groups_that_may_ping_are_those_of_the_container() {
        let text = |range: &CStr, shift| ping_groups(range, shift).unwrap();
        assert_eq!(text(c"0 2147483647", 0).as_c_str(), c"0 65535");
        assert_eq!(text(c"0\t7", 1000).as_c_str(), c"1000 1007");
        assert_eq!(text(c"1 0", 1000).as_c_str(), c"1 0");
        assert_eq!(ping_groups(c"all", 0), None);
    }

    fn sort(steps: impl IntoIterator<Item = RootStep>) -> Sorted {
        let mut sorted = Sorted {
            first: 1000,
            joins_network: false,
            early: Vec::new(),
            mounter: Vec::new(),
            kept: Vec::new(),
        };
        steps.into_iter().for_each(|step| sorted.sort(step));
        sorted
    }

    #[test]
    fn owners_are_named_as_the_host_numbers_them() {
        let mounts = [(c"tmpfs", c"/dev"), (c"devpts", c"/dev/pts")];
        let sorted = sort(mounts.map(|(kind, target)| mount(kind, target)));
        assert!(sorted.kept.is_empty());
        let owners = |step: &RootStep| match step {
            RootStep::Mount(mount) => match &mount.what {
                What::FileSystem { options, .. } => (options[0].1.clone(), mount.owner),
                What::Bind(_) => (None, None),
            },
            _ => (None, None),
        };
        let owners: Vec<_> = sorted.mounter.iter().map(owners).collect();
        let shifted = Some(c"1007".to_owned());
        assert_eq!(owners, [(shifted.clone(), None), (shifted, Some(1000))]);
    }

    #[test]
    fn what_a_copy_would_lose_is_set_in_the_copy() {
        let mut shared = mount(c"tmpfs", c"/run");
        if let RootStep::Mount(mount) = &mut shared {
            mount.propagation = vec![libc::MS_PRIVATE, libc::MS_SHARED];
        }
        let sorted = sort([shared]);
        let late = |flags| RootStep::MountPropagation {
            path: c"/run".to_owned(),
            flags,
        };
        assert_eq!(sorted.kept, [late(libc::MS_PRIVATE), late(libc::MS_SHARED)]);
        let [RootStep::Mount(mounted)] = &sorted.mounter[..] else {
            panic!("{:?}", sorted.mounter);
        };
        assert!(mounted.propagation.is_empty());
    }
}
