//! What the joiner does for a container of root that gets a user namespace
//! unasked, while it is still the host's root.
//!
//! The root file system and volumes are attached in a mount namespace of the
//! host's root. The container's own is a copy of that in another user namespace,
//! where the kernel locks them: container root can neither detach them nor make a
//! read-only one writable, whatever capabilities it gets. Device nodes are made,
//! with the owners that the bundle names. What belongs to the container's
//! namespaces (proc, sysfs, mqueue, devpts, cgroup2) is mounted inside, later.

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

/// Moves what the host's root does from the root phase to the joiner.
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
        own_network: enter.new & Kind::Network.flag() != 0,
        early: Vec::new(),
        staged: Vec::new(),
        kept: Vec::new(),
    };
    if stage.low_ports && joins_network {
        sorted.early.extend(low_ports(&root));
    }
    root.into_iter().for_each(|step| sorted.sort(step));
    let slave = RootStep::Propagation(libc::MS_SLAVE | libc::MS_REC);
    let before = sorted.early.into_iter();
    let at = |step: &EnterStep| *step == EnterStep::JoinGiven;
    let at = enter.joiner.iter().position(at).unwrap_or_default();
    let steps = before
        .map(boxed)
        .chain([EnterStep::NewMountNamespace])
        .chain([slave, attach].map(boxed))
        .chain([EnterStep::FileSystemIds(stage.first)])
        .chain(sorted.staged.into_iter().map(boxed))
        .chain([EnterStep::FileSystemIds(0)]);
    enter.joiner.splice(at..at, steps);
    Ok(sorted.kept)
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
    own_network: bool,
    /// In the network namespace that is joined.
    early: Vec<RootStep>,
    staged: Vec<RootStep>,
    kept: Vec<RootStep>,
}

impl Sorted {
    fn sort(&mut self, step: RootStep) {
        match step {
            RootStep::AttachRoot { .. } => self.kept.push(RootStep::AttachInherited),
            RootStep::Mount(mut mount) if self.can_stage(&mount) => {
                shift_owners(&mut mount, self.first);
                mount.staged = true;
                self.staged.push(RootStep::Mount(mount));
            }
            RootStep::Device(mut device) if !self.is_beside_kept(&device.path) => {
                device.bind = false;
                device.uid = device.uid.saturating_add(self.first);
                device.gid = device.gid.saturating_add(self.first);
                self.staged.push(RootStep::Device(device));
            }
            RootStep::Sysctl { file, value } => self.sysctl(file, value),
            other => self.kept.push(other),
        }
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

    /// Binds, tmpfs and the sysfs of a network that is not the container's, unless
    /// an earlier mount that is made inside is in the way.
    fn can_stage(&self, mount: &MountStep) -> bool {
        let kind = match &mount.what {
            What::FileSystem { kind, .. } if kind.as_c_str() == c"sysfs" => !self.own_network,
            What::FileSystem { kind, .. } => kind.as_c_str() == c"tmpfs",
            What::Bind(_) => true,
        };
        // In a copy what is shared becomes a slave, and what is unbindable is lost.
        let changed = |flags: &u64| flags & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0;
        kind && !mount.propagation.iter().any(changed) && !self.is_beside_kept(&mount.target)
    }

    /// Whether something made inside is mounted above or below a path.
    fn is_beside_kept(&self, path: &CStr) -> bool {
        let path = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
        self.kept.iter().any(|step| match step {
            RootStep::Mount(kept) => {
                let kept = Path::new(std::ffi::OsStr::from_bytes(kept.target.to_bytes()));
                kept.starts_with(path) || path.starts_with(kept)
            }
            _ => false,
        })
    }
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

/// The host's root names a tmpfs's owners as the host numbers them.
fn shift_owners(mount: &mut MountStep, first: u32) {
    let What::FileSystem { options, .. } = &mut mount.what else {
        return;
    };
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
            staged: false,
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

    #[test]
    fn what_lies_on_a_mount_made_inside_is_made_inside_too() {
        let mut sorted = Sorted {
            first: 1000,
            joins_network: false,
            own_network: true,
            early: Vec::new(),
            staged: Vec::new(),
            kept: Vec::new(),
        };
        sorted.sort(mount(c"tmpfs", c"/dev"));
        sorted.sort(mount(c"sysfs", c"/sys"));
        sorted.sort(mount(c"tmpfs", c"/sys/firmware"));
        sorted.sort(mount(c"tmpfs", c"/system"));
        sorted.sort(mount(c"tmpfs", c"/"));
        assert_eq!(sorted.kept.len(), 3);
        let owner = |step: &RootStep| match step {
            RootStep::Mount(mount) => match &mount.what {
                What::FileSystem { options, .. } => options[0].1.clone(),
                What::Bind(_) => None,
            },
            _ => None,
        };
        let owners: Vec<_> = sorted.staged.iter().map(owner).collect();
        assert_eq!(owners, vec![Some(c"1007".to_owned()); 2]);
    }
}
