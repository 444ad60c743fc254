//! Pins of files that the kernel keeps to a digest: fs-verity, on a real file system.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::pins::digest;
use crate::roles::Test;

cases! {
    RANGES [Verity]: files_with_fs_verity_are_pinned;
    ROOT [Verity]: their_digest_is_the_kernels;
}

/// A bundle whose root is on that file system; `etc/one` is three blocks and a bit.
struct Held<'t> {
    bundle: Bundle<'t>,
    root: PathBuf,
    one: PathBuf,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn content() -> String {
    "content\n".repeat(1600)
}

fn held(test: &Test) -> Held<'_> {
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    bundle.file("etc/one", content());
    let place = crate::needs::verity().unwrap_or_else(|| panic!("no place for it"));
    let root = place.join(&bundle.id);
    let words = ["cp", "-a"].map(std::ffi::OsString::from);
    let paths = [
        bundle.rootfs().into_os_string(),
        root.clone().into_os_string(),
    ];
    test.command(&[words, paths].concat()).output().success();
    let bundle = bundle.edit(|config| config["root"]["path"] = json!(root));
    let one = root.join("etc/one");
    Held { bundle, root, one }
}

#[track_caller]
fn enable(test: &Test, file: &Path, salt: &str) {
    let words = ["enable-verity", &file.to_string_lossy(), salt];
    test.probe(&words).output().success();
}

/// Puts a file with other bytes in the place of one that cannot be written to.
#[track_caller]
fn replace(test: &Test, file: &Path, text: &str) {
    let new = file.with_extension("new");
    test.make_file(&new, text);
    fs::rename(&new, file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The number is that of reading; what was swapped is another one, with and without fs-verity.
fn files_with_fs_verity_are_pinned(test: &Test) {
    let held = held(test);
    let (bundle, one) = (&held.bundle, &held.one);
    let good = digest(test, &held.root);
    enable(test, one, "");
    enable(test, &held.root.join("bin/probe"), "");
    let wrote = fs::OpenOptions::new().write(true).open(one);
    let refused = wrote.map_err(|error| error.raw_os_error()).err();
    assert_eq!(
        refused,
        Some(Some(libc::EPERM)),
        "the kernel does not hold the file"
    );
    assert_eq!(digest(test, &held.root), good);
    let run = || bundle.run_call(&["--pin-rootfs", &good]).output();
    run().code(7);
    for verity in [false, true] {
        replace(test, one, &content().replacen('c', "C", 1));
        if verity {
            enable(test, one, "");
        }
        let other = digest(test, &held.root);
        assert_ne!(other, good);
        run().code(1).says(&["--pin-rootfs", &good, &other]);
        bundle.assert_nothing_left();
    }
    replace(test, one, &content());
    enable(test, one, "");
    run().code(7);
    bundle.assert_nothing_left();
}

/// With a salt the kernel has another digest of the same bytes. And a file that is read has
/// been accessed, which one that the kernel is asked about has not.
fn their_digest_is_the_kernels(test: &Test) {
    let held = held(test);
    let (one, other) = (&held.one, held.root.join("etc/other"));
    test.make_file(&other, content());
    enable(test, one, "");
    let plain = digest(test, &held.root);
    for file in [one, &other] {
        // An access is noted where the one before was earlier than the last change.
        let times = FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH);
        let set = File::open(file).and_then(|opened| opened.set_times(times));
        assert!(set.is_ok(), "{set:?}");
    }
    let accessed = |file: &Path| fs::metadata(file).map(|found| found.atime()).ok();
    assert_eq!(digest(test, &held.root), plain);
    assert_eq!(accessed(one), Some(0), "it was read");
    assert_ne!(accessed(&other), Some(0), "it was not read");
    replace(test, one, &content());
    assert_eq!(digest(test, &held.root), plain);
    enable(test, one, "salt");
    let salted = digest(test, &held.root);
    assert_ne!(salted, plain);
    let run = |digest: &str| held.bundle.run_call(&["--pin-rootfs", digest]).output();
    run(&plain).code(1).says(&[&plain, &salted]);
    run(&salted).code(7);
    held.bundle.assert_nothing_left();
}
