//! Links of the image, where the runtime makes or mounts something.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::escapes::{outside, untouched};
use crate::roles::Test;
use crate::terminal::{pty, with_terminal};

cases! {
    ALL []: cve_2026_41579, cve_2019_19921, cve_2026_88265, cve_2025_24965, cve_2026_55686, links_at_every_level, cve_2026_88264, cve_2025_52565;
}

/// CVE-2026-41579, CVE-2026-47766: what the runtime makes in /dev.
fn cve_2026_41579(test: &Test) {
    let outside = outside(test);
    test.make_file(&outside.join("ptmx"), "old");
    for target in [
        outside.clone(),
        PathBuf::from("../../outside"),
        PathBuf::from("/proc/self/cwd/outside"),
    ] {
        for covered in [true, false] {
            let mut bundle = Bundle::new(test).args(&["exit", "0"]);
            if !covered {
                for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                    bundle = bundle.without_mount(mount);
                }
            }
            bundle.link("dev", &target);
            untouched(&bundle, &outside);
        }
    }
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867.
fn cve_2019_19921(test: &Test) {
    let outside = outside(test);
    for name in ["proc", "sys"] {
        for target in [outside.clone(), PathBuf::from("/var"), PathBuf::from("var")] {
            let bundle = Bundle::new(test).args(&["exit", "0"]);
            bundle.link(name, &target);
            let output = untouched(&bundle, &outside);
            holds!(output.code != 0, "/{name} was mounted through a link");
            output.says(&[&format!("/{name}")]);
        }
    }
}

/// CVE-2026-88265: the null device of the image, nothing mounted on /dev. The stream is
/// read as what it is, for its name is a link of the image, too.
fn cve_2026_88265(test: &Test) {
    let outside = outside(test);
    let mut bundle = Bundle::new(test).args(&["cat", "/proc/self/fd/0"]);
    for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle = bundle.without_mount(mount);
    }
    for name in [
        "null", "zero", "full", "random", "tty", "ptmx", "stdin", "fd", "console",
    ] {
        bundle.link(&format!("dev/{name}"), outside.join("canary"));
    }
    untouched(&bundle, &outside);
}

/// Every path that a runtime may create, as a link to the host (CVE-2025-24965 class).
fn cve_2025_24965(test: &Test) {
    let outside = outside(test);
    for name in ["etc", "run", "tmp", "var", "root", "home"] {
        let bundle = Bundle::new(test).args(&["exit", "0"]).mount(json!({
            "destination": format!("/{name}/made/by/mount"), "type": "tmpfs", "source": "tmpfs"
        }));
        let _ = fs::remove_dir_all(bundle.rootfs().join(name));
        bundle.link(name, &outside);
        untouched(&bundle, &outside);
    }
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    bundle.link(".krun_config.json", outside.join("canary"));
    untouched(&bundle, &outside);
}

/// CVE-2026-55686: a working directory that is made must be made inside.
fn cve_2026_55686(test: &Test) {
    let outside = outside(test);
    let bundle = Bundle::new(test).writable().args(&["exit", "0"]);
    bundle.link("door", &outside);
    let bundle = bundle.edit(|config| config["process"]["cwd"] = json!("/door/made"));
    untouched(&bundle, &outside);
}

/// A mount point with a link at each level, leading up and out.
fn links_at_every_level(test: &Test) {
    let outside = outside(test);
    let volume = test.path("volume");
    test.make_dir(&volume);
    let up = format!("{}{}", "../".repeat(12), outside.display());
    for (place, target) in [("a", up.as_str()), ("a", "/"), ("a", "..")] {
        let bundle = Bundle::new(test).args(&["exit", "0"]).mount(json!({
            "destination": format!("/{place}/b/c"), "type": "bind", "source": volume, "options": ["bind"]
        }));
        bundle.link(place, target);
        untouched(&bundle, &outside);
    }
    let bundle = Bundle::new(test).args(&["exit", "0"]).mount(json!({
        "destination": "/loop/x", "type": "tmpfs", "source": "tmpfs"
    }));
    bundle.link("loop", "loop");
    untouched(&bundle, &outside).failure();
}

/// `/dev/console` as a link of the image, nothing mounted on /dev.
fn cve_2026_88264(test: &Test) {
    let outside = test.path("outside");
    test.make_dir(&outside);
    let bundle = with_terminal(test)
        .without_mount("/dev")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .args(&["exit", "0"]);
    bundle.link("dev/console", outside.join("x"));
    bundle
        .run_call(&[])
        .through(&pty(test, "24x80", &[]))
        .output();
    holds!(!outside.join("x").exists(), "made on the host");
    bundle.assert_nothing_left();
}

/// A /dev/pts of somebody else's making.
fn cve_2025_52565(test: &Test) {
    let canary = test.path("canary");
    test.make_file(&canary, "secret of the host");
    let pts = test.path("pts");
    test.make_dir(&pts);
    for name in ["ptmx", "0", "1"] {
        let made = std::os::unix::fs::symlink(&canary, pts.join(name));
        assert!(made.is_ok(), "{made:?}");
    }
    let bundle = with_terminal(test)
        .without_mount("/dev/pts")
        .args(&["cat", "/dev/console"])
        .mount(json!({
            "destination": "/dev/pts", "type": "bind", "source": pts, "options": ["bind"]
        }));
    let output = bundle
        .run_call(&[])
        .through(&pty(test, "24x80", &[]))
        .output();
    holds!(
        !output.stdout.contains("secret of the host"),
        "a file of the host became the console: {output:?}"
    );
    holds!(output.code != 0, "a false terminal was taken: {output:?}");
    bundle.assert_nothing_left();
}
