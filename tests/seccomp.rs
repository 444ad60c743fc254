//! Filters against what profiles mean: a naive evaluator, another compiler, and
//! a table of what must be refused.

// Words and halves are cut out of wider numbers on purpose here, and what
// cannot be parsed fails its test.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unwrap_used
)]

use std::collections::{BTreeSet, HashSet};

use capsid::seccomp::{Program, compile};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

#[path = "seccomp/corpus.rs"]
mod corpus;
#[path = "seccomp/fuzzed.rs"]
mod fuzzed;
#[path = "seccomp/interpreter.rs"]
mod interpreter;
#[path = "seccomp/lowered.rs"]
mod lowered;
#[path = "seccomp/oracle.rs"]
mod oracle;
#[path = "seccomp/other.rs"]
mod other;
#[path = "seccomp/peer.rs"]
mod peer;
#[path = "seccomp/random.rs"]
mod random;

use interpreter::{Call, check, run};
use oracle::{ALLOW, ARCHES, ENOSYS, ERRNO, KILL_PROCESS, Oracle, conditions, entries, native};
use random::Xorshift;

const NATIVE: u32 = ARCHES[0].0;
const EPERM: u32 = ERRNO | 1;
const LOG: u32 = 0x7ffc_0000;

fn parse(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).unwrap()
}

fn compiled(profile: Value) -> Program {
    let program = compile(&parse(profile)).unwrap();
    check(&program);
    program
}

fn docker() -> LinuxSeccomp {
    serde_json::from_str(include_str!("seccomp/docker.json")).unwrap()
}

/// What a filter says of a native call.
fn says(program: &Program, name: &str, args: [u64; 6]) -> u32 {
    run(
        &program.instructions,
        &Call {
            arch: NATIVE,
            nr: native(name),
            args,
        },
    )
    .0
}

/// Argument vectors at and around every constant of a profile, with halves changed.
fn vectors(profile: &LinuxSeccomp, random: &mut Xorshift, count: usize) -> Vec<[u64; 6]> {
    let mut values: Vec<u64> = vec![0, u64::MAX];
    for condition in entries(profile).flat_map(conditions) {
        for value in [condition.value(), condition.value_two().unwrap_or(0)] {
            let near = [value, value.wrapping_add(1), value.wrapping_sub(1)];
            let halves = [
                value ^ 1 << 32,
                value | 1 << 63,
                value & 0xffff_ffff,
                !value,
                value << 32,
            ];
            values.extend(near.into_iter().chain(halves));
        }
    }
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    all.extend(values.iter().take(300).map(|&value| [value; 6]));
    all.extend((0..count).map(|_| std::array::from_fn(|_| random.pick(&values))));
    all
}

/// The same with first arguments that mean something to socketcall and ipc,
/// also with other upper halves.
fn through(vectors: &[[u64; 6]]) -> Vec<[u64; 6]> {
    let calls = (0..=30).flat_map(|call| [call, call | 1 << 16, call | 1 << 32]);
    let mut all = vectors.to_vec();
    all.extend(calls.map(|call| [call, 0, 0, 0, 0, 0]));
    all
}

/// The default action and the rules for one name, for the message of a failure.
fn rules_of(profile: &LinuxSeccomp, name: Option<&&str>) -> String {
    let rules = entries(profile)
        .filter(|entry| {
            entry
                .names()
                .iter()
                .any(|other| Some(&other.as_str()) == name)
        })
        .map(|entry| {
            format!(
                "\n{:?} {:?} {:?}",
                entry.action(),
                entry.errno_ret(),
                entry.args()
            )
        });
    let default = profile.default_action();
    format!(
        "{name:?}, default {default:?}:{}",
        rules.collect::<String>()
    )
}

/// Compares a program with the profile it was made of.
fn compare(profile: &LinuxSeccomp, program: &Program, random: &mut Xorshift, count: usize) {
    check(program);
    let vectors = vectors(profile, random, count);
    let through = through(&vectors);
    let tested: HashSet<&str> = entries(profile)
        .filter(|entry| !conditions(entry).is_empty())
        .flat_map(|entry| entry.names().iter().map(String::as_str))
        .collect();
    for (index, &(arch, column, bits, _)) in ARCHES.iter().enumerate() {
        let oracle = Oracle::new(profile, index);
        let names = oracle::column(column);
        for low in (0..=600).chain([0xf0000, 0xf0001, 0xf0002, 0xf0006, 0xf0007]) {
            let used = match names.get(&low) {
                Some(&("socketcall" | "ipc")) => &through,
                Some(name) if tested.contains(name) => &vectors,
                _ => &vectors[..2],
            };
            for &args in used {
                let call = Call {
                    arch,
                    nr: low | bits,
                    args,
                };
                let found = run(&program.instructions, &call).0;
                let expected = oracle.judge(&call);
                assert_eq!(
                    found,
                    expected,
                    "{column} {call:x?} {}",
                    rules_of(profile, names.get(&low))
                );
            }
        }
    }
}

#[test]
fn docker_profile_means_what_it_says() {
    let profile = docker();
    let program = compile(&profile).unwrap();
    compare(&profile, &program, &mut Xorshift::seeded(1), 200);
    assert_eq!(says(&program, "read", [0; 6]), ALLOW);
    assert_eq!(says(&program, "bpf", [0; 6]), EPERM);
    assert_eq!(says(&program, "clone3", [0; 6]), ENOSYS);
    assert_eq!(says(&program, "clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&program, "clone", [0x1000_0000, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(says(&program, "socket", [16, 3, 9, 0, 0, 0]), ALLOW);
    assert_eq!(says(&program, "socket", [38, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(says(&program, "socket", [40, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(
        says(&program, "personality", [0xffff_ffff, 0, 0, 0, 0, 0]),
        ALLOW
    );
    assert_eq!(
        says(&program, "personality", [0x4_0000, 0, 0, 0, 0, 0]),
        EPERM
    );
}

#[test]
fn docker_profile_is_small_and_shallow() {
    let program = compile(&docker()).unwrap();
    let steps: Vec<usize> = (0..470)
        .map(|nr| {
            run(
                &program.instructions,
                &Call {
                    arch: NATIVE,
                    nr,
                    args: [0; 6],
                },
            )
            .1
        })
        .collect();
    let average = steps.iter().sum::<usize>() as f64 / steps.len() as f64;
    let length = program.instructions.len();
    println!(
        "{program}; steps: {average:.1} on average, {} at most",
        steps.iter().max().unwrap()
    );
    assert!(length <= 140, "{length} instructions");
    assert!(average <= 13.0, "{average} steps on average");
    assert_eq!(
        program.to_string(),
        format!("seccomp filter: {length} instructions, default ERRNO(1)")
    );
}

#[test]
fn docker_profile_for_all_architectures_means_what_it_says() {
    let mut profile = docker();
    profile.set_architectures(Some(ARCHES.iter().map(|arch| arch.3).collect()));
    let program = compile(&profile).unwrap();
    println!("{program}");
    compare(&profile, &program, &mut Xorshift::seeded(2), 50);
}

#[test]
fn random_profiles_mean_what_they_say() {
    let (arches, names) = everything();
    let mut covered = BTreeSet::new();
    for seed in 1..=80 {
        let mut random = Xorshift::seeded(seed);
        let json = random::profile(&mut random, &arches, &names);
        random::cover(&json, &mut covered);
        let profile = parse(json);
        let program = compile(&profile).unwrap_or_else(|problems| panic!("{seed}: {problems:?}"));
        compare(&profile, &program, &mut random, 20);
    }
    let missing: Vec<&str> = random::FEATURES
        .into_iter()
        .chain(arches.iter().map(String::as_str))
        .filter(|feature| !covered.contains(*feature))
        .collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}

/// Architectures and native names for random profiles.
fn everything() -> (Vec<String>, Vec<&'static str>) {
    let arches = ARCHES.iter().map(|arch| arch.3.to_string()).collect();
    let mut names: Vec<&str> = oracle::column(ARCHES[0].1).values().copied().collect();
    names.sort_unstable();
    (arches, names)
}

#[test]
fn of_two_verdicts_the_stricter_counts() {
    let order = [
        KILL_PROCESS,
        0,
        0x3_0000,
        ENOSYS,
        0x7fc0_0000,
        0x7ff0_0007,
        LOG,
        ALLOW,
    ];
    for (place, &strict) in order.iter().enumerate() {
        for &lax in &order[place..] {
            assert_eq!(oracle::stricter(strict, lax), strict);
            assert_eq!(oracle::stricter(lax, strict), strict);
        }
    }
    assert_eq!(
        oracle::stricter(ENOSYS, EPERM),
        ENOSYS,
        "the first of equals"
    );
}

#[test]
fn the_first_matching_rule_decides_and_denials_are_not_lost() {
    let equal = |value: u64| json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]);
    let allow =
        |args: Value| json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args });
    let log = |args: Value| json!({ "names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": args });
    let deny =
        |args: Value| json!({ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": args });
    let kill = "SCMP_ACT_KILL_PROCESS";
    // Default, rules, and what ioctl(7) and ioctl(8) get.
    for (default, rules, seven, eight) in [
        // A rule without conditions is not lost next to one with conditions.
        (
            kill,
            json!([allow(json!([])), allow(equal(7))]),
            ALLOW,
            ALLOW,
        ),
        (
            kill,
            json!([allow(equal(7)), allow(json!([]))]),
            ALLOW,
            ALLOW,
        ),
        // It ends the list.
        (
            kill,
            json!([allow(json!([])), deny(equal(7))]),
            ALLOW,
            ALLOW,
        ),
        (
            kill,
            json!([allow(json!([])), deny(json!([]))]),
            ALLOW,
            ALLOW,
        ),
        // A denial before it stays; a permission before a denial does not.
        (
            kill,
            json!([deny(equal(7)), allow(json!([]))]),
            EPERM,
            ALLOW,
        ),
        (
            kill,
            json!([allow(equal(7)), deny(json!([]))]),
            EPERM,
            EPERM,
        ),
        // Conditions are tried in order.
        (
            kill,
            json!([deny(equal(7)), allow(equal(7))]),
            EPERM,
            KILL_PROCESS,
        ),
        (
            kill,
            json!([allow(equal(7)), deny(equal(7)), log(equal(8))]),
            ALLOW,
            LOG,
        ),
        // Rules with the default action do nothing.
        (
            "SCMP_ACT_ALLOW",
            json!([allow(equal(7)), deny(json!([]))]),
            EPERM,
            EPERM,
        ),
        (
            "SCMP_ACT_ERRNO",
            json!([deny(json!([])), allow(equal(7))]),
            ALLOW,
            EPERM,
        ),
    ] {
        let program = compiled(json!({ "defaultAction": default, "syscalls": rules }));
        let found = [7, 8].map(|value| says(&program, "ioctl", [value, 0, 0, 0, 0, 0]));
        assert_eq!(found, [seven, eight], "{default} {rules}");
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let at =
        |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let rule = |args: Value| {
        let rules = json!([{ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args }]);
        compiled(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }))
    };
    let both = rule(json!([at(0, 1), at(1, 2)]));
    assert_eq!(says(&both, "ioctl", [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&both, "ioctl", [1, 3, 0, 0, 0, 0]), EPERM);
    let either = rule(json!([at(0, 1), at(0, 2), at(1, 9)]));
    assert_eq!(says(&either, "ioctl", [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&either, "ioctl", [0, 9, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&either, "ioctl", [3, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn bits_outside_of_a_mask_do_not_count() {
    let masked =
        json!([{ "index": 0, "value": 0xf, "valueTwo": 0x12, "op": "SCMP_CMP_MASKED_EQ" }]);
    let rules = json!([{ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": masked }]);
    let program = compiled(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }));
    let found = [0x2, 0x12, 0x3].map(|value| says(&program, "ioctl", [value, 0, 0, 0, 0, 0]));
    assert_eq!(found, [EPERM, EPERM, ALLOW]);
}

#[test]
fn numbers_that_no_profile_speaks_of() {
    let deny_list = |arches: Value| {
        let rules = json!([{ "names": ["ptrace"], "action": "SCMP_ACT_ERRNO" }]);
        compiled(
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": arches, "syscalls": rules }),
        )
    };
    let program = deny_list(json!([]));
    let at = |program: &Program, arch, nr| {
        run(
            &program.instructions,
            &Call {
                arch,
                nr,
                args: [0; 6],
            },
        )
        .0
    };
    assert_eq!(at(&program, NATIVE, 600), ALLOW);
    for foreign in [0, 0x4000_0003, 0x4000_0028, 0xc000_00f3, 0x8000_0016] {
        assert_eq!(at(&program, foreign, 0), KILL_PROCESS, "{foreign:#x}");
    }
    if cfg!(target_arch = "x86_64") {
        for nr in [
            0x4000_0000,
            0x4000_0000 + 521,
            0x4000_0000 + 101,
            0x8000_0000,
            u32::MAX,
        ] {
            assert_eq!(at(&program, NATIVE, nr), ENOSYS, "{nr:#x}");
        }
        let x32 = deny_list(json!(["SCMP_ARCH_X32"]));
        assert_eq!(at(&x32, NATIVE, 0x4000_0000 + 521), EPERM);
        assert_eq!(at(&x32, NATIVE, 0x4000_0000), ALLOW);
    }
    let allow_list = |default: Value| {
        let rules = json!([{ "names": ["read", "statx"], "action": "SCMP_ACT_ALLOW" }]);
        compiled(
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": default, "syscalls": rules }),
        )
    };
    let statx = native("statx");
    for (default, newer) in [
        (Value::Null, ENOSYS),
        (json!(1), ENOSYS),
        (json!(13), ERRNO | 13),
    ] {
        let program = allow_list(default);
        assert_eq!(at(&program, NATIVE, statx), ALLOW);
        assert_eq!(at(&program, NATIVE, statx + 1), newer);
        assert_eq!(at(&program, NATIVE, 100_000), newer);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn socketcall_and_ipc_are_ways_to_the_calls_behind_them() {
    let i386 = |default: &str, rule: Value| {
        let arches = json!(["SCMP_ARCH_X86"]);
        compiled(json!({ "defaultAction": default, "architectures": arches, "syscalls": [rule] }))
    };
    let at = |program: &Program, nr, first| {
        let args = [first, 0, 0, 0, 0, 0];
        run(
            &program.instructions,
            &Call {
                arch: 0x4000_0003,
                nr,
                args,
            },
        )
        .0
    };
    let (socketcall, ipc, high) = (102, 117, 1 << 32);
    let deny = i386(
        "SCMP_ACT_ALLOW",
        json!({ "names": ["socket", "shmat"], "action": "SCMP_ACT_ERRNO" }),
    );
    assert_eq!(
        [1, 1 | high, 2].map(|call| at(&deny, socketcall, call)),
        [EPERM, EPERM, ALLOW]
    );
    assert_eq!(
        [21, 0x1_0015, 22].map(|call| at(&deny, ipc, call)),
        [EPERM, EPERM, ALLOW]
    );
    // The family is behind a pointer: a denial of some covers all, a permission none.
    let family = json!([{ "index": 0, "value": 38, "op": "SCMP_CMP_EQ" }]);
    let some = i386(
        "SCMP_ACT_ALLOW",
        json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": family }),
    );
    assert_eq!(
        [1, 2].map(|call| at(&some, socketcall, call)),
        [EPERM, ALLOW]
    );
    let none = i386(
        "SCMP_ACT_KILL",
        json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": family }),
    );
    assert_eq!(at(&none, socketcall, 1), 0);
    let send = i386(
        "SCMP_ACT_KILL",
        json!({ "names": ["send"], "action": "SCMP_ACT_ALLOW" }),
    );
    assert_eq!([9, 10].map(|call| at(&send, socketcall, call)), [ALLOW, 0]);
    assert_eq!(send.skipped, Vec::<String>::new());
}

#[test]
fn flags_notify_and_skipped_names() {
    let program = compiled(json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                  "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{ "names": ["read", "opeen", "zzz"], "action": "SCMP_ACT_ALLOW" }],
    }));
    assert_eq!((program.flags, program.notify), (2 | 4, false));
    assert_eq!(program.skipped, ["opeen", "zzz"]);
    assert!(
        program.to_string().ends_with("default KILL_PROCESS"),
        "{program}"
    );
    let program = compiled(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{ "names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    }));
    assert_eq!((program.flags, program.notify), (8 | 32, true));
    assert_eq!(says(&program, "mkdirat", [0; 6]), 0x7fc0_0000);
}

#[test]
fn profiles_without_rules_have_filters() {
    let program = compiled(json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    assert_eq!(says(&program, "read", [0; 6]), ALLOW);
    let program = compiled(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [] }));
    assert_eq!(says(&program, "statx", [0; 6]), EPERM);
}

#[test]
fn bad_profiles_are_refused_with_the_place() {
    let rule = |rule: Value| {
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["read"], "action": "SCMP_ACT_LOG" }, rule] })
    };
    let args =
        |args: Value| rule(json!({ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": args }));
    for (profile, places) in [
        (
            args(json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" },
                        { "index": 6, "value": 1, "op": "SCMP_CMP_EQ" },
                        { "index": 4294967296_u64, "value": 1, "op": "SCMP_CMP_EQ" }])),
            vec![
                "/linux/seccomp/syscalls/1/args/1/index",
                "/linux/seccomp/syscalls/1/args/2/index",
            ],
        ),
        (
            rule(json!({ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })),
            vec!["/linux/seccomp/syscalls/1/errnoRet"],
        ),
        (
            rule(json!({ "names": ["ioctl"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536 })),
            vec!["/linux/seccomp/syscalls/1/errnoRet"],
        ),
        (
            rule(json!({ "names": ["ioctl"], "action": "SCMP_ACT_KILL", "errnoRet": 1 })),
            vec!["/linux/seccomp/syscalls/1/errnoRet"],
        ),
        (
            rule(json!({ "names": ["read", "write"], "action": "SCMP_ACT_NOTIFY" })),
            vec!["/linux/seccomp/syscalls/1/names/1"],
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            vec!["/linux/seccomp/defaultAction"],
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000 }),
            vec!["/linux/seccomp/defaultErrnoRet"],
        ),
    ] {
        let problems = compile(&parse(profile.clone())).unwrap_err();
        let found: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(found, places, "{profile}");
    }
}

/// `count` rules for values that no two share a load for.
fn many(count: u64) -> LinuxSeccomp {
    let rules: Vec<Value> = (0..count)
        .map(|n| {
            json!({ "names": ["ioctl", "socket"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 1, "value": n * 0x1_0000_0003, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    parse(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }))
}

#[test]
fn jumps_reach_across_long_filters() {
    for count in [50, 70, 127, 128, 300, 900] {
        let profile = many(count);
        let program = compile(&profile).unwrap();
        assert!(program.instructions.len() > 4 * count as usize);
        compare(&profile, &program, &mut Xorshift::seeded(count), 40);
        for n in [0, count / 2, count - 1] {
            let args = [0, n * 0x1_0000_0003, 0, 0, 0, 0];
            assert_eq!(says(&program, "socket", args), ALLOW, "{n} of {count}");
        }
    }
}

#[test]
fn a_filter_that_is_too_long_is_a_problem() {
    let problems = compile(&many(10_000)).unwrap_err();
    assert_eq!(problems[0].at, "/linux/seccomp/syscalls");
    assert!(problems[0].problem.contains("4096"), "{:?}", problems[0]);
    // Many rules need not make a long filter.
    let rules: Vec<Value> = (0..10_000)
        .map(|_| json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW" }))
        .collect();
    let program = compiled(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }));
    assert!(program.instructions.len() < 12, "{program}");
}
