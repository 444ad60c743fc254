//! The names and properties of scopes: what a bundle says about them.

use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::controllers::until;
use crate::roles::Test;
use crate::units::{Unit, bundle, log_in, usual_slice};

cases! {
    RANGES [Systemd]: slices_and_names, names_are_taken_once, a_failed_unit_is_no_obstacle, annotations,
        annotations_refused;
}

/// `linux.cgroupsPath` is slice, prefix and name.
fn slices_and_names(test: &Test) {
    log_in(test);
    let named =
        |path: &str| bundle(test).edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    for (path, slice, below, name) in [
        (
            "capsidtest-inner.slice:box:one",
            "capsidtest-inner.slice",
            "capsidtest.slice/capsidtest-inner.slice",
            "box-one.scope",
        ),
        (
            ":box:two",
            usual_slice(test),
            usual_slice(test),
            "box-two.scope",
        ),
        (
            "capsidtest.slice::three",
            "capsidtest.slice",
            "capsidtest.slice",
            "three.scope",
        ),
    ] {
        let bundle = named(path).args(&["sleep"]);
        let container = bundle.ready();
        let unit = Unit::named(test, name);
        assert_eq!(unit.property("Slice"), slice, "{path}");
        let cgroup = unit.cgroup();
        let end = Path::new(below).join(name);
        assert!(cgroup.ends_with(end), "{path}: {}", cgroup.display());
        assert!(unit.processes().contains(&container.pid()), "{path}");
        container.end();
        unit.assert_gone(&cgroup);
    }
    for (path, word) in [
        ("/one/two", "slice:prefix:name"),
        ("one:two", "slice:prefix:name"),
        ("one:two:three", "\"one\" is not the name of a slice"),
        ("a--b.slice:box:name", "not the name of a slice"),
        ("system.slice:box:a/b", "may not be in the name of a unit"),
    ] {
        named(path).refused(&["/linux/cgroupsPath", word]);
    }
    // An empty slice stays with systemd.
    for slice in ["capsidtest-inner.slice", "capsidtest.slice"] {
        Unit::named(test, slice).systemctl(&["stop", slice]).ok();
    }
}

/// Whoever comes second is refused, and the first is left alone.
fn names_are_taken_once(test: &Test) {
    log_in(test);
    let named = || bundle(test).edit(|config| config["linux"]["cgroupsPath"] = json!(":box:taken"));
    let first = named().args(&["sleep"]);
    let running = first.ready();
    let unit = Unit::named(test, "box-taken.scope");
    let before = unit.processes();
    let second = named().args(&["sleep"]);
    second.refused(&["box-taken.scope", "is not empty", "linux.cgroupsPath"]);
    assert_eq!(unit.processes(), before);
    assert_eq!(running.status(), "running");
    let cgroup = unit.cgroup();
    running.end();
    unit.assert_gone(&cgroup);
}

/// A unit that failed keeps its name until somebody resets it.
fn a_failed_unit_is_no_obstacle(test: &Test) {
    log_in(test);
    let bundle = bundle(test);
    let unit = Unit::of(&bundle);
    let name = format!("--unit={}", unit.name);
    let mut words = vec!["systemd-run", "--quiet", "--scope", &name];
    if test.rootless() {
        words.push("--user");
    }
    words.extend_from_slice(&["--property=RuntimeMaxSec=1", "sleep", "60"]);
    test.command(&words).output().failure();
    until("the unit fails", || {
        unit.property("ActiveState") == "failed"
    });
    bundle.run_probe(&["exit", "7"]).code(7);
    assert!(!unit.is_known(), "{}", unit.property("ActiveState"));
}

/// A bundle with these annotations.
pub(crate) fn annotated<'t>(test: &'t Test, annotations: &Value) -> Bundle<'t> {
    let annotations = annotations.clone();
    bundle(test).edit(|config| config["annotations"] = annotations)
}

fn annotations(test: &Test) {
    log_in(test);
    let bundle = annotated(
        test,
        &json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.After": "['capsid-test-none.target']",
            "org.example.other": "not for systemd"
        }),
    )
    .args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    assert_eq!(unit.property("TimeoutStopUSec"), "7s");
    assert_eq!(unit.property("CollectMode"), "inactive-or-failed");
    let after = unit.property("After");
    assert!(after.contains("capsid-test-none.target"), "{after}");
    let cgroup = unit.cgroup();
    container.end();
    unit.assert_gone(&cgroup);
}

/// CVE-2024-3154: properties name commands that systemd would run.
fn annotations_refused(test: &Test) {
    log_in(test);
    for (name, value) in [
        (
            "ExecStopPost",
            "[('/bin/sh', ['sh', '-c', 'id >/run/pwned'], false)]",
        ),
        ("Delegate", "false"),
        ("TimeoutStopUSec", "'soon'"),
    ] {
        let key = format!("org.systemd.property.{name}");
        let bundle = annotated(test, &json!({ key.as_str(): value }));
        bundle.refused(&["/annotations/org.systemd.property.", name]);
        assert!(!Unit::of(&bundle).is_known(), "{name}");
    }
}
