//! The root file system: mounts, devices, links, masks, pivot.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::mounts::{self, MountStep, Setting, What, propagation_flags};
use super::secrets::SecretsStep;
use super::steps::{HookStep, RootStep, Text};
use super::{BindSource, Opener, c_string};
use crate::error::Problem;
use crate::spec::namespaces::Kind;
use crate::spec::validate::sysctl::path as sysctl_path;

/// What the root phase depends on besides the configuration.
#[derive(Debug)]
pub struct Frame<'a> {
    /// For the mounts.
    pub setting: Setting<'a>,
    /// The root file system, absolute.
    pub rootfs: &'a Path,
    /// The mount point the root file system is below, if its propagation matters.
    pub parent_mount: Option<&'a Path>,
    /// Device nodes must be bound: mknod(2) is refused.
    pub bind_devices: bool,
    /// Without pivot_root(2).
    pub no_pivot: bool,
    /// There are prestart or createRuntime hooks.
    pub runtime_hooks: bool,
    /// createContainer hooks.
    pub hooks: Vec<HookStep>,
    /// Files that only the program is to know.
    pub secrets: Option<SecretsStep>,
    /// A directory with the socket to notify, bound on /run/notify.
    pub notify: Option<&'a Path>,
    /// File system and inode number that the root directory must have.
    pub measured: Option<(u64, u64)>,
}

/// A device node to make or bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStep {
    /// Its path in the container.
    pub path: CString,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`, with permission bits.
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Its owner in the container.
    pub uid: u32,
    /// Its group in the container.
    pub gid: u32,
    /// Bind the host's node instead of making one: mknod(2) is refused in a user namespace.
    pub bind: bool,
}

impl fmt::Display for DeviceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Text(&self.path);
        if self.bind {
            return write!(f, "bind the host's {path}");
        }
        let kind = match self.mode & libc::S_IFMT {
            libc::S_IFBLK => "block device",
            libc::S_IFIFO => "fifo",
            _ => "character device",
        };
        write!(
            f,
            "make {kind} {path} {}:{} (mode={:o},uid={},gid={})",
            self.major,
            self.minor,
            self.mode & 0o7777,
            self.uid,
            self.gid
        )
    }
}

/// Plans the root phase and the bind sources it needs.
pub fn plan(
    spec: &Spec,
    frame: Frame<'_>,
) -> Result<(Vec<RootStep>, Vec<BindSource>), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut sources = Vec::new();
    let mut mounts = Vec::new();
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        match mounts::plan(mount, index, &frame.setting, &mut sources) {
            Ok(step) => mounts.push(step),
            Err(problem) => problems.push(problem),
        }
    }
    mounts.extend(
        frame
            .notify
            .and_then(|path| notify_mount(path, &frame.setting, &mut sources)),
    );
    let tail = tail(spec, &frame).unwrap_or_else(|mut found| {
        problems.append(&mut found);
        Vec::new()
    });
    let beginning = beginning(spec, &frame, &sources).map_err(|problem| vec![problem])?;
    let inside = inside_dev(spec, &frame, &mounts).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    // Later mounts and devices need their mount points in there.
    let late = mounts.iter_mut().filter_map(MountStep::without_read_only);
    let late: Vec<_> = late.map(RootStep::ReadonlyMount).collect();
    let mut steps = beginning;
    steps.extend(mounts.into_iter().map(RootStep::Mount));
    steps.extend(inside);
    steps.extend(frame.runtime_hooks.then_some(RootStep::RuntimeHooks));
    steps.extend(frame.hooks.into_iter().map(RootStep::Hook));
    steps.extend(working_directory(spec));
    // After the hooks, which are not to know them.
    steps.extend(frame.secrets.map(RootStep::Secrets));
    steps.extend(late);
    steps.extend(tail);
    Ok((steps, sources))
}

/// What is no path is told where the process is planned.
fn working_directory(spec: &Spec) -> Option<RootStep> {
    let path = spec.process().as_ref()?.cwd().as_os_str().as_bytes();
    let path = CString::new(path).ok()?;
    (path.as_bytes() != b"/").then_some(RootStep::WorkingDirectory(path))
}

fn beginning(
    spec: &Spec,
    frame: &Frame<'_>,
    sources: &[BindSource],
) -> Result<Vec<RootStep>, Problem> {
    let at = "/linux/rootfsPropagation";
    let mut steps = Vec::new();
    if !frame.setting.namespaces.makes(Kind::User) {
        // To whoever is in a chroot the kernel gives no user namespace.
        steps.push(RootStep::ExpectNamespaceRoot);
    }
    // Slave, not private: a hook of the runtime may still mount into the root
    // file system, and a volume may ask to receive the host's mounts.
    let propagation = root_propagation(spec).unwrap_or(libc::MS_SLAVE | libc::MS_REC);
    if propagation & libc::MS_SHARED == 0 {
        // What is unbindable could not be attached; the root becomes so at the end.
        let unbindable = propagation & libc::MS_UNBINDABLE != 0;
        let propagation = if unbindable {
            libc::MS_PRIVATE
        } else {
            propagation
        };
        steps.push(RootStep::Propagation(propagation | libc::MS_REC));
    } else if let Some(parent) = frame.parent_mount {
        steps.push(RootStep::PrivateParent(c_string(
            parent.as_os_str().as_bytes(),
            at,
        )?));
    }
    let child_opens = |(index, source): (usize, &BindSource)| {
        (source.opener == Opener::Child).then_some(RootStep::OpenSource(index))
    };
    steps.extend(sources.iter().enumerate().filter_map(child_opens));
    let path = c_string(frame.rootfs.as_os_str().as_bytes(), "/root/path")?;
    steps.push(RootStep::AttachRoot { path });
    let measured = frame.measured;
    steps.extend(measured.map(|(dev, ino)| RootStep::ExpectRoot { dev, ino }));
    let maps_root = match frame.setting.ids {
        Some(ids) => ids.maps_user(0) && ids.maps_group(0),
        // What a joined one maps shows when it is tried.
        None => frame.setting.namespaces.joins(Kind::User),
    };
    if maps_root {
        steps.push(RootStep::BecomeRoot);
    }
    Ok(steps)
}

fn root_propagation(spec: &Spec) -> Option<u64> {
    propagation_flags(spec.linux().as_ref()?.rootfs_propagation().as_deref()?)
}

fn notify_mount(
    path: &Path,
    setting: &Setting<'_>,
    sources: &mut Vec<BindSource>,
) -> Option<MountStep> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    sources.push(BindSource {
        path,
        recursive: false,
        opener: match setting.staged {
            true => Opener::Runtime,
            false => Opener::Child,
        },
        idmap: None,
        plain: false,
    });
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    Some(MountStep {
        target: c"/run/notify".to_owned(),
        what: What::Bind(sources.len() - 1),
        set: attributes,
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

/// What is made below `/dev`, unless the bundle brings a `/dev` of its own.
fn inside_dev(
    spec: &Spec,
    frame: &Frame<'_>,
    mounts: &[MountStep],
) -> Result<Vec<RootStep>, Problem> {
    // Compared as paths: with /dev/ for /dev, the links would be made on the host.
    let is_dev =
        |target: &CStr| Path::new(OsStr::from_bytes(target.to_bytes())) == Path::new("/dev");
    let bound = mounts
        .iter()
        .any(|mount| is_dev(&mount.target) && matches!(mount.what, What::Bind(_)));
    let mut steps = Vec::new();
    if !bound {
        steps.extend(
            devices(spec, frame.bind_devices)?
                .into_iter()
                .map(RootStep::Device),
        );
        steps.extend(links());
    }
    let process = spec.process().as_ref();
    if process.is_some_and(|process| process.terminal().unwrap_or(false)) {
        let size = process
            .and_then(|process| process.console_size())
            .map(|size| {
                let small = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
                (small(size.height()), small(size.width()))
            });
        let uid = process.map_or(0, |process| process.user().uid());
        steps.push(RootStep::Console { size, uid });
    }
    Ok(steps)
}

/// The devices every container has (runtime specification, "Default Devices").
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(spec: &Spec, bind: bool) -> Result<Vec<DeviceStep>, Problem> {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.devices().as_deref())
        .unwrap_or_default();
    let mut steps = Vec::new();
    for (path, major, minor) in DEFAULT_DEVICES {
        // The bundle's own entry of the same path takes the place of the default.
        if !listed.iter().any(|device| device.path() == Path::new(path)) {
            let path = c_string(path, "/linux/devices")?;
            let mode = libc::S_IFCHR | 0o666;
            steps.push(DeviceStep {
                path,
                mode,
                major,
                minor,
                uid: 0,
                gid: 0,
                bind,
            });
        }
    }
    for (index, device) in listed.iter().enumerate() {
        steps.push(device_step(device, index, bind)?);
    }
    Ok(steps)
}

fn device_step(device: &LinuxDevice, index: usize, bind: bool) -> Result<DeviceStep, Problem> {
    let at = format!("/linux/devices/{index}");
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Problem::new(
                format!("{at}/type"),
                "must be b, c, u or p: a is for rules only",
            ));
        }
    };
    let number = |value: i64, name: &str| {
        u32::try_from(value)
            .map_err(|_| Problem::new(format!("{at}/{name}"), "must be 0 to 4294967295"))
    };
    Ok(DeviceStep {
        path: c_string(device.path().as_os_str().as_bytes(), &format!("{at}/path"))?,
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: number(device.major(), "major")?,
        minor: number(device.minor(), "minor")?,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        // A fifo needs no privilege.
        bind: bind && kind != libc::S_IFIFO,
    })
}

fn links() -> Vec<RootStep> {
    let link = |target: &std::ffi::CStr, name: &std::ffi::CStr, replace| RootStep::Link {
        target: target.to_owned(),
        directory: c"/dev".to_owned(),
        name: name.to_owned(),
        replace,
    };
    vec![
        link(c"/proc/self/fd", c"fd", false),
        link(c"/proc/self/fd/0", c"stdin", false),
        link(c"/proc/self/fd/1", c"stdout", false),
        link(c"/proc/self/fd/2", c"stderr", false),
        link(c"pts/ptmx", c"ptmx", true),
    ]
}

/// What follows the hooks.
fn tail(spec: &Spec, frame: &Frame<'_>) -> Result<Vec<RootStep>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut steps = Vec::new();
    let linux = spec.linux().as_ref();
    let mut sysctls: Vec<_> = linux
        .and_then(|l| l.sysctl().as_ref())
        .into_iter()
        .flatten()
        .collect();
    sysctls.sort();
    for (key, value) in sysctls {
        match sysctl(key, value) {
            Ok(step) => steps.push(step),
            Err(problem) => problems.push(problem),
        }
    }
    let masked = linux
        .and_then(|l| l.masked_paths().as_deref())
        .unwrap_or_default();
    let readonly = linux
        .and_then(|l| l.readonly_paths().as_deref())
        .unwrap_or_default();
    for (index, path) in masked.iter().enumerate() {
        match c_string(path.as_str(), &format!("/linux/maskedPaths/{index}")) {
            Ok(path) => steps.push(RootStep::Mask(path)),
            Err(problem) => problems.push(problem),
        }
    }
    for (index, path) in readonly.iter().enumerate() {
        match c_string(path.as_str(), &format!("/linux/readonlyPaths/{index}")) {
            Ok(path) => steps.push(RootStep::ReadonlyPath(path)),
            Err(problem) => problems.push(problem),
        }
    }
    if spec
        .root()
        .as_ref()
        .is_some_and(|root| root.readonly().unwrap_or(false))
    {
        steps.push(RootStep::ReadonlyRoot);
    }
    steps.push(if frame.no_pivot {
        RootStep::MoveRoot
    } else {
        RootStep::Pivot
    });
    steps.extend(root_propagation(spec).map(RootStep::RootPropagation));
    if problems.is_empty() {
        Ok(steps)
    } else {
        Err(problems)
    }
}

fn sysctl(key: &str, value: &str) -> Result<RootStep, Problem> {
    let at = format!(
        "/linux/sysctl/{}",
        key.replace('~', "~0").replace('/', "~1")
    );
    // The same reading as the check's: what is checked is what is written.
    let path = sysctl_path(key).ok_or_else(|| Problem::new(&*at, "names no sysctl"))?;
    let file = c_string(format!("sys/{path}"), &at)?;
    Ok(RootStep::Sysctl {
        file,
        value: c_string(value, &at)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_the_bundle_takes_the_place_of_the_default() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.2.0","linux":{"devices":[
                {"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384}]}}"#,
        )
        .unwrap();
        let devices = devices(&spec, false).unwrap();
        let null: Vec<_> = devices
            .iter()
            .filter(|d| d.path.as_c_str() == c"/dev/null")
            .collect();
        assert_eq!(null.len(), 1);
        assert_eq!(null[0].mode, libc::S_IFCHR | 0o600);
    }
}
