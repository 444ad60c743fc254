//! Limits on what only a real machine has: processors, memory nodes, huge
//! pages, swap, a disk's scheduler, RDMA handles.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::{Container, push};
use crate::controllers::{MIB, value};
use crate::delegation::Place;
use crate::roles::Test;

cases! {
    RANGES [Controllers, Cpuset]: processors_and_nodes, processors_are_updated, processors_that_are_not_there;
    ROOT [HugePages]: huge_pages_end_at_the_limit;
    RANGES [Controllers, Swap]: swap_ends_at_the_limit;
    ROOT [Controllers, Bfq]: weights_of_a_disk;
    ROOT [Controllers, Rdma]: rdma_handles_end_at_the_limit;
    ROOT []: classes_need_resctrl;
    USERS []: classes_need_root;
}

/// What the kernel says of the container's first process.
#[track_caller]
fn status(container: &Container<'_, '_>, field: &str) -> String {
    let path = format!("/proc/{}/status", container.pid());
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    line(&text, field)
}

#[track_caller]
fn line(text: &str, field: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(field));
    let found = found.unwrap_or_else(|| panic!("no {field} in {text}"));
    found.trim().to_owned()
}

fn set(cpus: &str, mems: &str) -> Value {
    json!({ "cpu": { "cpus": cpus, "mems": mems } })
}

fn processors_and_nodes(test: &Test) {
    let place = Place::with(test, &["cpuset"]);
    for cpus in ["1", "0", "0-1"] {
        let bundle = place.limited(set(cpus, "0")).args(&["sleep"]);
        let container = bundle.ready();
        assert_eq!(value(&bundle, "cpuset.cpus"), cpus);
        assert_eq!(value(&bundle, "cpuset.cpus.effective"), cpus);
        assert_eq!(value(&bundle, "cpuset.mems.effective"), "0");
        assert_eq!(status(&container, "Cpus_allowed_list:"), cpus);
        assert_eq!(status(&container, "Mems_allowed_list:"), "0");
        // The same from inside, and in a process that comes later.
        let seen = container.exec(&[], &["cat", "/proc/self/status"]);
        let seen = seen.success().stdout;
        assert_eq!(line(&seen, "Cpus_allowed_list:"), cpus);
        container.end();
    }
}

fn processors_are_updated(test: &Test) {
    let place = Place::with(test, &["cpuset"]);
    let bundle = place.limited(set("0-1", "0")).args(&["sleep"]);
    let container = bundle.ready();
    assert_eq!(status(&container, "Cpus_allowed_list:"), "0-1");
    bundle.on(&["update", "--cpuset-cpus=1"]).ok();
    assert_eq!(status(&container, "Cpus_allowed_list:"), "1");
    let output = bundle.on(&["update", "--cpuset-cpus=200"]).output().code(1);
    output.says(&["200", "cpuset.cpus"]);
    assert_eq!(value(&bundle, "cpuset.cpus"), "1");
    assert_eq!(status(&container, "Cpus_allowed_list:"), "1");
    container.end();
}

fn processors_that_are_not_there(test: &Test) {
    let place = Place::with(test, &["cpuset"]);
    for (cpus, mems, file) in [("200", "0", "cpuset.cpus"), ("0", "9", "cpuset.mems")] {
        place.limited(set(cpus, mems)).refused(&[file]);
    }
    // What the cgroup above does not have.
    let cpus = place.own.join("cpuset.cpus");
    fs::write(&cpus, "0").unwrap_or_else(|error| panic!("{}: {error}", cpus.display()));
    let effective = place.own.join("cpuset.cpus.effective");
    place
        .limited(set("1", "0"))
        .refused(&["write 1 to", &format!("{} is 0", effective.display())]);
}

/// Reserving is what fails: nobody is killed by SIGBUS later.
fn huge_pages_end_at_the_limit(test: &Test) {
    let pages = json!([{ "pageSize": "2MB", "limit": 4 * MIB }]);
    let bundle = Bundle::new(test)
        .edit(|config| config["linux"]["resources"] = json!({ "hugepageLimits": pages }));
    // PROT_READ | PROT_WRITE, and MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB.
    let map = |bytes: u64| format!("mmap 0 {bytes} 3 0x40022 -1 0");
    let (two, one) = (map(4 * MIB), map(2 * MIB));
    let output = bundle.run_probe(&["calls", &map(6 * MIB), &two, &one]);
    let output = output.success();
    let said: Vec<&str> = output.text().lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[0], "ENOMEM", "three pages");
    assert!(said[1].starts_with("ok "), "two pages: {said:?}");
    assert_eq!(said[2], "ENOMEM", "one page more");
    // Without a limit there are enough of them.
    let output = Bundle::new(test).run_probe(&["calls", &map(6 * MIB)]);
    assert!(output.text().starts_with("ok "), "{output:?}");
}

fn swap_ends_at_the_limit(test: &Test) {
    let place = Place::new(test);
    let limit = |swap: u64| json!({ "memory": { "limit": 24 * MIB, "swap": swap } });
    let bytes = (40 * MIB).to_string();
    // Memory and swap together, as the specification counts.
    let bundle = place.limited(limit(24 * MIB)).args(&["eat", &bytes]);
    bundle.run().code(128 + 9);
    let bundle = place.limited(limit(64 * MIB)).args(&["eat", &bytes]);
    let container = bundle.ready();
    assert_eq!(value(&bundle, "memory.swap.max"), (40 * MIB).to_string());
    let swapped: u64 = value(&bundle, "memory.swap.current").parse().unwrap_or(0);
    assert!(swapped >= 8 * MIB, "{swapped} bytes in swap");
    container.end();
}

fn weights_of_a_disk(test: &Test) {
    let disk = crate::needs::disk().unwrap_or_default();
    let made = fs::metadata(&disk).map(|meta| meta.rdev()).unwrap_or(0);
    let (major, minor) = (libc::major(made), libc::minor(made));
    let place = Place::new(test);
    let weights = |weight: u16, device: u16| {
        json!({ "blockIO": {
            "weight": weight,
            "weightDevice": [{ "major": major, "minor": minor, "weight": device }]
        } })
    };
    let bundle = place.limited(weights(300, 700)).args(&["sleep"]);
    let container = bundle.ready();
    let shown = format!("default 300\n{major}:{minor} 700");
    assert_eq!(value(&bundle, "io.bfq.weight"), shown);
    // The kernel forgets those of devices whenever the general one is set.
    bundle.on(&["update", "--blkio-weight=200"]).ok();
    assert_eq!(value(&bundle, "io.bfq.weight"), "default 200");
    let words = weights(150, 600).to_string();
    let file = test.path("resources.json");
    test.make_file(&file, words);
    let flag = format!("--resources={}", file.display());
    bundle.on(&["update", &flag]).ok();
    let shown = format!("default 150\n{major}:{minor} 600");
    assert_eq!(value(&bundle, "io.bfq.weight"), shown);
    container.end();
    place
        .limited(weights(300, 1001))
        .refused(&["1001", "weightDevice/0"]);
}

/// A soft device over a dummy network interface is as real to the controller.
fn rdma_handles_end_at_the_limit(test: &Test) {
    let node = Path::new("/dev/infiniband/uverbs0");
    let made = fs::metadata(node).map(|meta| meta.rdev());
    let made = made.unwrap_or_else(|error| panic!("{}: {error}", node.display()));
    let (major, minor) = (libc::major(made), libc::minor(made));
    let device = crate::needs::rdma_device().unwrap_or_default();
    let place = Place::with(test, &["rdma"]);
    let bundle = place.bundle().edit(|config| {
        config["linux"]["resources"] = json!({
            "devices": [{ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rw" }],
            "rdma": { device.as_str(): { "hcaHandles": 2, "hcaObjects": 50 } }
        });
        let entry = json!({ "path": "/dev/uverbs", "type": "c", "major": major, "minor": minor });
        push(&mut config["linux"]["devices"], entry);
    });
    let bundle = bundle.args(&["sleep"]);
    let container = bundle.ready();
    let shown = format!("{device} hca_handle=2 hca_object=50");
    assert_eq!(value(&bundle, "rdma.max"), shown);
    let output = container.exec(&[], &["rdma-contexts", "/dev/uverbs", "3"]);
    assert_eq!(output.text(), "ok\nok\nEAGAIN");
    container.end();
}

/// Where it is mounted, there is no class of that name.
fn classes_need_resctrl(test: &Test) {
    let class = json!({ "closID": "capsid-absent", "enableMonitoring": true });
    let bundle = Bundle::new(test).edit(|config| config["linux"]["intelRdt"] = class);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    bundle.refused(match mounts.contains(" - resctrl ") {
        true => &["capsid-absent", "does not exist"],
        false => &["no resctrl file system is mounted", "mount -t resctrl"],
    });
}

fn classes_need_root(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| config["linux"]["intelRdt"] = json!({}));
    bundle.refused(&["/linux/intelRdt", "only real root"]);
}
