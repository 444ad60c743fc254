//! Image layouts and caches in temporary directories.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use capsid::image::{self, Cache, Digest, Image, Limits, Reference};
use serde_json::{Value, json};

use crate::archive::Archive;

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Go's word for this machine.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// A directory with a layout, a cache, and something outside both that must
/// stay as it is.
pub(crate) struct Store {
    path: PathBuf,
}

impl Store {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("capsid-image-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("layout/blobs/sha256")).unwrap();
        fs::create_dir(path.join("cache")).unwrap();
        fs::write(path.join("canary"), "alive").unwrap();
        let store = Self { path };
        store.write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
        store
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// Writes a document of the layout that is no blob.
    pub(crate) fn write(&self, name: &str, document: &Value) {
        fs::write(self.path("layout").join(name), document.to_string()).unwrap();
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("layout/blobs/sha256").join(digest.hex())
    }

    /// Writes a blob; its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// A manifest with layers given as media type, blob and tar archive.
    pub(crate) fn manifest(&self, layers: &[(&str, Vec<u8>, Vec<u8>)]) -> Value {
        let ids: Vec<String> = layers
            .iter()
            .map(|(_, _, tar)| Digest::of(tar).to_string())
            .collect();
        let config = json!({
            "os": "linux",
            "architecture": ARCHITECTURE,
            "rootfs": {"type": "layers", "diff_ids": ids},
            "config": {"Entrypoint": ["/bin/x"], "Env": ["A=1"], "User": "web"},
        });
        self.manifest_with(&config, layers)
    }

    pub(crate) fn manifest_with(
        &self,
        config: &Value,
        layers: &[(&str, Vec<u8>, Vec<u8>)],
    ) -> Value {
        let layers: Vec<Value> = layers
            .iter()
            .map(|(media_type, blob, _)| self.blob(media_type, blob))
            .collect();
        let config = self.document(CONFIG, config);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.document(MANIFEST, &manifest)
    }

    /// The manifest of an image with plain layers.
    pub(crate) fn plain(&self, layers: &[&Archive]) -> Value {
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| (TAR, layer.end(), layer.end()))
            .collect();
        self.manifest(&layers)
    }

    /// Makes these descriptors the layout's index.
    pub(crate) fn index(&self, entries: &[&Value]) {
        self.write(
            "index.json",
            &json!({"schemaVersion": 2, "manifests": entries}),
        );
    }

    /// Opens the image of a descriptor, which becomes the only one of the layout.
    pub(crate) fn open(&self, entry: &Value) -> Result<Image, String> {
        self.index(&[entry]);
        self.open_digest(entry["digest"].as_str().unwrap())
    }

    pub(crate) fn open_digest(&self, digest: &str) -> Result<Image, String> {
        self.open_as(&format!("@{digest}"), Limits::default())
    }

    /// Opens what a reference names, given without its directory. Whatever
    /// happens, nothing outside the cache changes and nothing half-done stays.
    pub(crate) fn open_as(&self, rest: &str, limits: Limits) -> Result<Image, String> {
        let reference = format!("{}{rest}", self.path("layout").display());
        let reference = Reference::parse(&reference).map_err(|error| error.to_string())?;
        let cache = Cache::open(&self.path("cache")).map_err(|error| error.to_string())?;
        let outcome = image::open(&reference, &cache, limits, &mut |done, total| {
            assert!(done <= total, "{done} of {total}");
        });
        self.check();
        outcome.map_err(|error| error.to_string())
    }

    /// Opens an image of one layer, which must be refused; the message.
    pub(crate) fn refused(layer: &Archive) -> String {
        let store = Self::new();
        let message = store.open(&store.plain(&[layer])).unwrap_err();
        assert_eq!(store.trees(), [""; 0], "{message}");
        message
    }

    /// What is in the cache.
    pub(crate) fn trees(&self) -> Vec<String> {
        names(&self.path("cache/capsid/images"))
    }

    fn check(&self) {
        assert_eq!(names(&self.path), ["cache", "canary", "layout"]);
        assert_eq!(names(&self.path("layout")).len(), 3);
        assert_eq!(names(&self.path("cache")), ["capsid"]);
        assert_eq!(names(&self.path("cache/capsid")), ["images"]);
        let canary = self.path("canary");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "alive");
        let metadata = fs::metadata(&canary).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&metadata), 1);
        for tree in self.trees() {
            assert!(!tree.ends_with(".new"), "{tree} was left behind");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// A tree in lines, sorted by path: `d 755 path`, `f 644 path text`, `l path -> text`.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let mut lines = std::collections::BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let line = if metadata.is_symlink() {
                format!("l {name} -> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                open.push(path);
                format!("d {mode:o} {name}")
            } else {
                assert!(metadata.is_file(), "{name} is something else");
                // Without root's rights not every file can be read.
                let text = fs::read_to_string(&path).unwrap_or_default();
                format!("f {mode:o} {name} {text}").trim_end().to_owned()
            };
            lines.insert(name, line);
        }
    }
    lines.into_values().collect()
}
