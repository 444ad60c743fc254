//! Limits that the kernel enforces: each is exceeded, and what happens is looked at.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::delegation::Place;
use crate::roles::Test;

cases! {
    RANGES [Controllers]: memory_oom, memory_oom_group, fork_bomb, cpu_quota, cpu_weight,
        freezer, killing_many, limits_read_back;
    RANGES [Controllers, Disk]: io_throttle;
}

/// Bytes.
pub(crate) const MIB: u64 = 1 << 20;

/// What a file of the container's cgroup says.
#[track_caller]
pub(crate) fn value(bundle: &Bundle<'_>, file: &str) -> String {
    let path = bundle.cgroup().unwrap_or_default().join(file);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

/// A number in a file of names and numbers.
#[track_caller]
fn number(bundle: &Bundle<'_>, file: &str, name: &str) -> u64 {
    let text = value(bundle, file);
    let found = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name);
    let found = found.and_then(|(_, number)| number.parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in {file}: {text}"))
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// The container's process is killed, and no other.
fn memory_oom(test: &Test) {
    let place = Place::new(test);
    let limit = || json!({ "memory": { "limit": 32 * MIB, "swap": 32 * MIB } });
    let neighbour = place.limited(limit()).args(&["sleep"]);
    let beside = neighbour.ready();
    let bytes = (128 * MIB).to_string();
    let bundle = place.limited(limit()).args(&["eat", &bytes]);
    let output = bundle.run().code(128 + 9);
    assert!(!output.stdout.contains("ATE"), "{output:?}");
    bundle.assert_nothing_left();
    // The same in two steps: its cgroup can then still be asked.
    let bundle = place.limited(limit()).args(&["eat", &bytes]);
    let container = bundle.create();
    container.start();
    container.wait_status("stopped");
    // The kernel counts whom it chose again when it kills the whole group.
    assert!(number(&bundle, "memory.events", "oom_kill") >= 1);
    container.end();
    assert_eq!(beside.status(), "running");
    assert_eq!(number(&neighbour, "memory.events", "oom_kill"), 0);
    beside.end();
    // Within the limit nothing happens.
    let bytes = (8 * MIB).to_string();
    let bundle = place.limited(limit()).args(&["eat", &bytes]);
    bundle.ready().end();
}

/// One process goes over the limit: it alone is killed, or all are.
fn memory_oom_group(test: &Test) {
    let place = Place::new(test);
    let bytes = (128 * MIB).to_string();
    for (group, code, said) in [("0", 0, "signal 9"), ("1", 128 + 9, "")] {
        let bundle = place.limited(json!({
            "memory": { "limit": 32 * MIB, "swap": 32 * MIB },
            "unified": { "memory.oom.group": group }
        }));
        let output = bundle.run_probe(&["spawn", "1", "/bin/probe", "eat", &bytes]);
        assert_eq!(output.text(), said, "memory.oom.group {group}");
        output.code(code);
    }
}

/// It stops at the limit, and others can go on.
fn fork_bomb(test: &Test) {
    let place = Place::new(test);
    let bundle = place
        .limited(json!({ "pids": { "limit": 40 } }))
        .args(&["bomb"]);
    let container = bundle.ready();
    until("the limit is met", || {
        number(&bundle, "pids.events", "max") > 0
    });
    assert_eq!(value(&bundle, "pids.current"), "40");
    for _ in 0..3 {
        let begin = Instant::now();
        let outside = Command::new(&test.machine.probe)
            .args(["exit", "0"])
            .status();
        let took = begin.elapsed();
        assert!(outside.is_ok_and(|status| status.success()));
        assert!(took < Duration::from_secs(5), "a process took {took:?}");
    }
    let most: u64 = value(&bundle, "pids.peak").parse().unwrap_or(u64::MAX);
    assert!(most <= 40, "{most} processes at once");
    container.end();
}

fn cpu_quota(test: &Test) {
    let place = Place::new(test);
    let bundle = place
        .limited(json!({ "cpu": { "quota": 20_000, "period": 100_000 } }))
        .args(&["burn", "60"]);
    let container = bundle.ready();
    let used = || number(&bundle, "cpu.stat", "usage_usec");
    let (before, begin) = (used(), Instant::now());
    sleep(Duration::from_secs(2));
    let spent = Duration::from_micros(used() - before);
    let share = spent.as_secs_f64() / begin.elapsed().as_secs_f64();
    // A fifth was given; other work on the machine can only make it less.
    assert!((0.05..0.3).contains(&share), "{share} of a processor");
    assert!(number(&bundle, "cpu.stat", "nr_throttled") > 0);
    container.end();
}

fn cpu_weight(test: &Test) {
    let place = Place::new(test);
    for (shares, weight) in [(2, "1"), (512, "59"), (1024, "100"), (262_144, "10000")] {
        let bundle = place.limited(json!({ "cpu": { "shares": shares } }));
        let container = bundle.create();
        assert_eq!(value(&bundle, "cpu.weight"), weight, "{shares} shares");
        container.end();
    }
}

fn io_throttle(test: &Test) {
    let place = Place::new(test);
    let disk = crate::needs::disk().unwrap_or_default();
    let made = fs::metadata(&disk).map(|meta| meta.rdev()).unwrap_or(0);
    let (major, minor) = (libc::major(made), libc::minor(made));
    // An ordinary user's container gets the node itself: it must be allowed there.
    let open = fs::set_permissions(&disk, fs::Permissions::from_mode(0o666));
    assert!(open.is_ok(), "{open:?}");
    let bytes = (2 * MIB).to_string();
    let name = disk.to_string_lossy().into_owned();
    let bundle = place.limited(json!({
        "devices": [{ "allow": true, "type": "b", "major": major, "minor": minor, "access": "rw" }],
        "unified": { "io.max": format!("{major}:{minor} wbps={MIB}") }
    }));
    let bundle = bundle.edit(|config| {
        let node =
            json!({ "path": name, "type": "b", "major": major, "minor": minor, "fileMode": 0o666 });
        push(&mut config["linux"]["devices"], node);
    });
    let output = bundle.run_probe(&["pour", &name, &bytes]).code(0);
    let took: u64 = output.text().parse().unwrap_or(0);
    assert!(took >= 1500, "2 MiB at 1 MiB/s took {took} ms");
}

/// A paused container makes no step, and goes on afterwards.
fn freezer(test: &Test) {
    let place = Place::new(test);
    let bundle = place.bundle().args(&["burn", "60"]);
    let mut container = bundle.ready();
    container.wait_for("ROUND 5\n");
    bundle.on(&["pause"]).ok();
    assert_eq!(container.status(), "paused");
    let seen = |container: &crate::container::Container<'_, '_>| {
        (
            container.printed().lines().count(),
            number(&bundle, "cpu.stat", "usage_usec"),
        )
    };
    let before = seen(&container);
    sleep(Duration::from_millis(500));
    assert_eq!(seen(&container), before, "lines and microseconds");
    bundle.on(&["resume"]).ok();
    assert_eq!(container.status(), "running");
    until("it goes on", || seen(&container).0 > before.0 + 5);
    // A frozen one can be killed.
    bundle.on(&["pause"]).ok();
    container.end();
}

/// Without a pid namespace the end of the first process ends no other.
fn killing_many(test: &Test) {
    let place = Place::new(test);
    let mut bundle = place
        .bundle()
        .args(&["herd", "150"])
        .without_namespace("pid");
    if test.rootless() {
        // A fresh procfs needs a pid namespace that the user namespace owns.
        let host = json!({ "destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"] });
        bundle = bundle.without_mount("/proc").mount(host).edit(|config| {
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
        });
    }
    let container = bundle.ready();
    let inside = value(&bundle, "cgroup.procs");
    let inside: Vec<&str> = inside.lines().collect();
    assert_eq!(inside.len(), 151, "{inside:?}");
    container.end();
    // Ended, and not yet waited for by whoever inherits it, is not alive.
    let alive = |pid: &&&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    };
    let left: Vec<_> = inside.iter().filter(alive).collect();
    assert!(left.is_empty(), "still there: {left:?}");
}

/// The files say what the plan says, and that is what was asked for.
fn limits_read_back(test: &Test) {
    let place = Place::new(test);
    let bundle = place.limited(json!({
        "memory": { "limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB },
        "cpu": { "shares": 1024, "quota": 50_000, "period": 100_000, "burst": 10_000 },
        "pids": { "limit": 77 },
        "unified": { "memory.high": (48 * MIB).to_string(), "cgroup.max.descendants": "3" }
    }));
    let container = bundle.create();
    for (file, expected) in [
        ("memory.max", (64 * MIB).to_string()),
        ("memory.low", (32 * MIB).to_string()),
        ("memory.high", (48 * MIB).to_string()),
        ("memory.swap.max", (32 * MIB).to_string()),
        ("cpu.weight", "100".into()),
        ("cpu.max", "50000 100000".into()),
        ("cpu.max.burst", "10000".into()),
        ("pids.max", "77".into()),
        ("cgroup.max.descendants", "3".into()),
    ] {
        assert_eq!(value(&bundle, file), expected, "{file}");
    }
    let dir = bundle.dir.to_string_lossy();
    let plan = test.capsid(&["explain", &dir]).ok();
    let planned: Vec<(&str, &str)> = plan
        .lines()
        .filter_map(|line| line.trim().split_once("set "))
        .filter_map(|(_, limit)| limit.split_once(" to "))
        .filter(|(file, _)| {
            ["memory.", "cpu.", "pids.", "cgroup."]
                .iter()
                .any(|start| file.starts_with(start))
        })
        .collect();
    assert!(planned.len() >= 9, "{planned:?} in\n{plan}");
    for (file, planned) in planned {
        let (planned, _) = planned.split_once(" (").unwrap_or((planned, ""));
        assert_eq!(value(&bundle, file), planned, "{file}");
    }
    container.end();
}
