use super::*;

fn request(path: Option<&str>, instance: Instance) -> Request<'_> {
    Request {
        id: "box",
        path: path.map(Path::new),
        instance,
        asked: true,
        control_group: match instance {
            Instance::System => "",
            Instance::User => "/user.slice/user-7.slice/user@7.service",
        },
    }
}

fn empty() -> CgroupPlan {
    CgroupPlan {
        mount: "/sys/fs/cgroup".into(),
        path: PathBuf::new(),
        limits: Vec::new(),
        devices: None,
        notes: Vec::new(),
        scope: None,
        owner: None,
    }
}

fn place(path: Option<&str>, instance: Instance) -> Result<String, String> {
    in_scope(empty(), &request(path, instance), std::iter::empty())
        .map(|plan| plan.path.to_string_lossy().into_owned())
        .map_err(|problems| problems[0].problem.clone())
}

#[test]
fn the_place_follows_the_names() {
    let cases = [
        (None, "/system.slice/capsid-box.scope"),
        (Some(""), "/system.slice/capsid-box.scope"),
        (
            Some("machine.slice:libpod:1"),
            "/machine.slice/libpod-1.scope",
        ),
        (Some(":docker:1"), "/system.slice/docker-1.scope"),
        (Some("-.slice::1"), "/1.scope"),
        (
            Some("kubepods-burstable-pod1.slice:cri-containerd:c"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-c.scope",
        ),
    ];
    for (path, expected) in cases {
        let place = place(path, Instance::System).unwrap();
        assert_eq!(place, format!("/sys/fs/cgroup{expected}"));
    }
    assert_eq!(
        place(None, Instance::User).unwrap(),
        "/sys/fs/cgroup/user.slice/user-7.slice/user@7.service/user.slice/capsid-box.scope"
    );
}

#[test]
fn other_paths_are_refused() {
    let long = format!("a.slice:b:{}", "c".repeat(250));
    for path in [
        "/a/b",
        "a.slice:b",
        "a.slice:b:c:d",
        "a.slice:b:",
        "a.slice:b:c.slice",
        "a.slice:b:c/../d",
        "a.slice::.",
        "a:b:c",
        "-a.slice:b:c",
        "a-.slice:b:c",
        "a--b.slice:b:c",
        ".slice:b:c",
        "a/b.slice:b:c",
        "../a.slice:b:c",
        "a.slice:b:c d",
        &long,
    ] {
        let refused = place(Some(path), Instance::System);
        assert!(refused.is_err(), "{path}: {refused:?}");
    }
    let refused = place(Some("/a/b"), Instance::System).unwrap_err();
    assert!(
        refused.contains("expected cgroupsPath to be of format \"slice:prefix:name\""),
        "{refused}"
    );
}

fn told(file: &str, value: &str) -> Vec<(String, Value)> {
    of_limit(&Limit::new(file, value, true))
        .into_iter()
        .map(|property| (property.name, property.value))
        .collect()
}

#[test]
fn limits_have_systemds_names() {
    let one = |name: &str, value| vec![(name.to_owned(), value)];
    let number = Value::Number;
    assert_eq!(told("memory.max", "4096"), one("MemoryMax", number(4096)));
    assert_eq!(
        told("memory.swap.max", "max"),
        one("MemorySwapMax", number(u64::MAX))
    );
    assert_eq!(told("pids.max", "max"), one("TasksMax", number(u64::MAX)));
    assert_eq!(told("cpu.weight", "100"), one("CPUWeight", number(100)));
    assert_eq!(told("io.weight", "default 50"), one("IOWeight", number(50)));
    assert_eq!(
        told("cpuset.cpus", "0-1,9"),
        one("AllowedCPUs", Value::Bytes(vec![3, 2]))
    );
    assert_eq!(
        told("cpuset.mems", "0"),
        one("AllowedMemoryNodes", Value::Bytes(vec![1]))
    );
    for (file, value) in [
        ("io.max", "8:0 rbps=1"),
        ("memory.oom.group", "1"),
        ("io.weight", "8:0 50"),
        ("cpuset.cpus", "0-4000000000"),
        ("cpu.max", "nonsense 0"),
    ] {
        assert_eq!(told(file, value), [], "{file}");
    }
}

#[test]
fn a_quota_is_rounded_up_to_hundredths_of_a_cpu() {
    for (value, of_second, period) in [
        ("50000 100000", 500_000, 100_000),
        ("1000 100000", 10_000, 100_000),
        ("1001 100000", 20_000, 100_000),
        ("100000 30000", 3_340_000, 30_000),
        ("max 50000", u64::MAX, 50_000),
        ("20000", 200_000, 100_000),
    ] {
        let expected = [
            ("CPUQuotaPerSecUSec".to_owned(), Value::Number(of_second)),
            ("CPUQuotaPeriodUSec".to_owned(), Value::Number(period)),
        ];
        assert_eq!(told("cpu.max", value), expected, "{value}");
    }
}

#[test]
fn only_harmless_annotations_become_properties() {
    let good = [
        (
            "CollectMode",
            "'inactive-or-failed'",
            "CollectMode",
            Value::Text("inactive-or-failed".into()),
        ),
        (
            "DefaultDependencies",
            "true",
            "DefaultDependencies",
            Value::Flag(true),
        ),
        (
            "After",
            "['crio.service', \"a@b.service\"]",
            "After",
            Value::Texts(vec!["crio.service".into(), "a@b.service".into()]),
        ),
        (
            "TimeoutStopUSec",
            "uint64 5",
            "TimeoutStopUSec",
            Value::Number(5),
        ),
        (
            "TimeoutStopSec",
            "uint64 5",
            "TimeoutStopUSec",
            Value::Number(5_000_000),
        ),
        (
            "TimeoutStopSec",
            "1.25",
            "TimeoutStopUSec",
            Value::Number(1_250_000),
        ),
        ("KillSignal", "15", "KillSignal", Value::Signal(15)),
        ("KillSignal", "int32 37", "KillSignal", Value::Signal(37)),
    ];
    for (name, text, expected, value) in good {
        assert_eq!(property(name, text), Ok(new(expected, value)), "{text}");
    }
}

#[test]
fn other_annotations_are_refused() {
    for (name, text) in [
        ("ExecStopPost", "'/bin/sh'"),
        ("Delegate", "false"),
        ("Slice", "'system.slice'"),
        ("MemoryMax", "uint64 1"),
        ("CollectMode", "'other'"),
        ("CollectMode", "inactive"),
        ("After", "['a/b']"),
        ("After", "'a.service'"),
        ("TimeoutStopUSec", "'5'"),
        ("KillSignal", "0"),
        ("KillSignal", "65"),
        ("KillSignal", "'TERM'"),
        ("TimeoutStopSec", "-1"),
        ("TimeoutStopSec", "1.2345678"),
        ("TimeoutStopSec", "99999999999999999999"),
        ("", ""),
    ] {
        assert!(property(name, text).is_err(), "{name} {text}");
    }
    let annotations = [
        ("org.systemd.property.ExecStopPost", "x"),
        ("a.b/c", "unrelated"),
    ];
    let problems = in_scope(
        empty(),
        &request(None, Instance::System),
        annotations.into_iter(),
    )
    .unwrap_err();
    assert_eq!(
        problems[0].at,
        "/annotations/org.systemd.property.ExecStopPost"
    );
    assert_eq!(problems.len(), 1);
}

#[test]
fn each_property_is_there_once() {
    let annotations = [("org.systemd.property.DefaultDependencies", "true")];
    let plan = in_scope(
        empty(),
        &request(None, Instance::User),
        annotations.into_iter(),
    )
    .unwrap();
    let limits = [
        Limit::new("memory.max", "4096", true),
        Limit::new("memory.max", "8192", true),
    ];
    let properties = plan.scope.unwrap().properties(9, &limits);
    let words: Vec<String> = properties
        .iter()
        .map(|property| format!("{}={:?}", property.name, property.value))
        .collect();
    assert_eq!(
        words,
        [
            r#"Description=Text("capsid container box")"#,
            r#"Slice=Text("user.slice")"#,
            "Delegate=Flag(true)",
            "CPUAccounting=Flag(true)",
            "IOAccounting=Flag(true)",
            "MemoryAccounting=Flag(true)",
            "TasksAccounting=Flag(true)",
            "PIDs=Pids([9])",
            "MemoryMax=Number(8192)",
            "DefaultDependencies=Flag(true)",
        ]
    );
}
