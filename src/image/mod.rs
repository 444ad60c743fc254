//! OCI image layouts on disk, checked and unpacked.
//!
//! ```text
//! reference -> layout --index, manifest, configuration--> image
//!     layer blob -> digest -> decompress -> digest -> tar -> apply -> tree in the cache
//! ```
//!
//! A reference names a digest, and each document and layer is checked against
//! the digest that leads to it. Layers are hashed while they are unpacked: what
//! does not have its digest, or what is refused, is discarded with all that came
//! before. A tree that is in the [`Cache`] was checked as a whole, and is used
//! read-only from then on.

mod apply;
mod cache;
mod config;
mod decompress;
mod digest;
mod documents;
mod layout;
mod measure;
mod platform;
mod progress;
mod reference;
mod tar;
mod tree;
mod unpack;
mod verity;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use apply::{Applier, Fault};
pub use cache::Cache;
pub use config::{Identity, ImageConfig};
pub use digest::Digest;
pub use measure::Tree;
pub use progress::Line;
pub use reference::Reference;
pub use tar::Reader;

use crate::error::{Error, Result};
use crate::sys::fd::{self, At, Resolve};
use layout::Layout;

/// The form of trees in the cache; another number when they become different.
const FORMAT: u32 = 1;

/// Bounds that replace those derived from an image's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that all layers unpack to.
    pub bytes: Option<u64>,
    /// Entries of all layers.
    pub entries: Option<u64>,
}

/// An image that is checked and unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its tree. Nothing may change in it: it is for the next one too.
    pub rootfs: PathBuf,
    /// What its author wants to run.
    pub config: ImageConfig,
    /// Of its manifest, also where the reference names an index.
    pub digest: Digest,
}

/// Checks an image and unpacks it, unless its tree is in the cache.
///
/// `progress` hears how many bytes of how many were read of the layers.
///
/// # Errors
/// [`Error::Image`] with the document, layer or entry that is refused;
/// [`Error::System`] for calls that fail. The cache is then as it was before.
pub fn open(
    reference: &Reference,
    cache: &Cache,
    limits: Limits,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Image> {
    let layout = Layout::open(reference)?;
    let image = layout.image(reference)?;
    let key = format!("{FORMAT}-{}", chain(&image.configuration.diff_ids).hex());
    let rootfs = cache.tree(&key, |place| {
        unpack::unpack(&layout, &image, place, limits, progress)
    })?;
    Ok(Image {
        rootfs,
        config: image.configuration.config,
        digest: image.digest,
    })
}

/// The ChainID of layers (image-spec, config.md): what a tree is made of, and
/// nothing else. Images with the same layers share it.
fn chain(diff_ids: &[Digest]) -> Digest {
    let mut chain: Option<Digest> = None;
    for diff_id in diff_ids {
        chain = Some(match chain {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain.unwrap_or_else(|| Digest::of(b""))
}

/// An image, or something of it, that is not used.
fn refuse(at: impl std::fmt::Display, problem: impl std::fmt::Display) -> Error {
    Error::Image {
        at: at.to_string(),
        problem: problem.to_string(),
    }
}

/// A directory of the host, by a path that the caller gave.
fn open_host_directory(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| refuse(path.display(), "a NUL in a path"))?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    fd::open(At::Cwd, &name, flags, Resolve::NO_MAGICLINKS)
        .map_err(|failure| Error::system("open the directory", path.display(), failure))
}
