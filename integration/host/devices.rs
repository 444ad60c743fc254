//! /dev: the default nodes, links, configured devices, and what may be opened.

use std::os::unix::fs::FileTypeExt;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::roles::Test;

cases! {
    ALL []: default_nodes, default_links, configured_device, device_outside_dev, device_type_mismatch,
        fifo_device, wrong_device_type, no_other_nodes, smuggled_node, dev_from_the_host, mknod_is_refused;
    RANGES []: device_owner_and_mode;
    ROOT []: device_filter_denies, device_filter_leaves_terminals, device_filter_allows,
        device_filter_and_mknod, device_filter_binds_exec;
}

const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

fn default_nodes(test: &Test) {
    let report = Bundle::new(test).report();
    for (name, major, minor) in NODES {
        let node = report.member("dev", &format!("/dev/{name}"));
        assert_eq!(node["type"], "char", "{name}: {node}");
        assert_eq!(
            (&node["major"], &node["minor"]),
            (&json!(major), &json!(minor)),
            "{name}"
        );
        assert_eq!(node["mode"], "0666", "{name}");
        // There is no controlling terminal to open.
        assert_eq!(
            node["open"],
            if name == "tty" { "ENXIO" } else { "ok" },
            "{name}"
        );
    }
}

fn default_links(test: &Test) {
    let report = Bundle::new(test).report();
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        assert_eq!(
            report.member("dev", &format!("/dev/{name}"))["link"],
            target,
            "{name}"
        );
    }
}

fn device(path: &str, kind: &str, major: u32, minor: u32) -> Value {
    json!({ "path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o666 })
}

fn with_device<'t>(test: &'t Test, device: Value) -> Bundle<'t> {
    Bundle::new(test).edit(|config| push(&mut config["linux"]["devices"], device))
}

/// Whether the caller's host has such a node that an unprivileged runtime could bind.
fn host_has(name: &str) -> bool {
    std::fs::metadata(name).is_ok_and(|meta| meta.file_type().is_char_device())
}

fn configured_device(test: &Test) {
    // The same numbers as /dev/zero, so that opening it is allowed everywhere.
    let report = with_device(test, device("/dev/zero", "c", 1, 5)).report();
    assert_eq!(report.member("dev", "/dev/zero")["open"], "ok");
    if host_has("/dev/fuse") {
        let report = with_device(test, device("/dev/fuse", "c", 10, 229)).report();
        let node = report.member("dev", "/dev/fuse");
        assert_eq!(
            (&node["major"], &node["minor"]),
            (&json!(10), &json!(229)),
            "{node}"
        );
    }
}

fn device_outside_dev(test: &Test) {
    let bundle = with_device(test, device("/run/inner/zero", "c", 1, 5)).writable();
    let bundle = if test.rootless() {
        // Without mknod a node is bound from the host, where it has its usual name.
        with_device(test, device("/dev/zero", "c", 1, 5))
    } else {
        bundle
    };
    let path = if test.rootless() {
        "/dev/zero"
    } else {
        "/run/inner/zero"
    };
    let report = bundle.report_with(&["--dev", path]);
    let node = report.member("dev", path);
    assert_eq!(
        (&node["major"], &node["minor"], &node["type"]),
        (&json!(1), &json!(5), &json!("char")),
        "{node}"
    );
}

fn device_type_mismatch(test: &Test) {
    // Something else stands there: an error, not a silent replacement.
    let bundle = with_device(test, device("/etc/passwd", "c", 1, 5));
    bundle.run().failure().says(&["/etc/passwd"]);
    bundle.assert_nothing_left();
}

fn fifo_device(test: &Test) {
    let fifo = json!({ "path": "/dev/pipe", "type": "p", "fileMode": 0o600 });
    let report = with_device(test, fifo).report();
    let node = report.member("dev", "/dev/pipe");
    assert_eq!(
        (&node["type"], &node["mode"]),
        (&json!("fifo"), &json!("0600")),
        "{node}"
    );
}

fn wrong_device_type(test: &Test) {
    let bundle = with_device(test, device("/dev/x", "z", 1, 5));
    bundle.refused(&["/linux/devices/0/type"]);
}

fn no_other_nodes(test: &Test) {
    let report = Bundle::new(test).report();
    let dev = report.at("/dev").as_object().cloned().unwrap_or_default();
    let extra: Vec<_> = dev
        .iter()
        .filter(|(_, node)| node["type"] == "char" || node["type"] == "block")
        .map(|(path, _)| path.as_str())
        .filter(|path| {
            !NODES
                .iter()
                .any(|(name, ..)| path.strip_prefix("/dev/") == Some(name))
        })
        .filter(|path| *path != "/dev/pts/ptmx")
        .collect();
    assert!(extra.is_empty(), "{extra:?}");
}

/// A node in the image must not open, whoever made it.
fn smuggled_node(test: &Test) {
    let dir = test.path("volume");
    test.make_dir(&dir);
    if test.machine.root && crate::machine::in_path("mknod").is_some() {
        let node = dir.join("null");
        let made = std::process::Command::new("mknod")
            .arg(&node)
            .args(["-m", "666", "c", "1", "3"])
            .status();
        assert!(made.is_ok_and(|status| status.success()));
        let volume =
            json!({ "destination": "/var", "type": "bind", "source": dir, "options": ["bind"] });
        let output = Bundle::new(test)
            .mount(volume)
            .run_probe(&["try-open", "/var/null"])
            .code(1);
        assert_eq!(output.text(), "EACCES", "volumes are nodev");
    }
}

fn mknod_is_refused(test: &Test) {
    for (kind, major, minor) in [("b", "8", "0"), ("c", "1", "1"), ("c", "1", "3")] {
        let bundle = Bundle::new(test)
            .writable()
            .args(&["mknod", "/dev/made", kind, major, minor]);
        let output = bundle.run().code(1);
        assert_eq!(output.text(), "EPERM", "{kind} {major}:{minor}");
    }
}

/// `/dev` bound from the host: nothing in it may be replaced.
fn dev_from_the_host(test: &Test) {
    let before = crate::escapes::listing(std::path::Path::new("/dev"));
    let bundle = Bundle::new(test)
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .mount(json!({ "destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rslave"] }));
    bundle.report();
    assert_eq!(
        crate::escapes::listing(std::path::Path::new("/dev")),
        before
    );
}

fn device_owner_and_mode(test: &Test) {
    let mut node =
        json!({ "path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 1000, "gid": 1001 });
    let report = with_device(test, node.clone()).report();
    let seen = report.member("dev", "/dev/pipe");
    assert_eq!(
        (&seen["uid"], &seen["gid"], &seen["mode"]),
        (&json!(1000), &json!(1001), &json!("0640")),
        "{seen}"
    );
    node["fileMode"] = json!(0o10_0640);
    let output = with_device(test, node).run_probe(&["exit", "0"]);
    assert!(
        output.code == 0 || output.stderr.contains("fileMode"),
        "{output:?}"
    );
}

/// The rule of `runc spec`.
fn deny_all() -> Value {
    json!({ "allow": false, "access": "rwm" })
}

fn with_rules<'t>(test: &'t Test, rules: &[Value]) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["linux"]["resources"] = json!({ "devices": rules }))
}

/// Nodes that an image brings: a device that nearly every kernel has, and a disk.
const SMUGGLED: [(&str, &str, u32, u32); 2] = [("fuse", "c", 10, 229), ("loop0", "b", 7, 0)];

/// Puts them into the root file system, open to everybody.
fn smuggle(bundle: &Bundle<'_>) {
    for (name, kind, major, minor) in SMUGGLED {
        let path = bundle.rootfs().join("home").join(name);
        let made = std::process::Command::new("mknod")
            .args(["-m", "666"])
            .arg(&path)
            .args([kind, &major.to_string(), &minor.to_string()])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "mknod {name}");
        // That the filter refuses it inside shows only where nothing else does.
        let opened = std::fs::File::open(&path).map_err(|error| error.raw_os_error());
        assert_ne!(opened.err(), Some(Some(libc::EPERM)), "{name} outside");
    }
}

/// The probe's words for opening a file with flags (0 reads, 1 writes, 2 does both).
fn open<'a>(path: &'a str, flags: &'a str) -> [&'a str; 5] {
    // -100 is AT_FDCWD.
    ["syscall", "openat", "-100", path, flags]
}

/// GHSA-g54h-m393-cpwq: rules allow, they do not deny; what none allows stays closed.
fn device_filter_denies(test: &Test) {
    let unsaid = Bundle::new(test);
    let empty = with_rules(test, &[]);
    // A node of the bundle's own is made, and opens only where a rule says so.
    let listed = with_rules(test, &[deny_all()]).edit(|config| {
        push(
            &mut config["linux"]["devices"],
            device("/dev/fuse", "c", 10, 229),
        );
    });
    for bundle in [unsaid, empty, with_rules(test, &[deny_all()]), listed] {
        smuggle(&bundle);
        let report = bundle.report_with(&["--dev", "/home/fuse", "--dev", "/home/loop0"]);
        for node in ["/home/fuse", "/home/loop0"] {
            assert_eq!(report.member("dev", node)["open"], "EPERM", "{node}");
        }
        let fuse = report.member("dev", "/dev/fuse");
        assert!(fuse.is_null() || fuse["open"] == "EPERM", "{fuse}");
        for (name, ..) in NODES {
            let open = &report.member("dev", &format!("/dev/{name}"))["open"];
            assert_eq!(open, if name == "tty" { "ENXIO" } else { "ok" }, "{name}");
        }
    }
}

/// Terminals work under the strictest rules.
fn device_filter_leaves_terminals(test: &Test) {
    for path in [
        "/dev/tty",
        "/dev/console",
        "/dev/pts/0",
        "/dev/ptmx",
        "/dev/pts/ptmx",
    ] {
        let bundle = with_rules(test, &[deny_all()])
            .edit(|config| config["process"]["terminal"] = json!(true))
            .args(&open(path, "2"));
        let probe = test.machine.probe.to_string_lossy().into_owned();
        let pty = [probe, "pty".into(), "24x80".into(), "--".into()];
        let output = bundle.run_call(&[]).through(&pty).output();
        assert!(output.stdout.contains("ok "), "{path}: {output:?}");
    }
}

fn device_filter_allows(test: &Test) {
    let fuse = |allow: bool, access: &str| json!({ "allow": allow, "type": "c", "major": 10, "minor": 229, "access": access });
    let all = json!({ "allow": true, "access": "rwm" });
    // Rules after the first, and whether reading, writing and both are refused.
    let cases = [
        (vec![fuse(true, "rw")], [false, false, false]),
        (vec![fuse(true, "r")], [false, true, true]),
        (
            vec![fuse(true, "rw"), fuse(false, "w")],
            [false, true, true],
        ),
        (vec![fuse(true, "rw"), deny_all()], [true, true, true]),
        (vec![all.clone()], [false, false, false]),
        (vec![all, fuse(false, "r")], [true, false, true]),
    ];
    for (rules, refused) in cases {
        for (flags, refused) in ["0", "1", "2"].into_iter().zip(refused) {
            let mut list = vec![deny_all()];
            list.extend(rules.iter().cloned());
            let bundle = with_rules(test, &list).args(&open("/home/fuse", flags));
            smuggle(&bundle);
            let output = bundle.run();
            // A kernel without the module says ENXIO or ENODEV.
            let said = output.text();
            assert_eq!(said == "EPERM", refused, "{flags}: {said} under {list:?}");
        }
    }
}

fn device_filter_and_mknod(test: &Test) {
    let node = json!({ "allow": true, "type": "b", "major": 7, "minor": 0, "access": "m" });
    for (kind, major, minor, word) in [
        ("c", "1", "3", "ok 0"),
        // Of a disk, of the machine's memory, of what a rule allows.
        ("b", "8", "0", "EPERM"),
        ("c", "1", "1", "EPERM"),
        ("b", "7", "0", "ok 0"),
    ] {
        // In a user namespace nobody makes device nodes.
        let bundle = with_rules(test, &[deny_all(), node.clone()])
            .relax("userns")
            .writable()
            .edit(|config| {
                for set in ["bounding", "effective", "permitted"] {
                    push(
                        &mut config["process"]["capabilities"][set],
                        json!("CAP_MKNOD"),
                    );
                }
            })
            .args(&["mknod", "/home/made", kind, major, minor]);
        assert_eq!(bundle.run().text(), word, "{kind} {major}:{minor}");
    }
}

fn device_filter_binds_exec(test: &Test) {
    let bundle = with_rules(test, &[deny_all()]).args(&["sleep"]);
    smuggle(&bundle);
    let container = bundle.ready();
    for path in ["/home/fuse", "/home/loop0"] {
        assert_eq!(
            container.exec(&[], &open(path, "0")).text(),
            "EPERM",
            "{path}"
        );
    }
    let output = container.exec(
        &["--cap", "CAP_MKNOD"],
        &["mknod", "/dev/made", "b", "8", "0"],
    );
    assert_eq!(output.text(), "EPERM");
    container.exec(&[], &open("/dev/null", "2")).code(0);
    container.end();
}
