//! What a directory of the host brings into a container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL [RealRoot]: volume_node;
    RANGES []: volume_setuid, setuid_program;
}

fn with_volume<'t>(test: &'t Test, source: &Path) -> Bundle<'t> {
    let mount =
        json!({ "destination": "/var", "type": "none", "source": source, "options": ["bind"] });
    Bundle::new(test).mount(mount)
}

/// The probe again, as a program that runs as its owner.
fn setuid_copy(test: &Test, place: PathBuf) {
    let copied = fs::copy(&test.machine.probe, &place);
    assert!(copied.is_ok(), "{copied:?}");
    test.give(&place);
    let mode = fs::set_permissions(&place, fs::Permissions::from_mode(0o4755));
    assert!(mode.is_ok(), "{mode:?}");
}

/// A node that root of the host left there, or a container with CAP_MKNOD made.
fn volume_node(test: &Test) {
    let dir = test.path("volume");
    test.make_dir(&dir);
    let node = dir.join("null");
    let made = Command::new("mknod")
        .args(["-m", "666"])
        .arg(&node)
        .args(["c", "1", "3"])
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let open = |options: &[&str]| {
        let bundle = with_volume(test, &dir).args(&["try-open", "/var/null"]);
        let output = bundle.run_call(&[]).globally(options).output();
        output.text().to_owned()
    };
    let found = open(&[]);
    holds!(found == "EACCES", "a node of a volume: {found}");
    assert_eq!(open(&["--relax", "volumes"]), "ok");
}

/// A setuid program of a volume, where nothing but the mount is in its way.
fn volume_setuid(test: &Test) {
    let dir = test.path("volume");
    test.make_dir(&dir);
    setuid_copy(test, dir.join("setuid"));
    let uids = |options: &[&str]| {
        let bundle = with_volume(test, &dir)
            .raw_args(&["/var/setuid", "report"])
            .edit(|config| {
                config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
                config["process"]["noNewPrivileges"] = json!(false);
            });
        let output = bundle.run_call(&[]).globally(options).output();
        output.success().json()["uids"].clone()
    };
    let found = uids(&[]);
    holds!(found == json!([1000, 1000, 1000, 1000]), "{found}");
    assert_eq!(uids(&["--relax", "volumes"]), json!([1000, 0, 0, 0]));
}

/// A setuid program of the image, in a bundle that says nothing.
fn setuid_program(test: &Test) {
    let uids = |options: &[&str]| {
        let bundle = Bundle::new(test)
            .raw_args(&["/bin/setuid", "report"])
            .edit(|config| {
                config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
                let process = config["process"].as_object_mut();
                process.map(|process| process.remove("noNewPrivileges"));
            });
        setuid_copy(test, bundle.rootfs().join("bin/setuid"));
        let output = bundle.run_call(&[]).globally(options).output();
        output.success().json()["uids"].clone()
    };
    let found = uids(&[]);
    holds!(found == json!([1000, 1000, 1000, 1000]), "{found}");
    assert_eq!(uids(&["--relax", "no-new-privs"]), json!([1000, 0, 0, 0]));
}
