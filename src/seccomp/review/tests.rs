//! Rules for one name, and which of them can go.

use serde_json::{Value, json};

use super::*;

fn profile(default: &str, rules: Value) -> LinuxSeccomp {
    serde_json::from_value(json!({ "defaultAction": default, "syscalls": rules })).unwrap()
}

fn args(conditions: &[(u32, u64)]) -> Value {
    let args = conditions
        .iter()
        .map(|(index, value)| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" }));
    args.collect()
}

/// `action(argument=value ...)` for ioctl, in order.
fn rules(text: &str) -> Value {
    let rules = text.split(", ").map(|rule| {
        let (action, rest) = rule.split_once('(').unwrap();
        let conditions = rest.trim_end_matches(')').split_whitespace();
        let conditions: Vec<(u32, u64)> = conditions
            .map(|condition| {
                let (index, value) = condition.split_once('=').unwrap();
                (index.parse().unwrap(), value.parse().unwrap())
            })
            .collect();
        let action = format!("SCMP_ACT_{}", action.to_uppercase());
        json!({ "names": ["ioctl"], "action": action, "args": args(&conditions) })
    });
    rules.collect()
}

#[test]
fn rules_of_one_name() {
    use Reason::{After, Covered, DefaultAction, Outweighed, Shadowed};
    for (text, expected) in [
        ("allow()", vec![]),
        ("allow(0=1), allow(0=2)", vec![]),
        ("kill_process(0=1), allow()", vec![(0, DefaultAction)]),
        (
            "allow(), allow(0=1), log()",
            vec![(1, After(0)), (2, After(0))],
        ),
        ("allow(0=1), allow()", vec![(0, Covered(1))]),
        ("allow(0=1), errno()", vec![(0, Outweighed(1))]),
        ("errno(0=1), allow()", vec![]),
        ("errno(0=1), allow(0=1)", vec![(1, Shadowed(0))]),
        ("errno(0=1), allow(0=1 1=2)", vec![(1, Shadowed(0))]),
        ("errno(0=1), log(0=1 1=2), allow()", vec![(1, Shadowed(0))]),
        ("allow(0=1 1=2), allow(0=1)", vec![(0, Covered(1))]),
        ("allow(0=1 1=2), errno(1=2), allow(0=1)", vec![]),
        ("allow(1=2 0=1), allow(0=1 1=2)", vec![(1, Shadowed(0))]),
        // Two conditions on one argument are alternatives.
        (
            "allow(0=1 0=2), allow(0=2), allow(0=3)",
            vec![(1, Shadowed(0))],
        ),
        ("allow(0=1), allow(0=1 0=2)", vec![(0, Covered(1))]),
    ] {
        let found = redundant(&profile("SCMP_ACT_KILL_PROCESS", rules(text)));
        let found: Vec<_> = found.iter().map(|one| (one.rule, one.reason)).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn names_and_whole_rules() {
    let profile = profile(
        "SCMP_ACT_KILL",
        json!([
            { "names": ["read", "write", "read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["write", "close", "opeen"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["read", "write"], "action": "SCMP_ACT_LOG" },
            { "names": [], "action": "SCMP_ACT_LOG" },
        ]),
    );
    let found: Vec<String> = redundant(&profile)
        .iter()
        .map(|one| one.problem(&profile, &|rule| format!("/syscalls/{rule}")))
        .map(|problem| format!("{}: {}", problem.at, problem.problem))
        .collect();
    assert_eq!(
        found,
        [
            "/syscalls/0/names/2: read: the rule has this name already",
            "/syscalls/1/names/0: write: /syscalls/0 decides before, without conditions",
            "/syscalls/2: /syscalls/0 decides before, without conditions",
            "/syscalls/3: the rule has no names",
        ]
    );
}

/// With `ERRNO(EPERM)` by default, numbers after the newest mention get ENOSYS.
#[test]
fn a_mention_can_have_a_meaning() {
    let places = |default: &str, action: &str| {
        let rule = |name: &str| json!({ "names": [name], "action": action });
        let read = json!({ "names": ["read"], "action": "SCMP_ACT_TRAP" });
        let rules = json!([read, rule("openat2"), rule("mseal"), rule("mseal")]);
        let found = redundant(&profile(default, rules));
        found.iter().map(|one| one.rule).collect::<Vec<_>>()
    };
    assert_eq!(places("SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO"), [1, 3]);
    assert_eq!(places("SCMP_ACT_KILL", "SCMP_ACT_KILL"), [1, 2, 3]);
    assert_eq!(places("SCMP_ACT_ERRNO", "SCMP_ACT_KILL"), [3]);
}

/// Calls through socketcall show no arguments, so the first rule that covers
/// them decides, and is not the same as a later one.
#[test]
#[cfg(target_arch = "x86_64")]
fn multiplexed_calls_keep_their_first_rule() {
    let rules = json!([
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args(&[(0, 1)]) },
        { "names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS", "args": args(&[(0, 1), (1, 2)]) },
        { "names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS", "args": args(&[(0, 1), (2, 2)]) },
    ]);
    let mut profile = profile("SCMP_ACT_ERRNO", rules);
    let places = |profile: &LinuxSeccomp| {
        let found = redundant(profile);
        found.iter().map(|one| one.rule).collect::<Vec<_>>()
    };
    assert_eq!(places(&profile), [1, 2]);
    profile.set_architectures(Some(vec![oci_spec::runtime::Arch::ScmpArchX86]));
    assert_eq!(places(&profile), [2]);
}

/// Equality under a full mask is equality; other masks are their own condition.
#[test]
fn masks_are_part_of_a_condition() {
    let rule = |mask: u64, value: u64| {
        json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" }] })
    };
    let equal = json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args(&[(0, 7)]) });
    let rules = json!([
        rule(u64::MAX, 7),
        rule(15, 7),
        rule(15, 8),
        equal,
        rule(15, 8)
    ]);
    let found = redundant(&profile("SCMP_ACT_KILL", rules));
    let found: Vec<_> = found.iter().map(|one| (one.rule, one.reason)).collect();
    assert_eq!(found, [(3, Reason::Shadowed(0)), (4, Reason::Shadowed(2))]);
}

#[test]
fn many_rules_are_judged_quickly() {
    let many: Vec<Value> = (0..10_000_u64)
        .map(|n| {
            json!({ "names": ["ioctl", "socket"], "action": "SCMP_ACT_ALLOW",
            "args": args(&[(0, n / 2), (1, n / 2), (2, 7)]) })
        })
        .collect();
    let started = std::time::Instant::now();
    let found = redundant(&profile("SCMP_ACT_ERRNO", json!(many)));
    assert_eq!(found.len(), 5_000);
    // A comparison of all with all takes minutes in a debug build.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
