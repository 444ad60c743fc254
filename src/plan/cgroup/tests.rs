use super::*;

fn facts() -> CgroupFacts {
    CgroupFacts {
        mount: Some("/sys/fs/cgroup".into()),
        own: "/user.slice/session.scope".into(),
    }
}

fn plan_of(path: Option<&str>, resources: &str) -> Result<CgroupPlan, Vec<Problem>> {
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    let request = Request {
        id: "box",
        path: path.map(Path::new),
        resources: Some(&resources),
        devices: &[],
        device_filter: false,
    };
    plan(&request, &facts())
}

/// The limits of a configuration as `file=value`.
fn limits(resources: &str) -> Vec<String> {
    let plan = plan_of(None, resources).unwrap();
    plan.limits
        .iter()
        .map(|limit| format!("{}={}", limit.file, limit.value))
        .collect()
}

/// Where the problems of a configuration are.
fn problems(resources: &str) -> Vec<String> {
    plan_of(None, resources)
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.at)
        .collect()
}

#[test]
fn the_place_follows_runc() {
    let place = |path: Option<&str>| plan_of(path, "{}").unwrap().path;
    assert_eq!(place(None), Path::new("/sys/fs/cgroup/user.slice/box"));
    assert_eq!(place(Some("")), Path::new("/sys/fs/cgroup/user.slice/box"));
    assert_eq!(place(Some("/a//b/./c/")), Path::new("/sys/fs/cgroup/a/b/c"));
    assert_eq!(
        place(Some("a/b")),
        Path::new("/sys/fs/cgroup/user.slice/a/b")
    );
    let at_root = CgroupFacts {
        mount: Some("/m".into()),
        own: "/".into(),
    };
    let request = Request {
        id: "box",
        path: None,
        resources: None,
        devices: &[],
        device_filter: false,
    };
    assert_eq!(plan(&request, &at_root).unwrap().path, Path::new("/m/box"));
}

#[test]
fn no_path_leads_out_or_to_the_root() {
    for path in ["/..", "a/../../b", "/a/..", "/", "//", ".", "a\nb", "a\0b"] {
        let problems = plan_of(Some(path), "{}").unwrap_err();
        assert_eq!(problems[0].at, "/linux/cgroupsPath", "{path:?}");
    }
}

#[test]
fn memory_and_swap() {
    assert_eq!(
        limits(r#"{"memory":{"limit":1000000}}"#),
        ["memory.max=1000000"]
    );
    assert_eq!(
        limits(r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#),
        ["memory.swap.max=50", "memory.max=100", "memory.low=50"]
    );
    // No swap at all is a limit, not an absent one.
    assert_eq!(
        limits(r#"{"memory":{"limit":100,"swap":100}}"#),
        ["memory.swap.max=0", "memory.max=100"]
    );
    assert_eq!(
        limits(r#"{"memory":{"limit":-1}}"#),
        ["memory.swap.max=max", "memory.max=max"]
    );
    assert_eq!(limits(r#"{"memory":{"swap":-1}}"#), ["memory.swap.max=max"]);
    assert!(limits(r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#).is_empty());
    assert_eq!(
        problems(r#"{"memory":{"swap":5}}"#),
        ["/linux/resources/memory/swap"]
    );
    assert_eq!(
        problems(r#"{"memory":{"limit":10,"swap":5}}"#),
        ["/linux/resources/memory/swap"]
    );
    assert_eq!(
        problems(r#"{"memory":{"limit":-2}}"#),
        ["/linux/resources/memory/limit"]
    );
    assert_eq!(problems(r#"{"memory":{"limit":-2,"swap":-3}}"#).len(), 2);
}

#[test]
fn cpu_limits() {
    assert_eq!(
        limits(r#"{"cpu":{"quota":50000}}"#),
        ["cpu.max=50000 100000"]
    );
    assert_eq!(limits(r#"{"cpu":{"period":20000}}"#), ["cpu.max=max 20000"]);
    assert_eq!(
        limits(r#"{"cpu":{"quota":-1,"period":20000}}"#),
        ["cpu.max=max 20000"]
    );
    assert_eq!(
        limits(r#"{"cpu":{"quota":1000,"period":2000,"burst":500,"shares":1024}}"#),
        ["cpu.weight=100", "cpu.max=1000 2000", "cpu.max.burst=500"]
    );
    assert_eq!(limits(r#"{"cpu":{"idle":1,"shares":512}}"#), ["cpu.idle=1"]);
    assert_eq!(
        limits(r#"{"cpu":{"idle":0,"shares":2}}"#),
        ["cpu.idle=0", "cpu.weight=1"]
    );
    assert_eq!(
        limits(r#"{"cpu":{"cpus":"0-1,3","mems":"0"}}"#),
        ["cpuset.cpus=0-1,3", "cpuset.mems=0"]
    );
    assert!(limits(r#"{"cpu":{"quota":0,"period":0,"shares":0,"cpus":"","mems":""}}"#).is_empty());
    assert_eq!(
        problems(r#"{"cpu":{"quota":-5}}"#),
        ["/linux/resources/cpu/quota"]
    );
    assert_eq!(
        problems(r#"{"cpu":{"idle":2}}"#),
        ["/linux/resources/cpu/idle"]
    );
    assert_eq!(
        problems(r#"{"cpu":{"cpus":"all"}}"#),
        ["/linux/resources/cpu/cpus"]
    );
}

#[test]
fn shares_become_weights_on_the_curve() {
    // Computed apart from this code, with the formula in decimal arithmetic.
    let known = [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 2),
        (10, 4),
        (100, 17),
        (512, 59),
        (1024, 100),
    ];
    let large = [
        (2048, 174),
        (8192, 532),
        (262_143, 10_000),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ];
    for (shares, expected) in known.into_iter().chain(large) {
        assert_eq!(resources::weight(shares), expected, "{shares}");
    }
}

#[test]
fn zero_pids_leave_room_for_the_first() {
    assert_eq!(limits(r#"{"pids":{"limit":0}}"#), ["pids.max=1"]);
    assert_eq!(limits(r#"{"pids":{"limit":-1}}"#), ["pids.max=max"]);
    assert_eq!(limits(r#"{"pids":{"limit":64}}"#), ["pids.max=64"]);
    assert_eq!(
        problems(r#"{"pids":{"limit":-7}}"#),
        ["/linux/resources/pids/limit"]
    );
}

#[test]
fn what_v2_lacks_is_a_problem() {
    for (resources, at) in [
        (r#"{"memory":{"swappiness":10}}"#, "memory/swappiness"),
        (
            r#"{"memory":{"disableOOMKiller":true}}"#,
            "memory/disableOOMKiller",
        ),
        (
            r#"{"memory":{"useHierarchy":false}}"#,
            "memory/useHierarchy",
        ),
        (r#"{"cpu":{"realtimeRuntime":5}}"#, "cpu/realtimeRuntime"),
        (r#"{"cpu":{"realtimePeriod":5}}"#, "cpu/realtimePeriod"),
        (r#"{"network":{"classID":1}}"#, "network/classID"),
        (
            r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#,
            "network/priorities",
        ),
        (r#"{"blockIO":{"leafWeight":100}}"#, "blockIO/leafWeight"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":100}]}}"#,
            "blockIO/weightDevice/0/leafWeight",
        ),
    ] {
        assert_eq!(
            problems(resources),
            [format!("/linux/resources/{at}")],
            "{resources}"
        );
    }
    assert!(
        limits(r#"{"memory":{"disableOOMKiller":false},"blockIO":{},"network":{}}"#).is_empty()
    );
}

#[test]
fn what_is_left_out_is_noted() {
    for resources in [
        r#"{"memory":{"kernel":5}}"#,
        r#"{"memory":{"kernelTCP":5}}"#,
        r#"{"devices":[{"allow":false,"access":"rwm"}]}"#,
        r#"{"pids":{"limit":0}}"#,
    ] {
        assert_eq!(
            plan_of(None, resources).unwrap().notes.len(),
            1,
            "{resources}"
        );
    }
}

#[test]
fn devices_are_filtered_or_it_is_said() {
    let resources = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    let planned = |device_filter, mount: Option<&str>, resources| {
        let facts = CgroupFacts {
            mount: mount.map(PathBuf::from),
            own: "/".into(),
        };
        let request = Request {
            id: "box",
            path: None,
            resources,
            devices: &[],
            device_filter,
        };
        let plan = plan(&request, &facts).unwrap();
        (plan.devices.is_some(), plan.notes.len())
    };
    let mount = Some("/sys/fs/cgroup");
    assert_eq!(planned(true, mount, Some(&resources)), (true, 0));
    // Nothing said is nothing allowed.
    assert_eq!(planned(true, mount, None), (true, 0));
    assert_eq!(planned(true, None, Some(&resources)), (false, 1));
    assert_eq!(planned(false, mount, Some(&resources)), (false, 1));
    assert_eq!(planned(false, mount, None), (false, 0));
}

#[test]
fn unified_comes_last_and_line_by_line() {
    assert_eq!(
        limits(
            r#"{"unified":{"memory.high":"5","io.max":"8:0 rbps=1\n8:16 rbps=2\n"},"pids":{"limit":3}}"#
        ),
        [
            "pids.max=3",
            "io.max=8:0 rbps=1",
            "io.max=8:16 rbps=2",
            "memory.high=5"
        ]
    );
    for file in [
        "a/b.c",
        "../x.y",
        "nodot",
        ".max",
        "memory.",
        "cgroup.procs",
        "cgroup.kill",
    ] {
        let resources = format!(r#"{{"unified":{{"{file}":"1"}}}}"#);
        assert_eq!(problems(&resources).len(), 1, "{file}");
    }
    assert_eq!(
        problems(r#"{"unified":{"a/b.c":"1"}}"#),
        ["/linux/resources/unified/a~1b.c"]
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let all = r#"{"memory":{"swappiness":1,"limit":-5},"cpu":{"realtimePeriod":1},"blockIO":{"weight":9}}"#;
    let problems = plan_of(Some("/"), all).unwrap_err();
    assert_eq!(problems.len(), 5, "{problems:?}");
}

#[test]
fn controllers_come_from_the_files() {
    let mut plan = plan_of(
        None,
        r#"{"memory":{"limit":5,"swap":5},"pids":{"limit":1},"unified":{"cgroup.max.depth":"3"}}"#,
    )
    .unwrap();
    plan.prefer("pids.max", "4096");
    plan.prefer("cpu.weight", "50");
    assert_eq!(plan.controllers(true), ["pids", "memory"]);
    assert_eq!(plan.controllers(false), ["pids", "memory", "cpu"]);
    assert_eq!(plan.limits[0].value, "1");
    assert_eq!(
        plan.to_string(),
        "make the cgroup /sys/fs/cgroup/user.slice/box with the controllers pids, memory, cpu"
    );
    assert_eq!(plan.limits[0].to_string(), "set pids.max to 1");
}

#[test]
fn the_kernels_spelling_is_recognized() {
    let shown =
        |file: &str, value: &str, read: &str| Limit::new(file, value, true).is_shown_as(read);
    assert!(shown("memory.max", "1000001", "999424\n"));
    assert!(!shown("memory.max", "1000001", "1003520\n"));
    assert!(!shown("memory.max", "1000001", "max\n"));
    assert!(shown("memory.max", "9223372036854775807", "max\n"));
    assert!(shown("memory.max", "max", "max\n"));
    assert!(!shown("memory.max", "max", "4096\n"));
    assert!(shown("memory.high", "1G", "1073741824\n"));
    assert!(shown("pids.max", "64", "64\n"));
    assert!(!shown("pids.max", "64", "max\n"));
    assert!(shown("cpu.max", "max 20000", "max 20000\n"));
    assert!(!shown("cpu.max", "1000 20000", "max 20000\n"));
    assert!(shown("cpuset.cpus", "0,1,2,5", "0-2,5\n"));
    assert!(!shown("cpuset.cpus", "0-2", "0-1\n"));
    assert!(!shown("cpuset.cpus", "0-2", "junk\n"));
    assert!(shown(
        "io.max",
        "8:0 rbps=1",
        "8:0 rbps=1 wbps=max riops=max wiops=max\n"
    ));
}

#[test]
fn limits_that_cannot_be_had_are_never_dropped() {
    let none = plan_of(None, "{}").unwrap();
    let some = plan_of(None, r#"{"pids":{"limit":5}}"#).unwrap();
    let denied = Access::Denied("/sys/fs/cgroup/user.slice".into(), libc::EACCES);
    for privileged in [false, true] {
        assert!(matches!(
            none.clone().settle(&Access::Writable, privileged),
            Ok(Ok(_))
        ));
        assert!(matches!(
            none.clone().settle(&Access::NoMount, privileged),
            Ok(Err(_))
        ));
        assert!(some.clone().settle(&Access::NoMount, privileged).is_err());
        assert!(some.clone().settle(&denied, privileged).is_err());
    }
    let why = none.clone().settle(&denied, false).unwrap().unwrap_err();
    assert!(why.contains("/sys/fs/cgroup/user.slice"), "{why}");
    assert!(none.settle(&denied, true).is_err());
    // Capsid's own defaults do not count as limits that were asked for.
    let mut defaults = plan_of(None, "{}").unwrap();
    defaults.prefer("pids.max", "4096");
    assert!(matches!(defaults.settle(&denied, false), Ok(Err(_))));
}

#[test]
fn huge_pages_are_limited_with_what_is_reserved() {
    let found = limits(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#);
    assert_eq!(
        found,
        ["hugetlb.2MB.rsvd.max=4194304", "hugetlb.2MB.max=4194304"]
    );
}

#[test]
fn weights_go_to_the_scheduler_or_to_the_cost_model() {
    let planned = |resources: &str| {
        let limits = plan_of(None, resources).unwrap().limits;
        let limits = limits.into_iter().map(|limit| {
            let instead = limit.instead.unwrap();
            [
                limit.file + "=" + &limit.value,
                instead.file + "=" + &instead.value,
            ]
        });
        limits.collect::<Vec<_>>()
    };
    assert_eq!(
        planned(r#"{"blockIO":{"weight":100}}"#),
        [["io.bfq.weight=100", "io.weight=910"]]
    );
    assert_eq!(
        planned(r#"{"blockIO":{"weightDevice":[{"major":8,"minor":16,"weight":1000}]}}"#),
        [["io.bfq.weight=8:16 1000", "io.weight=8:16 10000"]]
    );
    assert_eq!(io::io_weight(10), 1);
    assert_eq!(io::io_weight(500), 4950);
    assert!(limits(r#"{"blockIO":{"weight":0}}"#).is_empty());
    for wrong in [9, 1001] {
        let resources = format!(r#"{{"blockIO":{{"weight":{wrong}}}}}"#);
        assert_eq!(problems(&resources), ["/linux/resources/blockIO/weight"]);
    }
}

#[test]
fn throttles_and_rdma_become_lines() {
    let resources = r#"{"blockIO":{
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}],
        "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
        "throttleReadIOPSDevice":[{"major":8,"minor":16,"rate":3}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]},
        "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"mlx4_0":{"hcaObjects":1},"a":{}}}"#;
    assert_eq!(
        limits(resources),
        [
            "io.max=8:0 rbps=1048576",
            "io.max=8:0 wbps=2",
            "io.max=8:16 riops=3",
            "io.max=8:16 wiops=max",
            "rdma.max=mlx4_0 hca_object=1",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
    assert_eq!(
        plan_of(None, resources).unwrap().controllers(true),
        ["io", "rdma"]
    );
}

#[test]
fn usage_is_looked_at_only_where_it_was_asked_for() {
    let usage = |check: bool| {
        let memory = format!(
            r#"{{"memory":{{"limit":100,"swap":150,"reservation":5,"checkBeforeUpdate":{check}}}}}"#
        );
        let limits = plan_of(None, &memory).unwrap().limits;
        limits.iter().map(|limit| limit.usage).collect::<Vec<_>>()
    };
    assert_eq!(
        usage(true),
        [Some("memory.swap.current"), Some("memory.current"), None]
    );
    assert_eq!(usage(false), [None, None, None]);
}

#[test]
fn one_line_of_many_is_recognized() {
    let shown =
        |file: &str, value: &str, read: &str| Limit::new(file, value, true).is_shown_as(read);
    let read = "8:0 rbps=1 wbps=max riops=3 wiops=max\n8:16 rbps=2 wbps=2 riops=2 wiops=2\n";
    assert!(shown("io.max", "8:0 rbps=1", read));
    assert!(shown("io.max", "8:0 riops=3 rbps=1", read));
    assert!(!shown("io.max", "8:0 rbps=2", read));
    assert!(!shown("io.max", "8:1 rbps=2", read));
    // Nothing left to limit: the kernel shows no line.
    assert!(shown("io.max", "8:32 wiops=max", read));
    assert!(shown("io.weight", "910", "default 910\n8:0 50\n"));
    assert!(!shown("io.weight", "910", "default 100\n8:0 910\n"));
    assert!(shown("io.bfq.weight", "8:0 50", "default 910\n8:0 50\n"));
    assert!(shown(
        "rdma.max",
        "mlx5_0 hca_object=2",
        "mlx5_0 hca_handle=max hca_object=2\n"
    ));
    assert!(shown("misc.max", "sev 5", "sev 5\nsev_es max\n"));
    assert!(shown("hugetlb.2MB.max", "3000000", "2097152\n"));
    assert!(!shown("hugetlb.2MB.max", "5000000", "2097152\n"));
    assert!(shown("hugetlb.1GB.rsvd.max", "max", "max\n"));
}
