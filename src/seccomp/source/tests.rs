//! Files that resolve, files that do not, and where the mistake is said to be.

use serde_json::{Value, json};

use super::*;

fn file(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
}

fn resolved(machine: &str, file: &Value, capabilities: &[&str]) -> Resolved {
    let granted = |name: &str| capabilities.contains(&name);
    resolve_for(machine, file.to_string().as_bytes(), &granted).unwrap()
}

fn problems(text: &str) -> Vec<(String, String)> {
    let problems = resolve(text.as_bytes(), &|_| false).unwrap_err();
    let parts = problems.into_iter().map(|found| (found.at, found.problem));
    parts.collect()
}

/// First names of the rules that are left, with their places in the file.
fn left(machine: &str, rules: &Value, capabilities: &[&str]) -> Vec<(usize, String)> {
    let resolved = resolved(machine, &file(rules.clone()), capabilities);
    let rules = resolved.profile.syscalls().clone().unwrap();
    let names = rules.into_iter().map(|rule| rule.names()[0].clone());
    let places = resolved.rules.iter().map(|origin| origin.index);
    places.zip(names).collect()
}

#[test]
fn a_configurations_profile_is_itself() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent", "listenerMetadata": "x",
        "syscalls": [
            { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
              "args": [{ "index": 0, "value": u64::MAX, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ" }] },
        ],
    });
    let resolved = resolved("x86_64", &profile, &[]);
    let expected: LinuxSeccomp = serde_json::from_value(profile).unwrap();
    assert_eq!(resolved.profile, expected);
    let places: Vec<usize> = resolved.rules.iter().map(|origin| origin.index).collect();
    assert_eq!((places, resolved.notes), (vec![0, 1], vec![]));
}

#[test]
fn conditions_on_capabilities() {
    let rule = |name: &str, filter: Value| {
        let mut rule = json!({ "names": [name], "action": "SCMP_ACT_ALLOW" });
        rule.as_object_mut()
            .unwrap()
            .extend(filter.as_object().unwrap().clone());
        rule
    };
    let rules = json!([
        rule("read", json!({ "includes": {}, "excludes": null })),
        rule(
            "both",
            json!({ "includes": { "caps": ["CAP_A", "CAP_B"] } })
        ),
        rule("not", json!({ "excludes": { "caps": ["CAP_A", "CAP_B"] } })),
        rule(
            "mixed",
            json!({ "includes": { "caps": ["CAP_A"] }, "excludes": { "caps": ["CAP_B"] } })
        ),
    ]);
    let names = |capabilities: &[&str]| {
        left("x86_64", &rules, capabilities)
            .into_iter()
            .map(|(_, name)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["read", "not"]);
    assert_eq!(names(&["CAP_A"]), ["read", "mixed"]);
    assert_eq!(names(&["CAP_B"]), ["read"]);
    assert_eq!(names(&["CAP_A", "CAP_B"]), ["read", "both"]);
    assert_eq!(left("x86_64", &rules, &[])[1], (2, "not".to_owned()));
}

#[test]
fn conditions_on_the_machine_are_dockers() {
    let rules = json!([
        { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW",
          "includes": { "arches": ["amd64", "x32"] } },
        { "names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["x86"] } },
        { "names": ["cacheflush"], "action": "SCMP_ACT_ALLOW",
          "includes": { "arches": ["arm", "arm64"] } },
        { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
          "excludes": { "arches": ["s390", "amd64"] } },
        { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "comment": "since 4.8 it is safe",
          "includes": { "minKernel": "4.8" } },
        { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "excludes": { "minKernel": "4.8" } },
    ]);
    let places = |machine: &str| {
        let left = left(machine, &rules, &[]);
        left.into_iter().map(|(place, _)| place).collect::<Vec<_>>()
    };
    assert_eq!(places("x86_64"), [0, 4]);
    assert_eq!(places("aarch64"), [2, 3, 4]);
    let resolved = resolved("x86_64", &file(rules), &[]);
    assert_eq!(resolved.rules[1].comment, "since 4.8 it is safe");
    let at: Vec<&str> = resolved.notes.iter().map(|note| note.at.as_str()).collect();
    assert_eq!(
        at,
        [
            "/syscalls/4/includes/minKernel",
            "/syscalls/5/excludes/minKernel"
        ]
    );
}

#[test]
fn the_map_of_architectures_gives_those_of_this_machine() {
    let map = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": null,
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64",
              "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
        ],
    });
    let of = |machine| resolved(machine, &map, &[]).profile.architectures().clone();
    let x86 = vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
    assert_eq!(of("x86_64"), Some(x86));
    assert_eq!(
        of("aarch64"),
        Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
    );
    assert_eq!(of("riscv64"), None);
}

#[test]
fn older_and_other_spellings() {
    let rules = json!([
        { "name": "read", "action": "SCMP_ACT_ALLOW", "args": [] },
        { "names": ["bdflush"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "errno": "ENOSYS",
          "args": null, "comment": "", "includes": {}, "excludes": {} },
    ]);
    let resolved = resolved("x86_64", &file(rules), &[]);
    let rules = resolved.profile.syscalls().as_ref().unwrap();
    assert_eq!(
        (rules[0].names()[0].as_str(), rules[0].args()),
        ("read", &None)
    );
    assert_eq!(rules[1].errno_ret(), Some(38));
    assert!(resolved.notes.is_empty(), "{:?}", resolved.notes);
}

#[test]
fn what_has_no_effect_is_told() {
    let document = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "a/b~": 1,
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "arg": [],
            "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ", "valueTow": 1 }],
            "includes": { "cap": ["CAP_A"] } }],
    });
    let resolved = resolved("x86_64", &document, &[]);
    let at: Vec<&str> = resolved.notes.iter().map(|note| note.at.as_str()).collect();
    assert_eq!(
        at,
        [
            "/a~1b~0",
            "/syscalls/0/includes/cap",
            "/syscalls/0/arg",
            "/syscalls/0/args/0/valueTow"
        ]
    );
}

/// Rules between `|`, where the problem is, and a part of its text.
const MISTAKES: &str = r#"
{"names": ["read"], "action": "ALLOW"} => /syscalls/0/action: unknown variant `ALLOW`
{"names": ["read"]} => /syscalls/0: missing field `action`
{"action": "SCMP_ACT_LOG"} => /syscalls/0: missing field `names`
{"names": "read", "action": "SCMP_ACT_LOG"} => /syscalls/0/names: expected a sequence
{"names": ["read", 1], "action": "SCMP_ACT_LOG"} => /syscalls/0/names/1: expected a string
{"names": ["a"], "name": "a", "action": "SCMP_ACT_LOG"} => /syscalls/0/name: keep one
{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1} => /syscalls/0/errnoRet: expected u32
{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4294967296} => /syscalls/0/errnoRet: expected u32
{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM"} => /syscalls/0/errno: write errnoRet
{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "EQ"}]} => /syscalls/0/args/0/op: unknown variant `EQ`
{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": -1, "value": 1, "op": "SCMP_CMP_EQ"}]} => /syscalls/0/args/0/index: expected usize
{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}]} => /syscalls/0/args/0/value: expected u64
{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_EQ"}]} => /syscalls/0/args/0: missing field `value`
{"names": ["a"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}} => /syscalls/0/includes/minKernel: two numbers
{"names": ["a"], "action": "SCMP_ACT_LOG", "excludes": {"caps": [7]}} => /syscalls/0/excludes/caps/0: expected a string
{"names": ["a"], "action": "SCMP_ACT_LOG", "action": "SCMP_ACT_LOG"} => /syscalls/0: duplicate field `action`
"#;

#[test]
fn mistakes_have_a_place_and_a_reason() {
    for line in MISTAKES.trim().lines() {
        let (rule, expected) = line.split_once(" => ").unwrap();
        let (at, words) = expected.split_once(": ").unwrap();
        let found = problems(&format!(
            r#"{{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{rule}]}}"#
        ));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert_eq!(found[0].0, at, "{line}: {found:?}");
        assert!(found[0].1.contains(words), "{line}: {found:?}");
    }
}

#[test]
fn mistakes_outside_of_rules() {
    for (text, at, words) in [
        ("", "", "EOF"),
        ("null", "", "invalid type: null"),
        ("[]", "", "invalid type: sequence"),
        ("{}", "", "missing field `defaultAction`"),
        ("{\"defaultAction\": \"SCMP_ACT_LOG\"} x", "", "trailing"),
        (
            "{\"defaultAction\": \"SCMP_ACT_LOG\", \0}",
            "",
            "line 1 column",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_LOG\", \"syscalls\": [{\"names\": [\"re",
            "/syscalls/0/names/0",
            "EOF while parsing a string at line 1",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_Z80"]}"#,
            "/architectures/0",
            "unknown variant `SCMP_ARCH_Z80`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOUD"]}"#,
            "/flags/0",
            "unknown variant `SECCOMP_FILTER_FLAG_LOUD`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "/archMap",
            "keep one",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS"}"#,
            "/defaultErrno",
            "write defaultErrnoRet",
        ),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].0, at, "{text}: {found:?}");
        assert!(found[0].1.contains(words), "{text}: {found:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = problems(
        r#"{"defaultAction": "SCMP_ACT_NONE", "syscalls": [
            {"names": ["a"], "action": "X"}, {"names": ["a"], "action": "SCMP_ACT_LOG"}, 7]}"#,
    );
    let at: Vec<&str> = found.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(at, ["/defaultAction", "/syscalls/0/action", "/syscalls/2"]);
}

#[test]
fn deep_nesting_is_an_error() {
    for open in ["[", "{\"a\":"] {
        let text = format!(
            "{{\"defaultAction\": \"SCMP_ACT_LOG\", \"x\": {}",
            open.repeat(500_000)
        );
        assert_eq!(problems(&text).len(), 1);
    }
}
