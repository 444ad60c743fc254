//! The kernel's own file systems in a container, and what covers them.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::mounts::{bind, source};
use crate::roles::Test;

cases! {
    ALL []: proc_is_own, over_proc_is_refused, over_proc_allowed_files, masks, read_only_paths, masks_absent_means_default, cgroup_mount, sysfs_is_read_only, mqueue_and_shm, locked_flags_are_kept, nothing_from_the_host;
}

fn proc_is_own(test: &Test) {
    let output = Bundle::new(test).run_probe(&["ls", "/proc"]).success();
    let pids: Vec<_> = output
        .json()
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| name.chars().all(|c| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    assert_eq!(pids, ["1"]);
}

/// CVE-2019-16884: a label written to a fake attr file is no label.
fn over_proc_is_refused(test: &Test) {
    let dir = source(test, "dir");
    for destination in [
        "/proc",
        "/proc/self",
        "/proc/sys",
        "/proc/self/attr",
        "/proc/../proc/sys/kernel",
    ] {
        let bundle = Bundle::new(test).mount(bind(&dir, destination, &["bind"]));
        bundle.run().failure().says(&["/proc"]);
        bundle.assert_nothing_left();
    }
    let tmpfs = json!({ "destination": "/proc/scsi", "type": "tmpfs", "source": "tmpfs" });
    Bundle::new(test).mount(tmpfs).run().failure();
}

fn over_proc_allowed_files(test: &Test) {
    let file = source(test, "dir").join("file");
    for destination in [
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/uptime",
        "/proc/loadavg",
    ] {
        let output = Bundle::new(test)
            .mount(bind(&file, destination, &["bind", "ro"]))
            .run_probe(&["cat", destination]);
        assert_eq!(output.success().stdout, "content of the host");
    }
}

fn masks(test: &Test) {
    let peeks = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/sys/firmware",
        "/proc/acpi",
        "/proc/scsi",
    ];
    let options: Vec<&str> = peeks.iter().flat_map(|path| ["--peek", *path]).collect();
    let report = Bundle::new(test).report_with(&options);
    for path in peeks {
        let seen = report.member("peek", path);
        let empty = seen["dir"] == 0 || seen["bytes"] == 0;
        assert!(
            empty || seen == "ENOENT" || seen == "EACCES" || seen == "ENXIO",
            "{path}: {seen}"
        );
    }
}

fn read_only_paths(test: &Test) {
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger"] {
        let output = Bundle::new(test).run_probe(&["write", path, "x"]).code(1);
        assert!(
            ["EROFS", "EACCES", "EPERM", "ENOENT"].contains(&output.text()),
            "{path}: {}",
            output.text()
        );
    }
    let bundle = Bundle::new(test)
        .writable()
        .edit(|config| config["linux"]["readonlyPaths"] = json!(["/etc", "/not/there"]));
    assert_eq!(
        bundle.run_probe(&["write", "/etc/new", "x"]).code(1).text(),
        "EROFS"
    );
}

fn masks_absent_means_default(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        let linux = config["linux"].as_object_mut();
        linux.map(|linux| (linux.remove("maskedPaths"), linux.remove("readonlyPaths")));
    });
    let report = bundle.report_with(&[
        "--peek",
        "/proc/kcore",
        "--peek",
        "/proc/sys/kernel/hostname",
    ]);
    let kcore = report.member("peek", "/proc/kcore");
    assert!(
        kcore["bytes"] == 0 || kcore == "ENOENT" || kcore == "EACCES",
        "{kcore}"
    );
    let sysctl = &report.member("peek", "/proc/sys/kernel/hostname")["write"];
    assert!(sysctl == "EROFS" || sysctl == "EACCES", "{sysctl}");
}

fn cgroup_mount(test: &Test) {
    let report = Bundle::new(test).report();
    let mount = report.mount("/sys/fs/cgroup");
    assert_eq!(mount["fstype"], "cgroup2", "{mount}");
    assert!(report.has_option("/sys/fs/cgroup", "ro"), "{mount}");
    assert_eq!(
        report
            .at("/cgroup")
            .as_str()
            .and_then(|text| text.lines().last()),
        Some("0::/")
    );
    let output = Bundle::new(test)
        .run_probe(&["mkdir", "/sys/fs/cgroup/x"])
        .code(1);
    assert!(
        ["EROFS", "EACCES"].contains(&output.text()),
        "{}",
        output.text()
    );
}

fn sysfs_is_read_only(test: &Test) {
    let report = Bundle::new(test).report();
    assert_eq!(report.mount("/sys")["fstype"], "sysfs");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(report.has_option("/sys", option), "{option}");
    }
}

fn mqueue_and_shm(test: &Test) {
    let report = Bundle::new(test).report();
    assert_eq!(report.mount("/dev/mqueue")["fstype"], "mqueue");
    assert_eq!(report.mount("/dev/pts")["fstype"], "devpts");
    assert!(report.has_option("/dev/shm", "noexec"));
    assert!(
        report.has_option("/dev/pts", "ptmxmode=666"),
        "{}",
        report.mount("/dev/pts")
    );
    let output = Bundle::new(test)
        .run_probe(&["write", "/dev/shm/x", "x"])
        .success();
    assert_eq!(output.text(), "ok");
}

/// In a user namespace, flags of the source are locked: a remount must keep them.
fn locked_flags_are_kept(test: &Test) {
    let report = Bundle::new(test).mount(json!({
        "destination": "/var", "type": "bind", "source": "/proc/sys/kernel", "options": ["bind", "ro"]
    }));
    let report = report.report();
    assert!(report.has_option("/var", "ro"));
}

fn nothing_from_the_host(test: &Test) {
    let report = Bundle::new(test).report();
    let points: Vec<_> = report
        .at("/mounts")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["point"].as_str())
        .collect();
    let known = ["/", "/proc", "/dev", "/sys"];
    let foreign: Vec<_> = points
        .iter()
        .filter(|point| {
            !known.iter().any(|known| {
                *point == known || (*known != "/" && point.starts_with(&format!("{known}/")))
            })
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}
