//! The same profiles compiled by seccompiler, where it can express them.

use std::collections::{BTreeMap, BTreeSet};

use capsid::seccomp::{Instruction, compile};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompOperator};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde_json::{Value, json};

use crate::interpreter::{Call, run};
use crate::oracle::{self, ARCHES, conditions, entries};
use crate::random::{self, Xorshift};

/// The same rules for the other compiler, which knows one action for all rules,
/// and loses a rule without conditions that stands next to one with some.
fn other_compiler(profile: &LinuxSeccomp) -> BpfProgram {
    use LinuxSeccompOperator as Op;
    let numbers = oracle::column(ARCHES[0].1);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut always = BTreeSet::new();
    for entry in entries(profile) {
        for (&number, _) in numbers
            .iter()
            .filter(|(_, name)| entry.names().iter().any(|n| n == *name))
        {
            let list = rules.entry(i64::from(number)).or_default();
            let mut all = Vec::new();
            for condition in conditions(entry) {
                let (value, two) = (condition.value(), condition.value_two().unwrap_or(0));
                let (operator, value) = match condition.op() {
                    Op::ScmpCmpNe => (SeccompCmpOp::Ne, value),
                    Op::ScmpCmpLt => (SeccompCmpOp::Lt, value),
                    Op::ScmpCmpLe => (SeccompCmpOp::Le, value),
                    Op::ScmpCmpEq => (SeccompCmpOp::Eq, value),
                    Op::ScmpCmpGe => (SeccompCmpOp::Ge, value),
                    Op::ScmpCmpGt => (SeccompCmpOp::Gt, value),
                    Op::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(value), two & value),
                };
                let index = u8::try_from(condition.index()).unwrap();
                let length = SeccompCmpArgLen::Qword;
                all.push(SeccompCondition::new(index, length, operator, value).unwrap());
            }
            if all.is_empty() {
                always.insert(i64::from(number));
            } else {
                list.push(SeccompRule::new(all).unwrap());
            }
        }
    }
    for number in always {
        rules.insert(number, Vec::new());
    }
    let target = if cfg!(target_arch = "x86_64") {
        TargetArch::x86_64
    } else {
        TargetArch::aarch64
    };
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(13),
        SeccompAction::Allow,
        target,
    );
    filter.unwrap().try_into().unwrap()
}

#[test]
fn another_compiler_agrees() {
    for seed in 1..=60 {
        let mut random = Xorshift::seeded(seed);
        let values: Vec<u64> = (0..3).map(|_| random.pick(&random::VALUES)).collect();
        let names = ["read", "open", "ioctl", "socket", "clone", "prctl", "mmap"];
        let syscalls: Vec<Value> = (0..1 + random.below(12))
            .map(|_| {
                let indices: BTreeSet<usize> =
                    (0..random.below(4)).map(|_| random.below(6)).collect();
                let mut args: Vec<Value> = Vec::new();
                for index in indices {
                    let one = random::condition(&mut random, &values, index);
                    args.push(one);
                }
                let count = 1 + random.below(3);
                let names: Vec<&str> = (0..count).map(|_| random.pick(&names)).collect();
                json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args })
            })
            .collect();
        let profile = crate::parse(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "syscalls": syscalls,
        }));
        let program = compile(&profile).unwrap();
        let other: Vec<_> = other_compiler(&profile)
            .into_iter()
            .map(|i| Instruction {
                code: i.code,
                jt: i.jt,
                jf: i.jf,
                k: i.k,
            })
            .collect();
        for args in crate::vectors(&profile, &mut random, 60) {
            for nr in 0..=200 {
                let call = Call {
                    arch: ARCHES[0].0,
                    nr,
                    args,
                };
                let (ours, theirs) = (run(&program.instructions, &call).0, run(&other, &call).0);
                assert_eq!(ours, theirs, "{call:x?} {profile:?}");
            }
        }
    }
}
