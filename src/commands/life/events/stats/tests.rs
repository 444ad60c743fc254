use serde_json::{Value, json};

use super::*;

/// The statistics of a cgroup with these files.
fn stats(files: &[(&str, &str)]) -> Value {
    let sizes = ["2MB".to_owned(), "1GB".to_owned()];
    let read = |name: &str| {
        let found = files.iter().find(|(file, _)| *file == name);
        Ok(found.map(|(_, content)| (*content).to_owned()))
    };
    serde_json::to_value(Stats::from_files(&sizes, read).unwrap()).unwrap()
}

#[test]
fn nothing_counted_has_the_shape_that_go_prints() {
    let entry = json!({ "limit": 0, "failcnt": 0 });
    assert_eq!(
        stats(&[]),
        json!({
            "cpu": { "usage": { "kernel": 0, "user": 0 }, "throttling": {} },
            "cpuset": {
                "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
                "sched_load_balance": 0, "sched_relax_domain_level": 0
            },
            "memory": { "usage": entry, "swap": entry, "kernel": entry, "kernelTCP": entry },
            "pids": {},
            "blkio": {},
            "hugetlb": {},
            "intel_rdt": {},
            "network_interfaces": null
        })
    );
}

#[test]
fn every_file_finds_its_place() {
    let stats = stats(&[
        (
            "cpu.stat",
            "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.50 avg60=0.10 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=4\n",
        ),
        ("cpuset.cpus.effective", "0-2,5\n"),
        ("cpuset.mems.effective", "0\n"),
        ("pids.current", "3\n"),
        ("pids.max", "64\n"),
        (
            "io.stat",
            "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
        ),
        ("hugetlb.2MB.current", "0\n"),
        ("hugetlb.2MB.rsvd.current", "2097152\n"),
        ("hugetlb.2MB.events", "max 5\n"),
    ]);
    let at = |pointer: &str| stats.pointer(pointer).unwrap().clone();
    assert_eq!(
        at("/cpu/usage"),
        json!({ "total": 7000, "kernel": 3000, "user": 4000 })
    );
    assert_eq!(
        at("/cpu/throttling"),
        json!({ "periods": 9, "throttledPeriods": 2, "throttledTime": 5000 })
    );
    assert_eq!(
        at("/cpu/psi/some"),
        json!({ "avg10": 1.5, "avg60": 0.1, "avg300": 0.0, "total": 123 })
    );
    assert_eq!(at("/cpu/psi/full/avg300"), json!(0.25));
    assert_eq!(at("/cpuset/cpus"), json!([0, 1, 2, 5]));
    assert_eq!(at("/cpuset/mems"), json!([0]));
    assert_eq!(at("/pids"), json!({ "current": 3, "limit": 64 }));
    let entry = |op: &str, value: u64| json!({ "major": 8, "minor": 16, "op": op, "value": value });
    assert_eq!(
        at("/blkio/ioServiceBytesRecursive"),
        json!([entry("Read", 1), entry("Write", 2)])
    );
    assert_eq!(
        at("/blkio/ioServicedRecursive"),
        json!([entry("Read", 3), entry("Write", 4)])
    );
    assert_eq!(
        at("/hugetlb"),
        json!({ "2MB": { "usage": 2_097_152, "failcnt": 5 } })
    );
}

#[test]
fn swap_is_counted_together_with_memory() {
    let files = [
        ("memory.max", "1000\n"),
        ("memory.current", "400\n"),
        ("memory.peak", "500\n"),
        ("memory.swap.max", "200\n"),
        ("memory.swap.current", "20\n"),
        ("memory.stat", "anon 100\nfile 300\nslab x\n"),
    ];
    let memory = stats(&files)["memory"].clone();
    assert_eq!(
        memory["usage"],
        json!({ "limit": 1000, "usage": 400, "max": 500, "failcnt": 0 })
    );
    assert_eq!(
        memory["swap"],
        json!({ "limit": 1200, "usage": 420, "failcnt": 0 })
    );
    assert_eq!(memory["cache"], json!(300));
    assert_eq!(memory["raw"], json!({ "anon": 100, "file": 300 }));
    let unlimited = stats(&[("memory.max", "max\n"), ("memory.swap.max", "max\n")]);
    assert_eq!(unlimited["memory"]["usage"]["limit"], json!(u64::MAX));
    assert_eq!(unlimited["memory"]["swap"]["limit"], json!(u64::MAX));
    // Here no limit is 0, as runc has it.
    assert_eq!(stats(&[("pids.max", "max\n")])["pids"], json!({}));
}

#[test]
fn pages_are_named_as_the_controller_names_them() {
    for (directory, size) in [
        ("hugepages-64kB", "64KB"),
        ("hugepages-2048kB", "2MB"),
        ("hugepages-1048576kB", "1GB"),
    ] {
        assert_eq!(page_size(directory).as_deref(), Some(size));
    }
    assert_eq!(page_size("other"), None);
}
