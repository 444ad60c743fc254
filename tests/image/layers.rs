//! What layers become when all is well.

use std::fs;
use std::os::unix::fs::MetadataExt;

use capsid::image::Identity;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::archive::{Archive, Header, gzip};
use crate::store::{Store, TAR, listing};

/// The trees of layers on top of each other, as lines.
fn tree(layers: &[&Archive]) -> Vec<String> {
    let store = Store::new();
    let image = store.open(&store.plain(layers)).unwrap();
    listing(&image.rootfs)
}

#[test]
fn all_kinds_of_entries() {
    let mut layer = Archive::new();
    layer
        .mode(b'5', "./", 0o711)
        .directory("etc/")
        .file("etc/motd", "hello")
        .mode(b'0', "bin/su", 0o4755)
        .mode(b'5', "tmp", 0o1777)
        .mode(b'5', "shared", 0o2775)
        .mode(b'5', "closed", 0)
        .mode(b'0', "etc/shadow", 0)
        .symlink("bin/sh", "../bin/su")
        .symlink("out", "/../../../etc/passwd")
        .hard_link("etc/issue", "etc/motd")
        .mode(0, "old/", 0o755)
        .entry(b'7', "contiguous", "", b"c");
    let store = Store::new();
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert_eq!(
        listing(&image.rootfs),
        [
            "d 755 bin",
            "l bin/sh -> ../bin/su",
            // No setuid and setgid: the owner is the caller, whoever that is.
            "f 755 bin/su",
            // The owner can always remove the tree.
            "d 700 closed",
            "f 644 contiguous c",
            "d 755 etc",
            "f 644 etc/issue hello",
            "f 644 etc/motd hello",
            "f 0 etc/shadow",
            "d 755 old",
            "l out -> /../../../etc/passwd",
            "d 775 shared",
            "d 1777 tmp",
        ]
    );
    let inode = |name: &str| fs::metadata(image.rootfs.join(name)).unwrap().ino();
    assert_eq!(inode("etc/motd"), inode("etc/issue"));
    assert_eq!(fs::metadata(&image.rootfs).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn times_are_kept_also_of_directories_and_links() {
    let mut layer = Archive::new();
    layer
        .directory("d")
        .pax(b'x', &[("mtime", "1.5")])
        .directory("d/inner")
        .file("d/inner/f", "")
        .symlink("d/l", "f");
    let store = Store::new();
    let image = store.open(&store.plain(&[&layer])).unwrap();
    let time = |name: &str| {
        let metadata = fs::symlink_metadata(image.rootfs.join(name)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!(time("d"), (1_000_000_000, 0));
    assert_eq!(time("d/inner"), (1, 500_000_000));
    assert_eq!(time("d/inner/f"), (1_000_000_000, 0));
    assert_eq!(time("d/l"), (1_000_000_000, 0));
}

#[test]
fn names_of_every_kind() {
    let long = format!("{}/{}", "n".repeat(200), "m".repeat(200));
    let longest = "x".repeat(255);
    let mut layer = Archive::new();
    layer
        .pax(b'g', &[("comment", "all of it")])
        .pax(b'x', &[("path", &long), ("SCHILY.xattr.user.x", "y")])
        .file("short", "pax")
        .gnu(b'L', &longest)
        .file("short", "gnu")
        .pax(b'x', &[("linkpath", &long)])
        .entry(b'1', "hard", "short", b"")
        .gnu(b'K', &long)
        .symlink("soft", "short")
        .header(&Header {
            name: b"name",
            prefix: b"prefix",
            ..Header::default()
        })
        // GNU has times where ustar has the prefix.
        .header(&Header {
            name: b"gnu",
            prefix: b"0123",
            magic: b"ustar  \0",
            ..Header::default()
        });
    assert_eq!(
        tree(&[&layer]),
        [
            "f 644 gnu".to_owned(),
            "f 644 hard pax".to_owned(),
            format!("d 755 {}", "n".repeat(200)),
            format!("f 644 {long} pax"),
            "d 755 prefix".to_owned(),
            "f 644 prefix/name".to_owned(),
            format!("l soft -> {long}"),
            format!("f 644 {longest} gnu"),
        ]
    );
}

#[test]
fn layers_replace_and_remove() {
    let mut lower = Archive::new();
    lower
        .file("file", "old")
        .hard_link("other", "file")
        .file("dir/a", "")
        .file("dir/b/c", "")
        .file("gone", "")
        .file("opaque/old/x", "")
        .file("opaque/kept/old", "")
        .symlink("link", "dir")
        .file("becomes-dir", "");
    let mut upper = Archive::new();
    upper
        .file("file", "new")
        .file("dir", "now a file")
        .file(".wh.gone", "")
        .file(".wh.never-was", "")
        .file("nowhere/.wh.x", "")
        .file("opaque/kept/new", "")
        .file("opaque/first", "")
        // Hides what lower layers have, wherever it stands.
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/second", "")
        // Not what its own layer brought.
        .file("opaque/.wh.second", "")
        .directory("link")
        .directory("becomes-dir")
        .file(".wh..wh.plnk/1.2", "aufs");
    assert_eq!(
        tree(&[&lower, &upper]),
        [
            "d 755 becomes-dir",
            "f 644 dir now a file",
            "f 644 file new",
            "d 755 link",
            "d 755 opaque",
            "f 644 opaque/first",
            "d 755 opaque/kept",
            "f 644 opaque/kept/new",
            "f 644 opaque/second",
            // Another name of the old file: the new one is a new inode.
            "f 644 other old",
        ]
    );
}

#[test]
fn links_of_lower_layers_are_followed_inside_the_image() {
    let mut lower = Archive::new();
    lower
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr")
        .symlink("dangling", "made/later");
    let mut upper = Archive::new();
    upper
        .file("lib/x", "1")
        .file("abs/y", "2")
        .hard_link("lib/z", "abs/lib/x")
        .file("dangling/w", "3")
        .file("lib/.wh.nothing", "");
    assert_eq!(
        tree(&[&lower, &upper]),
        [
            "l abs -> /usr",
            "l dangling -> made/later",
            "l lib -> usr/lib",
            "d 755 made",
            "d 755 made/later",
            "f 644 made/later/w 3",
            "d 755 usr",
            "d 755 usr/lib",
            "f 644 usr/lib/x 1",
            "f 644 usr/lib/z 1",
            "f 644 usr/y 2",
        ]
    );
}

#[test]
fn compressed_layers_in_pieces_and_dockers_types() {
    let mut first = Archive::new();
    let text = "0123456789".repeat(100_000);
    first.file("first", &text);
    let mut second = Archive::new();
    second.file("second", "2");
    let mut third = Archive::new();
    third.file("third", "3");
    let (first, second, third) = (first.end(), second.end(), third.open_end());
    let pieces: Vec<u8> = first.chunks(300_000).flat_map(gzip).collect();
    let zstd = compress_to_vec(&second[..], CompressionLevel::Fastest);
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let packed = gzip(&third);
    let store = Store::new();
    let manifest = store.manifest(&[
        (&format!("{TAR}+gzip"), pieces, first),
        (&format!("{TAR}+zstd"), zstd, second),
        (docker, packed, third),
    ]);
    let image = store.open(&manifest).unwrap();
    let read = |name: &str| fs::read_to_string(image.rootfs.join(name)).unwrap();
    assert!(read("first") == text);
    assert_eq!(read("second") + &read("third"), "23");
}

#[test]
fn configuration_and_user_come_from_the_image() {
    let mut layer = Archive::new();
    layer
        .file("etc/passwd", "web:x:33:34::/srv:/bin/false\n")
        .symlink("etc/group", "../../../../../usr/group")
        .file("usr/group", "extra:x:5:web\n");
    let store = Store::new();
    let image = store.open(&store.plain(&[&layer])).unwrap();
    assert_eq!(image.config.entrypoint, ["/bin/x"]);
    assert_eq!(image.config.env, ["A=1"]);
    let user = Identity::find(&image.rootfs, &image.config.user).unwrap();
    assert_eq!((user.uid, user.gid), (33, 34));
    assert_eq!(user.additional_gids, [5]);
    assert_eq!(user.home.as_deref(), Some("/srv"));
    let missing = Identity::find(&image.rootfs, "nobody-here").unwrap_err();
    assert!(missing.to_string().contains("--user"), "{missing}");
}
