use super::*;

use serde_json::{Value, json};

use crate::spec::bundle;

const ROOT: Caller = Caller { privileged: true };
const USER: Caller = Caller { privileged: false };

fn minimal() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "hostname": "h",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "cwd": "/",
            "env": ["A=b"],
        },
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"},
        ]},
    })
}

/// The same with a user namespace that has the ids 0..10 and 100..110, and a time namespace.
fn mapped() -> Value {
    let mut config = minimal();
    let map = json!([
        {"containerID": 0, "hostID": 1000, "size": 10},
        {"containerID": 100, "hostID": 5000, "size": 10},
    ]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "user"}), json!({"type": "time"})]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config
}

/// Sets the value at a JSON pointer; objects on the way are made when absent,
/// `null` takes the value away.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut place = config;
    for key in parent.split('/').skip(1) {
        place = match key.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[key],
        };
    }
    match value {
        Value::Null => drop(place.as_object_mut().unwrap().remove(key)),
        value => place[key] = value,
    }
}

fn validated(config: &Value, caller: Caller) -> Result<ValidSpec> {
    let file = Path::new("/b/config.json");
    let (spec, warnings) = bundle::parse(config.to_string().as_bytes(), file)?;
    validate(
        Bundle {
            dir: "/b".into(),
            spec,
            warnings,
        },
        caller,
    )
}

fn problems(config: &Value, caller: Caller) -> Vec<(String, String)> {
    match validated(config, caller) {
        Ok(_) => Vec::new(),
        Err(Error::Spec { file, problems }) => {
            assert_eq!(file, Path::new("/b/config.json"));
            problems.into_iter().map(|p| (p.at, p.problem)).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

fn warnings(config: &Value) -> Vec<String> {
    validated(config, ROOT).unwrap().warnings().to_vec()
}

/// Replaces `{a*5}` by `aaaaa`.
fn expand(line: &str) -> String {
    match line.split_once("{a*") {
        Some((before, rest)) => {
            let (count, after) = rest.split_once('}').unwrap();
            format!("{before}{}{after}", "a".repeat(count.parse().unwrap()))
        }
        None => line.to_owned(),
    }
}

/// Runs a table; each row sets one value and leads to the problem it names and to no other.
fn check_table(base: &Value, table: &str) {
    let rows = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for row in rows {
        count += 1;
        let (pointer, rest) = row.split_once(" = ").unwrap_or_else(|| panic!("{row}"));
        let (value, expected) = rest.rsplit_once(" => ").unwrap_or_else(|| panic!("{row}"));
        let value = serde_json::from_str(&expand(value)).unwrap_or_else(|e| panic!("{row}: {e}"));
        let mut config = base.clone();
        set(&mut config, pointer, value);
        let found = problems(&config, ROOT);
        if expected == "ok" {
            assert_eq!(found, [], "{row}");
            continue;
        }
        let (at, text) = expected.split_once(": ").unwrap();
        assert_eq!(found.len(), 1, "{row}\n{found:?}");
        assert_eq!(found[0].0.replace('\0', " "), at, "{row}\n{found:?}");
        assert!(found[0].1.contains(text), "{row}\n{found:?}");
    }
    assert!(count > 10, "the table was not read");
}

#[test]
fn process_table() {
    check_table(&minimal(), include_str!("tests/process.table"));
}

#[test]
fn mounts_table() {
    check_table(&minimal(), include_str!("tests/mounts.table"));
}

#[test]
fn namespaces_table() {
    check_table(&minimal(), include_str!("tests/namespaces.table"));
}

#[test]
fn mapped_table() {
    check_table(&mapped(), include_str!("tests/mapped.table"));
}

#[test]
fn linux_table() {
    check_table(&minimal(), include_str!("tests/linux.table"));
}

#[test]
fn warnings_do_not_refuse() {
    let mut config = minimal();
    let sets = json!({
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL", "CAP_CHOWN", "CAP_MARS"],
    });
    set(&mut config, "/process/capabilities", sets);
    let mount = json!([{"destination": "data", "type": "tmpfs"}]);
    set(&mut config, "/mounts", mount);
    assert_eq!(
        warnings(&config),
        [
            "/process/capabilities/ambient: unknown capability \"CAP_MARS\" is left out",
            "/process/capabilities/ambient: CAP_CHOWN will not be raised: not both permitted and inheritable",
            "/mounts/0/destination: a relative destination is deprecated; it is taken as relative to /",
        ]
    );
}

#[test]
fn an_empty_namespace_path_is_none() {
    let mut config = minimal();
    set(&mut config, "/linux/namespaces/2/path", json!(""));
    let (dir, spec, _) = validated(&config, ROOT).unwrap().into_parts();
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().clone())
        .unwrap();
    assert_eq!(namespaces[2].path(), &None);
    assert_eq!(dir, Path::new("/b"));
}

#[test]
fn without_linux_there_is_no_mount_namespace() {
    let mut config = minimal();
    set(&mut config, "/linux", json!(null));
    set(&mut config, "/hostname", json!(null));
    let found = problems(&config, ROOT);
    let text = "a namespace of type mount is required";
    assert_eq!(found, [("/linux/namespaces".to_owned(), text.to_owned())]);
}

#[test]
fn a_joined_time_namespace_keeps_its_offsets() {
    let mut config = mapped();
    set(
        &mut config,
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1}}),
    );
    assert_eq!(problems(&config, ROOT), []);
    set(
        &mut config,
        "/linux/namespaces/6/path",
        json!("/proc/9/ns/time"),
    );
    assert_eq!(problems(&config, ROOT)[0].0, "/linux/timeOffsets");
}

#[test]
fn more_mappings_than_the_kernel_takes() {
    let map = |count: u32| -> Value {
        (0..count)
            .map(|id| json!({"containerID": id, "hostID": id, "size": 1}))
            .collect()
    };
    let mut config = mapped();
    set(&mut config, "/linux/uidMappings", map(340));
    assert_eq!(problems(&config, ROOT), []);
    set(&mut config, "/linux/uidMappings", map(341));
    let text = "341 mappings; the kernel takes at most 340";
    assert_eq!(
        problems(&config, ROOT),
        [("/linux/uidMappings".to_owned(), text.to_owned())]
    );
}

/// containerd and CRI-O write it so for every container of a pod.
#[test]
fn a_joined_user_namespace_may_come_with_its_mappings() {
    let mut config = mapped();
    set(
        &mut config,
        "/linux/namespaces/5/path",
        json!("/proc/9/ns/user"),
    );
    let text = "the user namespace is joined by path and keeps its own mappings";
    assert_eq!(warnings(&config), [format!("/linux/uidMappings: {text}")]);
}

#[test]
fn an_unprivileged_caller_with_one_group_has_no_other() {
    let mut config = mapped();
    let one = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    set(&mut config, "/linux/gidMappings", one);
    set(&mut config, "/process/user/additionalGids", json!([0]));
    assert_eq!(problems(&config, ROOT), []);
    let found = problems(&config, USER);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "/process/user/additionalGids");
    assert!(found[0].1.contains("denies setgroups"), "{found:?}");
    set(&mut config, "/process/user/additionalGids", json!([]));
    assert_eq!(problems(&config, USER), []);
}

#[test]
fn network_devices_need_privileges_and_a_namespace() {
    let mut config = minimal();
    set(&mut config, "/linux/netDevices", json!({"eth0": {}}));
    assert_eq!(problems(&config, ROOT), []);
    assert!(problems(&config, USER)[0].1.contains("unprivileged"));
    let namespaces = json!([{"type": "mount"}, {"type": "uts"}]);
    set(&mut config, "/linux/namespaces", namespaces);
    assert!(
        problems(&config, ROOT)[0]
            .1
            .contains("namespace of type network")
    );
}

#[test]
fn kernel_parameters_need_their_namespace() {
    let names = [
        "kernel.msgmax",
        "fs.mqueue.msg_max",
        "net.ipv4.ip_forward",
        "kernel.domainname",
        "user.x",
    ];
    for name in names {
        let mut config = minimal();
        set(&mut config, "/hostname", json!(null));
        set(&mut config, "/linux/namespaces", json!([{"type": "mount"}]));
        set(&mut config, "/linux/sysctl", json!({name: "1"}));
        let found = problems(&config, ROOT);
        assert!(
            found[0].1.contains("it would change the host"),
            "{name}: {found:?}"
        );
    }
    for (path, refused) in [
        ("/proc/1/ns/net", true),
        ("/proc/self/ns/net", true),
        ("/proc/thread-self/ns/net", true),
        ("/proc/x/../1/ns/net", true),
        ("/proc/17/ns/net", false),
        ("/run/netns/pod", false),
    ] {
        let mut config = minimal();
        set(&mut config, "/linux/namespaces/4/path", json!(path));
        set(
            &mut config,
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1"}),
        );
        assert_eq!(!problems(&config, ROOT).is_empty(), refused, "{path}");
    }
}

#[test]
fn names_of_kernel_parameters_become_paths() {
    for (name, path) in [
        ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
        ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
        (
            "net.ipv4.conf.eno2/100.rp_filter",
            Some("net/ipv4/conf/eno2.100/rp_filter"),
        ),
        (
            "net/ipv4/conf/eno2.100/rp_filter",
            Some("net/ipv4/conf/eno2.100/rp_filter"),
        ),
        ("kernel", Some("kernel")),
        ("net.//.x", None),
        ("net/./x", None),
        ("/net", None),
        ("", None),
    ] {
        assert_eq!(sysctl::path(name).as_deref(), path, "{name}");
    }
}

#[test]
fn problems_come_together_and_are_limited() {
    let mut config = minimal();
    set(&mut config, "/ociVersion", json!(null));
    set(&mut config, "/process/cwd", json!("x"));
    set(&mut config, "/root/path", json!(""));
    let places: Vec<String> = problems(&config, ROOT)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places, ["/ociVersion", "/root/path", "/process/cwd"]);
    let text = validated(&config, ROOT).unwrap_err().to_string();
    assert!(
        text.starts_with("/b/config.json: /ociVersion: missing"),
        "{text}"
    );
    set(&mut config, "/process/env", json!(vec!["x"; 100]));
    let many = problems(&config, ROOT);
    assert_eq!(many.len(), 65);
    assert_eq!(many[64].1, "and 39 more problems");
}

#[test]
fn a_process_by_itself() {
    let file = Path::new("/tmp/p.json");
    let read = |text: &str| bundle::parse_process(text.as_bytes(), file).unwrap().0;
    let wrong = read(r#"{"user": {}, "cwd": "x", "args": []}"#);
    let error = validate_process(&wrong, file).unwrap_err().to_string();
    let expected = "/tmp/p.json: /args: must not be empty; /cwd: \"x\" must be an absolute path";
    assert_eq!(error, expected);
    let right = read(r#"{"user": {}, "cwd": "/", "args": ["x"]}"#);
    assert!(validate_process(&right, file).unwrap().is_empty());
}

#[test]
fn the_template_is_valid() {
    for rootless in [None, Some((1000, 1000))] {
        let spec = crate::spec::template::default_spec(rootless, true);
        let bundle = Bundle {
            dir: "/b".into(),
            spec,
            warnings: Vec::new(),
        };
        let caller = Caller {
            privileged: rootless.is_none(),
        };
        assert_eq!(
            validate(bundle, caller).unwrap().warnings(),
            [] as [String; 0]
        );
    }
}

#[test]
fn no_processes_means_no_limit_before_version_1_3() {
    let limit = |version: &str| {
        let text = format!(
            r#"{{"ociVersion":"{version}","root":{{"path":"r"}},
                "process":{{"cwd":"/","args":["a"],"user":{{"uid":0,"gid":0}}}},
                "linux":{{"namespaces":[{{"type":"mount"}}],"resources":{{"pids":{{"limit":0}}}}}}}}"#
        );
        let bundle = Bundle {
            dir: "/b".into(),
            spec: serde_json::from_str(&text).unwrap(),
            warnings: Vec::new(),
        };
        let valid = validate(bundle, Caller { privileged: true }).unwrap();
        let resources = valid.spec().linux().as_ref().unwrap().resources().clone();
        resources.unwrap().pids().map(|pids| pids.limit())
    };
    assert_eq!(limit("1.0.2-dev"), Some(-1));
    assert_eq!(limit("1.3.0"), Some(0));
}
