//! What compiled profiles say of calls.

use std::collections::{BTreeMap, BTreeSet};

use capsid::seccomp::source::{Resolved, resolve};
use capsid::seccomp::{Instruction, compile};
use oci_spec::runtime::LinuxSeccomp;

use crate::interpreter::{self, Call};

pub(crate) const ALLOW: u32 = 0x7fff_0000;

/// `AUDIT_ARCH_*` and the column of the table.
#[cfg(target_arch = "x86_64")]
const NATIVE: (u32, &str) = (0xc000_003e, "x86_64");
#[cfg(target_arch = "aarch64")]
const NATIVE: (u32, &str) = (0xc000_00b7, "aarch64");

/// The rows of the table: a name, and its numbers by architecture.
pub(crate) fn table() -> BTreeMap<&'static str, BTreeMap<&'static str, u32>> {
    let text = include_str!("../../src/seccomp/syscalls.tbl");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<_> = lines.next().unwrap().split_whitespace().skip(1).collect();
    lines
        .map(|line| {
            let mut cells = line.split_whitespace();
            let name = cells.next().unwrap();
            let numbers = columns.iter().zip(cells);
            let numbers = numbers.filter_map(|(&column, cell)| Some((column, cell.parse().ok()?)));
            (name, numbers.collect())
        })
        .collect()
}

/// The calls of this machine, by name.
pub(crate) fn native() -> BTreeMap<&'static str, u32> {
    table()
        .into_iter()
        .filter_map(|(name, numbers)| Some((name, *numbers.get(NATIVE.1)?)))
        .collect()
}

/// A profile file for a container with these capabilities.
pub(crate) fn resolved(json: &str, granted: &BTreeSet<String>) -> Resolved {
    let resolved = resolve(json.as_bytes(), &|name| granted.contains(name)).unwrap();
    assert_eq!(resolved.notes, [], "what the reader of profiles ignores");
    resolved
}

/// A profile without the architectures it lists besides: they do not matter here.
pub(crate) fn program(profile: &LinuxSeccomp) -> Vec<Instruction> {
    let program = compile(profile).unwrap_or_else(|problems| panic!("{problems:?}"));
    interpreter::check(&program);
    program.instructions
}

/// Filters that are loaded together: the strictest answer counts.
pub(crate) struct Filters<'a>(pub(crate) Vec<&'a [Instruction]>);

impl Filters<'_> {
    pub(crate) fn judge(&self, nr: u32, args: [u64; 6]) -> u32 {
        let call = Call {
            arch: NATIVE.0,
            nr,
            args,
        };
        self.0
            .iter()
            .map(|program| interpreter::run(program, &call).0)
            .min_by_key(|&ret| rank(ret))
            .unwrap()
    }
}

/// How strict an answer is, as the kernel compares them: less is stricter.
pub(crate) fn rank(ret: u32) -> i32 {
    (ret & 0xffff_0000).cast_signed()
}

/// Arguments at which the rules for one name may differ: all combinations of
/// what they compare with, one more, 0, and bits that should not matter.
pub(crate) fn vectors(profiles: &[&LinuxSeccomp], name: &str) -> Vec<[u64; 6]> {
    let mut values: [BTreeSet<u64>; 6] = Default::default();
    let rules = profiles
        .iter()
        .flat_map(|profile| profile.syscalls().iter().flatten());
    for rule in rules.filter(|rule| rule.names().iter().any(|other| other == name)) {
        for arg in rule.args().iter().flatten() {
            let here = &mut values[arg.index()];
            here.insert(0);
            here.insert(arg.value().wrapping_add(1));
            match arg.value_two() {
                Some(value) => here.extend([value, value | 1 << 32]),
                None => here.extend([arg.value(), arg.value() | 1 << 40]),
            }
        }
    }
    let mut all = vec![[0; 6]];
    for (index, values) in values.iter().enumerate() {
        if !values.is_empty() {
            let with = |args: &[u64; 6], value| {
                let mut args = *args;
                args[index] = value;
                args
            };
            all = all
                .iter()
                .flat_map(|args| values.iter().map(move |&value| with(args, value)))
                .collect();
        }
    }
    all
}
