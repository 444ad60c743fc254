//! Users, groups and capabilities that the container must not have.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Report;
use crate::roles::{Role, Test};

cases! {
    ALL []: absent_capabilities, cve_2022_29162;
    RANGES []: cve_2016_3697, cve_2026_30892, cve_2024_40635, cve_2022_36109;
    ROOT []: host_root_in_a_map, cve_2018_18955;
}

/// runc leaves the full bounding set when nothing is said.
fn absent_capabilities(test: &Test) {
    for listed in [Value::Null, json!({})] {
        let bundle = Bundle::new(test).edit(|config| {
            config["process"]["capabilities"] = listed.clone();
            if let (Value::Null, Some(process)) = (&listed, config["process"].as_object_mut()) {
                process.remove("capabilities");
            }
        });
        let report = bundle.report();
        for set in ["inh", "prm", "eff", "bnd", "amb"] {
            let has = report.at(&format!("/capabilities/{set}"));
            holds!(has == &json!([]), "nothing was listed, and {set} has {has}");
        }
    }
}

/// A non-empty inheritable set gives a program with file capabilities more than its user has.
fn cve_2022_29162(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let execs = [&[][..], &["--cap", "CAP_NET_RAW"]].map(|flags| container.exec_report(flags));
    for report in [Bundle::new(test).report()].iter().chain(&execs) {
        for set in ["inh", "amb"] {
            let has = report.at(&format!("/capabilities/{set}"));
            holds!(has == &json!([]), "{set} has {has}");
        }
    }
    container.end();
}

/// A number is a number, and not a name of the image's /etc/passwd.
fn cve_2016_3697(test: &Test) {
    let lines = "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n";
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    bundle.file("etc/passwd", lines);
    // A file that would fill the memory of whoever reads it (CVE-2026-47262).
    let group = bundle.file("etc/group", "x:x:0:\n");
    let long = fs::File::options().write(true).open(group);
    let long = long.and_then(|file| file.set_len(1 << 40));
    assert!(long.is_ok(), "{long:?}");
    let container = bundle.ready();
    let status = container.exec(&["--user", "0"], &["cat", "/proc/1/status"]);
    let first = |name: &str| {
        let mut lines = status.stdout.lines();
        let line = lines.find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok())
    };
    for name in ["Uid:", "Gid:"] {
        let id = first(name);
        holds!(id == Some(1000), "user 1000 became {name} {id:?}");
    }
    let report = container.exec_report(&["--user", "1000"]);
    let uids = report.at("/uids");
    holds!(uids == &json!([1000, 1000, 1000, 1000]), "{uids}");
    container.end();
}

/// A user that cannot be read must not become root.
fn cve_2026_30892(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for (user, uid, gid) in [("1", 1, 0), ("1:2", 1, 2), ("0:7", 0, 7)] {
        let report = container.exec_report(&["--user", user]);
        let ids = (report.at("/uids/0"), report.at("/gids/0"));
        holds!(
            ids == (&json!(uid), &json!(gid)),
            "--user {user} became {ids:?}"
        );
    }
    for user in [
        "",
        ":",
        "1:",
        ":1",
        "-1",
        "4294967295",
        "4294967296",
        "18446744073709551617",
        "1x",
        "1:x",
        "root",
    ] {
        let output = container.exec(&["--user", user], &["report"]);
        holds!(output.code != 0, "--user {user:?} was somebody: {output:?}");
    }
    container.end();
}

/// A number that wraps around, and one that nobody is mapped to.
fn cve_2024_40635(test: &Test) {
    for uid in [
        json!(4_294_967_295_u32),
        json!(4_294_967_296_u64),
        json!(-1),
        json!(4_294_967_294_u32),
    ] {
        for kind in ["uid", "gid"] {
            let bundle = Bundle::new(test)
                .edit(|config| config["process"]["user"][kind] = uid.clone())
                .args(&["report"]);
            let output = bundle.run();
            let ids = if output.code == 0 {
                output.json()[format!("{kind}s")].clone()
            } else {
                Value::Null
            };
            holds!(ids.is_null() || ids[0] == uid, "{kind} {uid} became {ids}");
            bundle.assert_nothing_left();
        }
    }
}

/// A group may also take rights away: whoever is in it must be so inside, and in no other.
fn cve_2022_36109(test: &Test) {
    let bundle = Bundle::new(test)
        .args(&["report", "--peek", "/etc/closed"])
        .edit(|config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5] });
        });
    let closed = bundle.file("etc/closed", "not for group 5");
    // Group 5 as it is outside.
    let outside = match test.role {
        Role::Root => 5,
        _ => test.machine.range.0 + 4,
    };
    let owned = chown(&closed, None, Some(outside));
    assert!(owned.is_ok(), "{owned:?}");
    let mode = fs::set_permissions(&closed, Permissions::from_mode(0o707));
    assert!(mode.is_ok(), "{mode:?}");
    let call = bundle.run_call(&[]);
    let call = match (test.role, crate::machine::in_path("setpriv")) {
        (Role::Root, Some(_)) => call.through(&["setpriv", "--groups", "4,27,100"]),
        _ => call,
    };
    let report = Report(call.output().success().json());
    let groups = report.at("/groups");
    holds!(
        groups == &json!([5]),
        "groups of the caller came along: {groups}"
    );
    let peek = report.member("peek", "/etc/closed");
    holds!(peek == "EACCES", "group 5 was lost: {peek}");
}

/// A bundle of root with a user namespace.
fn mapped<'t>(test: &'t Test, map: &Value) -> Bundle<'t> {
    Bundle::new(test)
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map.clone();
        })
}

/// Who is id 0 of the host may write files of /proc/sys, in any user namespace.
fn host_root_in_a_map(test: &Test) {
    let open = |options: &[&str]| {
        let map = json!([
            { "containerID": 0, "hostID": test.machine.range.0, "size": 1000 },
            { "containerID": 1000, "hostID": 0, "size": 1 }
        ]);
        let bundle = mapped(test, &map).edit(|config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["linux"]["readonlyPaths"] = json!([]);
        });
        // Nothing is written: append opens, and the text is empty.
        let bundle = bundle.args(&["append", "/proc/sys/kernel/core_pattern", ""]);
        let output = bundle.run_call(&[]).globally(options).output();
        bundle.assert_nothing_left();
        output.code == 0 && output.text() == "ok"
    };
    holds!(!open(&[]), "core_pattern can be opened for writing");
    assert!(open(&["--relax", "host-root-map"]), "the attack is none");
}

/// With a user namespace of its own a program has every capability there, and maps of many lines.
fn cve_2018_18955(test: &Test) {
    let made = |options: &[&str]| {
        let map = json!([{ "containerID": 0, "hostID": test.machine.range.0, "size": 1000 }]);
        let bundle = mapped(test, &map).args(&["syscall", "unshare", "0x10000000"]);
        let output = bundle.run_call(&[]).globally(options).output();
        output.text() == "ok 0"
    };
    holds!(!made(&[]), "a user namespace inside");
    let filters = "seccomp-default,seccomp-floor";
    holds!(!made(&["--relax", filters]), "a user namespace inside");
    let all = format!("{filters},nested-userns");
    assert!(made(&["--relax", &all]), "the attack is none");
}
