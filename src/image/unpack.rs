//! From the blobs of an image to one directory, hashed on the way.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::fstatvfs;

use super::apply::{Applier, Fault};
use super::decompress::Decoder;
use super::digest::Hashing;
use super::documents::{Descriptor, Role};
use super::layout::{Checked, Layout};
use super::{Limits, refuse, tar};
use crate::error::Result;

/// What an image may become on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    bytes: u64,
    entries: u64,
}

impl Bounds {
    /// Bytes: 64 for each compressed one, and 64 MiB. Programs and texts unpack
    /// to two to ten times their size; a thousandfold is a bomb. Entries: one
    /// for each 64 compressed bytes, and 65536; the smallest needs about as
    /// many. Of the space and inodes that are free, a tenth is left.
    fn new(limits: Limits, compressed: u64, directory: BorrowedFd<'_>) -> Self {
        let mut bytes = compressed.saturating_mul(64).saturating_add(64 << 20);
        let mut entries = (compressed / 64).saturating_add(1 << 16);
        if let Ok(free) = fstatvfs(directory) {
            let most = |count: u64| count / 10 * 9;
            let space = free.blocks_available().saturating_mul(free.fragment_size());
            bytes = bytes.min(most(space));
            // Some file systems have as many as they need, and say 0.
            if free.files() > 0 {
                entries = entries.min(most(free.files_available()));
            }
        }
        Self {
            bytes: limits.bytes.unwrap_or(bytes),
            entries: limits.entries.unwrap_or(entries),
        }
    }
}

/// Where unpacking goes: an empty directory, and another one beside it for
/// trees on their way out.
pub(super) struct Place<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) scrap: BorrowedFd<'a>,
}

/// Unpacks all layers.
pub(super) fn unpack(
    layout: &Layout,
    image: &Checked,
    place: &Place<'_>,
    limits: Limits,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let sizes = image.layers.iter().map(|layer| layer.size);
    let total = sizes.fold(0u64, u64::saturating_add);
    let bounds = Bounds::new(limits, total, place.root);
    let mut meter = Meter {
        done: 0,
        total,
        progress,
    };
    let mut left = bounds.bytes;
    let _umask = Umask::set();
    let mut applier = Applier::new(place.root, place.scrap, bounds.entries);
    let count = image.layers.len();
    let layers = image.layers.iter().zip(&image.configuration.diff_ids);
    for (number, (layer, diff_id)) in layers.enumerate() {
        let at = format!("layer {} of {count}, {}", number + 1, layer.digest);
        let plain = Plain {
            source: source(layout, layer, &mut meter)?,
            left: &mut left,
        };
        let (found, plain) = apply(&mut applier, plain);
        let (decoder, digest) = plain.finish();
        let mut compressed = decoder.into_source();
        // Also after a failure: a blob that was changed is the better reason.
        let rest = io::copy(&mut compressed, &mut io::sink());
        let length = compressed.count();
        let (_, whole) = compressed.finish();
        if rest.is_ok() && (whole != layer.digest || length != layer.size) {
            return Err(layout.swapped(layer.digest, whole));
        }
        if let Err(fault) = found {
            return Err(layout.wrong(at, in_words(&fault)));
        }
        if digest != *diff_id {
            let problem = format!("it unpacks to {digest}, not to {diff_id} as the image says");
            return Err(layout.wrong(at, problem));
        }
    }
    applier
        .finish()
        .map_err(|problem| refuse("set the times of directories", problem))
}

fn in_words(fault: &Fault) -> String {
    match &fault.entry {
        // Escaped: it could steer the terminal it is shown on.
        Some(name) => {
            let name = String::from_utf8_lossy(&name[..name.len().min(200)]);
            format!("entry {name:?}: {}", fault.problem)
        }
        None => fault.problem.clone(),
    }
}

type Source<'a, 'p> = Hashing<Decoder<Hashing<Metered<'a, 'p>>>>;

fn source<'a, 'p>(
    layout: &Layout,
    layer: &Descriptor,
    meter: &'a mut Meter<'p>,
) -> Result<Source<'a, 'p>> {
    let Role::Layer(compression) = layer.role() else {
        return Err(layout.wrong(layer.digest, "not a layer"));
    };
    let metered = Metered {
        file: layout.blob(layer)?.take(layer.size),
        meter,
    };
    let decoder = Decoder::new(Hashing::new(metered), compression);
    Ok(Hashing::new(decoder))
}

/// Applies one layer and reads its stream to the end, if it has a good one.
fn apply<'a, 'p>(
    applier: &mut Applier<'_>,
    mut plain: Plain<'_, 'a, 'p>,
) -> (std::result::Result<(), Fault>, Source<'a, 'p>) {
    let mut reader = tar::Reader::new(&mut plain);
    let outcome = applier.layer(&mut reader).and_then(|()| {
        reader.finish().map_err(|error| Fault {
            entry: None,
            problem: error.to_string(),
        })
    });
    (outcome, plain.source)
}

/// What a layer unpacks to, as long as the image may be.
struct Plain<'l, 'a, 'p> {
    source: Source<'a, 'p>,
    left: &'l mut u64,
}

impl Read for Plain<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        match self.left.checked_sub(length as u64) {
            Some(left) => *self.left = left,
            None => {
                return Err(io::Error::other(
                    "the image unpacks to more bytes than are allowed for its size or free on the disk",
                ));
            }
        }
        Ok(length)
    }
}

/// How much of the compressed image was read.
struct Meter<'p> {
    done: u64,
    total: u64,
    progress: &'p mut dyn FnMut(u64, u64),
}

struct Metered<'a, 'p> {
    file: io::Take<File>,
    meter: &'a mut Meter<'p>,
}

impl Read for Metered<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.meter.done = self.meter.done.saturating_add(length as u64);
        (self.meter.progress)(self.meter.done, self.meter.total);
        Ok(length)
    }
}

/// The caller's umask must not decide the modes of an image's directories.
struct Umask(Mode);

impl Umask {
    fn set() -> Self {
        Self(umask(Mode::from_bits_truncate(0o022)))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        umask(self.0);
    }
}
