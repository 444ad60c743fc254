//! References, indexes, manifests, configurations.

use std::fs;
use std::os::unix::fs::symlink;

use capsid::image::Limits;
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::store::{ARCHITECTURE, CONFIG, INDEX, MANIFEST, Store, TAR};

fn small() -> Archive {
    let mut layer = Archive::new();
    layer.file("a", "");
    layer
}

fn says(outcome: Result<impl std::fmt::Debug, String>, words: &[&str]) {
    let message = outcome.unwrap_err();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn digest(entry: &Value) -> &str {
    entry["digest"].as_str().unwrap()
}

fn with(mut entry: Value, key: &str, value: Value) -> Value {
    entry[key] = value;
    entry
}

fn tagged(entry: &Value, tag: &str) -> Value {
    let annotations = json!({"org.opencontainers.image.ref.name": tag});
    with(entry.clone(), "annotations", annotations)
}

fn open(store: &Store, rest: &str) -> Result<(), String> {
    store.open_as(rest, Limits::default()).map(drop)
}

#[test]
fn the_digest_is_needed_and_told() {
    let store = Store::new();
    let one = store.plain(&[&small()]);
    let two = store.plain(&[&small(), &small()]);
    store.index(&[&tagged(&one, "v1"), &tagged(&two, "v2")]);
    let pinned = |tag: &str, entry: &Value| format!("layout:{tag}@{}", digest(entry));
    says(open(&store, ":v1"), &["name it as", &pinned("v1", &one)]);
    says(
        open(&store, ""),
        &[&pinned("v1", &one), &pinned("v2", &two)],
    );
    says(open(&store, ":v3"), &["no tag \"v3\"", "v1 or v2"]);
    // The tag was moved, or never was this image.
    let moved = format!(":v1@{}", digest(&two));
    says(open(&store, &moved), &["for tag \"v1\"", digest(&one)]);
    let unknown = format!("@sha256:{}", "0".repeat(64));
    says(open(&store, &unknown), &["no image sha256:000"]);
    open(&store, &format!(":v2@{}", digest(&two))).unwrap();
    open(&store, &format!("@{}", digest(&one))).unwrap();
}

#[test]
fn an_index_leads_to_this_machines_image() {
    let store = Store::new();
    let mine = store.plain(&[&small()]);
    let platform = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let other = with(mine.clone(), "platform", platform("s390x"));
    let here = with(mine.clone(), "platform", platform(ARCHITECTURE));
    let special = json!({"os": "linux", "architecture": ARCHITECTURE, "variant": "v99"});
    let special = with(mine.clone(), "platform", special);
    let unknown = json!({"os": "unknown", "architecture": "unknown"});
    let attestation = with(mine.clone(), "platform", unknown);
    let index = |entries: &[&Value]| {
        let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        store.document(INDEX, &document)
    };
    let list = index(&[&other, &special, &attestation, &here]);
    assert_eq!(store.open(&list).unwrap().digest.to_string(), digest(&mine));
    // One in another, and the digest of the image itself instead of the index'.
    let nested = index(&[&list]);
    assert_eq!(
        store.open(&nested).unwrap().digest.to_string(),
        digest(&mine)
    );
    store.open_digest(digest(&mine)).unwrap();
    let foreign = index(&[&other, &attestation]);
    says(
        store.open(&foreign),
        &["no image for linux/", "linux/s390x"],
    );
    // The blob of the index is checked as well.
    let list = index(&[&here]);
    let path = store.blob_path(&capsid::image::Digest::parse(digest(&list)).unwrap());
    let changed = fs::read_to_string(&path)
        .unwrap()
        .replace("v1+json", "v2+json");
    fs::write(&path, changed).unwrap();
    says(store.open(&list), &["the blob's content is"]);
}

#[test]
fn indexes_without_end() {
    let store = Store::new();
    let mut entry = store.plain(&[&small()]);
    for _ in 0..20 {
        let document = json!({"schemaVersion": 2, "manifests": [entry]});
        entry = store.document(INDEX, &document);
    }
    says(store.open(&entry), &["more than 16 indexes"]);
}

#[test]
fn documents_that_do_not_fit() {
    let store = Store::new();
    let layer = small().end();
    let layer = store.blob(TAR, &layer);
    let config = |document: Value| store.document(CONFIG, &document);
    let id = capsid::image::Digest::of(&small().end()).to_string();
    let good = json!({"os": "linux", "architecture": ARCHITECTURE, "rootfs": {"diff_ids": [id]}});
    let good = config(good);
    let open = |manifest: Value| store.open(&store.document(MANIFEST, &manifest));
    let foreign = json!({"os": "linux", "architecture": "s390x", "rootfs": {"diff_ids": [id]}});
    let foreign = config(foreign);
    says(
        open(json!({"config": foreign, "layers": [layer]})),
        &["the image is for linux/s390x", "this machine is linux/"],
    );
    let artifact = store.document("application/vnd.in-toto+json", &json!({}));
    says(
        open(json!({"config": artifact, "layers": [layer]})),
        &["/config: \"application/vnd.in-toto+json\" is not"],
    );
    let xz = with(layer.clone(), "mediaType", json!(format!("{TAR}+xz")));
    says(
        open(json!({"config": good, "layers": [xz]})),
        &["/layers/0: ", "tar+zstd"],
    );
    says(open(json!({"config": good, "layers": []})), &["0 layers"]);
    says(
        open(json!({"config": good, "layers": [layer, layer]})),
        &["/rootfs/diff_ids: 1 for 2 layers"],
    );
    let many = vec![layer.clone(); 501];
    says(
        open(json!({"config": good, "layers": many})),
        &["501 layers"],
    );
    says(
        open(json!({"config": good, "layers": [layer], "manifests": []})),
        &["a manifest and an index at once"],
    );
    let kind = "application/vnd.oci.image.index.v1+json";
    says(
        open(json!({"mediaType": kind, "config": good, "layers": [layer]})),
        &["/mediaType"],
    );
    for (key, value) in [
        ("digest", json!("sha512:00")),
        (
            "digest",
            json!("sha256:../../../../../../../../../../etc/passwd"),
        ),
        ("size", json!(-1)),
        ("size", json!("4")),
        ("mediaType", Value::Null),
    ] {
        let bad = with(layer.clone(), key, value);
        says(
            open(json!({"config": good, "layers": [bad]})),
            &["/layers/0"],
        );
    }
    let short = with(layer.clone(), "size", json!(100));
    says(
        open(json!({"config": good, "layers": [short]})),
        &["bytes, not 100"],
    );
    open(json!({"config": good, "layers": [layer]})).unwrap();
}

#[test]
fn files_of_the_layout_that_are_none() {
    let store = Store::new();
    let manifest = store.plain(&[&small()]);
    store.open(&manifest).unwrap();
    let big = with(manifest.clone(), "size", json!((4 << 20) + 1));
    says(store.open(&big), &["4194305 bytes", "4194304 at most"]);

    let index = store.path("layout/index.json");
    let huge = fs::File::create(&index).unwrap();
    huge.set_len(5 << 20).unwrap();
    says(store.open_digest(digest(&manifest)), &["4194304 at most"]);
    fs::write(&index, "{").unwrap();
    says(
        store.open_digest(digest(&manifest)),
        &["index.json: this is no JSON"],
    );
    // A pipe on which a reader would wait for ever, and a link out of the layout.
    fs::remove_file(&index).unwrap();
    nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRWXU).unwrap();
    says(
        store.open_digest(digest(&manifest)),
        &["not a regular file"],
    );
    fs::remove_file(&index).unwrap();
    symlink("../canary", &index).unwrap();
    says(store.open_digest(digest(&manifest)), &["openat2: absent"]);

    fs::remove_file(&index).unwrap();
    store.index(&[&manifest]);
    store.write("oci-layout", &json!({"imageLayoutVersion": "2.0.0"}));
    says(
        store.open_digest(digest(&manifest)),
        &["\"2.0.0\" is not known"],
    );
    fs::remove_file(store.path("layout/oci-layout")).unwrap();
    let reference = capsid::image::Reference::parse(store.path("layout").to_str().unwrap());
    let cache = capsid::image::Cache::open(&store.path("cache")).unwrap();
    let none = Limits::default();
    let outcome = capsid::image::open(&reference.unwrap(), &cache, none, &mut |_, _| {});
    says(
        outcome.map_err(|error| error.to_string()),
        &["no OCI image layout", "skopeo"],
    );
}
