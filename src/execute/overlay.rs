//! An overlay of the same layers as one that is mounted, with mapped ids.
//!
//! The kernel maps the ids of no overlay, but an overlay shows those of its layers.

use std::os::fd::{AsFd, OwnedFd};

use crate::host::overlay::Layers;
use crate::spec::mount_options;
use crate::sys::fd::At;
use crate::sys::{Result, mount};

use super::parent::map_ids;

/// A root file system instead of the one that is mounted.
#[derive(Debug)]
pub struct Overlay {
    /// It, detached.
    pub mount: OwnedFd,
    /// Device and inode number of the directory whose place it takes.
    pub covers: (u64, u64),
}

/// Makes a detached one, which shows the ids as a user namespace maps them. It has
/// no upper layer: nothing is written, and the layers are only read.
pub fn make(layers: &Layers, namespace: &OwnedFd) -> Result<OwnedFd> {
    let context = mount::open_file_system(c"overlay")?;
    // Until the overlay has its own copies: closing them takes the mounts apart.
    let mut trees = Vec::with_capacity(layers.lower.len());
    for lower in &layers.lower {
        let tree = mount::clone_tree(At::Cwd, lower, false)?;
        map_ids(&tree, namespace, false)?;
        mount::configure_file(context.as_fd(), c"lowerdir+", tree.as_fd())?;
        trees.push(tree);
    }
    for (key, value) in &layers.options {
        mount::configure(context.as_fd(), key, value.as_deref())?;
    }
    mount::make_mount(context.as_fd(), mount_options::parse(&layers.flags).set)
}
