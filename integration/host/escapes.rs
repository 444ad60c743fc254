//! Known ways out: hostile images and bundles against the runtime. Each must
//! fail, and leave everything outside the container as it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: cwd_through_descriptors, program_through_descriptors, linked_dev, linked_proc_and_sys,
        null_link, masking_with_a_false_null, every_directory_a_link, working_directory_link,
        runtime_binary_is_untouchable, created_process_is_closed, cgroup_of_others, raw_kernel_files,
        mount_point_links_at_every_level, mount_point_link_to_procfs;
}

/// Names, sizes and kinds of everything directly in a directory.
pub(crate) fn listing(dir: &Path) -> Vec<(String, u64, bool)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let meta = entry.path().symlink_metadata().ok()?;
            let size = if meta.is_file() { meta.len() } else { 0 };
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                size,
                meta.file_type().is_symlink(),
            ))
        })
        .collect();
    all.sort();
    all
}

/// A directory of the host with a file that nobody inside may read or change.
fn outside(test: &Test) -> PathBuf {
    let dir = test.path("outside");
    test.make_dir(&dir);
    test.make_file(&dir.join("canary"), "secret of the host");
    dir
}

/// Runs it, insists that the directory stays as it was; the output comes back.
#[track_caller]
fn untouched(bundle: &Bundle, dir: &Path) -> crate::runtime::Output {
    let before = listing(dir);
    let output = bundle.run();
    assert_eq!(listing(dir), before, "{} changed", dir.display());
    assert!(
        !output.stdout.contains("secret of the host"),
        "the canary was read: {output:?}"
    );
    bundle.assert_nothing_left();
    output
}

/// CVE-2024-21626.
fn cwd_through_descriptors(test: &Test) {
    let script = "exec 3</ 4</ 5</ 6</ 7</ 8</ 9</";
    for fd in 3..24 {
        for cwd in [
            format!("/proc/self/fd/{fd}"),
            format!("/proc/self/fd/{fd}/../.."),
            "/var/door".to_owned(),
        ] {
            let bundle = Bundle::new(test)
                .args(&["report"])
                .edit(|config| config["process"]["cwd"] = json!(cwd));
            bundle.link("var/door", format!("/proc/self/fd/{fd}"));
            bundle
                .run_call(&[])
                .through_shell(script)
                .output()
                .failure();
            bundle.assert_nothing_left();
        }
    }
}

fn program_through_descriptors(test: &Test) {
    for fd in 3..16 {
        let program = format!("/proc/self/fd/{fd}/bin/sh");
        let bundle = Bundle::new(test).raw_args(&[&program, "-c", "exit 0"]);
        bundle
            .run_call(&[])
            .through_shell("exec 3</ 4</ 5</ 6</ 7</")
            .output()
            .failure();
    }
    let bundle = Bundle::new(test).raw_args(&["/proc/self/exe", "--version"]);
    let output = bundle.run();
    assert!(
        !output.stdout.contains("spec:"),
        "the runtime's own binary ran inside: {output:?}"
    );
    bundle.program("bin/self", "#!/proc/self/exe\n");
    let bundle = bundle.raw_args(&["/bin/self"]);
    assert_ne!(bundle.run().code, 0);
}

/// CVE-2026-41579, CVE-2026-47766: what the runtime makes in /dev.
fn linked_dev(test: &Test) {
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
fn linked_proc_and_sys(test: &Test) {
    let outside = outside(test);
    for name in ["proc", "sys"] {
        for target in [outside.clone(), PathBuf::from("/var"), PathBuf::from("var")] {
            let bundle = Bundle::new(test).args(&["exit", "0"]);
            bundle.link(name, &target);
            untouched(&bundle, &outside)
                .failure()
                .says(&[&format!("/{name}")]);
        }
    }
}

/// CVE-2026-88265: the null device of the image, nothing mounted on /dev.
fn null_link(test: &Test) {
    let outside = outside(test);
    let mut bundle = Bundle::new(test).args(&["cat", "/dev/stdin"]);
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

/// CVE-2025-31133: a mask is an object the runtime made, not what the image calls null.
fn masking_with_a_false_null(test: &Test) {
    let outside = outside(test);
    let dev = test.path("false-dev");
    test.make_dir(&dev);
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap_or_default();
    for absent in [false, true] {
        if !absent {
            let made =
                std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", dev.join("null"));
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
            .args(&["report", "--peek", "/proc/kcore"]);
        let output = untouched(&bundle, &outside);
        if output.code == 0 {
            let report = output.json();
            let kcore = &report["peek"]["/proc/kcore"];
            assert!(
                kcore["bytes"] == 0 || kcore == "ENOENT" || kcore == "EACCES",
                "{kcore}"
            );
        }
        let _ = fs::remove_file(dev.join("null"));
    }
    assert_eq!(
        fs::read("/proc/sys/kernel/core_pattern").unwrap_or_default(),
        pattern
    );
}

/// Every path that a runtime may create, as a link to the host (CVE-2025-24965 class).
fn every_directory_a_link(test: &Test) {
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
fn working_directory_link(test: &Test) {
    let outside = outside(test);
    let bundle = Bundle::new(test).writable().args(&["exit", "0"]);
    bundle.link("door", &outside);
    let bundle = bundle.edit(|config| config["process"]["cwd"] = json!("/door/made"));
    untouched(&bundle, &outside);
}

/// A mount point with a link at each level, leading up and out.
fn mount_point_links_at_every_level(test: &Test) {
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

/// CVE-2019-16884: by name nobody may mount there, and so not by a link of the image either.
fn mount_point_link_to_procfs(test: &Test) {
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
        let output = bundle.run().failure();
        output.says(&["a symbolic link leads to the mount point"]);
        bundle.assert_nothing_left();
    }
}

/// CVE-2019-5736: the runtime's binary seen from inside.
fn runtime_binary_is_untouchable(test: &Test) {
    let before = fs::read(&test.machine.runtime).unwrap_or_default();
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    for words in [
        &["write", "/proc/self/exe", "x"][..],
        &["try-open", &runtime],
        &["write", &runtime, "x"],
    ] {
        container.exec(&[], words).failure();
    }
    container.end();
    assert!(
        fs::read(&test.machine.runtime).unwrap_or_default() == before,
        "the runtime's binary changed"
    );
}

/// CVE-2016-9962: between create and start the process must not be open to others of its id.
fn created_process_is_closed(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    for file in ["exe", "root", "cwd", "fd/0", "mem", "environ"] {
        let path = format!("/proc/1/{file}");
        let output = container.exec(&[], &["try-open", &path]);
        // A directory that opened fails only at the read, with EISDIR.
        let open = output.text() == "ok" || output.text() == "EISDIR";
        assert!(
            !open,
            "{path} of the waiting process can be opened from inside"
        );
    }
    container.end();
}

fn cgroup_of_others(test: &Test) {
    let writable = Bundle::new(test).without_mount("/sys/fs/cgroup").mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "rw"]
    }));
    let output = writable.run_probe(&["write", "/sys/fs/cgroup/../cgroup.procs", "1"]);
    assert_ne!(output.text(), "ok");
    if !test.machine.root {
        // Without a cgroup of its own the container is in the caller's, and
        // that may well have others below it.
        return;
    }
    let listed = Bundle::new(test)
        .run_probe(&["ls", "/sys/fs/cgroup"])
        .success();
    assert!(
        !listed.stdout.contains("capsid-test"),
        "groups of the host are visible: {}",
        listed.stdout
    );
}

fn raw_kernel_files(test: &Test) {
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        let output = Bundle::new(test).run_probe(&["write", path, "x"]).code(1);
        assert!(
            ["EROFS", "EACCES", "EPERM", "ENOENT"].contains(&output.text()),
            "{path}: {}",
            output.text()
        );
    }
}
