//! The project's seccomp profiles: every name known, every rule with a reason
//! and an effect, and the table of docs/hardening.md computed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "words are cut out of wider ones on purpose, and what cannot be read fails its test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};
use serde_json::Value;

#[path = "seccomp/interpreter.rs"]
mod interpreter;
#[path = "profiles/judge.rs"]
mod judge;
#[cfg(target_arch = "x86_64")]
#[path = "profiles/paper.rs"]
mod paper;

use judge::{ALLOW, Filters, native, program, rank, resolved, table, vectors};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The project's profiles: names without `.json`, and texts.
fn profiles() -> BTreeMap<String, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seccomp-profiles");
    let names = fs::read_dir(dir).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".json").map(str::to_owned)
    });
    let all: BTreeMap<_, _> = names
        .flatten()
        .map(|name| {
            let text = file(&format!("seccomp-profiles/{name}.json"));
            (name, text)
        })
        .collect();
    assert!(all.contains_key("default") && all.contains_key("floor"));
    all
}

/// No capabilities, all that profiles speak of, and each of these alone.
fn grants(texts: &[&str]) -> Vec<BTreeSet<String>> {
    let all: BTreeSet<String> = texts
        .iter()
        .flat_map(|text| text.split('"'))
        .filter(|word| word.starts_with("CAP_") && !word.contains(' '))
        .map(str::to_owned)
        .collect();
    let alone = all.iter().map(|name| BTreeSet::from([name.clone()]));
    let mut sets: Vec<_> = alone.collect();
    sets.push(BTreeSet::new());
    sets.push(all);
    sets
}

fn rules(text: &str) -> Vec<Value> {
    let profile: Value = serde_json::from_str(text).unwrap();
    profile["syscalls"].as_array().unwrap().clone()
}

#[test]
fn every_name_is_known_and_named_once_in_its_rule() {
    let table = table();
    for (file, text) in profiles() {
        for rule in rules(&text) {
            let names = rule["names"].as_array().unwrap();
            let set: BTreeSet<_> = names.iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(set.len(), names.len(), "{file}: a name twice in {names:?}");
            for name in set {
                assert!(
                    table.contains_key(name),
                    "{file}: no architecture has {name}"
                );
            }
        }
    }
}

#[test]
fn every_rule_says_why() {
    for (file, text) in profiles() {
        let mut seen = BTreeSet::new();
        for rule in rules(&text) {
            let comment = rule["comment"].as_str().unwrap_or_default().to_owned();
            let names = &rule["names"];
            assert!(comment.len() > 10, "{file}: no reason for {names}");
            assert!(comment.ends_with('.'), "{file}: not a sentence: {comment}");
            let alone = seen.insert(comment);
            assert!(alone, "{file}: the reason of another rule for {names}");
        }
    }
}

/// A profile without some of its parts, and the names whose calls may notice.
struct Without {
    what: String,
    /// The entry of the file, and the part of it.
    part: (usize, Option<String>),
    names: Vec<String>,
    profile: LinuxSeccomp,
}

/// Every rule, name and alternative condition of a profile, left out in turn.
fn reductions(profile: &LinuxSeccomp, origins: &[usize]) -> Vec<Without> {
    let entries = profile.syscalls().clone().unwrap_or_default();
    let mut all = Vec::new();
    let mut add =
        |index: usize, part: Option<String>, names: &[String], entry: Option<LinuxSyscall>| {
            let mut rest = entries.clone();
            match entry {
                Some(entry) => rest[index] = entry,
                None => {
                    rest.remove(index);
                }
            }
            let mut profile = profile.clone();
            profile.set_syscalls(Some(rest));
            all.push(Without {
                what: format!("rule {}, {names:?}, {part:?}", origins[index]),
                part: (origins[index], part),
                names: names.to_vec(),
                profile,
            });
        };
    for (index, entry) in entries.iter().enumerate() {
        let names = entry.names();
        add(index, None, names, None);
        if names.len() > 1 {
            for name in names {
                let mut entry = entry.clone();
                let others = names.iter().filter(|other| *other != name);
                entry.set_names(others.cloned().collect());
                add(
                    index,
                    Some(name.clone()),
                    std::slice::from_ref(name),
                    Some(entry),
                );
            }
        }
        let args = entry.args().clone().unwrap_or_default();
        if args.len() > 1 {
            for at in 0..args.len() {
                let mut fewer = args.clone();
                fewer.remove(at);
                let mut entry = entry.clone();
                entry.set_args(Some(fewer));
                add(index, Some(format!("condition {at}")), names, Some(entry));
            }
        }
    }
    all
}

/// Whether any call sees a difference between two profiles.
fn differ(whole: &LinuxSeccomp, less: &Without, native: &BTreeMap<&str, u32>) -> bool {
    let (before, after) = (program(whole), program(&less.profile));
    let (before, after) = (Filters(vec![&before]), Filters(vec![&after]));
    less.names.iter().any(|name| {
        native.get(name.as_str()).is_some_and(|&nr| {
            vectors(&[whole], name)
                .into_iter()
                .any(|args| before.judge(nr, args) != after.judge(nr, args))
        })
    })
}

#[test]
fn nothing_in_a_profile_is_without_effect() {
    let native = native();
    for (file, text) in profiles() {
        let mut idle: BTreeMap<_, String> = BTreeMap::new();
        let mut useful = BTreeSet::new();
        for granted in grants(&[&text]) {
            let whole = resolved(&text, &granted);
            let origins: Vec<_> = whole.rules.iter().map(|origin| origin.index).collect();
            for less in reductions(&whole.profile, &origins) {
                let known = |name: &String| native.contains_key(name.as_str());
                if useful.contains(&less.part) || !less.names.iter().any(known) {
                    continue;
                }
                if differ(&whole.profile, &less, &native) {
                    idle.remove(&less.part);
                    useful.insert(less.part);
                } else {
                    idle.insert(less.part, less.what);
                }
            }
        }
        assert!(
            useful.len() > 30,
            "{file}: {} parts were tried",
            useful.len()
        );
        assert!(
            idle.is_empty(),
            "{file}: without effect: {:#?}",
            idle.values()
        );
    }
}

/// Their filters are compiled without the floor, which would add nothing.
#[test]
fn the_projects_profiles_deny_all_that_the_floor_denies() {
    let all = profiles();
    let floor = &all["floor"];
    for upper in all.keys().filter(|name| *name != "floor") {
        for granted in grants(&[&all[upper], floor]) {
            above_floor(upper, &all[upper], floor, &granted);
        }
    }
}

fn above_floor(name: &str, upper: &str, floor: &str, granted: &BTreeSet<String>) {
    let names: BTreeMap<u32, &str> = native().into_iter().map(|(name, nr)| (nr, name)).collect();
    let upper = resolved(upper, granted).profile;
    let floor = resolved(floor, granted).profile;
    let (above, below) = (program(&upper), program(&floor));
    let (above, below) = (Filters(vec![&above]), Filters(vec![&below]));
    for nr in 0..600 {
        let call = names.get(&nr).copied().unwrap_or_default();
        for args in vectors(&[&upper, &floor], call) {
            let (above, below) = (above.judge(nr, args), below.judge(nr, args));
            assert!(
                rank(above) <= rank(below),
                "{name}: {call} {args:x?} with {granted:?}: {above:#x}, floor {below:#x}"
            );
        }
    }
}

#[test]
fn what_programs_need_is_not_denied() {
    let native = native();
    let text = &profiles()["default"];
    let none = program(&resolved(text, &BTreeSet::new()).profile);
    let admin = ["CAP_NET_ADMIN".to_owned()].into();
    let admin = program(&resolved(text, &admin).profile);
    let says = |filter: &[_], name: &str, args: [u64; 3]| {
        let [a, b, c] = args;
        Filters(vec![filter]).judge(native[name], [a, b, c, 0, 0, 0])
    };
    let errno = |errno: u32| 0x5_0000 | errno;
    for (name, args, expected, with_admin) in [
        // A thread of glibc, and vfork by clone.
        ("clone", [0x3d_0f00, 0, 0], ALLOW, ALLOW),
        ("clone", [0x4111, 0, 0], ALLOW, ALLOW),
        ("clone", [0x1000_0011, 0, 0], errno(1), errno(1)),
        ("clone3", [0, 88, 0], errno(38), errno(38)),
        ("unshare", [0x200, 0, 0], ALLOW, ALLOW),
        ("unshare", [0x80, 0, 0], errno(1), errno(1)),
        // Flags of the type: close on exec, do not block.
        ("socket", [1, 0x8_0801, 0], ALLOW, ALLOW),
        ("socket", [10, 0x8_0002, 17], ALLOW, ALLOW),
        ("socketpair", [1, 5, 0], ALLOW, ALLOW),
        ("socket", [16, 0x8_0003, 0], ALLOW, ALLOW),
        ("socket", [16, 3, 12], errno(93), ALLOW),
        ("socket", [16, 3, 9], errno(22), errno(22)),
        ("socket", [17, 3, 0x300], errno(97), ALLOW),
        ("socket", [2, 10, 0x300], errno(94), ALLOW),
        ("socket", [38, 5, 0], errno(97), errno(97)),
        ("socket", [38 | 1 << 32, 5, 0], errno(97), errno(97)),
        ("setsockopt", [3, 6, 1], ALLOW, ALLOW),
        ("setsockopt", [3, 1 << 32 | 6, 31], errno(92), errno(92)),
        ("ioctl", [0, 0x5401, 0], ALLOW, ALLOW),
        ("ioctl", [0, 0xffff_ffff_8004_5430, 0], ALLOW, ALLOW),
        ("ioctl", [0, 0xffff_ffff_0000_5412, 0], errno(25), errno(25)),
        ("pipe2", [0, 0x8_0000, 0], ALLOW, ALLOW),
        ("pipe2", [0, 0x8_0080, 0], errno(22), errno(22)),
        ("personality", [0xffff_ffff, 0, 0], ALLOW, ALLOW),
        ("memfd_secret", [0, 0, 0], errno(38), errno(38)),
        ("mount", [0, 0, 0], errno(1), errno(1)),
    ] {
        let found = (says(&none, name, args), says(&admin, name, args));
        assert_eq!(found, (expected, with_admin), "{name} {args:x?}");
    }
}
