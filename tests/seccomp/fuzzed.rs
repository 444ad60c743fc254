//! What must hold for every input, shared by the fuzz targets (`fuzz`) and by
//! the tests that run their corpora.

use std::collections::BTreeSet;

use capsid::error::Problem;
use capsid::seccomp::{compile, source};
use oci_spec::runtime::LinuxSeccomp;

use crate::interpreter::{Call, check, run};
use crate::oracle::{self, ARCHES, Oracle, conditions, entries};

/// Names in a profile beyond which the oracle, which is naive, takes too long.
const MOST_NAMES: usize = 2000;
/// Numbers of system calls that are compared for one architecture.
const MOST_NUMBERS: usize = 24;
/// Constants of a profile that become arguments.
const MOST_VALUES: usize = 12;

/// `linux.seccomp` of a configuration; whether it became a filter.
pub(crate) fn profile(input: &[u8]) -> bool {
    serde_json::from_slice(input).is_ok_and(|profile| judge(&profile, input))
}

/// A profile file; whether it became a filter.
pub(crate) fn file(input: &[u8]) -> bool {
    // All capabilities, none, and half of them: which rules apply differs.
    let grants: [&dyn Fn(&str) -> bool; 3] = [&|_| true, &|_| false, &|name| name.len() % 2 == 0];
    let mut good = true;
    for granted in grants {
        match source::resolve(input, granted) {
            Ok(resolved) => {
                let rules = entries(&resolved.profile).count();
                assert_eq!(rules, resolved.rules.len());
                good &= judge(&resolved.profile, input);
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                good = false;
            }
        }
    }
    good
}

/// Compiles a profile and holds the filter against the oracle, or the refusal
/// against what the specification allows.
fn judge(profile: &LinuxSeccomp, input: &[u8]) -> bool {
    let program = match compile(profile) {
        Ok(program) => program,
        Err(problems) => {
            refused(profile, &problems);
            return false;
        }
    };
    assert!(oracle::is_valid(profile), "{program} of a bad profile");
    check(&program);
    let names: usize = entries(profile)
        .map(|entry| entry.names().len().max(1))
        .sum();
    if names > MOST_NAMES {
        return true;
    }
    for (index, &(arch, column, bits, _)) in ARCHES.iter().enumerate() {
        let oracle = Oracle::new(profile, index);
        for number in numbers(profile, column, input) {
            for args in vectors(profile, input) {
                let nr = number | bits;
                let call = Call { arch, nr, args };
                let found = run(&program.instructions, &call).0;
                assert_eq!(found, oracle.judge(&call), "{column} {call:x?}");
            }
        }
    }
    true
}

/// Problems have places that exist.
fn refused(profile: &LinuxSeccomp, problems: &[Problem]) {
    let too_long = |problem: &Problem| {
        problem.at == "/linux/seccomp/syscalls" && problem.problem.contains("instructions")
    };
    let json = serde_json::json!({ "linux": { "seccomp": profile } });
    assert!(!problems.is_empty());
    for Problem { at, problem } in problems {
        assert!(json.pointer(at).is_some(), "{at}: {problem} in {json}");
    }
    assert_eq!(
        oracle::is_valid(profile),
        problems.iter().all(too_long),
        "{problems:?}"
    );
}

/// Numbers that the profile names, their neighbours, and some of the input's.
fn numbers(profile: &LinuxSeccomp, column: &str, input: &[u8]) -> BTreeSet<u32> {
    let names: BTreeSet<&str> = entries(profile)
        .flat_map(|entry| entry.names().iter().map(String::as_str))
        .collect();
    let mut named: Vec<u32> = oracle::column(column)
        .iter()
        .filter(|(_, name)| names.contains(*name))
        .map(|(number, _)| *number)
        .collect();
    // Any part of a long list, but the same for the same input.
    named.sort_unstable();
    let start = input.len() % named.len().max(1);
    named.rotate_left(start);
    let mut all = BTreeSet::from([
        0,
        102,
        117,
        600,
        u32::from(input.first().copied().unwrap_or(1)),
    ]);
    for number in named.into_iter().take(MOST_NUMBERS) {
        all.extend([number, number + 1]);
    }
    all
}

/// Constants of the profile and their neighbours in all arguments, and bytes of the input.
fn vectors(profile: &LinuxSeccomp, input: &[u8]) -> Vec<[u64; 6]> {
    let mut values = vec![0, u64::MAX];
    for condition in entries(profile).flat_map(conditions).take(MOST_VALUES) {
        let value = condition.value();
        values.extend([value, value.wrapping_add(1), value.wrapping_sub(1)]);
        values.extend([value ^ 1 << 32, condition.value_two().unwrap_or(1)]);
    }
    let word = |at: usize| {
        let bytes = input
            .iter()
            .cycle()
            .skip(at * 8 % input.len().max(1))
            .take(8);
        bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    let mixed = |shift: usize| std::array::from_fn(|at| values[(at * 7 + shift) % values.len()]);
    let mut all: Vec<[u64; 6]> = values.iter().map(|value| [*value; 6]).collect();
    all.extend([
        mixed(1),
        mixed(3),
        mixed(input.len()),
        std::array::from_fn(word),
    ]);
    all
}
