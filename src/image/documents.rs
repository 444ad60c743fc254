//! The JSON documents of an image layout: index, manifest, configuration.
//!
//! OCI's media types and Docker's are both read. Each document must be what
//! its descriptor and its own `mediaType` say, and not two things at once:
//! readers that disagree about one document see two images (CVE-2021-41190).

use serde_json::Value;

use super::config::ImageConfig;
use super::decompress::Compression;
use super::digest::Digest;
use super::platform::Platform;

/// What is wrong with a document: a sentence with a JSON pointer in it.
pub(super) type Outcome<T> = Result<T, String>;

const INDEX: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG: &[&str] = &[
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
const LAYERS: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A list of manifests.
    Index,
    /// One image.
    Manifest,
    /// Its configuration.
    Config,
    /// One of its layers.
    Layer(Compression),
    /// Anything else: a signature, an attestation.
    Other,
}

/// A blob as a document names it.
#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    /// The annotation that is the tag.
    pub(super) name: Option<String>,
}

impl Descriptor {
    pub(super) fn role(&self) -> Role {
        let media_type = self.media_type.as_str();
        if INDEX.contains(&media_type) {
            Role::Index
        } else if MANIFEST.contains(&media_type) {
            Role::Manifest
        } else if CONFIG.contains(&media_type) {
            Role::Config
        } else {
            layer(media_type).map_or(Role::Other, Role::Layer)
        }
    }
}

/// OCI writes `+gzip`, Docker `.gzip`.
fn layer(media_type: &str) -> Option<Compression> {
    let plain = |suffix: &str| media_type.strip_suffix(suffix)?.strip_suffix(['+', '.']);
    let (plain, compression) = match (plain("gzip"), plain("zstd")) {
        (Some(plain), _) => (plain, Compression::Gzip),
        (_, Some(plain)) => (plain, Compression::Zstd),
        _ => (media_type, Compression::None),
    };
    LAYERS.contains(&plain).then_some(compression)
}

/// A manifest: its configuration and its layers, lowest first.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// An image's configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) platform: Platform,
    /// Digests of the layers' tar archives, lowest first.
    pub(super) diff_ids: Vec<Digest>,
    pub(super) config: ImageConfig,
}

/// Checks the file `oci-layout`.
pub(super) fn layout(bytes: &[u8]) -> Outcome<()> {
    let document = parse(bytes)?;
    match text(&document, "imageLayoutVersion")? {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => Err(format!(
            "/imageLayoutVersion: {version:?} is not known; 1.0.0 is"
        )),
        None => Err("/imageLayoutVersion: missing".into()),
    }
}

/// Reads `index.json` or an index of its own blob.
pub(super) fn index(bytes: &[u8], media_type: Option<&str>) -> Outcome<Vec<Descriptor>> {
    let document = parse(bytes)?;
    own_type(&document, media_type, INDEX)?;
    if document.get("layers").is_some() || document.get("config").is_some() {
        return Err("this is an index and a manifest at once".into());
    }
    descriptors(&document, "manifests")
}

/// Reads a manifest.
pub(super) fn manifest(bytes: &[u8], media_type: &str) -> Outcome<Manifest> {
    let document = parse(bytes)?;
    own_type(&document, Some(media_type), MANIFEST)?;
    if document.get("manifests").is_some() {
        return Err("this is a manifest and an index at once".into());
    }
    let config = document.get("config").ok_or("/config: missing")?;
    Ok(Manifest {
        config: descriptor(config, "/config")?,
        layers: descriptors(&document, "layers")?,
    })
}

/// Reads a configuration.
pub(super) fn configuration(bytes: &[u8]) -> Outcome<Configuration> {
    let document = parse(bytes)?;
    let platform = platform(&document, "")?;
    let ids = document
        .pointer("/rootfs/diff_ids")
        .and_then(Value::as_array)
        .ok_or("/rootfs/diff_ids: missing")?;
    let diff_ids = ids.iter().enumerate().map(|(index, id)| {
        let digest = Digest::parse(id.as_str().unwrap_or_default());
        digest.map_err(|problem| format!("/rootfs/diff_ids/{index}: {problem}"))
    });
    let none = Value::Null;
    let config = document.get("config").unwrap_or(&none);
    let texts = |key| texts(config, key).map_err(|problem| format!("/config{problem}"));
    let one = |key| text(config, key).map_err(|problem| format!("/config{problem}"));
    Ok(Configuration {
        platform,
        diff_ids: diff_ids.collect::<Outcome<_>>()?,
        config: ImageConfig {
            entrypoint: texts("Entrypoint")?,
            cmd: texts("Cmd")?,
            env: texts("Env")?,
            working_dir: one("WorkingDir")?.unwrap_or_default(),
            user: one("User")?.unwrap_or_default(),
            stop_signal: one("StopSignal")?.filter(|signal| !signal.is_empty()),
        },
    })
}

fn parse(bytes: &[u8]) -> Outcome<Value> {
    match serde_json::from_slice(bytes) {
        Ok(document @ Value::Object(_)) => Ok(document),
        Ok(_) => Err("this is no JSON object".into()),
        Err(error) => Err(format!("this is no JSON: {error}")),
    }
}

/// A document's `mediaType`, if it has one, is one of these and the expected one.
fn own_type(document: &Value, expected: Option<&str>, allowed: &[&str]) -> Outcome<()> {
    match text(document, "mediaType")? {
        None => Ok(()),
        Some(own) if !allowed.contains(&own.as_str()) => {
            Err(format!("/mediaType: {own:?} is not what is expected here"))
        }
        Some(own) if expected.is_some_and(|expected| expected != own) => Err(format!(
            "/mediaType: {own:?}, but what leads here says {:?}",
            expected.unwrap_or_default()
        )),
        Some(_) => Ok(()),
    }
}

fn descriptors(document: &Value, key: &str) -> Outcome<Vec<Descriptor>> {
    let list = document
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("/{key}: missing"))?;
    let read = |(index, value)| descriptor(value, &format!("/{key}/{index}"));
    list.iter().enumerate().map(read).collect()
}

fn descriptor(value: &Value, at: &str) -> Outcome<Descriptor> {
    let here = |problem: String| format!("{at}{problem}");
    let media_type = text(value, "mediaType")
        .map_err(here)?
        .ok_or_else(|| here("/mediaType: missing".into()))?;
    let digest = text(value, "digest").map_err(here)?.unwrap_or_default();
    let digest = Digest::parse(&digest).map_err(|problem| format!("{at}/digest: {problem}"))?;
    let size = value.get("size").and_then(Value::as_u64);
    let size = size.ok_or_else(|| here("/size: missing, or no size".into()))?;
    let platform = match value.get("platform") {
        Some(Value::Null) | None => None,
        Some(value) => Some(platform(value, &format!("{at}/platform"))?),
    };
    let name = value
        .get("annotations")
        .and_then(|annotations| annotations.get(REF_NAME))
        .and_then(Value::as_str);
    Ok(Descriptor {
        media_type,
        digest,
        size,
        platform,
        name: name.map(str::to_owned),
    })
}

fn platform(value: &Value, at: &str) -> Outcome<Platform> {
    let part = |key| text(value, key).map_err(|problem| format!("{at}{problem}"));
    let needed = |key| part(key)?.ok_or_else(|| format!("{at}/{key}: missing"));
    Ok(Platform {
        os: needed("os")?,
        architecture: needed("architecture")?,
        variant: part("variant")?.filter(|variant| !variant.is_empty()),
    })
}

/// A string, or nothing where there is none or null.
fn text(document: &Value, key: &str) -> Outcome<Option<String>> {
    match document.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.contains('\0') => {
            Err(format!("/{key}: a NUL in the text"))
        }
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("/{key}: no text")),
    }
}

fn texts(document: &Value, key: &str) -> Outcome<Vec<String>> {
    let list = match document.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(format!("/{key}: no list")),
    };
    let read = |(index, value): (usize, &Value)| match value.as_str() {
        Some(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(format!("/{key}/{index}: no text, or a NUL in it")),
    };
    list.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_layers() {
        let compression = |kind: &str| layer(kind);
        assert_eq!(
            compression("application/vnd.oci.image.layer.v1.tar+zstd"),
            Some(Compression::Zstd)
        );
        assert_eq!(
            compression("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            Some(Compression::Gzip)
        );
        assert_eq!(
            compression("application/vnd.oci.image.layer.v1.tar"),
            Some(Compression::None)
        );
        for unknown in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.in-toto+json",
            "",
        ] {
            assert_eq!(compression(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_document_is_one_thing() {
        let both = br#"{"manifests": [], "layers": []}"#;
        assert!(index(both, None).is_err());
        assert!(manifest(both, MANIFEST[0]).is_err());
        let index_type = format!(r#"{{"mediaType": "{}", "manifests": []}}"#, INDEX[0]);
        assert!(index(index_type.as_bytes(), Some(INDEX[0])).is_ok());
        assert!(index(index_type.as_bytes(), Some(INDEX[1])).is_err());
        assert!(manifest(index_type.as_bytes(), MANIFEST[0]).is_err());
    }

    #[test]
    fn problems_have_their_place() {
        let bad = br#"{"manifests": [{"mediaType": "x", "digest": "md5:1", "size": 1}]}"#;
        let problem = index(bad, None).unwrap_err();
        assert!(problem.starts_with("/manifests/0/digest: "), "{problem}");
        let bad = br#"{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []},
            "config": {"Env": [1]}}"#;
        let problem = configuration(bad).unwrap_err();
        assert!(problem.starts_with("/config/Env/0: "), "{problem}");
        let problem = configuration(b"[1]").unwrap_err();
        assert!(problem.contains("no JSON object"), "{problem}");
    }

    #[test]
    fn null_is_nothing() {
        let sparse = br#"{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []},
            "config": {"Env": null, "Cmd": null, "User": null, "Entrypoint": ["/x"]}}"#;
        let config = configuration(sparse).unwrap().config;
        assert_eq!(config.entrypoint, ["/x"]);
        assert!(config.env.is_empty() && config.user.is_empty());
    }
}
