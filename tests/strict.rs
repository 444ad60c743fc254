//! strict.json against what was measured: it allows all of that, and nothing
//! else without saying which measured call it stands beside.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "words are cut out of wider ones on purpose, and what cannot be read fails its test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use capsid::seccomp::{Program, compile};
use serde_json::Value;

#[path = "seccomp/interpreter.rs"]
mod interpreter;

use interpreter::{Call, check, run};

const ALLOW: u32 = 0x7fff_0000;
#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, u32) = ("x86_64", 0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, u32) = ("aarch64", 0xc000_00b7);

/// Measured, and denied all the same: the call, what its arguments start with,
/// and what programs do without.
#[cfg(target_arch = "x86_64")]
const WITHOUT: &[(&str, &str, &str)] = &[
    ("clone3", "", "C libraries use clone on ENOSYS"),
    ("get_mempolicy", "", "libnuma and Java see one node"),
    ("io_uring_enter", "", "nothing to enter"),
    ("io_uring_setup", "", "libuv uses threads and epoll"),
    ("set_mempolicy", "", "libnuma and Java see one node"),
    (
        "socket",
        "0&0xffffffff=0x2,1&0xf=0x3",
        "Java connects where it cannot ping; without CAP_NET_RAW it cannot anyway",
    ),
];

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A profile for a container without capabilities.
fn profile(name: &str) -> Value {
    let mut profile: Value = serde_json::from_str(&read(name)).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(|rule| rule["includes"].is_null());
    profile
}

fn compiled(profile: Value) -> Program {
    let program = compile(&serde_json::from_value(profile).unwrap()).unwrap();
    check(&program);
    program
}

/// Names of all architectures, with the numbers of this one.
fn table() -> BTreeMap<String, Option<u32>> {
    let text = read("src/seccomp/syscalls.tbl");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut columns = lines.next().unwrap().split_whitespace();
    let column = columns.position(|name| name == NATIVE.0).unwrap();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            (cells[0].to_owned(), cells[column].parse().ok())
        })
        .collect()
}

struct Row {
    program: String,
    call: String,
    arguments: String,
}

fn measured() -> Vec<Row> {
    let text = read("seccomp-profiles/measured.tsv");
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells.len(), 5, "{line}");
        Row {
            program: cells[0].to_owned(),
            call: cells[2].to_owned(),
            arguments: cells[3].to_owned(),
        }
    })
    .collect()
}

fn names(rule: &Value) -> impl Iterator<Item = &str> {
    let names = rule["names"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap())
}

/// `index=value` or `index&mask=value`, separated by commas.
fn arguments(text: &str) -> [u64; 6] {
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
    let mut all = [0; 6];
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (place, value) = part.split_once('=').unwrap();
        let index = place.split('&').next().unwrap();
        all[index.parse::<usize>().unwrap()] = number(value);
    }
    all
}

fn allows(program: &Program, nr: u32, args: [u64; 6]) -> bool {
    let call = Call {
        arch: NATIVE.1,
        nr,
        args,
    };
    run(&program.instructions, &call).0 == ALLOW
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_was_measured_is_allowed() {
    let program = compiled(profile("seccomp-profiles/strict.json"));
    println!("{program}");
    let table = table();
    let mut unused: BTreeSet<usize> = (0..WITHOUT.len()).collect();
    let mut denied = Vec::new();
    for row in measured() {
        let number = table.get(&row.call).copied().flatten();
        let number = number.unwrap_or_else(|| panic!("{} is not in the table", row.call));
        let allowed = allows(&program, number, arguments(&row.arguments));
        let without = WITHOUT
            .iter()
            .position(|(call, start, _)| row.call == *call && row.arguments.starts_with(start));
        if let Some(index) = without {
            assert!(!allowed, "{}: no longer denied", row.call);
            unused.remove(&index);
        } else if !allowed {
            denied.push(format!("{} {} {}", row.program, row.call, row.arguments));
        }
    }
    assert!(denied.is_empty(), "denied:\n{}", denied.join("\n"));
    let unused: Vec<_> = unused.iter().map(|&index| WITHOUT[index]).collect();
    assert!(unused.is_empty(), "not measured any more: {unused:?}");
}

/// What each of a rule's alternatives tests: runc's reading of several conditions.
fn alternatives(rule: &Value) -> Vec<Vec<Value>> {
    let conditions = rule["args"].as_array().cloned().unwrap_or_default();
    let indices: BTreeSet<u64> = conditions
        .iter()
        .map(|condition| condition["index"].as_u64().unwrap())
        .collect();
    if indices.len() < conditions.len() {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![conditions]
    }
}

/// Whether a measured call meets the conditions.
fn meets(row: &Row, conditions: &[Value]) -> bool {
    let arguments = arguments(&row.arguments);
    conditions.iter().all(|condition| {
        let number = |key: &str| condition[key].as_u64().unwrap_or(0);
        let argument = arguments[usize::try_from(number("index")).unwrap()];
        match condition["op"].as_str().unwrap() {
            "SCMP_CMP_EQ" => argument == number("value"),
            "SCMP_CMP_MASKED_EQ" => argument & number("value") == number("valueTwo"),
            other => panic!("{other} in a rule that allows"),
        }
    })
}

#[test]
fn what_is_allowed_was_measured_or_names_its_sibling() {
    let rows = measured();
    let known: BTreeSet<&str> = rows.iter().map(|row| row.call.as_str()).collect();
    let profile = profile("seccomp-profiles/strict.json");
    for rule in profile["syscalls"].as_array().unwrap() {
        if rule["action"] != "SCMP_ACT_ALLOW" {
            continue;
        }
        let comment = rule["comment"].as_str().unwrap();
        if let Some(siblings) = comment.strip_prefix("Same job as ") {
            let (siblings, reason) = siblings.split_once(": ").unwrap();
            for sibling in siblings.split(" and ") {
                assert!(known.contains(sibling), "{sibling} was not measured");
            }
            assert!(!reason.is_empty());
            continue;
        }
        for name in names(rule) {
            assert!(known.contains(name), "{name} was not measured");
        }
        for conditions in alternatives(rule) {
            let calls: BTreeSet<&str> = names(rule).collect();
            let found = rows
                .iter()
                .any(|row| calls.contains(row.call.as_str()) && meets(row, &conditions));
            assert!(found, "{calls:?}: not measured: {conditions:?}");
        }
        assert!(comment.contains("Measured: "), "{comment}");
    }
}

#[test]
fn comments_name_the_programs_that_were_measured() {
    let rows = measured();
    let all: BTreeSet<&str> = rows.iter().map(|row| row.program.as_str()).collect();
    let profile = profile("seccomp-profiles/strict.json");
    for rule in profile["syscalls"].as_array().unwrap() {
        let comment = rule["comment"].as_str().unwrap();
        let Some((_, named)) = comment.split_once("Measured: ") else {
            continue;
        };
        let calls: BTreeSet<&str> = names(rule).collect();
        let alternatives = alternatives(rule);
        let users: BTreeSet<&str> = rows
            .iter()
            .filter(|row| calls.contains(row.call.as_str()))
            .filter(|row| alternatives.iter().any(|each| meets(row, each)))
            .map(|row| row.program.as_str())
            .collect();
        match named.trim_end_matches('.') {
            "all" => assert_eq!(users, all, "{comment}"),
            "most" => assert!(users.len() * 2 > all.len(), "{comment}"),
            list => assert_eq!(users, list.split(", ").collect(), "{comment}"),
        }
    }
}

#[test]
fn names_are_known_and_rules_have_reasons() {
    let table = table();
    let profile = profile("seccomp-profiles/strict.json");
    for rule in profile["syscalls"].as_array().unwrap() {
        let comment = rule["comment"].as_str().unwrap_or_default();
        assert!(comment.len() > 10, "no reason for {}", rule["names"]);
        for name in names(rule) {
            assert!(table.contains_key(name), "{name} is unknown");
        }
    }
}

/// The constants of conditions on each argument, and neighbours of them.
fn constants(profiles: &[&Value], name: &str) -> [Vec<u64>; 3] {
    let mut all = [const { BTreeSet::<u64>::new() }; 3];
    let rules = profiles
        .iter()
        .flat_map(|profile| profile["syscalls"].as_array().unwrap());
    for rule in rules.filter(|rule| names(rule).any(|other| other == name)) {
        for condition in rule["args"].as_array().into_iter().flatten() {
            let index = usize::try_from(condition["index"].as_u64().unwrap()).unwrap();
            for value in [&condition["value"], &condition["valueTwo"]] {
                let value = value.as_u64().unwrap_or(0);
                all[index].extend([value, value ^ 1 << 32]);
            }
        }
    }
    all.map(|set| set.into_iter().chain([0, 3, u64::MAX]).collect())
}

#[test]
fn the_default_profile_is_not_stricter() {
    if !path("seccomp-profiles/default.json").exists() {
        println!("there is no default.json");
        return;
    }
    let (ours, theirs) = (
        profile("seccomp-profiles/strict.json"),
        profile("seccomp-profiles/default.json"),
    );
    let (strict, default) = (compiled(ours.clone()), compiled(theirs.clone()));
    for (name, number) in table() {
        let Some(number) = number else { continue };
        let [first, second, third] = constants(&[&ours, &theirs], &name);
        for (&a, &b) in first
            .iter()
            .flat_map(|a| second.iter().map(move |b| (a, b)))
        {
            for &c in &third {
                let args = [a, b, c, 0, 0, 0];
                let laxer = allows(&strict, number, args) && !allows(&default, number, args);
                assert!(!laxer, "{name} {args:x?}: denied by default.json only");
            }
        }
    }
}

#[test]
fn nothing_privileged_is_allowed() {
    let program = compiled(profile("seccomp-profiles/strict.json"));
    let table = table();
    for name in [
        "add_key",
        "bpf",
        "chroot",
        "clone3",
        "fsopen",
        "init_module",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "ptrace",
        "setns",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        let number = table[name].unwrap();
        assert!(!allows(&program, number, [0; 6]), "{name}");
    }
    let denied: [(&str, [u64; 6]); 11] = [
        ("clone", [0x1000_0011, 0, 0, 0, 0, 0]),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0]),
        ("ioctl", [0, 0x541c, 0, 0, 0, 0]),
        ("ioctl", [0, 0xffff_ffff_0000_5423, 0, 0, 0, 0]),
        ("pipe2", [0, 0x80, 0, 0, 0, 0]),
        ("setsockopt", [3, 6, 31, 0, 0, 0]),
        ("socket", [2, 1, 132, 0, 0, 0]),
        ("socket", [2, 2, 136, 0, 0, 0]),
        ("socket", [10, 2, 115, 0, 0, 0]),
        ("socket", [16, 3, 12, 0, 0, 0]),
        ("socket", [38, 5, 0, 0, 0, 0]),
    ];
    for (name, args) in denied {
        let number = table[name].unwrap();
        assert!(!allows(&program, number, args), "{name} {args:x?}");
    }
}
