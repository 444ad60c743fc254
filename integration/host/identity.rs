//! Users, groups, capabilities, and what stops a process from gaining more.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: capabilities_exact, inheritable_only_as_written, ambient_as_written,
        no_new_privileges_default, no_new_privileges_off, keyring_is_new,
        groups_empty, single_id_root;
    RANGES []: user_and_groups, user_without_capabilities, setuid_gains_nothing,
        ambient_for_user;
    USERS []: rootless_maps;
}

fn capabilities<'t>(test: &'t Test, sets: Value) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["process"]["capabilities"] = sets)
}

fn user<'t>(test: &'t Test, user: Value) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["process"]["user"] = user)
}

fn capabilities_exact(test: &Test) {
    let report = Bundle::new(test).report();
    // In the order of their numbers.
    let three = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"]);
    for set in ["bnd", "eff", "prm"] {
        report.expect(&format!("/capabilities/{set}"), three.clone());
    }
    report.expect("/capabilities/inh", json!([]));
    report.expect("/capabilities/amb", json!([]));
    let sets = json!({ "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": [] });
    let report = capabilities(test, sets).report();
    report.expect("/capabilities/bnd", json!(["CAP_CHOWN", "CAP_KILL"]));
}

/// CVE-2022-29162 and its twins: a non-empty inheritable set revives file capabilities.
fn inheritable_only_as_written(test: &Test) {
    let sets = json!({
        "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"]
    });
    capabilities(test, sets)
        .report()
        .expect("/capabilities/inh", json!(["CAP_KILL"]));
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for flags in [&[][..], &["--cap", "CAP_NET_RAW"]] {
        let report = container.exec_report(flags);
        report.expect("/capabilities/inh", json!([]));
        report.expect("/capabilities/amb", json!([]));
    }
    container.end();
}

fn ambient_as_written(test: &Test) {
    let sets = json!({
        "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
    });
    let report = capabilities(test, sets).report();
    for set in ["inh", "prm", "eff", "bnd", "amb"] {
        report.expect(&format!("/capabilities/{set}"), json!(["CAP_KILL"]));
    }
}

fn ambient_for_user(test: &Test) {
    let sets = json!({
        "bounding": ["CAP_NET_BIND_SERVICE"], "permitted": ["CAP_NET_BIND_SERVICE"],
        "inheritable": ["CAP_NET_BIND_SERVICE"], "ambient": ["CAP_NET_BIND_SERVICE"]
    });
    let bundle = capabilities(test, sets)
        .edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let report = bundle.report();
    report.expect("/uids", json!([1000, 1000, 1000, 1000]));
    report.expect("/capabilities/eff", json!(["CAP_NET_BIND_SERVICE"]));
}

fn no_new_privileges_default(test: &Test) {
    Bundle::new(test).report().expect("/no_new_privs", json!(1));
    let unsaid = Bundle::new(test).edit(|config| {
        config["process"]
            .as_object_mut()
            .and_then(|process| process.remove("noNewPrivileges"));
    });
    unsaid.report().expect("/no_new_privs", json!(1));
}

fn no_new_privileges_off(test: &Test) {
    let bundle =
        Bundle::new(test).edit(|config| config["process"]["noNewPrivileges"] = json!(false));
    bundle.report().expect("/no_new_privs", json!(0));
}

fn keyring_is_new(test: &Test) {
    // Readable only where the filter lets keyctl through.
    let open = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
    let bundle = Bundle::new(test).edit(|config| config["linux"]["seccomp"] = open);
    let own = test.probe(&["report"]).output().success().json()["session_keyring"].clone();
    let report = bundle.report();
    let inside = report.at("/session_keyring");
    assert!(
        inside.is_number() || inside["error"] == "EPERM" || inside["error"] == "ENOSYS",
        "{inside}"
    );
    assert_ne!(
        inside, &own,
        "the caller's session keyring is the container's"
    );
}

fn groups_empty(test: &Test) {
    let report = Bundle::new(test).report();
    let groups = report.at("/groups").as_array().cloned().unwrap_or_default();
    if test.role == crate::roles::Role::Single {
        // setgroups(2) is denied in a namespace of one id: the caller's own stay.
        assert!(
            groups.iter().all(|group| group == 0 || group == 65_534),
            "{groups:?}"
        );
        return;
    }
    assert!(groups.is_empty(), "{groups:?}");
}

fn single_id_root(test: &Test) {
    let report = Bundle::new(test).report();
    report.expect("/uids", json!([0, 0, 0, 0]));
    report.expect("/gids", json!([0, 0, 0, 0]));
}

fn user_and_groups(test: &Test) {
    let wanted = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 2000, 5] });
    let report = user(test, wanted).report();
    report.expect("/uids", json!([1000, 1000, 1000, 1000]));
    report.expect("/gids", json!([1001, 1001, 1001, 1001]));
    let mut groups: Vec<i64> = report
        .at("/groups")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_i64)
        .collect();
    groups.dedup();
    assert_eq!(groups, [5, 2000]);
}

fn user_without_capabilities(test: &Test) {
    let report = user(test, json!({ "uid": 1000, "gid": 1000 })).report();
    for set in ["prm", "eff", "inh", "amb"] {
        report.expect(&format!("/capabilities/{set}"), json!([]));
    }
    report.expect(
        "/capabilities/bnd",
        json!(["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"]),
    );
    assert!(report.at("/groups").as_array().is_some_and(Vec::is_empty));
}

fn setuid_gains_nothing(test: &Test) {
    use std::os::unix::fs::PermissionsExt;
    let bundle = user(test, json!({ "uid": 1000, "gid": 1000 }));
    let copy = bundle.rootfs().join("bin/suid");
    let copied = std::fs::copy(bundle.rootfs().join("bin/probe"), &copy);
    assert!(copied.is_ok(), "{copied:?}");
    test.give(&copy);
    let mode = std::fs::Permissions::from_mode(0o4755);
    assert!(std::fs::set_permissions(&copy, mode).is_ok());
    let output = bundle.raw_args(&["/bin/suid", "report"]).run().success();
    assert_eq!(output.json()["uids"], json!([1000, 1000, 1000, 1000]));
}

/// An unprivileged caller that names no user namespace gets one all the same.
fn rootless_maps(test: &Test) {
    let report = Bundle::new(test).report();
    let who = test.who();
    let map = report
        .at("/uid_map")
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let first: Vec<u64> = map
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(first.first(), Some(&0));
    assert!(
        first.get(1) == Some(&u64::from(who.uid)),
        "container root is the caller: {map}"
    );
    assert!(
        !map.lines()
            .any(|line| line.split_whitespace().nth(1) == Some("0")),
        "{map}"
    );
    if test.role == crate::roles::Role::Single {
        report.expect("/setgroups", json!("deny"));
        assert_eq!(map.lines().count(), 1);
    } else {
        let (start, count) = test.machine.range;
        assert!(
            map.contains(&start.to_string()) && map.contains(&count.to_string()),
            "{map}"
        );
    }
}
