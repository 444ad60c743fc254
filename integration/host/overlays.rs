//! A user namespace for containers of root whose root file system is an overlay, as
//! engines make them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ROOT [RealRoot]: layers_that_are_only_read, programs_of_the_layers, reasons_for_none;
}

/// A mount of the engine's: gone when the test is.
struct Mounted(PathBuf);

impl Mounted {
    #[track_caller]
    fn new(test: &Test, options: &str, point: &Path) -> Self {
        Self::by(
            test,
            "mount -t overlay -o \"$1\" overlay \"$2\"",
            options,
            point,
        )
    }

    #[track_caller]
    fn by(test: &Test, script: &str, options: &str, point: &Path) -> Self {
        let point_text = point.to_string_lossy();
        let words = ["/bin/sh", "-ec", script, "sh", options, &*point_text];
        test.command(&words).ok();
        Self(point.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let point = self.0.as_os_str();
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(point)
            .status();
    }
}

/// The bundle's files become a layer; its root file system an empty directory.
fn layers(bundle: &Bundle<'_>) -> (PathBuf, PathBuf) {
    let layer = |name: &str| bundle.dir.join(name);
    fs::rename(bundle.rootfs(), layer("base")).unwrap_or_else(|error| panic!("{error}"));
    for name in ["rootfs", "patch"] {
        bundle.test.make_dir(&layer(name));
    }
    (layer("base"), layer("patch"))
}

/// Everything of the container goes, and the engine's mount stays.
#[track_caller]
fn end(bundle: &Bundle<'_>) {
    bundle.on(&["delete", "--force"]).ok();
    assert!(!test_state(bundle).exists(), "its state directory");
}

fn test_state(bundle: &Bundle<'_>) -> PathBuf {
    bundle.test.state_root().join(&bundle.id)
}

fn read_only<'t>(bundle: &Bundle<'t>, patch: &Path, base: &Path) -> Mounted {
    let options = format!("nodev,lowerdir={}:{}", patch.display(), base.display());
    Mounted::new(bundle.test, &options, &bundle.rootfs())
}

fn own(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap_or_else(|error| panic!("{error}"));
}

fn mode(path: &Path, mode: u32) {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a process is in a user namespace of the kind.
fn is_given(pid: i64) -> bool {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default();
    map.split_whitespace().next_back() == Some("65536")
}

/// What `explain` says of the rule.
#[track_caller]
fn explained(bundle: &Bundle<'_>) -> String {
    bundle.save();
    let dir = bundle.dir.to_string_lossy().into_owned();
    let text = bundle.test.capsid(&["explain", &dir]).ok();
    let line = text
        .lines()
        .find(|line| line.trim().starts_with("userns: "));
    line.unwrap_or_else(|| panic!("no userns in {text}"))
        .to_owned()
}

fn layers_that_are_only_read(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle.file("etc/gone", "x");
    bundle.file("etc/below", "of the base");
    let (base, patch) = layers(&bundle);
    test.make_dir(&patch.join("etc"));
    let theirs = patch.join("etc/theirs");
    test.make_file(&theirs, "x");
    own(&theirs, 1000, 1001);
    let closed = patch.join("etc/closed");
    test.make_file(&closed, "secret");
    mode(&closed, 0o600);
    let gone = patch.join("etc/gone").to_string_lossy().into_owned();
    test.command(&["mknod", &gone, "c", "0", "0"]).ok();
    let data = test.path("data");
    test.make_dir(&data);
    let _mounted = read_only(&bundle, &patch, &base);
    let bundle = bundle.mount(
        json!({ "destination": "/home", "type": "bind", "source": data,
        "options": ["rbind"] }),
    );
    let container = bundle.ready();
    assert!(is_given(container.pid()));
    let stat = |path: &str| {
        let found = container.exec(&[], &["stat", path]).success().json();
        (found["uid"].as_u64(), found["gid"].as_u64())
    };
    assert_eq!(stat("/etc/theirs"), (Some(1000), Some(1001)));
    assert_eq!(stat("/etc/closed"), (Some(0), Some(0)));
    assert_eq!(
        container.exec(&[], &["cat", "/etc/closed"]).text(),
        "secret"
    );
    assert_eq!(
        container.exec(&[], &["cat", "/etc/below"]).text(),
        "of the base"
    );
    let user = ["--user", "1000"];
    assert_eq!(
        container.exec(&user, &["try-open", "/etc/closed"]).text(),
        "EACCES"
    );
    assert_eq!(
        container.exec(&[], &["try-open", "/etc/gone"]).text(),
        "ENOENT"
    );
    container
        .exec(&[], &["write", "/home/made", "text"])
        .success();
    assert_eq!(
        fs::metadata(data.join("made"))
            .map(|found| found.uid())
            .ok(),
        Some(0)
    );
    let report = container.exec_report(&[]);
    assert_eq!(report.mount("/")["fstype"], "overlay");
    assert!(report.has_option("/", "nodev"), "{}", report.mount("/"));
    end(&bundle);
}

fn programs_of_the_layers(test: &Test) {
    let bundle = Bundle::new(test)
        .edit(|config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["process"]["noNewPrivileges"] = json!(false);
        })
        .raw_args(&["/bin/setuid", "report"]);
    let (base, patch) = layers(&bundle);
    test.make_dir(&patch.join("bin"));
    let program = patch.join("bin/setuid");
    test.make_file(&program, fs::read(&test.machine.probe).unwrap_or_default());
    mode(&program, 0o4755);
    let _mounted = read_only(&bundle, &patch, &base);
    let report = bundle.run().success().json();
    assert_eq!(report["uids"], json!([1000, 0, 0, 0]));
    assert!(report["uid_map"].to_string().contains("65536"), "{report}");
}

fn reasons_for_none(test: &Test) {
    let case = |script: &str, bundle: Bundle<'_>, said: &str| {
        let (base, patch) = layers(&bundle);
        test.make_dir(&bundle.dir.join("upper"));
        test.make_dir(&bundle.dir.join("work"));
        let dir = bundle.dir.to_string_lossy().into_owned();
        let script = format!("cd \"$1\"\n{script}");
        let _mounted = Mounted::by(test, &script, &dir, &bundle.rootfs());
        drop((base, patch));
        let line = explained(&bundle);
        assert!(
            line.contains(said) && line.contains("podman --userns=auto"),
            "{said}: {line}"
        );
        // It runs, and as it did before.
        let container = bundle.create();
        assert!(!is_given(container.pid()), "{said}");
        end(&bundle);
    };
    let new = || Bundle::new(test).args(&["sleep"]);
    let over = "mount -t overlay overlay \"$2\" -o";
    let upper = format!("{over} lowerdir=$1/base,upperdir=$1/upper,workdir=$1/work");
    case(&upper, new(), "is an overlay that can be written");
    let relative = format!("{over} lowerdir=patch:base");
    case(
        &relative,
        new(),
        "mountinfo does not show where its layer \"patch\" is",
    );
    let below = format!("{over} lowerdir=$1/patch:$1/base\nmount -t tmpfs tmpfs \"$2/home\"");
    case(&below, new(), "is an overlay with a mount below it");
    let part = "mkdir whole patch/part; mv base/* patch/part/\n\
                mount -t overlay overlay whole -o lowerdir=$1/patch:$1/base\n\
                mount --bind whole/part \"$2\"; umount -l whole";
    case(
        part,
        new(),
        "is a directory of an overlay, and not all of it",
    );
    pinned(test);
}

/// What was measured is what must be run.
fn pinned(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let (base, patch) = layers(&bundle);
    let _mounted = read_only(&bundle, &patch, &base);
    bundle.save();
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    let digest = test.capsid(&["digest", &rootfs]).ok();
    let report = bundle
        .run_call(&["--pin-rootfs", digest.trim()])
        .output()
        .success();
    assert!(!report.json()["uid_map"].to_string().contains("65536"));
}
