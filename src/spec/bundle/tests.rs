use super::*;

use oci_spec::runtime::LinuxSchedulerFlag;
use serde_json::json;

fn parsed(config: &Value) -> Result<(Spec, Vec<String>)> {
    parse(config.to_string().as_bytes(), Path::new("/b/config.json"))
}

fn problems(result: Result<(Spec, Vec<String>)>) -> Vec<Problem> {
    match result {
        Err(Error::Spec { file, problems }) => {
            assert_eq!(file, Path::new("/b/config.json"));
            problems
        }
        other => panic!("{other:?}"),
    }
}

fn minimal() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
    })
}

/// Sets the value at a JSON pointer; an object on the way is made when absent.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = minimal();
    let mut place = &mut config;
    for key in pointer.split('/').skip(1) {
        place = match key.parse::<usize>() {
            Ok(index) if place.is_array() => &mut place[index],
            _ => &mut place[key],
        };
    }
    *place = value;
    config
}

#[test]
fn wrong_types_are_named_by_their_pointer() {
    let table = [
        (
            "/linux/namespaces/1/type",
            json!("mnt"),
            "unknown variant `mnt`",
        ),
        (
            "/linux/namespaces/0",
            json!({"path": "/x"}),
            "missing field `type`",
        ),
        (
            "/process/args",
            json!("sh"),
            "invalid type: string \"sh\", expected a sequence",
        ),
        (
            "/process/user/uid",
            json!(-1),
            "invalid value: integer `-1`, expected u32",
        ),
        ("/process/user/gid", json!(1u64 << 32), "expected u32"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_FISH"}]),
            "unknown variant `RLIMIT_FISH`",
        ),
        (
            "/process/ioPriority",
            json!({"class": "X"}),
            "unknown variant `X`",
        ),
        (
            "/process/capabilities/bounding",
            json!([3]),
            "invalid type: integer `3`",
        ),
        (
            "/process/execCPUAffinity",
            json!({"initial": "a"}),
            "Invalid execCPUAffinity format",
        ),
        (
            "/root/readonly",
            json!(1),
            "invalid type: integer `1`, expected a boolean",
        ),
        ("/mounts", json!({}), "expected a sequence"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "ALLOW"}),
            "unknown variant `ALLOW`",
        ),
        (
            "/linux/resources/pids",
            json!({"limit": 1.5}),
            "floating point `1.5`, expected i64",
        ),
        (
            "/linux/personality",
            json!({"domain": "BSD"}),
            "unknown variant `BSD`",
        ),
        (
            "/annotations",
            json!({"a/b": 1}),
            "invalid type: integer `1`, expected a string",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "z"}]),
            "unknown variant `z`",
        ),
    ];
    for (at, value, text) in table {
        let found = problems(parsed(&with(at, value)));
        assert!(found[0].at.starts_with(at), "{at}: {found:?}");
        assert!(found[0].problem.contains(text), "{at}: {found:?}");
    }
}

#[test]
fn the_pointer_goes_to_the_field_itself() {
    let table = [
        (
            "/linux/seccomp",
            json!({"defaultAction": "ALLOW"}),
            "/linux/seccomp/defaultAction",
        ),
        (
            "/process/rlimits",
            json!([{"type": "X"}]),
            "/process/rlimits/0/type",
        ),
        ("/annotations", json!({"a/b~c": 1}), "/annotations/a~1b~0c"),
        (
            "/linux/namespaces/1",
            json!({"type": "x"}),
            "/linux/namespaces/1/type",
        ),
        (
            "/process/capabilities/bounding",
            json!(["CAP_KILL", 3]),
            "/process/capabilities/bounding/1",
        ),
    ];
    for (at, value, expected) in table {
        assert_eq!(problems(parsed(&with(at, value)))[0].at, expected);
    }
}

#[test]
fn what_is_not_json_is_named_by_line_and_column() {
    for (text, expected) in [
        (
            "{\n  \"ociVersion\": \"1.0.0\",\n}",
            "trailing comma at line 3 column 1",
        ),
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{} x", "trailing characters at line 1 column 4"),
        ("{\"a\": tru}", "expected ident at line 1 column 10"),
        ("{\"root\": {\"path\": \"\u{1}\"}}", "control character"),
    ] {
        let found = problems(parse(text.as_bytes(), Path::new("/b/config.json")));
        assert!(found[0].problem.contains(expected), "{text}: {found:?}");
    }
    let not_utf8 = parse(b"{\"hostname\": \"\xff\"}", Path::new("/b/config.json"));
    assert!(problems(not_utf8)[0].problem.contains("invalid unicode"));
}

#[test]
fn a_field_given_twice_is_refused_on_either_path() {
    for text in [
        r#"{"hostname": "a", "hostname": "b"}"#,
        r#"{"hostname": "a", "process": {"capabilities": {"ambient": ["CAP_NEW"]}}, "hostname": "b"}"#,
    ] {
        let found = problems(parse(text.as_bytes(), Path::new("/b/config.json")));
        assert!(
            found[0].problem.contains("duplicate field `hostname`"),
            "{found:?}"
        );
    }
}

#[test]
fn null_is_refused_in_runc_words() {
    for text in ["null", " null\n"] {
        let error = parse(text.as_bytes(), Path::new("/b/config.json")).unwrap_err();
        assert_eq!(error.to_string(), "config cannot be null");
    }
}

#[test]
fn unknown_capabilities_are_dropped_with_a_warning_in_all_sets() {
    for set in [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ] {
        let config = with(
            "/process/capabilities",
            json!({set: ["CAP_KILL", "CAP_MARS", "CAP_MARS"]}),
        );
        let (spec, warnings) = parsed(&config).unwrap();
        assert_eq!(
            warnings,
            [format!(
                "/process/capabilities/{set}: unknown capability \"CAP_MARS\" is left out"
            )]
        );
        let process = serde_json::to_value(spec.process()).unwrap();
        assert_eq!(process["capabilities"][set], json!(["CAP_KILL"]));
    }
}

#[test]
fn scheduler_flags_of_the_specification_are_accepted() {
    for flag in [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ] {
        let scheduler = json!({"policy": "SCHED_OTHER", "flags": [flag]});
        parsed(&with("/process/scheduler", scheduler)).unwrap();
    }
    let scheduler = json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let (spec, warnings) = parsed(&with("/process/scheduler", scheduler)).unwrap();
    assert!(warnings.is_empty());
    let process = spec.process().as_ref().unwrap();
    let flags = process.scheduler().as_ref().unwrap().flags().clone();
    assert_eq!(flags, Some(vec![LinuxSchedulerFlag::SchedResetOnFork]));
}

/// Every enumeration value of the runtime specification has a name the types know.
#[test]
fn enumerations_of_the_specification_are_accepted() {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for kind in words("pid network mount ipc uts user cgroup time") {
        parsed(&with("/linux/namespaces", json!([{"type": kind}]))).unwrap();
    }
    for arch in words(
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE \
         S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB",
    ) {
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [format!("SCMP_ARCH_{arch}")]});
        parsed(&with("/linux/seccomp", seccomp)).unwrap();
    }
    for limit in words(
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK",
    ) {
        parsed(&with(
            "/process/rlimits",
            json!([{"type": format!("RLIMIT_{limit}"), "soft": 1, "hard": 1}]),
        ))
        .unwrap();
    }
    for policy in words("OTHER FIFO RR BATCH ISO IDLE DEADLINE") {
        parsed(&with(
            "/process/scheduler",
            json!({"policy": format!("SCHED_{policy}")}),
        ))
        .unwrap();
    }
}

#[test]
fn what_is_not_ours_is_ignored() {
    let mut config = with("/somethingNew", json!({"deep": [1, {"er": null}]}));
    config["windows"] = json!({"layerFolders": 7});
    config["vm"] = json!({"hwConfig": {"vcpus": 2}});
    config["freebsd"] = json!(1);
    config["process"]["futureField"] = json!(true);
    let (spec, warnings) = parsed(&config).unwrap();
    assert!(warnings.is_empty());
    assert!(spec.windows().is_none());
}

#[test]
fn an_absent_user_is_root() {
    let (spec, _) = parsed(&with("/process", json!({"args": ["sh"]}))).unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
    assert_eq!(process.cwd(), Path::new(""));
}

#[test]
fn a_process_by_itself_gets_the_same_treatment() {
    let file = Path::new("/tmp/p.json");
    let text =
        br#"{"user": {}, "cwd": "/", "args": ["a"], "capabilities": {"ambient": ["CAP_MARS"]}}"#;
    let (_, warnings) = parse_process(text, file).unwrap();
    assert_eq!(
        warnings,
        ["/capabilities/ambient: unknown capability \"CAP_MARS\" is left out"]
    );
    let error = parse_process(br#"{"cwd": 1}"#, file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/tmp/p.json: /cwd: invalid type: integer `1`, expected path string"
    );
    assert!(parse_process(b"null", file).is_err());
}

#[test]
fn deep_nesting_ends_in_an_error_and_not_in_the_stack() {
    let mut text = String::from("{\"process\": ");
    text.push_str(&"[".repeat(1 << 20));
    assert!(parse(text.as_bytes(), Path::new("/b/config.json")).is_err());
    let ignored = format!("{{\"x\": {}", "[".repeat(1 << 20));
    assert!(parse(ignored.as_bytes(), Path::new("/b/config.json")).is_err());
}

#[test]
fn files_that_are_missing_or_too_large() {
    let dir = std::env::temp_dir().join(format!("capsid-bundle-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let missing = read(&dir).unwrap_err().to_string();
    let large = File::create(dir.join("config.json")).unwrap();
    large.set_len(LIMIT + 1).unwrap();
    let too_large = read(&dir).unwrap_err().to_string();
    std::fs::write(dir.join("config.json"), minimal().to_string()).unwrap();
    let found = read(&dir).map(|bundle| bundle.dir);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(missing, "JSON specification file config.json not found");
    assert_eq!(
        too_large,
        format!("{}: larger than 16 MiB", dir.join("config.json").display())
    );
    assert_eq!(found.unwrap(), dir);
    let gone = read(&dir).unwrap_err().to_string();
    assert!(gone.starts_with("open the bundle "), "{gone}");
}
