//! An image layout on disk: which blob is the image, and blobs checked.
//!
//! A document is read into memory once, hashed there, and parsed from there:
//! who changes the file in between changes nothing.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use syscalls::Sysno;

use super::digest::Digest;
use super::documents::{self, Configuration, Descriptor, Manifest, Role};
use super::platform::Platform;
use super::reference::Reference;
use super::refuse;
use crate::error::{Error, Result};
use crate::sys::fd::{self, At, Resolve};

/// The largest JSON document, as registries have it.
const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Documents that are read on the way to one image.
const MOST_INDEXES: usize = 16;
/// Docker stops at 127, overlayfs at 500.
const MOST_LAYERS: usize = 500;
/// Names in one message.
const MOST_NAMED: usize = 8;

/// A directory in the form of the OCI image layout.
pub(super) struct Layout {
    directory: OwnedFd,
    path: PathBuf,
}

/// An image whose documents are all checked.
pub(super) struct Checked {
    pub(super) digest: Digest,
    pub(super) layers: Vec<Descriptor>,
    pub(super) configuration: Configuration,
}

impl Layout {
    /// Opens the directory and checks that it is a layout.
    pub(super) fn open(reference: &Reference) -> Result<Self> {
        let layout = Self {
            directory: super::open_host_directory(reference.directory())?,
            path: reference.directory().to_owned(),
        };
        let bytes = match layout.file("oci-layout") {
            Err(Error::System { failure, .. }) if failure.is(libc::ENOENT) => Err(refuse(
                layout.path.display(),
                "this is no OCI image layout: it has no file oci-layout; \
                 `skopeo copy docker://IMAGE oci:DIR:TAG` makes one",
            )),
            other => other,
        }
        .and_then(|file| layout.read(file, "oci-layout", LARGEST_DOCUMENT))?;
        documents::layout(&bytes).map_err(|problem| layout.wrong("oci-layout", problem))?;
        Ok(layout)
    }

    /// Finds the image of a reference for this machine, and reads what describes it.
    pub(super) fn image(&self, reference: &Reference) -> Result<Checked> {
        let named = self.named(reference)?;
        let mut left = MOST_INDEXES;
        let start = match reference.digest() {
            Some(digest) => self.with_digest(&named, digest, &mut left)?,
            None => return Err(self.no_digest(reference, &named)),
        };
        let Some(start) = start else {
            return Err(self.other_digest(reference, &named));
        };
        let descriptor = self.for_this_machine(start, &mut left)?;
        let bytes = self.document(&descriptor)?;
        let manifest = documents::manifest(&bytes, &descriptor.media_type)
            .map_err(|problem| self.wrong(descriptor.digest, problem))?;
        self.check(&descriptor, manifest)
    }

    /// The entries of the index that the reference's tag leaves.
    fn named(&self, reference: &Reference) -> Result<Vec<Descriptor>> {
        let bytes = self.read(self.file("index.json")?, "index.json", LARGEST_DOCUMENT)?;
        let mut all =
            documents::index(&bytes, None).map_err(|problem| self.wrong("index.json", problem))?;
        if let Some(tag) = reference.tag() {
            let tags = list(all.iter().filter_map(|entry| entry.name.as_ref()));
            all.retain(|entry| entry.name.as_deref() == Some(tag));
            if all.is_empty() {
                return Err(self.wrong("index.json", format!("no tag {tag:?}; it has {tags}")));
            }
        }
        Ok(all)
    }

    /// The entry of that digest, here or in the indexes that are listed here.
    fn with_digest(
        &self,
        entries: &[Descriptor],
        digest: Digest,
        left: &mut usize,
    ) -> Result<Option<Descriptor>> {
        if let Some(found) = entries.iter().find(|entry| entry.digest == digest) {
            return Ok(Some(found.clone()));
        }
        for entry in entries.iter().filter(|entry| entry.role() == Role::Index) {
            let inner = self.index(entry, left)?;
            if let Some(found) = self.with_digest(&inner, digest, left)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// From an index to this machine's manifest.
    fn for_this_machine(&self, mut entry: Descriptor, left: &mut usize) -> Result<Descriptor> {
        loop {
            match entry.role() {
                Role::Manifest => return Ok(entry),
                Role::Index => {
                    let inner = self.index(&entry, left)?;
                    entry = choose(&inner).ok_or_else(|| {
                        let platforms = inner.iter().filter_map(|entry| entry.platform.as_ref());
                        let problem = format!(
                            "no image for {} in this index; it has {}",
                            Platform::this(),
                            list(platforms)
                        );
                        self.wrong(entry.digest, problem)
                    })?;
                }
                _ => {
                    let problem = format!("{:?} is no image", entry.media_type);
                    return Err(self.wrong(entry.digest, problem));
                }
            }
        }
    }

    fn index(&self, entry: &Descriptor, left: &mut usize) -> Result<Vec<Descriptor>> {
        let Some(fewer) = left.checked_sub(1) else {
            let problem = format!("more than {MOST_INDEXES} indexes lead to the image");
            return Err(self.wrong("index.json", problem));
        };
        *left = fewer;
        let bytes = self.document(entry)?;
        documents::index(&bytes, Some(&entry.media_type))
            .map_err(|problem| self.wrong(entry.digest, problem))
    }

    /// Manifest and configuration fit each other and this machine.
    fn check(&self, descriptor: &Descriptor, manifest: Manifest) -> Result<Checked> {
        let wrong = |problem: String| Err(self.wrong(descriptor.digest, problem));
        if manifest.config.role() != Role::Config {
            let kind = &manifest.config.media_type;
            return wrong(format!("/config: {kind:?} is not an image's configuration"));
        }
        let count = manifest.layers.len();
        if count == 0 || count > MOST_LAYERS {
            return wrong(format!(
                "/layers: {count} layers; 1 to {MOST_LAYERS} can be unpacked"
            ));
        }
        for (index, layer) in manifest.layers.iter().enumerate() {
            if !matches!(layer.role(), Role::Layer(_)) {
                let kind = &layer.media_type;
                return wrong(format!(
                    "/layers/{index}: {kind:?} is no kind of layer that capsid unpacks; \
                     it unpacks tar, tar+gzip and tar+zstd"
                ));
            }
        }
        let bytes = self.document(&manifest.config)?;
        let problem = |problem: String| self.wrong(manifest.config.digest, problem);
        let configuration = documents::configuration(&bytes).map_err(problem)?;
        if !configuration.platform.runs_here() {
            let (its, this) = (&configuration.platform, Platform::this());
            return Err(problem(format!(
                "the image is for {its}, this machine is {this}"
            )));
        }
        if configuration.diff_ids.len() != count {
            let ids = configuration.diff_ids.len();
            return Err(problem(format!(
                "/rootfs/diff_ids: {ids} for {count} layers"
            )));
        }
        Ok(Checked {
            digest: descriptor.digest,
            layers: manifest.layers,
            configuration,
        })
    }

    /// Opens a blob whose file has the right size.
    pub(super) fn blob(&self, blob: &Descriptor) -> Result<File> {
        let file = self.file(&blob_path(&blob.digest))?;
        let size = self.size(&file, &blob_path(&blob.digest))?;
        if size != blob.size {
            let problem = format!("the blob has {size} bytes, not {} as announced", blob.size);
            return Err(self.wrong(blob.digest, problem));
        }
        Ok(file)
    }

    /// A document, read once and checked.
    fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        if blob.size > LARGEST_DOCUMENT {
            let problem = format!("a document of {} bytes", blob.size);
            return Err(self.wrong(
                blob.digest,
                format!("{problem}; {LARGEST_DOCUMENT} at most"),
            ));
        }
        let bytes = self.read(self.blob(blob)?, &blob_path(&blob.digest), blob.size)?;
        let digest = Digest::of(&bytes);
        if digest != blob.digest || bytes.len() as u64 != blob.size {
            return Err(self.swapped(blob.digest, digest));
        }
        Ok(bytes)
    }

    /// A blob that is not what its name says.
    pub(super) fn swapped(&self, wanted: Digest, found: Digest) -> Error {
        let problem = format!(
            "the blob's content is {found}: it is damaged, or somebody changed it; fetch the image again"
        );
        self.wrong(wanted, problem)
    }

    pub(super) fn wrong(
        &self,
        what: impl std::fmt::Display,
        problem: impl std::fmt::Display,
    ) -> Error {
        refuse(format!("{}: {what}", self.path.display()), problem)
    }

    /// Opens a file below the layout, wherever links lead below it.
    fn file(&self, name: &str) -> Result<File> {
        let failed = |failure| Error::system("open", self.path.join(name).display(), failure);
        // A pipe there must not make the open wait.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let path = CString::new(name).unwrap_or_default();
        fd::open(
            At::Dir(self.directory.as_fd()),
            &path,
            flags,
            Resolve::IN_ROOT,
        )
        .map(File::from)
        .map_err(failed)
    }

    fn size(&self, file: &File, name: &str) -> Result<u64> {
        let metadata = file.metadata().map_err(|error| {
            Error::io(
                "look at",
                self.path.join(name).display(),
                Sysno::fstat,
                &error,
            )
        })?;
        if metadata.is_file() {
            Ok(metadata.len())
        } else {
            Err(self.wrong(name, "not a regular file"))
        }
    }

    /// All of a file, if it is no larger than that.
    fn read(&self, file: File, name: &str, most: u64) -> Result<Vec<u8>> {
        let size = self.size(&file, name)?;
        let mut bytes = Vec::new();
        if size <= most {
            file.take(most + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| {
                    let path = self.path.join(name);
                    Error::io("read", path.display(), Sysno::read, &error)
                })?;
        }
        if size.max(bytes.len() as u64) > most {
            return Err(self.wrong(name, format!("a document of {size} bytes; {most} at most")));
        }
        Ok(bytes)
    }

    fn no_digest(&self, reference: &Reference, named: &[Descriptor]) -> Error {
        let pinned = |entry: &Descriptor| reference.pinned(entry.name.as_deref(), entry.digest);
        let names = list(named.iter().map(pinned));
        self.wrong(
            "index.json",
            format!(
                "an image without a digest may be another one tomorrow; \
                 if you trust what is there now, name it as {names}"
            ),
        )
    }

    fn other_digest(&self, reference: &Reference, named: &[Descriptor]) -> Error {
        let there = list(named.iter().map(|entry| entry.digest));
        let wanted = reference.digest().map(|digest| digest.to_string());
        let wanted = wanted.unwrap_or_default();
        let tag = reference
            .tag()
            .map_or(String::new(), |tag| format!(" for tag {tag:?}"));
        self.wrong(
            "index.json",
            format!("no image {wanted}{tag}; it has {there}: another image, or a newer one"),
        )
    }
}

/// The digest is 64 hexadecimal digits by its type, so this leads nowhere else.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The first image for this machine; one that says nothing of its platform if
/// it is alone.
fn choose(entries: &[Descriptor]) -> Option<Descriptor> {
    let images = || {
        let images = entries.iter();
        images.filter(|entry| matches!(entry.role(), Role::Manifest | Role::Index))
    };
    let here = images().find(|entry| entry.platform.as_ref().is_some_and(Platform::runs_here));
    let silent = || {
        let mut silent = images().filter(|entry| entry.platform.is_none());
        silent.next().filter(|_| silent.next().is_none())
    };
    here.or_else(silent).cloned()
}

/// Some names in a sentence.
fn list(names: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let mut names: Vec<String> = names
        .take(MOST_NAMED + 1)
        .map(|name| name.to_string().escape_debug().to_string())
        .collect();
    if names.is_empty() {
        return "none".into();
    }
    if names.len() > MOST_NAMED {
        names[MOST_NAMED] = "more".into();
    }
    names.join(" or ")
}
