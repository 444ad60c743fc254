//! Names and values of a bundle that lead out of where they belong.

use std::fs;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::escapes::{listing, outside};
use crate::roles::Test;

cases! {
    ALL []: cve_2022_0811, cve_2021_43784, ids_that_lead_out, annotations_of_engines,
        cve_2025_52881;
    ROOT []: cve_2022_0492;
}

/// A parameter of the host, or more than one value in one.
fn cve_2022_0811(test: &Test) {
    let read = |file: &str| {
        fs::read_to_string(file)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    // With the value that it has: this test must not be the one to change it.
    let pattern = read("/proc/sys/kernel/core_pattern");
    let panic = read("/proc/sys/vm/panic_on_oom");
    for (key, value) in [
        ("kernel.core_pattern", &*pattern),
        ("kernel/core_pattern", &pattern),
        ("vm.panic_on_oom", &panic),
        ("net/../kernel/core_pattern", &pattern),
        ("net.ipv4.ip_forward", "0\n1"),
        ("net.ipv4.ip_forward+net.ipv4.ip_default_ttl", "0"),
        ("net.ipv4.ip_forward\0", "0"),
    ] {
        let bundle =
            Bundle::new(test).edit(|config| config["linux"]["sysctl"] = json!({ key: value }));
        let output = bundle.run_probe(&["exit", "0"]);
        holds!(output.code != 0, "{key:?} was set to {value:?}");
    }
    let host = Bundle::new(test)
        .without_namespace("network")
        .edit(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "0" }));
    let output = host.run_probe(&["exit", "0"]);
    holds!(output.code != 0, "the host's network was configured");
}

/// A length that does not fit into the message that carries it.
fn cve_2021_43784(test: &Test) {
    for length in [65_534, 65_535, 65_536, 65_537, 131_072] {
        let path = format!("/{}", "d".repeat(length - 1));
        let namespace = json!({ "type": "network", "path": path });
        let bundle = Bundle::new(test)
            .without_namespace("network")
            .namespace(namespace)
            .args(&["exit", "0"]);
        let output = bundle.run();
        holds!(output.code != 0, "a path of {length} bytes was joined");
        bundle.assert_nothing_left();
        let annotated = Bundle::new(test)
            .edit(|config| config["annotations"] = json!({ "x": path }))
            .args(&["report"]);
        let report = annotated.run();
        let own = &report.json()["namespaces"]["pid"];
        assert!(report.code == 0 && !own.is_null(), "{own}");
    }
}

/// A container whose name is a path.
fn ids_that_lead_out(test: &Test) {
    let outside = outside(test);
    let state = test.state_root();
    let up = "../".repeat(12);
    let before = listing(&outside);
    for id in [
        format!("{up}{}/made", &outside.display().to_string()[1..]),
        outside.join("made").display().to_string(),
        "../made-by-an-id".to_owned(),
        "..".to_owned(),
    ] {
        let mut bundle = Bundle::new(test).args(&["exit", "0"]);
        bundle.save();
        let good = std::mem::replace(&mut bundle.id, id.clone());
        let output = bundle.run();
        holds!(output.code != 0, "{id} was run");
        test.capsid(&["delete", "--force", &id]).output();
        bundle.id = good;
        holds!(listing(&outside) == before, "{id}: the host changed");
        let beside = state.with_file_name("made-by-an-id");
        holds!(!beside.exists(), "{id}: made beside the state directory");
    }
    holds!(state.is_dir(), "the state directory was deleted");
}

/// Annotations are written by whoever wrote the manifest: they configure nothing that
/// is not listed (CVE-2024-3154, CVE-2026-53488). Each comes on its own: one that is
/// refused must not hide what another does.
fn annotations_of_engines(test: &Test) {
    let outside = outside(test);
    let file = outside.join("by-annotation").display().to_string();
    let log = format!("binary:///bin/touch?{file}");
    let stop = format!("[('/bin/touch', ['touch', '{file}'], false)]");
    let before = listing(&outside);
    for (name, value) in [
        ("io.containerd.log", &*log),
        ("run.oci.handler", "krun"),
        ("run.oci.hooks.stderr", &file),
        ("run.oci.hooks.stdout", &file),
        ("run.oci.keep_original_groups", "1"),
        ("run.oci.mount_context_type", "context"),
        ("org.systemd.property.ExecStopPost", &stop),
        ("io.kubernetes.cri-o.userns-mode", "host"),
    ] {
        let bundle = Bundle::new(test)
            .args(&["report"])
            .edit(|config| config["annotations"] = json!({ name: value }));
        let output = bundle.run();
        holds!(listing(&outside) == before, "{name} made a file");
        // Refused, or without any effect.
        if output.code == 0 && test.role != crate::roles::Role::Single {
            let groups = output.json()["groups"].clone();
            holds!(
                groups == json!([]),
                "{name}: groups of the caller: {groups}"
            );
        }
        bundle.assert_nothing_left();
    }
}

/// Something is mounted over the file that the runtime is about to write.
fn cve_2025_52881(test: &Test) {
    const FILE: &str = "sys/net/ipv4/ip_unprivileged_port_start";
    for (place, expected) in [("proc", "9"), ("var/proc", "77")] {
        let bundle = Bundle::new(test).mount(json!({
            "destination": "/var/proc", "type": "proc", "source": "proc"
        }));
        let covered = bundle.rootfs().join("proc/sys/net/ipv4");
        let covered = covered.display();
        // Who wins the race: here a hook, which cannot lose it.
        let script =
            format!("mount -t tmpfs x {covered} && echo 9 >{covered}/ip_unprivileged_port_start");
        let bundle = bundle
            .edit(|config| {
                config["hooks"] = json!({ "createContainer": [{
                    "path": "/bin/sh", "args": ["sh", "-c", script],
                    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
                }] });
                config["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "77" });
            })
            .args(&["cat", &format!("/{place}/{FILE}")]);
        let output = bundle.run().success();
        holds!(
            output.text() == expected,
            "a false file was written, and not the kernel's: {output:?}"
        );
    }
}

/// A hierarchy of the first version: its release_agent is a program that the host runs.
fn cve_2022_0492(test: &Test) {
    // One that this machine has: mounting it once more changes nothing.
    let hierarchies = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = hierarchies
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .find(|name| !name.is_empty() && !name.starts_with("name="));
    let call = format!("mount none /tmp cgroup 0 {}", own.unwrap_or("rdma"));
    let mounted = |capability: &str| {
        let bundle = Bundle::new(test).edit(|config| {
            for name in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][name] = json!([capability]);
            }
        });
        let calls = ["calls", "unshare 0x10000000", "unshare 0x2020000", &call];
        bundle.args(&calls).run().stdout.ends_with("ok 0\n")
    };
    holds!(!mounted("CAP_KILL"), "a cgroup hierarchy was mounted");
    // Without one on the machine nothing can be mounted by anyone.
    if own.is_some() {
        assert!(mounted("CAP_SYS_ADMIN"), "the attack is none");
    }
}
