//! False files of /proc, and false objects to cover them with.

use std::fs;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::escapes::{outside, untouched};
use crate::roles::Test;

cases! {
    ALL []: cve_2025_31133, cve_2019_16884_by_link;
}

/// CVE-2025-31133: a mask is an object the runtime made, not what the image calls null.
fn cve_2025_31133(test: &Test) {
    let outside = outside(test);
    let dev = test.path("false-dev");
    test.make_dir(&dev);
    let target = "/proc/sys/kernel/core_pattern";
    let pattern = fs::read(target).unwrap_or_default();
    for absent in [false, true] {
        if absent {
            let _ = fs::remove_file(dev.join("null"));
        } else {
            let made = std::os::unix::fs::symlink(target, dev.join("null"));
            assert!(made.is_ok(), "{made:?}");
        }
        let mut bundle = Bundle::new(test);
        for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
            bundle = bundle.without_mount(mount);
        }
        let mount =
            json!({ "destination": "/dev", "type": "bind", "source": dev, "options": ["bind"] });
        let bundle = bundle
            .mount(mount)
            .args(&["report", "--peek", "/proc/keys"]);
        let output = untouched(&bundle, &outside);
        if output.code == 0 {
            let report = output.json();
            let keys = &report["peek"]["/proc/keys"];
            let covered = keys["bytes"] == 0 || keys == "ENOENT" || keys == "EACCES";
            holds!(
                covered,
                "/proc/keys is a file of the image's choice: {keys}"
            );
        }
    }
    let after = fs::read(target).unwrap_or_default();
    holds!(after == pattern, "core_pattern changed");
}

/// CVE-2019-16884: by name nobody may mount there, and so not by a link of the image either.
fn cve_2019_16884_by_link(test: &Test) {
    let volume = test.path("volume");
    test.make_dir(&volume);
    for (target, place) in [
        ("/proc", "/door"),
        ("/proc/self/attr", "/door"),
        ("proc", "/door/sys"),
    ] {
        let bundle = Bundle::new(test).args(&["exit", "0"]).mount(json!({
            "destination": place, "type": "bind", "source": volume, "options": ["bind"]
        }));
        bundle.link("door", target);
        let output = bundle.run();
        holds!(output.code != 0, "a link led to procfs: {target}");
        output.says(&["a symbolic link leads to the mount point"]);
        bundle.assert_nothing_left();
    }
}
