//! What is called redundant in a profile really is: without it, the filter
//! answers the same.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    dead_code,
    reason = "what a test cannot do without must be there"
)]

use capsid::seccomp::abi::{self, Answer};
use capsid::seccomp::review::{Redundancy, redundant};
use capsid::seccomp::{compile, walk};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

#[path = "seccomp/interpreter.rs"]
mod interpreter;
#[path = "seccomp/oracle.rs"]
mod oracle;
#[path = "seccomp/random.rs"]
mod random;

use interpreter::{Call, run};
use random::{VALUES, Xorshift};

/// The architectures beside the native one.
fn arches() -> Vec<String> {
    let others = oracle::ARCHES.iter().skip(1);
    others.map(|arch| arch.3.to_string()).collect()
}

/// The profile without what was found.
fn without(profile: &Value, found: &[Redundancy]) -> Value {
    let mut less = profile.clone();
    let rules = less["syscalls"].as_array_mut().unwrap();
    for one in found.iter().rev() {
        match one.name {
            Some(name) => drop(
                rules[one.rule]["names"]
                    .as_array_mut()
                    .unwrap()
                    .remove(name),
            ),
            None => rules[one.rule]["names"] = json!([]),
        }
    }
    less
}

/// Every known number and some others, with random arguments.
fn compare(profile: &Value, less: &Value, random: &mut Xorshift) {
    let compiled = |profile: &Value| {
        let profile: LinuxSeccomp = serde_json::from_value(profile.clone()).unwrap();
        compile(&profile).unwrap().instructions
    };
    let (before, after) = (compiled(profile), compiled(less));
    for abi in abi::all() {
        let known = abi.calls().map(|(number, _)| number);
        for nr in known.chain([500, 0x4000_0000 + 600]) {
            // socketcall and ipc take a small number first.
            let mut vectors = vec![[0; 6], [u64::MAX; 6]];
            vectors.extend((0..12).map(|_| std::array::from_fn(|_| random.pick(&VALUES))));
            vectors.extend((0..25).map(|call| [call, 0, 0, 0, 0, 0]));
            for args in vectors {
                let call = Call {
                    arch: abi.audit,
                    nr,
                    args,
                };
                let answers = [run(&before, &call).0, run(&after, &call).0];
                assert_eq!(answers[0], answers[1], "{call:x?}\n{profile}\n{less}");
            }
        }
    }
}

#[test]
fn random_profiles_do_the_same_without_what_is_redundant() {
    let native: Vec<&str> = abi::native().calls().map(|(_, name)| name).collect();
    let multiplexed = ["socketcall", "socket", "bind", "ipc", "shmat", "send"];
    let mut removed = 0;
    for seed in 0..120 {
        let mut random = Xorshift::seeded(seed);
        let profile = random::profile(
            &mut random,
            &arches(),
            if seed % 2 == 0 { &native } else { &multiplexed },
        );
        let parsed: LinuxSeccomp = serde_json::from_value(profile.clone()).unwrap();
        if compile(&parsed).is_err() {
            continue;
        }
        let found = redundant(&parsed);
        removed += found.len();
        let less = without(&profile, &found);
        compare(&profile, &less, &mut random);
        let parsed: LinuxSeccomp = serde_json::from_value(less).unwrap();
        let again: Vec<_> = redundant(&parsed)
            .into_iter()
            .filter(|one| {
                !parsed.syscalls().as_ref().unwrap()[one.rule]
                    .names()
                    .is_empty()
            })
            .collect();
        assert_eq!(again, [], "{profile}");
    }
    assert!(removed > 1000, "only {removed} were found");
}

/// What is said of a call whose arguments are not known holds for all of them.
#[test]
fn verdicts_cover_what_the_filter_answers() {
    let native: Vec<&str> = abi::native().calls().map(|(_, name)| name).collect();
    for seed in 0..40 {
        let mut random = Xorshift::seeded(seed);
        let profile = random::profile(&mut random, &arches(), &native);
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        let Ok(program) = compile(&profile) else {
            continue;
        };
        for abi in abi::all() {
            for (nr, name) in abi.calls() {
                let verdict = walk::verdict(&program, abi.audit, nr);
                let mut vectors = vec![[0; 6]];
                vectors.extend((0..30).map(|_| std::array::from_fn(|_| random.pick(&VALUES))));
                for (place, args) in vectors.into_iter().enumerate() {
                    let call = Call {
                        arch: abi.audit,
                        nr,
                        args,
                    };
                    let (answer, steps) = run(&program.instructions, &call);
                    assert!(verdict.answers.contains(&Answer(answer)), "{seed} {name}");
                    assert!(steps <= verdict.longest, "{seed} {name}");
                    assert!(place > 0 || steps == verdict.steps, "{seed} {name}");
                }
            }
        }
    }
}

#[test]
fn dockers_profile_has_nothing_redundant() {
    let docker: LinuxSeccomp = serde_json::from_str(include_str!("seccomp/docker.json")).unwrap();
    let found: Vec<String> = redundant(&docker)
        .iter()
        .map(|one| one.problem(&docker, &|rule| rule.to_string()))
        .map(|problem| format!("{}: {}", problem.at, problem.problem))
        .collect();
    assert_eq!(found, [""; 0]);
}
