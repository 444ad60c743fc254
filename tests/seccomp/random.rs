//! Random profiles and arguments from fixed seeds.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use crate::oracle::multiplexed;

/// Marsaglia's xorshift with 64 bits of state.
pub(crate) struct Xorshift(u64);

impl Xorshift {
    /// Spreads small seeds, whose first values would otherwise resemble one another.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Values whose halves, neighbours and sign bits differ from one another.
pub(crate) const VALUES: [u64; 14] = [
    0,
    1,
    2,
    5,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x5_0000_0005,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Some that are neighbours, some that stand alone, one that does not exist.
const NAMES: [&str; 16] = [
    "read",
    "write",
    "open",
    "close",
    "mmap",
    "mprotect",
    "ioctl",
    "socket",
    "clone",
    "personality",
    "prctl",
    "openat",
    "statx",
    "clone3",
    "mseal",
    "no_such_call",
];

/// An action with its number.
pub(crate) fn action(random: &mut Xorshift) -> (&'static str, Option<u32>) {
    match random.below(11) {
        10 => ("SCMP_ACT_KILL_THREAD", None),
        0 => ("SCMP_ACT_KILL", None),
        1 => ("SCMP_ACT_KILL_PROCESS", None),
        2 => ("SCMP_ACT_TRAP", None),
        3 => ("SCMP_ACT_TRACE", Some(7)),
        4 => ("SCMP_ACT_LOG", None),
        5 => ("SCMP_ACT_ERRNO", Some(38)),
        6 | 7 => ("SCMP_ACT_ERRNO", None),
        _ => ("SCMP_ACT_ALLOW", None),
    }
}

/// One condition. Values come from a profile's own few, so that rules overlap.
pub(crate) fn condition(random: &mut Xorshift, values: &[u64], index: usize) -> Value {
    json!({
        "index": index,
        "value": random.pick(values),
        "valueTwo": random.pick(values),
        "op": random.pick(&OPERATORS),
    })
}

fn entry(random: &mut Xorshift, values: &[u64], all_names: &[&str]) -> Value {
    let pool: &[&str] = if random.below(4) == 0 {
        all_names
    } else {
        &NAMES
    };
    let limit = if random.below(3) == 0 { 60 } else { 4 };
    let count = 1 + random.below(limit);
    let names: Vec<&str> = (0..count).map(|_| random.pick(pool)).collect();
    let (action, number) = match random.below(8) {
        0 => ("SCMP_ACT_NOTIFY", None),
        _ => action(random),
    };
    let action = if names.contains(&"write") && action == "SCMP_ACT_NOTIFY" {
        "SCMP_ACT_LOG"
    } else {
        action
    };
    let args: Vec<Value> = match random.below(3) {
        0 => Vec::new(),
        _ => (0..1 + random.below(3))
            .map(|_| {
                let index = random.below(6);
                condition(random, values, index)
            })
            .collect(),
    };
    json!({ "names": names, "action": action, "errnoRet": number, "args": args })
}

/// A whole profile.
pub(crate) fn profile(random: &mut Xorshift, arches: &[String], all_names: &[&str]) -> Value {
    let values: Vec<u64> = (0..4).map(|_| random.pick(&VALUES)).collect();
    let count = random.below(30);
    let syscalls = (0..count)
        .map(|_| entry(random, &values, all_names))
        .collect();
    whole(random, arches, syscalls)
}

/// A profile that libseccomp 2.5 compiles to what it means. For each system
/// call it has either one rule whose conditions test an argument each, or
/// several rules that test one argument each, and those that test the same one
/// test it for equality with numbers of 32 bits; calls that i386 has behind a
/// multiplexer have one rule at most. Beyond that it was seen to apply rules
/// whose conditions do not hold, to leave out rules, and to run for ever.
pub(crate) fn moderate(random: &mut Xorshift, arches: &[String], all_names: &[&str]) -> Value {
    let values: Vec<u64> = (0..4).map(|_| random.pick(&VALUES)).collect();
    let (mut behind, mut names): (Vec<&str>, Vec<&str>) = NAMES
        .iter()
        .chain(all_names)
        .partition(|name| multiplexed(name).is_some());
    let mut syscalls = Vec::new();
    for _ in 0..2 + random.below(25) {
        let group: Vec<&str> = (0..1 + random.below(4))
            .map(|_| names.swap_remove(random.below(names.len())))
            .filter(|name| *name != "write")
            .collect();
        names.retain(|name| !group.contains(name));
        let mut rules: Vec<Value> = (0..1 + random.below(3))
            .map(|_| entry(random, &values, &[*group.first().unwrap_or(&"read")]))
            .collect();
        simplify(&mut rules);
        for rule in &mut rules {
            rule["names"] = json!(group);
        }
        syscalls.extend(rules);
    }
    behind.retain(|_| random.below(4) == 0);
    behind.sort_unstable();
    behind.dedup();
    syscalls.push(json!({ "names": behind, "action": "SCMP_ACT_ERRNO", "errnoRet": 9 }));
    whole(random, arches, syscalls)
}

/// Takes from the rules for one call what libseccomp gets wrong.
fn simplify(rules: &mut [Value]) {
    let several = rules.len() > 1;
    let mut seen = Vec::new();
    for conditions in rules
        .iter_mut()
        .filter_map(|rule| rule["args"].as_array_mut())
    {
        let first = conditions.first().map(|one| one["index"].clone());
        let repeated = (1..conditions.len()).any(|at| {
            let index = &conditions[at]["index"];
            conditions[..at].iter().any(|one| one["index"] == *index)
        });
        if several || repeated {
            conditions.retain(|one| Some(&one["index"]) == first.as_ref());
        }
        seen.extend(conditions.iter().map(|one| one["index"].clone()));
    }
    let all = rules
        .iter_mut()
        .filter_map(|rule| rule["args"].as_array_mut());
    for condition in all.flatten() {
        if seen
            .iter()
            .filter(|index| **index == condition["index"])
            .count()
            > 1
        {
            condition["op"] = json!("SCMP_CMP_EQ");
            condition["value"] = json!(condition["value"].as_u64().unwrap() & 0xffff_ffff);
        }
    }
}

/// Rules with a default action and some architectures.
fn whole(random: &mut Xorshift, arches: &[String], syscalls: Vec<Value>) -> Value {
    let (default, number) = action(random);
    let listed: Vec<&String> = arches.iter().filter(|_| random.below(2) == 0).collect();
    json!({
        "defaultAction": default,
        "defaultErrnoRet": number,
        "architectures": listed,
        "syscalls": syscalls,
    })
}

/// What random profiles have to contain between them.
pub(crate) const FEATURES: [&str; 33] = [
    "default SCMP_ACT_ALLOW",
    "default SCMP_ACT_ERRNO",
    "default SCMP_ACT_KILL",
    "default SCMP_ACT_KILL_PROCESS",
    "default SCMP_ACT_KILL_THREAD",
    "default SCMP_ACT_LOG",
    "default SCMP_ACT_TRACE",
    "default SCMP_ACT_TRAP",
    "defaultErrnoRet",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_ERRNO with errnoRet",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE with errnoRet",
    "SCMP_ACT_TRAP",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
    "no architectures",
    "all conditions on other arguments",
    "several conditions on one argument",
    "conditions after a rule without",
    "no conditions after a rule with some",
    "no conditions twice",
    "conditions twice",
];

/// Adds what a profile contains.
pub(crate) fn cover(profile: &Value, covered: &mut BTreeSet<String>) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    covered.insert(format!("default {}", word(&profile["defaultAction"])));
    if profile["defaultErrnoRet"].is_u64() {
        covered.insert("defaultErrnoRet".to_owned());
    }
    let architectures = list(&profile["architectures"]);
    covered.extend(architectures.iter().map(word));
    if architectures.is_empty() {
        covered.insert("no architectures".to_owned());
    }
    // Whether the last rule of each name has conditions.
    let mut before: HashMap<String, bool> = HashMap::new();
    for rule in list(&profile["syscalls"]) {
        let with = if rule["errnoRet"].is_u64() {
            " with errnoRet"
        } else {
            ""
        };
        covered.insert(word(&rule["action"]) + with);
        let conditions = list(&rule["args"]);
        covered.extend(conditions.iter().map(|one| word(&one["op"])));
        let indices: HashSet<_> = conditions.iter().map(|one| one["index"].as_u64()).collect();
        if conditions.len() > 1 {
            covered.insert(match conditions.len() - indices.len() {
                0 => "all conditions on other arguments".to_owned(),
                _ => "several conditions on one argument".to_owned(),
            });
        }
        for name in list(&rule["names"]) {
            let some = !conditions.is_empty();
            covered.extend(before.insert(word(&name), some).map(|earlier| {
                let order = match (earlier, some) {
                    (false, true) => "conditions after a rule without",
                    (true, false) => "no conditions after a rule with some",
                    (false, false) => "no conditions twice",
                    (true, true) => "conditions twice",
                };
                order.to_owned()
            }));
        }
    }
}
