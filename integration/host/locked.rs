//! What the host's root mounts for a container with ids of its own, and the
//! container's root cannot undo, whatever capability `exec` gives it.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Container;
use crate::needs::busybox;
use crate::roles::Test;
use crate::runtime::Output;

cases! {
    ROOT [RealRoot, Busybox]: nothing_comes_off, nothing_becomes_writable, no_bind_without_what_is_above,
        no_view_without_masks, the_next_process_is_the_second;
    ROOT [RealRoot]: owners_are_the_containers, propagation_survives, a_failure_names_its_step,
        the_terminal_is_the_containers, nobody_needs_to_be_traced;
}

fn sleeping(test: &Test) -> Bundle<'_> {
    let program = busybox().unwrap_or_else(|| panic!("no busybox"));
    // The filters deny mount(2) as well.
    let bundle = Bundle::new(test).args(&["sleep"]);
    let bundle = bundle.relax("seccomp-default,seccomp-floor");
    bundle.program("bin/busybox", fs::read(program).unwrap_or_default());
    bundle
}

/// With the capability that mounting takes.
fn shell(container: &Container<'_, '_>, script: &str) -> Output {
    let words = ["/bin/busybox", "sh", "-c", script];
    let call = container.exec_call(&["--cap", "CAP_SYS_ADMIN"], &words);
    call.output()
}

/// The mounts below the container's root, as a process inside is shown them.
fn table(container: &Container<'_, '_>) -> Vec<Value> {
    let report = container.exec_report(&[]);
    let mounts = report.at("/mounts").as_array().cloned();
    let mut mounts = mounts.unwrap_or_default();
    mounts.retain(|mount| mount["point"] != "/");
    mounts
}

fn point(mount: &Value) -> &str {
    mount["point"].as_str().unwrap_or_default()
}

fn nothing_comes_off(test: &Test) {
    let bundle = sleeping(test);
    let container = bundle.ready();
    let before = table(&container);
    let points: Vec<_> = before.iter().map(point).collect();
    for expected in [
        "/proc",
        "/proc/keys",
        "/proc/sys",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/firmware",
        "/sys/fs/cgroup",
    ] {
        assert!(points.contains(&expected), "{expected} in {points:?}");
    }
    for point in &points {
        let output = shell(&container, &format!("busybox umount -l {point}"));
        output.failure().says(&["Invalid argument"]);
    }
    assert_eq!(table(&container), before);
    // It has the capability: this much it may do.
    let script = "busybox mount -t tmpfs tmpfs /tmp && busybox umount /tmp";
    shell(&container, script).success();
    container.end();
}

fn nothing_becomes_writable(test: &Test) {
    let bundle = sleeping(test);
    let container = bundle.ready();
    let before = table(&container);
    let read_only = |mount: &&Value| {
        let options = mount["options"].as_array();
        options.is_some_and(|options| options.contains(&json!("ro")))
    };
    let points: Vec<_> = before.iter().filter(read_only).map(point).collect();
    for expected in ["/proc/sys", "/proc/acpi", "/sys", "/sys/fs/cgroup"] {
        // What the machine lacks has no mask.
        let there = std::path::Path::new(expected).exists();
        assert!(
            !there || points.contains(&expected),
            "{expected} in {points:?}"
        );
    }
    for point in points.into_iter().chain(["/"]) {
        let output = shell(
            &container,
            &format!("busybox mount -o remount,bind,rw {point}"),
        );
        output.failure().says(&["ermission denied"]);
    }
    assert_eq!(table(&container), before);
    container.end();
}

/// A copy of a mount alone would show what is masked.
fn no_bind_without_what_is_above(test: &Test) {
    let bundle = sleeping(test);
    let container = bundle.ready();
    for source in ["/proc", "/sys", "/"] {
        let bind = |kind: &str| format!("busybox mount -o {kind} {source} /tmp");
        let output = shell(&container, &bind("bind"));
        output.failure().says(&["Invalid argument"]);
        // It is in the mount namespace of this exec and all others.
        shell(&container, &bind("rbind")).success();
        if source == "/proc" {
            shell(&container, "busybox umount -l /tmp/keys").failure();
            let words = ["cat", "/tmp/keys"];
            assert_eq!(container.exec(&[], &words).text(), "", "masked in the copy");
        }
        shell(&container, "busybox umount -l /tmp").success();
    }
    container.end();
}

/// The kernel refuses a new procfs or sysfs that would show more than the one that is
/// there, as long as that cannot be uncovered.
fn no_view_without_masks(test: &Test) {
    let bundle = sleeping(test);
    let container = bundle.ready();
    for kind in ["proc", "sysfs"] {
        let output = shell(&container, &format!("busybox mount -t {kind} new /tmp"));
        output.failure().says(&["ermission denied"]);
    }
    container.end();
    // Nothing is over it.
    let relaxed = sleeping(test).relax("seccomp-default,seccomp-floor,nested-userns");
    let open = relaxed.edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let container = open.ready();
    shell(&container, "busybox mount -t proc new /tmp").success();
    container.end();
}

/// The mounter was in the container's pid namespace, and is not missed.
fn the_next_process_is_the_second(test: &Test) {
    let script = "busybox sleep 9 & echo $!; set -- /proc/[0-9]*; echo $*; kill $!";
    let bundle = sleeping(test).raw_args(&["/bin/busybox", "sh", "-c", script]);
    let output = bundle.run().success();
    let lines: Vec<_> = output.text().lines().collect();
    assert_eq!(lines, ["2", "/proc/1 /proc/2"]);
}

fn owners_are_the_containers(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for (path, mode) in [
        ("/dev/pts", "0755"),
        ("/dev/pts/ptmx", "0666"),
        ("/dev/mqueue", "1777"),
        ("/dev/shm", "1777"),
        ("/dev", "0755"),
        ("/dev/fd", "0777"),
    ] {
        let found = container.exec(&[], &["stat", path]).success().json();
        let found = (&found["uid"], &found["gid"], &found["mode"]);
        assert_eq!(found, (&json!(0), &json!(0), &json!(mode)), "{path}");
    }
    let kinds: Vec<_> = table(&container)
        .iter()
        .map(|mount| {
            format!(
                "{} {}",
                point(mount),
                mount["fstype"].as_str().unwrap_or("")
            )
        })
        .collect();
    for expected in [
        "/proc proc",
        "/dev/pts devpts",
        "/dev/mqueue mqueue",
        "/sys sysfs",
        "/sys/fs/cgroup cgroup2",
    ] {
        assert!(kinds.iter().any(|kind| kind == expected), "{kinds:?}");
    }
    // Its own processes, queues and group, not the host's.
    assert_eq!(
        container.exec(&[], &["try-open", "/proc/1/environ"]).text(),
        "ok"
    );
    let group = container.exec(&[], &["cat", "/proc/1/cgroup"]);
    let own = group.text().lines().find(|line| line.starts_with("0::"));
    assert_eq!(own, Some("0::/"));
    container.end();
}

/// What is shared in the configuration is shared in the copy.
fn propagation_survives(test: &Test) {
    let mount = |target: &str, word: &str| json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": [word] });
    let bundle = Bundle::new(test)
        .writable()
        .mount(mount("/home/shared", "rshared"))
        .mount(mount("/home/private", "rprivate"))
        .mount(mount("/home/unbindable", "unbindable"))
        .args(&["sleep"]);
    let container = bundle.ready();
    let table = table(&container);
    for (target, word) in [
        ("shared", "shared:"),
        ("private", ""),
        ("unbindable", "unbindable"),
    ] {
        let path = format!("/home/{target}");
        let found = table.iter().find(|mount| point(mount) == path);
        let found = found.map(|mount| mount["propagation"].clone());
        let found: Vec<_> = found
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let first = found
            .first()
            .and_then(|word| word.as_str())
            .unwrap_or_default();
        let right = if word.is_empty() {
            first.is_empty()
        } else {
            first.starts_with(word)
        };
        assert!(right, "{path}: {found:?}");
    }
    container.end();
}

/// Root of a container or of a service often lacks the capability.
fn nobody_needs_to_be_traced(test: &Test) {
    let without = ["setpriv", "--bounding-set=-sys_ptrace"].map(str::to_owned);
    let bundle = Bundle::new(test).args(&["report"]);
    let output = bundle.run_call(&[]).through(&without).output().success();
    let map = &output.json()["uid_map"];
    assert!(map.to_string().contains("65536"), "{map}");
}

fn a_failure_names_its_step(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]).edit(|config| {
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if mount["type"] == "devpts" {
                mount["options"] = json!(["newinstance", "ptmxmode=nonsense"]);
            }
        }
    });
    let output = bundle.run();
    output
        .failure()
        .says(&[": mount devpts on /dev/pts (", "ptmxmode"]);
    bundle.assert_nothing_left();
}

fn the_terminal_is_the_containers(test: &Test) {
    let bundle = crate::terminal::with_terminal(test)
        .edit(|config| config["process"]["user"] = json!({ "uid": 7, "gid": 8 }))
        .args(&["console"]);
    let mut running = bundle
        .run_call(&[])
        .through(&crate::terminal::pty(test, "24x80", &[]))
        .start();
    running.wait_for("isatty");
    let pid = bundle.on(&["state"]).output().success().json()["pid"].to_string();
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    assert!(table.contains(" /dev/console "), "{table}");
    for path in ["/dev/console", "/dev/pts/0"] {
        let look = ["exec", &bundle.id, "/bin/probe", "stat", path];
        let found = test.capsid(&look).output().success().json();
        let found = (&found["uid"], &found["gid"], &found["mode"]);
        assert_eq!(found, (&json!(7), &json!(5), &json!("0620")), "{path}");
    }
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
    bundle.assert_nothing_left();
}
