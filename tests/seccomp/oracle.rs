//! What an OCI profile means, evaluated rule by rule: slow, and simple enough
//! to be compared with the text of the runtime specification.

use std::collections::HashMap;
use std::sync::LazyLock;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

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
pub(crate) type Column = HashMap<u32, &'static str>;

static COLUMNS: LazyLock<Vec<(&str, Column)>> =
    LazyLock::new(|| ARCHES.iter().map(|arch| (arch.1, read(arch.1))).collect());

/// Numbers and names of one of this target's architectures.
pub(crate) fn column(name: &str) -> &'static Column {
    let found = COLUMNS.iter().find(|(other, _)| *other == name);
    &found.unwrap_or_else(|| panic!("no column {name}")).1
}

fn read(name: &str) -> Column {
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
    let found = all.iter().find(|(_, other)| **other == name);
    *found.unwrap_or_else(|| panic!("{name}")).0
}

/// A profile and one architecture of its filter.
pub(crate) struct Oracle<'a> {
    profile: &'a LinuxSeccomp,
    numbers: &'static Column,
    bits: u32,
    narrow: bool,
    /// 32-bit ARM: system calls of another kind, which do not grow, start here.
    private: Option<u32>,
    default: u32,
    newest: Option<u32>,
    /// What all calls of an architecture get that the filter is not for.
    foreign: Option<u32>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(profile: &'a LinuxSeccomp, arch: usize) -> Self {
        let (_, name, bits, listed_as) = ARCHES[arch];
        let listed = profile.architectures().as_deref().unwrap_or_default();
        let included = arch == 0 || listed.contains(&listed_as);
        // x32 calls are known by their numbers alone.
        let foreign = if bits == 0 { KILL_PROCESS } else { ENOSYS };
        let numbers = column(name);
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let named = |syscall: &str| {
            entries(profile).any(|entry| {
                let seen = conditions(entry).is_empty() || is_stricter(value(entry), default);
                let mut names = entry.names().iter().map(String::as_str);
                names.any(|name| {
                    name == syscall
                        || seen && multiplexed(name).is_some_and(|(through, _)| through == syscall)
                })
            })
        };
        let newest = numbers
            .iter()
            .filter(|(number, syscall)| **number < 0xf0000 && named(syscall))
            .map(|(number, _)| *number)
            .max();
        let narrow = matches!(name, "x32" | "x86" | "arm");
        let private = (name == "arm").then_some(0xf0000);
        Self {
            private,
            profile,
            numbers,
            bits,
            narrow,
            default,
            newest,
            foreign: (!included).then_some(foreign),
        }
    }

    /// What the filter has to return.
    pub(crate) fn judge(&self, call: &Call) -> u32 {
        if let Some(verdict) = self.foreign {
            return verdict;
        }
        let nr = call.nr ^ self.bits;
        if self.is_newer(nr) && self.default == (ERRNO | 1) {
            return ENOSYS;
        }
        let Some(name) = self.numbers.get(&nr) else {
            return self.default;
        };
        // The return value of each rule, whether it applies to this call, and
        // whether it is for the call behind a multiplexer.
        let mut rules: Vec<(u32, bool, bool)> = Vec::new();
        for entry in entries(self.profile) {
            let (ret, always) = (value(entry), conditions(entry).is_empty());
            if ret == self.default {
                continue;
            }
            if entry.names().iter().any(|other| other == name) {
                if always {
                    rules.retain(|(earlier, ..)| !is_stricter(ret, *earlier));
                    rules.push((ret, true, false));
                    break;
                }
                rules.push((ret, self.matches(entry, call), false));
            }
            // An entry can name both the multiplexer and a call behind it.
            if matches!(*name, "socketcall" | "ipc") && self.is_behind(entry, name, call) {
                // Its own arguments are behind a pointer: conditions may hold.
                if always {
                    rules.retain(|(earlier, _, behind)| !behind || !is_stricter(ret, *earlier));
                }
                rules.push((ret, always || is_stricter(ret, self.default), true));
            }
        }
        let first = rules.into_iter().find(|(_, applies, _)| *applies);
        first.map_or(self.default, |(ret, ..)| ret)
    }

    /// Whether the number is greater than all that the profile names.
    pub(crate) fn is_newer(&self, nr: u32) -> bool {
        let private = self.private.is_some_and(|first| nr >= first);
        !private && self.newest.is_some_and(|newest| nr > newest)
    }

    /// Whether this call of a multiplexer stands for one that the entry names.
    fn is_behind(&self, entry: &LinuxSyscall, name: &str, call: &Call) -> bool {
        let mask = if name == "ipc" { 0xffff } else { 0xffff_ffff };
        let first = call.args[0] & mask;
        let mut names = entry.names().iter();
        names.any(|other| multiplexed(other) == Some((name, first)))
    }

    /// All rules that speak of this call, in order: the return value, whether
    /// it applies, and whether it does for all arguments.
    pub(crate) fn rules(&self, call: &Call) -> Vec<(u32, bool, bool)> {
        let Some(name) = self.numbers.get(&(call.nr ^ self.bits)) else {
            return Vec::new();
        };
        let mut rules = Vec::new();
        for entry in entries(self.profile).filter(|entry| value(entry) != self.default) {
            let always = conditions(entry).is_empty();
            if entry.names().iter().any(|other| other == name) {
                rules.push((value(entry), self.matches(entry, call), always));
            }
            if matches!(*name, "socketcall" | "ipc") && self.is_behind(entry, name, call) {
                rules.push((value(entry), always, false));
            }
        }
        rules
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
            Op::ScmpCmpMaskedEq => argument & value == other & value,
        }
    }
}

pub(crate) fn entries(profile: &LinuxSeccomp) -> impl Iterator<Item = &LinuxSyscall> {
    profile.syscalls().iter().flatten()
}

pub(crate) fn conditions(entry: &LinuxSyscall) -> &[LinuxSeccompArg] {
    entry.args().as_deref().unwrap_or_default()
}

/// The i386 call through which another can be made, and its first argument
/// then (`SYS_*` of `linux/net.h`, and `linux/ipc.h`).
pub(crate) fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETCALL: [&str; 21] = [
        "",
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [&str; 25] = [
        "",
        "semop",
        "semget",
        "semctl",
        "semtimedop",
        "",
        "",
        "",
        "",
        "",
        "",
        "msgsnd",
        "msgrcv",
        "msgget",
        "msgctl",
        "",
        "",
        "",
        "",
        "",
        "",
        "shmat",
        "shmdt",
        "shmget",
        "shmctl",
    ];
    let place = |calls: &[&str]| {
        calls
            .iter()
            .position(|call| *call == name && !name.is_empty())
    };
    let socketcall = place(&SOCKETCALL).map(|call| ("socketcall", call as u64));
    socketcall.or_else(|| place(&IPC).map(|call| ("ipc", call as u64)))
}

/// Of two filters' verdicts the one that counts, by the kernel's order of
/// actions (`seccomp_run_filters`); the first when the actions are equal.
pub(crate) fn stricter(one: u32, other: u32) -> u32 {
    if is_stricter(other, one) { other } else { one }
}

/// The kernel compares actions as signed numbers: less is stricter.
fn is_stricter(one: u32, other: u32) -> bool {
    let rank = |value: u32| (value & 0xffff_0000).cast_signed();
    rank(one) < rank(other)
}

/// The value that a rule returns.
pub(crate) fn value(entry: &LinuxSyscall) -> u32 {
    entry.action().as_u32(entry.errno_ret())
}

/// Whether a profile says only what a filter can do.
pub(crate) fn is_valid(profile: &LinuxSeccomp) -> bool {
    use LinuxSeccompAction as Action;
    let number = |action: LinuxSeccompAction, number: Option<u32>| match action {
        Action::ScmpActErrno => number.is_none_or(|number| number <= 4095),
        Action::ScmpActTrace => number.is_none_or(|number| number <= 65535),
        _ => number.is_none(),
    };
    let default = profile.default_action();
    let supervised = |entry: &LinuxSyscall| {
        entry.action() == Action::ScmpActNotify && entry.names().iter().any(|name| name == "write")
    };
    number(default, profile.default_errno_ret())
        && default != Action::ScmpActNotify
        && entries(profile).all(|entry| {
            number(entry.action(), entry.errno_ret())
                && !supervised(entry)
                && conditions(entry).iter().all(|one| one.index() < 6)
        })
}
