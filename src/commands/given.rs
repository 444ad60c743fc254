//! A user namespace for a container of root whose bundle has none: ids that
//! nobody else has, and a trial whether the files can be shown with them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::error::{Failure, Result};
use crate::execute::overlay::Begun;
use crate::execute::{self, idmaps, parent, root};
use crate::host::{OfferedIds, offered, overlay};
use crate::plan::ids::{IdMaps, Writer};
use crate::plan::{BindSource, Idmap, Opener};
use crate::policy::{IDS, PolicyFile};
use crate::spec::ids::IdRange;
use crate::spec::mount_options;
use crate::spec::namespaces::{Kind, Namespaces};
use crate::state::Range;
use crate::sys::fd;

/// The root file system of a container.
pub(super) struct RootDirectory {
    /// Where it is, absolute.
    pub(super) path: PathBuf,
    /// It must be the very one that is measured.
    pub(super) measured: bool,
    /// An overlay may be made over an engine's that can be written.
    pub(super) overlays: bool,
}

/// What a container may be given.
#[derive(Debug)]
pub(super) struct Given {
    /// Its ids, held for it.
    pub(super) range: Range,
    /// The user namespace with these ids; nobody is in it yet.
    pub(super) namespace: OwnedFd,
    /// Its root file system, where that is an overlay.
    pub(super) overlay: Option<Begun>,
}

/// Ids and a user namespace for a container, or the reason why it can have none.
pub(super) fn offer(
    spec: &Spec,
    bundle: &Path,
    rootfs: &RootDirectory,
    state: &Path,
) -> std::result::Result<(Given, OfferedIds), String> {
    if joins_own_network(spec) {
        return Err("the network namespace that it joins is the host's".into());
    }
    let given = make(state).map_err(|error| error.to_string())?;
    let mut given = given.ok_or_else(|| {
        let more = format!("give {} more in /etc/subuid and /etc/subgid", offered::NAME);
        format!("every range of ids is taken: {more}")
    })?;
    let mut found = OfferedIds {
        first: given.range.first,
        devices: Vec::new(),
    };
    let root = root_overlay(rootfs, &given.namespace);
    given.overlay = root.map_err(|why| format!("its root file system {why}"))?;
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let asked = mount_options::of(mount);
        let path = mount.source().as_ref().filter(|_| asked.bind);
        let path = path.map(|path| bundle.join(path));
        let Some(volume) = path.and_then(|path| source(&path, asked.recursive_bind)) else {
            continue;
        };
        match obstacle(&volume, &given.namespace) {
            Ok(Shown::Mapped) => {}
            Ok(Shown::Device) => found.devices.push(index),
            Err(why) => {
                let target = mount.destination().display();
                return Err(format!("its volume on {target} {why}"));
            }
        }
    }
    Ok((given, found))
}

/// Whether the network that is joined is the runtime's own. What is set there for
/// the container would be set for the host.
fn joins_own_network(spec: &Spec) -> bool {
    let namespaces = Namespaces::of(spec);
    let number = |path: &Path| std::fs::metadata(path).ok().map(|found| found.ino());
    let joined = namespaces.path(Kind::Network).and_then(number);
    joined.is_some() && joined == number(Path::new("/proc/self/ns/net"))
}

fn make(state: &Path) -> Result<Option<Given>> {
    let Some(range) = Range::take(&offered::first_ids(IDS), state)? else {
        return Ok(None);
    };
    let ids = vec![IdRange {
        container: 0,
        host: range.first,
        size: IDS,
    }];
    let maps = IdMaps {
        users: ids.clone(),
        groups: ids,
        writer: Writer::Runtime,
    };
    let procfs = parent::open_procfs()?;
    let namespace = idmaps::describing_namespace(procfs.as_fd(), &maps)?;
    Ok(Some(Given {
        range,
        namespace,
        overlay: None,
    }))
}

/// The root file system as it will be shown, where it cannot be the mount that is
/// there; or what is in the way.
fn root_overlay(
    rootfs: &RootDirectory,
    namespace: &OwnedFd,
) -> std::result::Result<Option<Begun>, String> {
    // What is not there is an error of the creation, and said there.
    let Ok(directory) = File::open(&rootfs.path).map(OwnedFd::from) else {
        return Ok(None);
    };
    if !matches!(fd::file_system(directory.as_fd()), Ok((kind, _)) if kind == OVERLAY) {
        let why = source(&rootfs.path, true).map(|root| obstacle(&root, namespace));
        return why.transpose().map(|_| None);
    }
    if rootfs.measured {
        return Err("is an overlay that is measured, and would be made anew".into());
    }
    let layers = overlay::layers(&directory)?;
    let failed = |failure| format!("is an overlay that cannot be made anew ({failure})");
    if layers.upper.is_some() && !rootfs.overlays {
        return Err(format!(
            "is an overlay that can be written, and {} does not say \"userns\": \"overlay\"",
            PolicyFile::PATH
        ));
    }
    let begun = execute::overlay::begin(&layers, &directory, namespace);
    begun.map(Some).map_err(failed)
}

fn source(path: &Path, recursive: bool) -> Option<BindSource> {
    Some(BindSource {
        path: std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?,
        recursive,
        opener: Opener::Runtime,
        idmap: Some(Idmap {
            recursive,
            maps: None,
        }),
        plain: false,
    })
}

/// How something of the host is shown.
enum Shown {
    /// With its ids mapped.
    Mapped,
    /// As it is, for it is a device node that everybody may use.
    Device,
}

/// Tries to map the ids of a mount, on a copy that nobody sees.
fn obstacle(source: &BindSource, namespace: &OwnedFd) -> std::result::Result<Shown, String> {
    let Ok(tree) = root::source_tree(source) else {
        // What is not there is an error of the creation, and said there.
        return Ok(Shown::Mapped);
    };
    let stat = fd::stat(tree.as_fd()).map_err(|failure| failure.to_string())?;
    if stat.is(libc::S_IFCHR) || stat.is(libc::S_IFBLK) {
        return match stat.mode & 0o006 {
            0o006 => Ok(Shown::Device),
            _ => Err("is a device node that not everybody may use".into()),
        };
    }
    match parent::idmap_tree(source, &tree, namespace) {
        Ok(()) => Ok(Shown::Mapped),
        Err(failure) => Err(explain(&failure, fd::file_system(tree.as_fd()).ok())),
    }
}

/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY: i64 = 0x794c_7630;

fn explain(failure: &Failure, kind: Option<(i64, i64)>) -> String {
    match kind {
        _ if failure.is(libc::EPERM) => "is idmapped already".into(),
        Some((OVERLAY, _)) => "is an overlay, whose ids cannot be mapped".into(),
        _ => format!(
            "is on a file system, or has one mounted below it, whose ids cannot be mapped ({failure})"
        ),
    }
}
