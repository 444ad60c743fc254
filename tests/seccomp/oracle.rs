//! What an OCI profile means, evaluated rule by rule: slow, and simple enough
//! to be compared with the text of the runtime specification.

use std::collections::HashMap;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use crate::interpreter::Call;

pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(crate) const ENOSYS: u32 = ERRNO | 38;

/// The architectures of this target: `AUDIT_ARCH_*`, column of the table, bits
/// set in its numbers, name in profiles.
#[cfg(target_arch = "x86_64")]
pub(crate) const ARCHES: &[(u32, &str, u32, Arch)] = &[
    (0xc000_003e, "x86_64", 0, Arch::ScmpArchX86_64),
    (0xc000_003e, "x32", 0x4000_0000, Arch::ScmpArchX32),
    (0x4000_0003, "x86", 0, Arch::ScmpArchX86),
];
#[cfg(target_arch = "aarch64")]
pub(crate) const ARCHES: &[(u32, &str, u32, Arch)] = &[
    (0xc000_00b7, "aarch64", 0, Arch::ScmpArchAarch64),
    (0x4000_0028, "arm", 0, Arch::ScmpArchArm),
];

/// Numbers and names of one column of the table.
pub(crate) fn column(name: &str) -> HashMap<u32, &'static str> {
    let text = include_str!("../../src/seccomp/syscalls.tbl");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header = lines.next().unwrap();
    let position = header
        .split_whitespace()
        .position(|other| other == name)
        .unwrap();
    lines
        .filter_map(|line| {
            let mut cells = line.split_whitespace();
            let syscall = cells.next()?;
            Some((cells.nth(position - 1)?.parse().ok()?, syscall))
        })
        .collect()
}

/// The number of a system call of the native architecture.
pub(crate) fn native(name: &str) -> u32 {
    let all = column(ARCHES[0].1);
    all.into_iter()
        .find(|(_, other)| *other == name)
        .unwrap_or_else(|| panic!("{name}"))
        .0
}

/// A profile and one architecture of its filter.
pub(crate) struct Oracle<'a> {
    profile: &'a LinuxSeccomp,
    numbers: HashMap<u32, &'static str>,
    bits: u32,
    narrow: bool,
    default: u32,
    newest: Option<u32>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(profile: &'a LinuxSeccomp, arch: usize) -> Self {
        let (_, name, bits, _) = ARCHES[arch];
        let numbers = column(name);
        let named = |syscall: &str| {
            entries(profile).any(|entry| entry.names().iter().any(|name| name == syscall))
        };
        let newest = numbers
            .iter()
            .filter(|(number, syscall)| **number < 0xf0000 && named(syscall))
            .map(|(number, _)| *number)
            .max();
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let narrow = matches!(name, "x86" | "arm");
        Self {
            profile,
            numbers,
            bits,
            narrow,
            default,
            newest,
        }
    }

    /// What the filter has to return.
    pub(crate) fn judge(&self, call: &Call) -> u32 {
        let nr = call.nr ^ self.bits;
        let Some(name) = self.numbers.get(&nr) else {
            let newer = self.newest.is_some_and(|newest| nr > newest);
            return if newer && self.default == (ERRNO | 1) {
                ENOSYS
            } else {
                self.default
            };
        };
        if self.default == (ERRNO | 1) && self.newest.is_some_and(|n| nr > n && nr < 0xf0000) {
            return ENOSYS;
        }
        let mut rules: Vec<&LinuxSyscall> = Vec::new();
        for entry in entries(self.profile) {
            let names_it = entry.names().iter().any(|other| other == name);
            if !names_it || value(entry) == self.default {
                continue;
            }
            if conditions(entry).is_empty() {
                let strictness = |entry: &LinuxSyscall| (value(entry) & 0xffff_0000) as i32;
                rules.retain(|earlier| strictness(earlier) <= strictness(entry));
                rules.push(entry);
                break;
            }
            rules.push(entry);
        }
        let first = rules.into_iter().find(|entry| self.matches(entry, call));
        first.map_or(self.default, value)
    }

    fn matches(&self, entry: &LinuxSyscall, call: &Call) -> bool {
        let conditions = conditions(entry);
        let holds = |condition: &LinuxSeccompArg| self.holds(condition, call);
        let shared = conditions.iter().any(|one| {
            conditions
                .iter()
                .filter(|other| other.index() == one.index())
                .count()
                > 1
        });
        if shared {
            conditions.iter().any(holds)
        } else {
            conditions.iter().all(holds)
        }
    }

    fn holds(&self, condition: &LinuxSeccompArg, call: &Call) -> bool {
        use LinuxSeccompOperator as Op;
        let argument = call.args[condition.index()];
        let (mut value, mut other) = (condition.value(), condition.value_two().unwrap_or(0));
        let argument = if self.narrow {
            argument & 0xffff_ffff
        } else {
            argument
        };
        if self.narrow
            && matches!(
                condition.op(),
                Op::ScmpCmpEq | Op::ScmpCmpNe | Op::ScmpCmpMaskedEq
            )
        {
            value &= 0xffff_ffff;
            other &= 0xffff_ffff;
        }
        match condition.op() {
            Op::ScmpCmpNe => argument != value,
            Op::ScmpCmpLt => argument < value,
            Op::ScmpCmpLe => argument <= value,
            Op::ScmpCmpEq => argument == value,
            Op::ScmpCmpGe => argument >= value,
            Op::ScmpCmpGt => argument > value,
            Op::ScmpCmpMaskedEq => argument & value == other,
        }
    }
}

pub(crate) fn entries(profile: &LinuxSeccomp) -> impl Iterator<Item = &LinuxSyscall> {
    profile.syscalls().iter().flatten()
}

pub(crate) fn conditions(entry: &LinuxSyscall) -> &[LinuxSeccompArg] {
    entry.args().as_deref().unwrap_or_default()
}

fn value(entry: &LinuxSyscall) -> u32 {
    entry.action().as_u32(entry.errno_ret())
}
