//! Layers that try to get out, to get in, or to fill the machine.
//!
//! `Store` looks after each attempt: nothing outside the cache is changed, and
//! nothing is left in it.

use std::fs;

use capsid::image::Limits;

use crate::archive::{Archive, BLOCK, Header, gzip};
use crate::store::{Store, TAR, listing, names};

fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn names_that_lead_out() {
    for name in [
        "../canary",
        "a/../../canary",
        "a/..",
        "..",
        "./../canary",
        "/canary",
        "//canary",
        ".wh...",
        ".wh..",
        ".wh.",
        "a/.wh...",
        "../.wh.canary",
        "../.wh..wh..opq",
    ] {
        let mut layer = Archive::new();
        layer.file(name, "dead");
        says(&Store::refused(&layer), &["layer 1 of 1, sha256:", "entry"]);
        let mut layer = Archive::new();
        layer.pax(b'x', &[("path", name)]).file("fine", "dead");
        says(&Store::refused(&layer), &["entry"]);
        let mut layer = Archive::new();
        layer.gnu(b'L', name).file("fine", "dead");
        says(&Store::refused(&layer), &["entry"]);
    }
    let mut layer = Archive::new();
    layer.header(&Header {
        name: b"canary",
        prefix: b"..",
        ..Header::default()
    });
    says(
        &Store::refused(&layer),
        &["\"../canary\"", "\"..\" in a name"],
    );
}

#[test]
fn names_that_no_file_can_have() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(2500);
    for name in [&long, &deep, ""] {
        let mut layer = Archive::new();
        layer.gnu(b'L', name).file("fine", "");
        Store::refused(&layer);
    }
    let mut layer = Archive::new();
    layer.pax(b'x', &[("path", "a\0b")]).file("fine", "");
    says(&Store::refused(&layer), &["NUL"]);
    let mut layer = Archive::new();
    layer.file("root-is-a-file/", "").symlink("./", "x");
    Store::refused(&layer);
    let mut layer = Archive::new();
    layer.symlink(".", "x");
    says(
        &Store::refused(&layer),
        &["root of an image is a directory"],
    );
    let mut layer = Archive::new();
    layer.file("a\u{1b}[31mb/../c", "");
    let message = Store::refused(&layer);
    assert!(!message.contains('\u{1b}'), "{message:?}");
}

#[test]
fn links_that_lead_out_lead_inside() {
    for text in [
        "../../../../..",
        "/",
        "/proc/self/root",
        "/proc/self/cwd/../..",
    ] {
        let mut layer = Archive::new();
        layer.symlink("up", text).file("up/canary", "dead");
        let store = Store::new();
        let outcome = store.open(&store.plain(&[&layer]));
        if let Ok(image) = outcome {
            let inside = listing(&image.rootfs);
            assert!(inside.iter().any(|line| line.ends_with("canary dead")));
        }
    }
    let store = Store::new();
    let canary = store.path("canary");
    let mut layer = Archive::new();
    layer
        .symlink("up", canary.to_str().unwrap())
        // The last name is not followed but replaced.
        .file("up", "mine");
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert_eq!(listing(&image.rootfs), ["f 644 up mine"]);
}

#[test]
fn directories_that_become_links_between_entries() {
    let store = Store::new();
    let outside = store.path("");
    let mut layer = Archive::new();
    layer
        .directory("d")
        .file("d/one", "1")
        .symlink("d", outside.to_str().unwrap())
        .file("d/canary", "dead")
        .file("d/.wh.canary", "")
        .file("d/.wh..wh..opq", "")
        .mode(b'5', "d", 0o700)
        .file("d/two", "2");
    let image = store.open(&store.plain(&[&layer])).unwrap();
    let inside = listing(&image.rootfs);
    assert!(inside.contains(&"f 644 d/two 2".to_owned()), "{inside:?}");
    assert!(
        !inside.iter().any(|line| line.contains("d/one")),
        "{inside:?}"
    );
    // Loops end.
    let mut layer = Archive::new();
    layer.symlink("a", "b/x").symlink("b", "a").file("a/f", "");
    says(&Store::refused(&layer), &["entry \"a/f\""]);
}

#[test]
fn hard_links_that_lead_out() {
    for target in [
        "../canary",
        "/canary",
        "a/../../canary",
        "",
        ".",
        "missing",
        "d",
    ] {
        let mut layer = Archive::new();
        layer.directory("d").hard_link("x", target);
        says(&Store::refused(&layer), &["entry \"x\": hard link to"]);
        let mut layer = Archive::new();
        let link = [("linkpath", target)];
        layer.directory("d").pax(b'x', &link).hard_link("x", target);
        says(&Store::refused(&layer), &["hard link to"]);
    }
    // Through a link: to what is there inside, which is nothing.
    let store = Store::new();
    let outside = store.path("");
    let mut layer = Archive::new();
    layer
        .symlink("up", outside.to_str().unwrap())
        .hard_link("x", "up/canary");
    let message = store.open(&store.plain(&[&layer])).unwrap_err();
    says(&message, &["hard link to \"up/canary\""]);
    // A link itself gets another name.
    let store = Store::new();
    let canary = store.path("canary");
    let mut layer = Archive::new();
    layer
        .symlink("l", canary.to_str().unwrap())
        .hard_link("x", "l")
        .hard_link("x", "x");
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert!(image.rootfs.join("x").is_symlink());
    // Writing to a name does not write to what it was linked to.
    let mut layer = Archive::new();
    layer.file("a", "1").hard_link("b", "a").file("b", "2");
    let store = Store::new();
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert_eq!(listing(&image.rootfs), ["f 644 a 1", "f 644 b 2"]);
}

#[test]
fn devices_pipes_and_what_nobody_knows() {
    for (flag, words) in [
        (b'3', "device nodes"),
        (b'4', "device nodes"),
        (b'6', "named pipes"),
        (b'S', "sparse"),
        (b'V', "unknown type"),
        (b'Z', "unknown type"),
    ] {
        let mut layer = Archive::new();
        layer.entry(flag, "dev/x", "", b"");
        says(&Store::refused(&layer), &["layer 1 of 1", words]);
    }
    // Overlay's own form of a whiteout is a device too.
    let mut layer = Archive::new();
    layer.entry(b'3', ".wh.x", "", b"");
    says(
        &Store::refused(&layer),
        &["entry \".wh.x\"", "device nodes"],
    );
    let mut layer = Archive::new();
    layer.pax(b'x', &[("GNU.sparse.major", "1")]).file("x", "");
    says(&Store::refused(&layer), &["sparse"]);
}

#[test]
fn archives_that_readers_read_differently() {
    let mut cases: Vec<(&str, Archive)> = Vec::new();
    let mut case = |words, make: &dyn Fn(&mut Archive)| {
        let mut layer = Archive::new();
        make(&mut layer);
        cases.push((words, layer));
    };
    case("GNU's kind and one of pax", &|layer| {
        layer
            .gnu(b'L', "a")
            .pax(b'x', &[("path", "b")])
            .file("c", "");
    });
    case("two extended headers", &|layer| {
        let (a, b) = ([("path", "a")], [("path", "b")]);
        layer.pax(b'x', &a).pax(b'x', &b).file("c", "");
    });
    case("global header", &|layer| {
        layer.pax(b'g', &[("path", "a")]).file("c", "");
    });
    case("has data", &|layer| {
        layer.entry(b'1', "a", "b", b"data");
    });
    case("has data", &|layer| {
        layer.entry(b'5', "a", "", b"data");
    });
    case("ends with a slash", &|layer| {
        layer.file("a/", "data");
    });
    case("between an extended header", &|layer| {
        layer.pax(b'x', &[("path", "a")]);
    });
    case("negative", &|layer| {
        layer.block(binary_size(&[0xff; 12]));
    });
    case("no number", &|layer| {
        layer.block(binary_size(b"0000000009z\0"));
    });
    case("middle of a file", &|layer| {
        layer.block(binary_size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"));
    });
    case("no number", &|layer| {
        layer.block(binary_size(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"));
    });
    case("checksum", &|layer| {
        layer.raw(&[b'x'; BLOCK]);
    });
    case("after the end", &|layer| {
        layer.raw(&[0; 2 * BLOCK]).file("late", "");
    });
    case("after the end", &|layer| {
        layer.raw(&[0; BLOCK]).file("late", "");
    });
    for (words, layer) in cases {
        says(&Store::refused(&layer), &[words]);
    }
}

/// TARmageddon (CVE-2025-62518): with ustar's size, what is data becomes entries.
#[test]
fn the_size_of_a_pax_header_counts() {
    let mut hidden = Archive::new();
    hidden.file("hidden", "");
    let mut layer = Archive::new();
    layer
        .pax(b'x', &[("size", "512")])
        .file("a", "")
        .data(&hidden.open_end());
    let store = Store::new();
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert_eq!(names(&image.rootfs), ["a"]);
    assert_eq!(fs::metadata(image.rootfs.join("a")).unwrap().len(), 512);
}

fn binary_size(size: &[u8; 12]) -> [u8; BLOCK] {
    let mut archive = Archive::new();
    archive.file("x", "");
    let mut block = [0; BLOCK];
    block.copy_from_slice(&archive.open_end());
    block[124..136].copy_from_slice(size);
    block
}

#[test]
fn archives_that_are_cut_off() {
    let mut layer = Archive::new();
    layer.pax(b'x', &[("path", "a")]).file("x", "data");
    let whole = layer.open_end();
    for length in (1..whole.len()).step_by(100) {
        let store = Store::new();
        let cut = whole[..length].to_vec();
        let outcome = store.open(&store.manifest(&[(TAR, cut.clone(), cut)]));
        // All of the file but not its padding, or a header less.
        let data_is_there = length >= 3 * BLOCK + 4;
        assert_eq!(outcome.is_ok(), data_is_there, "{length}: {outcome:?}");
    }
}

#[test]
fn entries_that_come_twice() {
    let mut layer = Archive::new();
    layer
        .file("x", "1")
        .file("x", "22")
        .directory("x")
        .file("x/y", "")
        .file("x", "3")
        .symlink("x", "y")
        .file("x", "4");
    let store = Store::new();
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert_eq!(listing(&image.rootfs), ["f 644 x 4"]);
}

#[test]
fn depth_without_end() {
    // Each level of links adds two hundred real ones; no name is long.
    let inner = ["d"; 200].join("/");
    let nested = |levels: usize| {
        let mut layer = Archive::new();
        layer.gnu(b'L', &inner).directory("x");
        let mut below = inner.clone();
        for level in 0..levels {
            let link = format!("l{level}");
            layer.gnu(b'K', &below).symlink(&link, "x");
            below = format!("{link}/{inner}");
            layer.gnu(b'L', &below).directory("x");
        }
        layer
    };
    // Refused, and what was made until then is gone: `refused` looks.
    says(&Store::refused(&nested(5)), &["deeper than 256"]);
    says(&Store::refused(&nested(20)), &["longer than 4095"]);
}

/// A tar archive with one file of zeros, and a zstd frame of it: each block of
/// 128 KiB takes four bytes.
fn bomb(megabytes: u64) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.header(&Header {
        name: b"zeros",
        size: megabytes << 20,
        ..Header::default()
    });
    let header = archive.open_end();
    // No content size, a window of 128 KiB.
    let mut packed = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    let block = |kind: u32, size: u32, last: u32| ((size << 3) | (kind << 1) | last).to_le_bytes();
    packed.extend(&block(0, 512, 0)[..3]);
    packed.extend(&header);
    for _ in 0..megabytes * 8 {
        packed.extend(&block(1, 128 << 10, 0)[..3]);
        packed.push(0);
    }
    packed.extend(&block(1, 1024, 1)[..3]);
    packed.push(0);
    packed
}

#[test]
fn bombs() {
    let store = Store::new();
    let packed = bomb(80);
    assert!(packed.len() < 4000);
    let manifest = store.manifest(&[(&format!("{TAR}+zstd"), packed, Vec::new())]);
    let message = store.open(&manifest).unwrap_err();
    says(
        &message,
        &[
            "layer 1 of 1",
            "entry \"zeros\"",
            "more bytes than are allowed",
        ],
    );
    assert_eq!(store.trees(), [""; 0]);
    // Who knows better says so; then only the diff_id is wrong.
    let more = Limits {
        bytes: Some(100 << 20),
        ..Limits::default()
    };
    let reference = format!("@{}", manifest["digest"].as_str().unwrap());
    says(
        &store.open_as(&reference, more).unwrap_err(),
        &["it unpacks to"],
    );
    let less = Limits {
        bytes: Some(1000),
        ..Limits::default()
    };
    let mut small = Archive::new();
    small.file("a", "b");
    let manifest = store.plain(&[&small]);
    store.index(&[&manifest]);
    let reference = format!("@{}", manifest["digest"].as_str().unwrap());
    says(
        &store.open_as(&reference, less).unwrap_err(),
        &["more bytes"],
    );
    let entries = Limits {
        entries: Some(0),
        ..Limits::default()
    };
    says(
        &store.open_as(&reference, entries).unwrap_err(),
        &["more entries"],
    );
    store.open_as(&reference, Limits::default()).unwrap();
}

#[test]
fn more_entries_than_its_size_explains() {
    let mut layer = Archive::new();
    for _ in 0..70_000 {
        layer.file("x", "");
    }
    let tar = layer.end();
    let packed = gzip(&tar);
    let store = Store::new();
    let manifest = store.manifest(&[(&format!("{TAR}+gzip"), packed, tar)]);
    says(&store.open(&manifest).unwrap_err(), &["more entries"]);
}

#[test]
fn zeros_after_the_end_count_too() {
    let store = Store::new();
    let mut tar = Archive::new().end();
    tar.resize(70 << 20, 0);
    let packed = gzip(&tar);
    let manifest = store.manifest(&[(&format!("{TAR}+gzip"), packed, tar)]);
    says(&store.open(&manifest).unwrap_err(), &["more bytes"]);
}

#[test]
fn blobs_that_are_not_what_they_are_called() {
    let mut layer = Archive::new();
    layer.file("a", "good");
    let tar = layer.end();
    let media_type = format!("{TAR}+gzip");
    let swap = |change: &dyn Fn(&mut Vec<u8>)| {
        let store = Store::new();
        let manifest = store.manifest(&[(&media_type, gzip(&tar), tar.clone())]);
        let path = store.blob_path(&capsid::image::Digest::of(&gzip(&tar)));
        let mut blob = fs::read(&path).unwrap();
        change(&mut blob);
        fs::write(&path, blob).unwrap();
        let message = store.open(&manifest).unwrap_err();
        assert_eq!(store.trees(), [""; 0], "{message}");
        message
    };
    // The same length, another content: also where that is no gzip any more.
    let other = swap(&|blob| *blob.last_mut().unwrap() ^= 1);
    says(
        &other,
        &["the blob's content is sha256:", "fetch the image again"],
    );
    says(
        &swap(&|blob| blob[0] = 0),
        &["the blob's content is sha256:"],
    );
    says(
        &swap(&|blob| blob[20] ^= 0x10),
        &["the blob's content is sha256:"],
    );
    says(&swap(&|blob| blob.push(0)), &["bytes, not"]);
    says(
        &swap(&|blob| blob.truncate(blob.len() - 1)),
        &["bytes, not"],
    );
    says(&swap(&|blob| blob.clear()), &["0 bytes, not"]);
}

#[test]
fn streams_that_are_cut_off_or_have_a_tail() {
    let mut layer = Archive::new();
    layer.file("a", "good");
    let tar = layer.end();
    let media_type = format!("{TAR}+gzip");
    let whole = gzip(&tar);
    let tail = [&whole[..], b"more"].concat();
    for (packed, words) in [
        (whole[..whole.len() - 9].to_vec(), "cut off"),
        (whole[..whole.len() - 2].to_vec(), "cut off"),
        (tail, "no gzip header"),
        (b"\x1f\x8b".to_vec(), "no gzip header"),
        (tar.clone(), "no gzip header"),
    ] {
        let store = Store::new();
        let manifest = store.manifest(&[(&media_type, packed, tar.clone())]);
        says(&store.open(&manifest).unwrap_err(), &[words]);
    }
    // Good in itself, but not what the image says.
    let store = Store::new();
    let manifest = store.manifest(&[(&media_type, whole, b"other".to_vec())]);
    says(
        &store.open(&manifest).unwrap_err(),
        &["it unpacks to sha256:"],
    );
}
