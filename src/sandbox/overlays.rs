//! Directories of the host with a private layer over them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::mounts::{Kind, bind, mount};
use super::skeleton::Entry;
use super::{Maker, Overlay, ROOTFS};
use crate::error::Result;

/// Where layers are put together. Masked, so that the program sees the result only.
pub(super) const STAGE: &str = "/.overlay";

impl Maker<'_> {
    /// The mounts of one overlay: where its changes go, what is below, and both
    /// together. The layers come first in the order of mounts.
    pub(super) fn overlay(&mut self, index: usize, one: &Overlay) -> Result<Vec<Mount>> {
        let destination = &one.lower.destination;
        self.place(destination, "--overlay", Entry::Directory)?;
        let stage = Path::new(STAGE).join(index.to_string());
        let changes = stage.join("changes");
        let lower = stage.join("lower");
        self.skeleton.put(&lower, Entry::Directory);
        let mut mounts = Vec::new();
        match &one.upper {
            Some(upper) => {
                self.skeleton.put(&changes, Entry::Directory);
                let mut kept = bind(&upper.source, &changes, Kind::Writable);
                self.map_layer(&mut kept, upper);
                mounts.push(kept);
            }
            None => {
                for name in ["upper", "work"] {
                    self.skeleton.put(&changes.join(name), Entry::Shared);
                }
                let size = self.quarter();
                mounts.push(self.memory(&changes, size, "0755", &["nosuid", "nodev", "tmpcopyup"]));
            }
        }
        let mut below = bind(&one.lower.source, &lower, Kind::ReadOnly);
        self.map_owner(&mut below, &one.lower);
        mounts.push(below);
        let layer = |name: &str, path: &Path| format!("{name}={}", self.layer(path).display());
        let layers = [
            layer("lowerdir", &lower),
            layer("upperdir", &changes.join("upper")),
            layer("workdir", &changes.join("work")),
        ];
        let mut options: Vec<&str> = vec!["nosuid", "nodev", "userxattr"];
        options.extend(layers.iter().map(String::as_str));
        mounts.push(mount(
            destination,
            "overlay",
            Path::new("overlay"),
            &options,
        ));
        Ok(mounts)
    }

    /// How the kernel finds a layer while the overlay is made.
    fn layer(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        match &self.request.place {
            Some(bundle) => bundle.join(ROOTFS).join(below),
            None => below.to_owned(),
        }
    }
}
