//! Limits: at creation, by `update`, and what `events` tells of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Container;
use crate::roles::Test;

cases! {
    ROOT []: unknown_files_are_named, paths_that_lead_out, update_in_every_state, update_all_or_nothing,
        update_refusals, update_by_engines, stats_once, stats_end_with_the_container, events_refusals,
        absent_controllers_are_named, no_cgroup_when_told, the_cgroup_is_the_programs_own,
        the_cgroup_stays_the_callers;
    ROOT [Hugetlb]: huge_pages_hold, huge_pages_above_the_parent;
    ROOT [Pids]: pids_are_updated, pids_above_the_parent;
    ROOT [Memory]: memory_and_swap_are_updated, usage_is_respected, running_out_is_told;
    ROOT [Cpu]: quota_and_period_keep_each_other;
    ROOT [Io]: throttles_are_lines;
    USERS []: no_cgroup_no_update;
}

/// A container with a user namespace that sees its cgroup, with these options.
fn seeing_its_cgroup<'t>(test: &'t Test, access: &str) -> Bundle<'t> {
    let map = json!([{ "containerID": 0, "hostID": test.machine.range.0, "size": 1000 }]);
    let options = json!(["nosuid", "noexec", "nodev", access]);
    Bundle::new(test)
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            for mount in config["mounts"].as_array_mut().into_iter().flatten() {
                if mount["destination"] == "/sys/fs/cgroup" {
                    mount["options"] = options.clone();
                }
            }
        })
}

/// Users of the cgroup's directory, of files that go with it, and of one that does not.
#[track_caller]
fn owners(bundle: &Bundle<'_>) -> Vec<u32> {
    let cgroup = bundle.cgroup().unwrap_or_default();
    let files = [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.freeze",
    ];
    let owner = |file| {
        let found = std::fs::metadata(cgroup.join(file));
        std::os::unix::fs::MetadataExt::uid(&found.unwrap_or_else(|e| panic!("{file}: {e}")))
    };
    files.map(owner).into()
}

/// Whoever is root inside may make cgroups below it, and change no limit of its own.
fn the_cgroup_is_the_programs_own(test: &Test) {
    let bundle = seeing_its_cgroup(test, "rw").args(&["sleep"]);
    let container = bundle.ready();
    let own = test.machine.range.0;
    assert_eq!(owners(&bundle), [own, own, own, 0]);
    let make = container.exec(&[], &["mkdir", "/sys/fs/cgroup/below"]);
    assert_eq!(make.text(), "ok");
    assert!(bundle.cgroup().unwrap_or_default().join("below").is_dir());
    let freeze = container.exec(&[], &["write", "/sys/fs/cgroup/cgroup.freeze", "1"]);
    assert_eq!(freeze.text(), "EACCES");
    // With what was made inside.
    container.end();
    bundle.assert_nothing_left();
}

/// Not where it is shown read-only.
fn the_cgroup_stays_the_callers(test: &Test) {
    let bundle = seeing_its_cgroup(test, "ro").args(&["sleep"]);
    let container = bundle.ready();
    assert_eq!(owners(&bundle), [0, 0, 0, 0]);
    container.end();
}

/// A container that sleeps, with these limits.
fn limited<'t>(test: &'t Test, resources: &Value) -> Bundle<'t> {
    let resources = resources.clone();
    Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["linux"]["resources"] = resources)
}

#[track_caller]
fn cgroup(bundle: &Bundle<'_>) -> std::path::PathBuf {
    bundle
        .cgroup()
        .unwrap_or_else(|| panic!("the bundle names no cgroup"))
}

/// A file of the container's cgroup.
#[track_caller]
fn shows(bundle: &Bundle<'_>, file: &str) -> String {
    let path = cgroup(bundle).join(file);
    let content = fs::read_to_string(&path);
    let content = content.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    content.trim().to_owned()
}

/// `update` with JSON on standard input, as containerd calls it.
fn update<'t>(bundle: &Bundle<'t>, resources: &Value) -> crate::runtime::Call<'t> {
    let call = bundle.on(&["update", "--resources=-"]);
    call.stdin(&resources.to_string())
}

fn unified(file: &str, value: &str) -> Value {
    json!({ "unified": { file: value } })
}

fn unknown_files_are_named(test: &Test) {
    let bundle = limited(test, &unified("cgroup.nonesuch", "1"));
    let file = cgroup(&bundle).join("cgroup.nonesuch");
    bundle.refused(&["write 1 to", &file.to_string_lossy(), "absent (ENOENT)"]);
    let bundle = limited(test, &unified("cgroup.max.depth", "-5"));
    bundle.refused(&["write -5 to", "cgroup.max.depth", "(ERANGE)"]);
    let bundle = limited(test, &unified("cgroup.procs", "1"));
    bundle.refused(&["/linux/resources/unified/cgroup.procs"]);
    let bundle = limited(test, &json!({ "pids": { "limit": -2 } }));
    bundle.refused(&["/linux/resources/pids/limit"]);
}

fn absent_controllers_are_named(test: &Test) {
    let bundle = limited(test, &unified("nonesuch.max", "1"));
    bundle.refused(&[
        "set nonesuch.max of",
        "the controller nonesuch is not available",
        "cgroup.controllers",
    ]);
}

fn paths_that_lead_out(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        let path = config["linux"]["cgroupsPath"].as_str().unwrap_or_default();
        config["linux"]["cgroupsPath"] = json!(format!("{path}/../../out"));
    });
    let output = bundle.create_call(&[]).output().code(1);
    output.says(&["/linux/cgroupsPath", "must not have .. in it"]);
    assert!(!Path::new("/sys/fs/cgroup/out").exists());
}

fn update_in_every_state(test: &Test) {
    let bundle = limited(test, &unified("cgroup.max.depth", "3"));
    let mut container = bundle.create();
    assert_eq!(shows(&bundle, "cgroup.max.depth"), "3");
    update(&bundle, &unified("cgroup.max.depth", "4")).ok();
    assert_eq!(shows(&bundle, "cgroup.max.depth"), "4");
    container.start();
    container.wait_for("READY");
    update(&bundle, &unified("cgroup.max.depth", "5")).ok();
    assert_eq!(shows(&bundle, "cgroup.max.depth"), "5");
    bundle.on(&["pause"]).ok();
    update(&bundle, &unified("cgroup.max.descendants", "6")).ok();
    assert_eq!(shows(&bundle, "cgroup.max.descendants"), "6");
    assert_eq!(shows(&bundle, "cgroup.max.depth"), "5", "it was not named");
    assert_eq!(container.status(), "paused");
    bundle.on(&["resume"]).ok();
    container.kill("KILL");
    container.wait_status("stopped");
    let output = update(&bundle, &unified("cgroup.max.depth", "7")).output();
    output.code(1).says(&["container not running"]);
    container.end();
}

fn update_all_or_nothing(test: &Test) {
    let bundle = limited(test, &unified("cgroup.max.depth", "3"));
    let container = bundle.create();
    // In the order of their names: the first is taken, the second is not.
    let both = json!({ "unified": {
        "cgroup.max.depth": "4", "cgroup.max.descendants": "many" } });
    let output = update(&bundle, &both).output().code(1);
    output.says(&[
        "write many to",
        "cgroup.max.descendants",
        "(EINVAL)",
        "all limits are as they were before",
    ]);
    assert_eq!(shows(&bundle, "cgroup.max.depth"), "3");
    assert_eq!(shows(&bundle, "cgroup.max.descendants"), "max");
    let output = update(&bundle, &unified("cgroup.nonesuch", "1")).output();
    output.code(1).says(&["cgroup.nonesuch", "(ENOENT)"]);
    container.end();
}

fn update_refusals(test: &Test) {
    let bundle = limited(test, &json!({}));
    let container = bundle.create();
    let by = |words: &[&str]| {
        let mut all = vec!["update"];
        all.extend_from_slice(words);
        bundle.on(&all).output().code(1)
    };
    by(&["--memory-swap", "5m"]).says(&["unable to set swap limit without memory limit"]);
    by(&["--memory", "5m", "--memory-swap", "4m"])
        .says(&["memory+swap limit should be >= memory limit"]);
    by(&["--memory", "lots"]).says(&["invalid value \"lots\" for --memory"]);
    by(&["--cpu-rt-period", "5"]).says(&["cpu/realtimePeriod", "cgroup v1 only"]);
    by(&["--pids-limit", "-2"]).says(&["pids/limit"]);
    by(&["--cpuset-cpus", "all"]).says(&["cpu/cpus"]);
    by(&["--l3-cache-schema", "L3:0=f"]).says(&["intelRdt"]);
    by(&["--memory", "5m", "-r", "/nonexistent"]).says(&["--memory would have no effect"]);
    by(&["-r", "/nonexistent"]).says(&["/nonexistent", "(ENOENT)"]);
    let bad = json!({ "memory": { "limit": "5m" } });
    let output = update(&bundle, &bad).output().code(1);
    output.says(&["standard input", "/memory/limit"]);
    let output = update(&bundle, &json!({ "memory": { "limit": -7 } })).output();
    output.code(1).says(&["memory/limit"]);
    let output = update(&bundle, &unified("nonesuch.max", "1")).output();
    output
        .code(1)
        .says(&["the controller nonesuch is not available"]);
    // Nothing asked, nothing done; kernel memory is gone and accepted.
    bundle.on(&["update", "--kernel-memory", "5m"]).ok();
    let missing = test
        .capsid(&["update", "--memory", "5m", "nobody"])
        .output();
    missing.code(1).says(&["container does not exist"]);
    container.end();
}

/// What engines send back is the whole object, with device rules and zeros.
fn update_by_engines(test: &Test) {
    let bundle = limited(test, &json!({}));
    let container = bundle.create();
    let all = json!({
        "devices": [{ "allow": true, "access": "rwm" }],
        "memory": { "limit": 0, "swap": 0 }, "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "" },
        "pids": { "limit": 0 }, "blockIO": {}, "unified": { "cgroup.max.depth": "9" }
    });
    let file = test.path("resources.json");
    test.make_file(&file, all.to_string());
    let option = format!("--resources={}", file.display());
    let output = bundle.on(&["update", option.as_str()]).output().success();
    assert_eq!(output.stdout + &output.stderr, "");
    assert_eq!(shows(&bundle, "cgroup.max.depth"), "9");
    container.end();
}

fn no_cgroup_no_update(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    let words = ["update", "--pids-limit", "5"];
    bundle
        .on(&words)
        .output()
        .code(1)
        .says(&["no cgroup of its own"]);
    bundle
        .on(&["events", "--stats"])
        .output()
        .code(1)
        .says(&["no cgroup of its own"]);
    container.end();
}

/// What podman asks for with `--cgroups=disabled`.
fn no_cgroup_when_told(test: &Test) {
    let told = ["--cgroup-manager", "disabled"];
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle.create_call(&[]).globally(&told).output().success();
    assert!(!cgroup(&bundle).exists());
    let words = ["delete", "--force", bundle.id.as_str()];
    test.capsid(&words).output().success();
    bundle.assert_nothing_left();
    let bundle = limited(test, &json!({ "pids": { "limit": 5 } }));
    bundle
        .run_call(&[])
        .globally(&told)
        .output()
        .code(1)
        .says(&["--cgroup-manager disabled", "remove the limits"]);
    bundle.assert_nothing_left();
}

fn stats_once(test: &Test) {
    let bundle = limited(test, &json!({}));
    let container = bundle.ready();
    let output = bundle.on(&["events", "--stats"]).output().success();
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.stdout);
    let event = output.json();
    assert_eq!(event["type"], json!("stats"));
    assert_eq!(event["id"], json!(bundle.id));
    assert!(
        event["data"]["cpu"]["usage"]["total"].as_u64() > Some(0),
        "{event}"
    );
    assert!(
        event["data"]["memory"]["usage"]["limit"].is_u64(),
        "{event}"
    );
    assert_eq!(event["data"]["network_interfaces"], Value::Null);
    container.end();
}

fn stats_end_with_the_container(test: &Test) {
    let bundle = limited(test, &json!({}));
    let container = bundle.ready();
    let mut events = bundle.on(&["events", "--interval=20ms"]).start();
    events.wait_for("\n{\"type\":\"stats\"");
    container.kill("KILL");
    let output = events.wait().success();
    for line in output.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        assert_eq!(event["type"], json!("stats"), "{line}");
    }
    container.wait_status("stopped");
    container.end();
}

fn events_refusals(test: &Test) {
    let bundle = limited(test, &json!({}));
    let container = bundle.ready();
    for (interval, text) in [("0", "must be greater than 0"), ("5", "invalid duration")] {
        let output = bundle.on(&["events", "--interval", interval]).output();
        output.code(1).says(&[text]);
    }
    container.kill("KILL");
    container.wait_status("stopped");
    let text = format!("container with id {} is not running", bundle.id);
    for words in [["events", "--stats"], ["events", "--interval=5s"]] {
        bundle.on(&words).output().code(1).says(&[&text]);
    }
    container.end();
}

fn huge_pages_hold(test: &Test) {
    let pages = |limit: u64| json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": limit }] });
    let bundle = limited(test, &pages(5 << 20));
    let container = bundle.create();
    // Rounded down to whole pages.
    assert_eq!(shows(&bundle, "hugetlb.2MB.max"), (4 << 20).to_string());
    update(&bundle, &pages(2 << 20)).ok();
    for file in ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"] {
        assert_eq!(shows(&bundle, file), (2 << 20).to_string());
    }
    let output = bundle.on(&["events", "--stats"]).output().success();
    let huge = output.json()["data"]["hugetlb"]["2MB"].clone();
    assert_eq!(huge, json!({ "failcnt": 0 }));
    // The limits of another controller fail later: these come back.
    let mut worse = pages(8 << 20);
    worse["unified"] = json!({ "cgroup.max.depth": "many" });
    let output = update(&bundle, &worse).output().code(1);
    output.says(&["all limits are as they were before"]);
    assert_eq!(shows(&bundle, "hugetlb.2MB.max"), (2 << 20).to_string());
    container.end();
}

fn huge_pages_above_the_parent(test: &Test) {
    above_the_parent(test, "hugetlb.2MB.max", [4 << 20, 6 << 20]);
}

fn pids_above_the_parent(test: &Test) {
    above_the_parent(test, "pids.max", [40, 41]);
}

/// What the parent allows, and more than that.
fn above_the_parent(test: &Test, file: &str, [most, more]: [u64; 2]) {
    let limit = |value: u64| unified(file, &value.to_string());
    // One that hands the controller down to where the parent will be.
    let beside = limited(test, &limit(most));
    beside.create().end();
    let parent = cgroup(&beside).with_extension("parent");
    fs::create_dir(&parent).unwrap_or_else(|error| panic!("{error}"));
    let upper = parent.join(file);
    fs::write(&upper, most.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let inside = |value: u64| {
        limited(test, &limit(value)).edit(|config| {
            let path = parent.join("inner").display().to_string();
            let path = path.strip_prefix("/sys/fs/cgroup").unwrap_or_default();
            config["linux"]["cgroupsPath"] = json!(path);
        })
    };
    let (written, shown) = (
        format!("write {more} to"),
        format!("{} is {most}", upper.display()),
    );
    let texts = [
        written.as_str(),
        "it could not come into force",
        shown.as_str(),
    ];
    inside(more).refused(&texts);
    let bundle = inside(most);
    let container = bundle.create();
    update(&bundle, &limit(more)).output().code(1).says(&texts);
    assert_eq!(shows(&bundle, file), most.to_string());
    container.end();
    fs::remove_dir(&parent).unwrap_or_else(|error| panic!("{error}"));
}

fn pids_are_updated(test: &Test) {
    let bundle = limited(test, &json!({ "pids": { "limit": 64 } }));
    let container = bundle.ready();
    assert_eq!(shows(&bundle, "pids.max"), "64");
    bundle.on(&["update", "--pids-limit", "32"]).ok();
    assert_eq!(shows(&bundle, "pids.max"), "32");
    let output = bundle.on(&["events", "--stats"]).output().success();
    assert_eq!(
        output.json()["data"]["pids"],
        json!({ "current": 1, "limit": 32 })
    );
    bundle.on(&["update", "--pids-limit=-1"]).ok();
    assert_eq!(shows(&bundle, "pids.max"), "max");
    container.end();
}

fn memory_and_swap_are_updated(test: &Test) {
    let memory = |limit: u64, swap: u64| json!({ "memory": { "limit": limit, "swap": swap } });
    let bundle = limited(test, &memory(64 << 20, 64 << 20));
    let container = bundle.ready();
    assert_eq!(shows(&bundle, "memory.max"), (64 << 20).to_string());
    let words = ["update", "--memory=96m", "--memory-reservation=8m"];
    bundle.on(&words).ok();
    assert_eq!(shows(&bundle, "memory.max"), (96 << 20).to_string());
    assert_eq!(shows(&bundle, "memory.low"), (8 << 20).to_string());
    update(&bundle, &memory(48 << 20, 48 << 20)).ok();
    assert_eq!(shows(&bundle, "memory.max"), (48 << 20).to_string());
    assert_eq!(shows(&bundle, "memory.low"), (8 << 20).to_string());
    bundle.on(&["update", "--memory=-1"]).ok();
    assert_eq!(shows(&bundle, "memory.max"), "max");
    container.end();
}

fn usage_is_respected(test: &Test) {
    let bundle = limited(test, &json!({ "memory": { "limit": 64 << 20 } }));
    let container = bundle.ready();
    let tiny = json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } });
    let output = update(&bundle, &tiny).output().code(1);
    output.says(&["rejecting memory limit 4096 < usage", "memory.max"]);
    assert_eq!(shows(&bundle, "memory.max"), (64 << 20).to_string());
    assert_eq!(container.status(), "running");
    container.end();
}

/// A limit far below what is in use: the kernel kills.
fn running_out_is_told(test: &Test) {
    let swapless = json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } });
    let bundle = limited(test, &swapless);
    let container = bundle.ready();
    let mut events = bundle.on(&["events", "--interval=1h"]).start();
    // Until it watches: its descriptors are not visible from here.
    std::thread::sleep(Duration::from_millis(500));
    // Whether it succeeds depends on what the kernel can still free.
    let _ = bundle.on(&["update", "--memory=4096"]).output();
    let oom = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", bundle.id);
    events.wait_for(&oom);
    events.wait().success();
    container.wait_status("stopped");
    container.end();
}

fn quota_and_period_keep_each_other(test: &Test) {
    let bundle = limited(test, &json!({ "cpu": { "quota": 20000, "period": 50000 } }));
    let container: Container<'_, '_> = bundle.ready();
    bundle.on(&["update", "--cpu-quota=10000"]).ok();
    assert_eq!(shows(&bundle, "cpu.max"), "10000 50000");
    bundle.on(&["update", "--cpu-period=40000"]).ok();
    assert_eq!(shows(&bundle, "cpu.max"), "10000 40000");
    bundle
        .on(&["update", "--cpu-share=1024", "--cpu-burst=5000"])
        .ok();
    assert_eq!(shows(&bundle, "cpu.weight"), "100");
    assert_eq!(shows(&bundle, "cpu.max.burst"), "5000");
    // A burst above the new quota would be refused in between.
    let words = ["update", "--cpu-quota=2000", "--cpu-burst=1000"];
    bundle.on(&words).ok();
    assert_eq!(shows(&bundle, "cpu.max"), "2000 40000");
    let words = ["update", "--cpu-quota=3000", "--cpu-burst=3001"];
    let output = bundle.on(&words).output().code(1);
    output.says(&["write 3001 to", "cpu.max.burst", "as they were before"]);
    assert_eq!(shows(&bundle, "cpu.max"), "2000 40000");
    assert_eq!(shows(&bundle, "cpu.max.burst"), "1000");
    bundle.on(&["update", "--cpu-quota=-1"]).ok();
    assert_eq!(shows(&bundle, "cpu.max"), "max 40000");
    container.end();
}

fn throttles_are_lines(test: &Test) {
    let Some(device) = disk() else {
        return;
    };
    let (major, minor) = device.split_once(':').unwrap_or_default();
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let entry =
        |rate: u64| json!([{ "major": number(major), "minor": number(minor), "rate": rate }]);
    let reads = json!({ "blockIO": { "throttleReadBpsDevice": entry(1 << 20) } });
    let bundle = limited(test, &reads);
    let container = bundle.ready();
    let line = format!("{device} rbps=1048576 wbps=max riops=max wiops=max");
    assert_eq!(shows(&bundle, "io.max"), line);
    let writes = json!({ "blockIO": {
        "throttleReadBpsDevice": entry(0), "throttleWriteIOPSDevice": entry(50) } });
    update(&bundle, &writes).ok();
    let line = format!("{device} rbps=max wbps=max riops=max wiops=50");
    assert_eq!(shows(&bundle, "io.max"), line);
    // No such device: everything as before.
    let none = json!({ "blockIO": {
        "throttleReadBpsDevice": [{ "major": 4000, "minor": 1, "rate": 5 }] } });
    let output = update(&bundle, &none).output().code(1);
    output.says(&["write 4000:1 rbps=5 to", "io.max"]);
    assert_eq!(shows(&bundle, "io.max"), line);
    container.end();
}

/// Any block device of this machine, as `major:minor`.
fn disk() -> Option<String> {
    let disks = fs::read_dir("/sys/block").ok()?;
    let numbers = disks.flatten().find_map(|disk| {
        let numbers = fs::read_to_string(disk.path().join("dev"));
        numbers.ok()
    })?;
    Some(numbers.trim().to_owned())
}
