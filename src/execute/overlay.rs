//! An overlay of the same layers as one that is mounted, with mapped ids.
//!
//! The kernel maps the ids of no overlay, but an overlay shows those of its layers.
//! With an upper layer two overlays write to one directory. The kernel does not say
//! what the one then shows of what the other wrote, so the engine's becomes
//! read-only as long as the container is there, and is made to forget what it has
//! in its cache whenever the engine may look.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use syscalls::Sysno;

use crate::error::{Check, Error, Failure};
use crate::host::overlay::Layers;
use crate::spec::mount_options;
use crate::state::{OverlayRecord, Record};
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};
use crate::sys::{Result, restrict};

use super::parent::map_ids;

mod attached;

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// Of statfs(2).
const ST_RDONLY: i64 = 1;

/// A root file system instead of the one that is mounted.
#[derive(Debug)]
pub struct Overlay {
    /// It, detached.
    pub mount: OwnedFd,
    /// Device and inode number of the directory whose place it takes.
    pub covers: (u64, u64),
}

/// One that is made as far as nothing is written.
#[derive(Debug)]
pub struct Begun {
    /// The layers, until the overlay has its own copies: closing them takes the
    /// mounts apart.
    lower: Vec<OwnedFd>,
    options: Vec<(CString, Option<CString>)>,
    attributes: u64,
    /// Layers and options as the kernel took them; none where it takes no
    /// descriptors.
    context: Option<OwnedFd>,
    upper: Option<Upper>,
    made: Option<OwnedFd>,
    covers: (u64, u64),
}

#[derive(Debug)]
struct Upper {
    /// The directory that it is in, with mapped ids.
    beside: OwnedFd,
    /// Where that is.
    path: PathBuf,
    /// The layer itself, and its name there.
    layer: OwnedFd,
    name: CString,
}

/// Opens the layers of the overlay that is mounted on a directory, with ids as a
/// user namespace maps them.
pub fn begin(layers: &Layers, directory: &OwnedFd, namespace: &OwnedFd) -> Result<Begun> {
    let found = fd::stat(directory.as_fd())?;
    let mut begun = Begun {
        lower: open_lower(layers, namespace)?,
        options: layers.options.clone(),
        attributes: mount_options::parse(&layers.flags).set,
        context: None,
        upper: None,
        made: None,
        covers: (found.dev, found.ino),
    };
    // What the kernel has against it the other way tells as well.
    begun.context = describe(&begun.lower, &begun.options).ok();
    match &layers.upper {
        // Only the kernel knows whether it makes one of these.
        None => begun.made = Some(begun.make_read()?),
        Some(path) => {
            begun.upper = Some(open_upper(path, namespace)?);
            if begun.context.is_none() {
                // Whether it can, while nothing is written yet. The layers are used
                // up by that, so they are opened once more.
                begun.attach(&open_lower(layers, namespace)?, None)?;
            }
        }
    }
    Ok(begun)
}

fn open_lower(layers: &Layers, namespace: &OwnedFd) -> Result<Vec<OwnedFd>> {
    let open = |lower: &CString| {
        let tree = mount::clone_tree(At::Cwd, lower, false)?;
        map_ids(&tree, namespace, false)?;
        Ok(tree)
    };
    layers.lower.iter().map(open).collect()
}

/// Names the layers by descriptors, as Linux takes them since 6.15. Before, this
/// fails: EOPNOTSUPP before 6.5, then EBADF.
fn describe(lower: &[OwnedFd], options: &[(CString, Option<CString>)]) -> Result<OwnedFd> {
    let context = mount::open_file_system(c"overlay")?;
    for tree in lower {
        mount::configure_file(context.as_fd(), c"lowerdir+", tree.as_fd())?;
    }
    for (key, value) in options {
        mount::configure(context.as_fd(), key, value.as_deref())?;
    }
    Ok(context)
}

/// Upper layer and work directory have to be of one mount.
fn open_upper(path: &Path, namespace: &OwnedFd) -> Result<Upper> {
    let lost = || Failure::of(Sysno::open_tree, libc::ENOENT);
    let (parent, name) = (path.parent(), path.file_name());
    let parent = parent.ok_or_else(lost)?;
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| lost());
    let name = text(name.ok_or_else(lost)?.as_bytes())?;
    let beside = mount::clone_tree(At::Cwd, &text(parent.as_os_str().as_bytes())?, false)?;
    map_ids(&beside, namespace, false)?;
    let layer = fd::open(
        At::Dir(beside.as_fd()),
        &name,
        DIRECTORY,
        Resolve::BENEATH_SAME_MOUNT,
    )?;
    let there = fd::open(
        At::Cwd,
        &text(path.as_os_str().as_bytes())?,
        DIRECTORY,
        Resolve::ANY,
    )?;
    let identity = |file: &OwnedFd| fd::stat(file.as_fd()).map(|found| (found.dev, found.ino));
    if identity(&layer)? != identity(&there)? {
        // Something is mounted on it, which the copy of the mount does not have.
        return Err(Failure::check(Check::NotRealDirectory));
    }
    Ok(Upper {
        beside,
        path: parent.to_owned(),
        layer,
        name,
    })
}

impl Begun {
    /// What has to be in the container's record before [`finish`](Self::finish),
    /// if anything is written.
    pub fn record(&self, first: u32) -> Option<OverlayRecord> {
        let upper = self.upper.as_ref()?;
        Some(OverlayRecord::new(&upper.path, first, self.covers.0))
    }

    /// Makes it, for a container with these ids. One that can be written gets a work
    /// directory of its own: in the engine's it would break when the engine mounts
    /// its overlay again.
    pub fn finish(mut self, first: u32, record: Option<&OverlayRecord>) -> Result<Overlay> {
        let mount = match self.made.take() {
            Some(made) => made,
            None => self.make_written(first, record)?,
        };
        Ok(Overlay {
            mount,
            covers: self.covers,
        })
    }

    fn make_read(&self) -> Result<OwnedFd> {
        match &self.context {
            Some(context) => mount::make_mount(context.as_fd(), self.attributes),
            None => self.attach(&self.lower, None),
        }
    }

    fn attach(&self, lower: &[OwnedFd], upper: Option<attached::Upper<'_>>) -> Result<OwnedFd> {
        attached::make(&attached::Parts {
            lower,
            upper,
            options: &self.options,
            attributes: self.attributes,
        })
    }

    fn make_written(&self, first: u32, record: Option<&OverlayRecord>) -> Result<OwnedFd> {
        let absent = Failure::of(Sysno::openat2, libc::ENOENT);
        let (upper, record) = self.upper.as_ref().zip(record).ok_or(absent)?;
        let name = record.work.file_name().ok_or(absent)?;
        let name = CString::new(name.as_bytes()).map_err(|_| absent)?;
        let beside = At::Dir(upper.beside.as_fd());
        let work = fd::open(beside, &name, DIRECTORY, Resolve::BENEATH_SAME_MOUNT)?;
        let made = match &self.context {
            Some(context) => {
                let context = context.as_fd();
                mount::configure_file(context, c"upperdir", upper.layer.as_fd())?;
                mount::configure_file(context, c"workdir", work.as_fd())?;
                mount::configure(context, c"index", Some(c"off"))?;
                // As the host's root it could make nothing where that has no id, and
                // the kernel would mount it read-only without a word.
                restrict::set_file_system_ids(first)?;
                let made = mount::make_mount(context, self.attributes);
                restrict::set_file_system_ids(0)?;
                made?
            }
            None => {
                let upper = attached::Upper {
                    beside: &upper.beside,
                    layer: &upper.name,
                    work: &name,
                    owner: first,
                };
                self.attach(&self.lower, Some(upper))?
            }
        };
        match fd::file_system(made.as_fd())?.1 & ST_RDONLY {
            0 => Ok(made),
            _ => Err(Failure::check(Check::OverlayReadOnly)),
        }
    }
}

/// Makes the work directory, and the engine's mount read-only: what the host wrote
/// there would break the container.
///
/// # Errors
/// [`Error::System`]. What was done is undone by [`undo`].
pub fn prepare(record: &OverlayRecord, rootfs: &Path) -> crate::error::Result<()> {
    record.make_work()?;
    let failed = |failure| Error::system("make read-only for the host", rootfs.display(), failure);
    let engines = engines_mount(record, rootfs)
        .ok_or_else(|| failed(Failure::check(Check::NotRealDirectory)))?;
    set_read_only(&engines, true).map_err(failed)
}

/// Shows the engine, through its own mount, what the container has written.
///
/// # Errors
/// [`Error::System`].
pub fn flush(record: &Record) -> crate::error::Result<()> {
    match &record.overlay {
        Some(overlay) => show(overlay, &record.rootfs),
        None => Ok(()),
    }
}

fn show(overlay: &OverlayRecord, rootfs: &Path) -> crate::error::Result<()> {
    let Some(engines) = engines_mount(overlay, rootfs) else {
        return Ok(());
    };
    mount::reconfigure(engines.as_fd()).map_err(|failure| {
        Error::system(
            "show the host what was written in",
            rootfs.display(),
            failure,
        )
    })
}

/// Gives the engine its mount on `rootfs` back, and removes the work directory. For a
/// container whose processes are gone.
///
/// # Errors
/// [`Error::System`], to be tried again.
pub fn undo(overlay: Option<&OverlayRecord>, rootfs: &Path) -> crate::error::Result<()> {
    let Some(overlay) = overlay else {
        return Ok(());
    };
    if let Some(engines) = engines_mount(overlay, rootfs) {
        set_read_only(&engines, false)
            .map_err(|failure| Error::system("make writable again", rootfs.display(), failure))?;
    }
    show(overlay, rootfs)?;
    overlay.remove_work()
}

/// The mount that was there; none where the engine has already taken it away.
fn engines_mount(record: &OverlayRecord, rootfs: &Path) -> Option<OwnedFd> {
    let path = CString::new(rootfs.as_os_str().as_bytes()).ok()?;
    let found = fd::open(At::Cwd, &path, DIRECTORY, Resolve::ANY).ok()?;
    let stat = fd::stat(found.as_fd()).ok()?;
    (stat.dev == record.device).then_some(found)
}

fn set_read_only(engines: &OwnedFd, read_only: bool) -> Result<()> {
    let mut attributes = Attributes::default();
    match read_only {
        true => attributes.set = libc::MOUNT_ATTR_RDONLY,
        false => attributes.clear = libc::MOUNT_ATTR_RDONLY,
    }
    mount::set_attributes(engines.as_fd(), &attributes, false)
}
