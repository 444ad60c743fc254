//! Namespaces, id maps, clocks.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Report;
use crate::roles::{Role, Test};

cases! {
    ALL []: all_are_new, missing_type_is_inherited, loopback_is_up, time_namespace, time_offsets_without_namespace,
        cgroup_namespace_hides_the_host, sysctl_in_own_network;
    RANGES []: given_maps, ownership_is_kept;
    ROOT []: join_by_path, join_pid_namespace, joined_namespace_outlives;
    ROOT [RealRoot]: a_caller_in_a_chroot;
    USERS []: join_user_namespace, called_as_root_of_a_user_namespace;
}

fn host(test: &Test) -> Value {
    test.probe(&["report"]).output().success().json()
}

fn all_are_new(test: &Test) {
    let host = host(test);
    let report = Bundle::new(test).report();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(
            report.at("/namespaces")[kind],
            host["namespaces"][kind],
            "{kind}"
        );
    }
    assert_eq!(report.at("/namespaces")["time"], host["namespaces"]["time"]);
}

fn missing_type_is_inherited(test: &Test) {
    let host = host(test);
    let report = Bundle::new(test)
        .without_namespace("ipc")
        .without_mount("/dev/mqueue")
        .report();
    assert_eq!(report.at("/namespaces")["ipc"], host["namespaces"]["ipc"]);
    // sysfs shows the network: with the host's it cannot be mounted afresh without privilege.
    let bundle = Bundle::new(test)
        .without_namespace("network")
        .without_mount("/sys/fs/cgroup")
        .without_mount("/sys");
    let report = bundle.report();
    assert_eq!(report.at("/namespaces")["net"], host["namespaces"]["net"]);
    let named = Bundle::new(test).without_namespace("uts").edit(|config| {
        config
            .as_object_mut()
            .and_then(|config| config.remove("hostname"));
    });
    assert_eq!(named.report().at("/hostname"), &host["hostname"]);
}

fn loopback_is_up(test: &Test) {
    Bundle::new(test)
        .report()
        .expect("/loopback_up", json!(true));
}

fn time_namespace(test: &Test) {
    let host = host(test);
    let bundle = Bundle::new(test).namespace(json!({ "type": "time" })).edit(|config| {
        config["linux"]["timeOffsets"] = json!({
            "monotonic": { "secs": 1_000_000, "nanosecs": 500 }, "boottime": { "secs": 2_000_000, "nanosecs": 0 }
        });
    });
    let report = bundle.report();
    assert_ne!(report.at("/namespaces")["time"], host["namespaces"]["time"]);
    for (clock, offset) in [("monotonic", 1_000_000.0), ("boottime", 2_000_000.0)] {
        let inside = report.0[clock].as_f64().unwrap_or(0.0);
        let outside = host[clock].as_f64().unwrap_or(0.0);
        let shift = inside - outside - offset;
        assert!(
            (0.0..60.0).contains(&shift),
            "{clock}: {inside} against {outside}"
        );
    }
}

fn time_offsets_without_namespace(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 10, "nanosecs": 0 } });
    });
    bundle.refused(&["timeOffsets"]);
}

fn cgroup_namespace_hides_the_host(test: &Test) {
    let report = Bundle::new(test).report();
    let text = report.at("/cgroup").as_str().unwrap_or_default().to_owned();
    assert!(text.lines().any(|line| line == "0::/"), "{text}");
    assert!(
        !text.contains("capsid-test"),
        "the host's path is visible: {text}"
    );
}

fn sysctl_in_own_network(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        config["linux"]["sysctl"] = json!({
            "net.ipv4.ip_unprivileged_port_start": "80", "net/ipv4/ip_forward": "1", "kernel.shm_rmid_forced": "1"
        });
    });
    let keys = [
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_forward",
        "kernel.shm_rmid_forced",
    ];
    let options: Vec<&str> = keys.iter().flat_map(|key| ["--sysctl", *key]).collect();
    let report = bundle.report_with(&options);
    for (key, value) in keys.iter().zip(["80", "1", "1"]) {
        assert_eq!(report.member("sysctl", key), value, "{key}");
    }
}

fn given_maps(test: &Test) {
    let first = test.machine.range.0;
    let (second, groups) = (first + 1000, first + 100);
    let (uids, gids) = (
        json!([{ "containerID": 0, "hostID": first, "size": 1000 }, { "containerID": 1000, "hostID": second, "size": 500 }]),
        json!([{ "containerID": 0, "hostID": groups, "size": 2000 }]),
    );
    let bundle = Bundle::new(test)
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            config["linux"]["uidMappings"] = uids;
            config["linux"]["gidMappings"] = gids;
        });
    // The files are the caller's, who is not in this map: they must be everyone's to read.
    let report = bundle.report();
    let words = |text: &Value| -> Vec<String> {
        text.as_str()
            .unwrap_or_default()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(
        words(report.at("/uid_map")),
        [format!("0 {first} 1000"), format!("1000 {second} 500")]
    );
    assert_eq!(words(report.at("/gid_map")), [format!("0 {groups} 2000")]);
    report.expect("/uids", json!([0, 0, 0, 0]));
}

/// The runtime changes no owner in the bundle, whatever it maps.
fn ownership_is_kept(test: &Test) {
    let bundle = Bundle::new(test).writable().args(&["exit", "0"]);
    let owners = || -> Vec<(String, u32, u32)> {
        let mut all: Vec<_> = fs::read_dir(bundle.rootfs())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                entry.metadata().ok().map(|meta| {
                    (
                        entry.file_name().to_string_lossy().into_owned(),
                        meta.uid(),
                        meta.gid(),
                    )
                })
            })
            .collect();
        all.sort();
        all
    };
    let before = owners();
    bundle.run().success();
    assert_eq!(owners(), before);
}

fn join_by_path(test: &Test) {
    let first = Bundle::new(test).args(&["sleep"]);
    let owner = first.ready();
    let inside = owner.exec_report(&[]);
    let mut second = Bundle::new(test);
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let path = format!("/proc/{}/ns/{file}", owner.pid());
        second = second
            .without_namespace(kind)
            .namespace(json!({ "type": kind, "path": path }));
    }
    let second = second.edit(|config| {
        config
            .as_object_mut()
            .and_then(|config| config.remove("hostname"));
    });
    let report = second.report();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(
            report.at("/namespaces")[kind],
            inside.at("/namespaces")[kind],
            "{kind}"
        );
    }
    report.expect("/hostname", json!("capsid-test"));
    owner.end();
}

fn join_pid_namespace(test: &Test) {
    let first = Bundle::new(test).args(&["sleep"]);
    let owner = first.ready();
    let path = format!("/proc/{}/ns/pid", owner.pid());
    let second = Bundle::new(test)
        .without_namespace("pid")
        .namespace(json!({ "type": "pid", "path": path }));
    let second = second.args(&["sleep"]);
    let member = second.ready();
    let inside = owner.exec(&[], &["ls", "/proc"]).success().json();
    let pids = inside
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| name.chars().all(|c| c.is_ascii_digit()))
        .count();
    // The first one, the joined one, and the one that lists.
    assert_eq!(pids, 3, "{inside}");
    assert_ne!(member.pid(), owner.pid());
    member.kill("KILL");
    member.wait_status("stopped");
    assert_eq!(
        owner.status(),
        "running",
        "the owner of the namespace died with its guest"
    );
    member.end();
    owner.end();
}

fn joined_namespace_outlives(test: &Test) {
    let first = Bundle::new(test).args(&["sleep"]);
    let owner = first.ready();
    let path = format!("/proc/{}/ns/net", owner.pid());
    let second = Bundle::new(test)
        .without_namespace("network")
        .namespace(json!({ "type": "network", "path": path }));
    second.args(&["exit", "0"]).run().success();
    owner.exec_report(&[]).expect("/loopback_up", json!(true));
    owner.end();
}

fn join_user_namespace(test: &Test) {
    let first = Bundle::new(test).args(&["sleep"]);
    let owner = first.ready();
    let pid = owner.pid();
    let inside = owner.exec_report(&[]);
    let mut second = Bundle::new(test)
        .without_namespace("user")
        .without_namespace("network");
    second = second.edit(|config| {
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("uidMappings");
            linux.remove("gidMappings");
        }
    });
    let second = second
        .namespace(json!({ "type": "user", "path": format!("/proc/{pid}/ns/user") }))
        .namespace(json!({ "type": "network", "path": format!("/proc/{pid}/ns/net") }));
    let report = second.report();
    for kind in ["user", "net"] {
        assert_eq!(
            report.at("/namespaces")[kind],
            inside.at("/namespaces")[kind],
            "{kind}"
        );
    }
    if test.role == Role::Single {
        report.expect("/uids", json!([0, 0, 0, 0]));
    }
    owner.end();
}

/// So podman calls for an ordinary user: root of its own user namespace, which
/// owns no cgroup and does not map group 5. The container goes without a cgroup.
fn called_as_root_of_a_user_namespace(test: &Test) {
    let bundle = Bundle::new(test)
        .without_namespace("user")
        .edit(|config| {
            let linux = config["linux"].as_object_mut();
            linux.map(|linux| (linux.remove("uidMappings"), linux.remove("gidMappings")));
            for mount in config["mounts"].as_array_mut().into_iter().flatten() {
                if let Some(options) = mount["options"].as_array_mut() {
                    options.retain(|option| option != "gid=5");
                }
            }
        })
        .args(&["report"]);
    let call = bundle.run_call(&[]);
    let inside = call.through(&["unshare", "--user", "--map-root-user"]);
    let report = Report(inside.output().success().json());
    report.expect("/uids", json!([0, 0, 0, 0]));
    let map = report
        .at("/uid_map")
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let words: Vec<_> = map.split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        words,
        ["0".to_owned(), test.who().uid.to_string(), "1".to_owned()]
    );
}

/// A mount of the host's own tree: there nothing but its place tells it from the root.
const IN_CHROOT: &str = "mount --rbind / \"$0\"; exec chroot \"$0\" \"$@\"";

fn a_caller_in_a_chroot(test: &Test) {
    let place = test.dir.join("chroot");
    test.make_dir(&place);
    let place = place.to_string_lossy();
    let before = ["unshare", "--mount", "/bin/sh", "-ec", IN_CHROOT, &*place];
    for (relaxed, flags) in [("userns", &[][..]), ("userns", &["--no-pivot"]), ("", &[])] {
        let bundle = Bundle::new(test).relax(relaxed);
        let output = bundle.run_call(flags).through(&before).output();
        output.failure().says(&[
            "capsid was called in a chroot",
            "the root of its mount namespace",
        ]);
        bundle.assert_nothing_left();
    }
    // From a tree of its own that is the namespace's root, nothing is refused.
    let pivot = IN_CHROOT.replace("chroot \"$0\"", "chroot /");
    let before = ["unshare", "--mount", "/bin/sh", "-ec", &*pivot, &*place];
    let bundle = Bundle::new(test).args(&["report"]);
    bundle.run_call(&[]).through(&before).output().success();
}
