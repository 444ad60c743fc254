//! What must hold for every layer, shared by the fuzz target (`fuzz`) and by
//! the test that runs its corpus.
//!
//! An input is text, so that its corpus can be read: the first line is `tar`,
//! `gzip` or `zstd`, and each further line an entry `TYPE NAME LINK DATA`, or
//! `=` and bytes as they are. With `!` before the first line all that follows
//! is the blob itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::archive::{Archive, BLOCK, Header, gzip};
use crate::store::{Store, TAR};

/// Applies a layer of that content twice, above each other; whether it could be.
pub(crate) fn layer(input: &[u8]) -> bool {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (kind, rest) = input.split_at(end.unwrap_or(input.len()));
    let rest = rest.get(1..).unwrap_or_default();
    let (plain, suffix) = match kind {
        b"!gzip" => (None, "+gzip"),
        b"!zstd" => (None, "+zstd"),
        b"!tar" => (None, ""),
        b"gzip" => (Some(archive(rest)), "+gzip"),
        b"zstd" => (Some(archive(rest)), "+zstd"),
        _ => (Some(archive(rest)), ""),
    };
    let blob = match (&plain, suffix) {
        (None, _) => rest.to_vec(),
        (Some(plain), "+gzip") => gzip(plain),
        (Some(plain), "+zstd") => compress_to_vec(&plain[..], CompressionLevel::Uncompressed),
        (Some(plain), _) => plain.clone(),
    };
    // Of a blob that no honest tool packed nobody knows what it unpacks to.
    let plain = plain.unwrap_or_else(|| rest.to_vec());
    let media_type = format!("{TAR}{suffix}");
    let part = (media_type.as_str(), blob, plain);
    let store = Store::new();
    // `Store` looks for what was changed outside, and left behind.
    match store.open(&store.manifest(&[part.clone(), part])) {
        Ok(image) => {
            inside(&image.rootfs);
            true
        }
        Err(message) => {
            assert!(!message.contains(char::is_control), "{message:?}");
            false
        }
    }
}

fn archive(text: &[u8]) -> Vec<u8> {
    let mut archive = Archive::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let mut next = || fields.next().unwrap_or_default();
        let (flag, name, link, data) = (next(), next(), next(), next());
        match flag {
            b"" => {}
            b"=" => {
                let mut block = [0; BLOCK];
                let raw = &line[2.min(line.len())..];
                let length = raw.len().min(BLOCK);
                block[..length].copy_from_slice(&raw[..length]);
                archive.block(block);
            }
            b"x" | b"g" => {
                let (key, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(link));
                archive.pax(flag[0], &[(&key, &value)]);
            }
            b"L" | b"K" => {
                archive.gnu(flag[0], &String::from_utf8_lossy(name));
            }
            _ => {
                let header = Header {
                    flag: flag[0],
                    name,
                    link,
                    // All bits: those that must not come through as well.
                    mode: 0o7777,
                    size: data.len() as u64,
                    ..Header::default()
                };
                archive.header(&header).data(data);
            }
        }
    }
    archive.end()
}

/// Nothing in a tree can be more than its owner.
fn inside(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        assert!(
            kind.is_file() || kind.is_dir() || kind.is_symlink(),
            "{path:?}"
        );
        if !kind.is_symlink() {
            assert_eq!(metadata.mode() & 0o6000, 0, "{path:?}");
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with(".wh."), "{path:?}");
        if kind.is_dir() {
            inside(&path);
        }
    }
}

/// The corpus of the fuzz target: `good-` can be applied, `bad-` cannot.
#[cfg(test)]
#[test]
fn the_corpus_of_layers() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/layer");
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let good = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("good-");
        assert_eq!(layer(&fs::read(&path).unwrap()), good, "{path:?}");
        count += 1;
    }
    assert!(count > 5);
}
