//! The architectures whose system calls a filter judges.
//!
//! The native one always; others when the profile lists them and this kernel
//! can run them. A system call of any other architecture kills the process: its
//! numbers mean something else, so no rule of the profile speaks of it.

use oci_spec::runtime::{Arch, LinuxSeccomp};

use super::condition::Width;
use super::names;
use super::rules::Scope;
use super::tables::Target;

pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_ARCH_I386: u32 = 0x4000_0003;
pub(super) const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
pub(super) const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// Set in the numbers of x32, which has the same `AUDIT_ARCH` as x86_64.
pub(crate) const X32_SYSCALL_BIT: u32 = 0x4000_0000;
/// First of the private numbers of 32-bit ARM: cacheflush, set_tls and others.
const ARM_NR_BASE: u32 = 0x000f_0000;

/// One value of `seccomp_data.arch`, and what its numbers mean.
#[derive(Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) audit: u32,
    /// Parts of the number space in order; the first starts at 0.
    pub(super) segments: Vec<Segment>,
}

/// Numbers from `start` up to the next segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// The first number.
    pub(super) start: u32,
    /// What the numbers mean.
    pub(super) meaning: Meaning,
}

/// What the numbers of a segment mean.
#[derive(Debug)]
pub(super) enum Meaning {
    /// System calls.
    Calls(Calls),
    /// Numbers that this filter refuses with ENOSYS, whatever the profile says.
    Refused,
}

/// The system calls of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    /// Numbers and rows, in order.
    pub(super) numbers: &'static [(u32, u16)],
    /// How much of an argument counts.
    pub(super) width: Width,
    /// New kernels add numbers at the end.
    pub(super) grows: bool,
}

impl Architecture {
    /// The segment that a number belongs to.
    pub(super) fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments
            .iter()
            .rev()
            .find(|segment| segment.start <= number)
    }
}

impl Segment {
    fn of(start: u32, numbers: &'static [(u32, u16)], width: Width) -> Self {
        let calls = Calls {
            numbers,
            width,
            grows: true,
        };
        Self {
            start,
            meaning: Meaning::Calls(calls),
        }
    }
}

impl Calls {
    /// The call with the greatest number whose row is named, where greater
    /// numbers are newer.
    pub(super) fn newest(&self, is_named: impl Fn(u16) -> bool) -> Option<(u32, u16)> {
        let newest_first = self.numbers.iter().rev().copied();
        newest_first
            .filter(|_| self.grows)
            .find(|(_, row)| is_named(*row))
    }

    /// The row of a number.
    pub(super) fn row(&self, number: u32) -> Option<u16> {
        let found = self
            .numbers
            .binary_search_by_key(&number, |(number, _)| *number);
        found.ok().map(|index| self.numbers[index].1)
    }
}

/// The architectures of a profile's filter, the native one first; of a filter
/// with a floor, that one alone.
pub(super) fn of(profile: &LinuxSeccomp, floor: bool) -> (Vec<Architecture>, Scope) {
    let listed = profile.architectures().as_deref().unwrap_or_default();
    select(&|arch| !floor && listed.contains(&arch))
}

fn select(listed: &dyn Fn(Arch) -> bool) -> (Vec<Architecture>, Scope) {
    match names::tables().target {
        Target::X86_64 => x86_64(listed),
        Target::Aarch64 => aarch64(listed),
    }
}

/// x32 numbers in a filter without x32 would fall to the default action, so
/// that a profile which denies by name is passed by setting one bit.
fn x86_64(listed: &dyn Fn(Arch) -> bool) -> (Vec<Architecture>, Scope) {
    let columns = names::tables().columns;
    let mut scope = Scope {
        columns: 0b001,
        multiplexed: false,
    };
    let mut x32 = Segment {
        start: X32_SYSCALL_BIT,
        meaning: Meaning::Refused,
    };
    if listed(Arch::ScmpArchX32) {
        scope.columns |= 0b010;
        x32 = Segment::of(X32_SYSCALL_BIT, columns[1], Width::Narrow);
    }
    let mut all = vec![Architecture {
        audit: AUDIT_ARCH_X86_64,
        segments: vec![Segment::of(0, columns[0], Width::Wide), x32],
    }];
    if listed(Arch::ScmpArchX86) {
        scope.columns |= 0b100;
        scope.multiplexed = true;
        all.push(Architecture {
            audit: AUDIT_ARCH_I386,
            segments: vec![Segment::of(0, columns[2], Width::Narrow)],
        });
    }
    (all, scope)
}

fn aarch64(listed: &dyn Fn(Arch) -> bool) -> (Vec<Architecture>, Scope) {
    let columns = names::tables().columns;
    let mut scope = Scope {
        columns: 0b01,
        multiplexed: false,
    };
    let mut all = vec![Architecture {
        audit: AUDIT_ARCH_AARCH64,
        segments: vec![Segment::of(0, columns[0], Width::Wide)],
    }];
    if listed(Arch::ScmpArchArm) {
        scope.columns |= 0b10;
        let split = columns[1].partition_point(|(number, _)| *number < ARM_NR_BASE);
        let (usual, private) = columns[1].split_at(split);
        let private = Calls {
            numbers: private,
            width: Width::Narrow,
            grows: false,
        };
        all.push(Architecture {
            audit: AUDIT_ARCH_ARM,
            segments: vec![
                Segment::of(0, usual, Width::Narrow),
                Segment {
                    start: ARM_NR_BASE,
                    meaning: Meaning::Calls(private),
                },
            ],
        });
    }
    (all, scope)
}
