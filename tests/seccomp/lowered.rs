//! A profile as the input of `libseccomp.c`, and what that prints.
//!
//! Engines do the same before they call libseccomp: rules with the default
//! action are left out, and of several conditions on one argument each becomes
//! a rule of its own.

use std::collections::HashSet;
use std::fmt::Write;

use capsid::seccomp::Instruction;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator};

/// What libseccomp made of a profile.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) version: String,
    pub(crate) instructions: Vec<Instruction>,
    /// Names that it does not know.
    pub(crate) unknown: HashSet<String>,
    /// Rules that it does not take: their lines, with the error number.
    pub(crate) refused: Vec<String>,
    /// Nanoseconds.
    pub(crate) compile: u64,
    /// Nanoseconds; 0 when the program was not loaded.
    pub(crate) load: u64,
}

/// The input for a profile. `optimize` is 1 (libseccomp's default) or 2 (what runc asks for).
pub(crate) fn input(profile: &LinuxSeccomp, optimize: u8, foreign: u32) -> String {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let mut text = format!("optimize {optimize}\ndefault {default}\nforeign {foreign}\n");
    for arch in profile.architectures().iter().flatten() {
        let name = match arch {
            Arch::ScmpArchX86_64 => "x86_64",
            Arch::ScmpArchX32 => "x32",
            Arch::ScmpArchX86 => "x86",
            Arch::ScmpArchAarch64 => "aarch64",
            Arch::ScmpArchArm => "arm",
            _ => continue,
        };
        writeln!(text, "arch {name}").unwrap();
    }
    for entry in profile.syscalls().iter().flatten() {
        let value = entry.action().as_u32(entry.errno_ret());
        if value == default {
            continue;
        }
        let all = entry.args().as_deref().unwrap_or_default();
        let alone = all
            .iter()
            .enumerate()
            .all(|(at, one)| all[..at].iter().all(|other| other.index() != one.index()));
        for name in entry.names() {
            let rule = format!("rule {value} {name}");
            if alone {
                let words: String = all.iter().map(condition).collect();
                writeln!(text, "{rule}{words}").unwrap();
            } else {
                for one in all {
                    writeln!(text, "{rule}{}", condition(one)).unwrap();
                }
            }
        }
    }
    text
}

fn condition(condition: &LinuxSeccompArg) -> String {
    use LinuxSeccompOperator as Op;
    let operator = match condition.op() {
        Op::ScmpCmpNe => 1,
        Op::ScmpCmpLt => 2,
        Op::ScmpCmpLe => 3,
        Op::ScmpCmpEq => 4,
        Op::ScmpCmpGe => 5,
        Op::ScmpCmpGt => 6,
        Op::ScmpCmpMaskedEq => 7,
    };
    let (value, two) = (condition.value(), condition.value_two().unwrap_or(0));
    format!(" {} {operator} {value} {two}", condition.index())
}

/// What `libseccomp.c` printed.
pub(crate) fn outcome(printed: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in printed.lines() {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "version" => rest.clone_into(&mut outcome.version),
            "unknown" => drop(outcome.unknown.insert(rest.to_owned())),
            "refused" => outcome.refused.push(rest.to_owned()),
            "compile" => outcome.compile = rest.parse().unwrap(),
            "load" => outcome.load = rest.parse().unwrap(),
            "insn" => outcome.instructions.push(instruction(rest)),
            _ => panic!("{line}"),
        }
    }
    outcome
}

fn instruction(words: &str) -> Instruction {
    let numbers: Vec<u32> = words.split(' ').map(|word| word.parse().unwrap()).collect();
    let [code, jt, jf, k] = numbers[..] else {
        panic!("{words}");
    };
    let byte = |number: u32| u8::try_from(number).unwrap();
    Instruction {
        code: u16::try_from(code).unwrap(),
        jt: byte(jt),
        jf: byte(jf),
        k,
    }
}
