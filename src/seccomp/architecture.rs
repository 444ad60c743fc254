//! The architectures whose system calls a filter judges.
//!
//! The native one always; others when the profile lists them and this kernel
//! can run them. A system call of any other architecture kills the process: its
//! numbers mean something else, so no rule of the profile speaks of it.

use oci_spec::runtime::{Arch, LinuxSeccomp};

use super::condition::Width;
use super::names;
use super::rules::Scope;

/// One value of `seccomp_data.arch`, and what its numbers mean.
#[derive(Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) audit: u32,
    /// How much of an argument counts.
    pub(super) width: Width,
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
    /// System calls, with their rows, in order. New kernels add numbers at the end.
    Growing(&'static [(u32, u16)]),
    /// System calls; new ones do not come at the end.
    #[cfg(target_arch = "aarch64")]
    Fixed(&'static [(u32, u16)]),
    /// Numbers that this filter refuses with ENOSYS, whatever the profile says.
    #[cfg(target_arch = "x86_64")]
    Refused,
}

#[cfg(target_arch = "x86_64")]
mod tables {
    use super::*;

    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    const AUDIT_ARCH_I386: u32 = 0x4000_0003;
    /// Set in the numbers of x32, which has the same `AUDIT_ARCH` as x86_64.
    const X32_SYSCALL_BIT: u32 = 0x4000_0000;

    /// x32 numbers in a filter without x32 would fall to the default action,
    /// so that a profile which denies by name is passed by setting one bit.
    pub(super) fn of(listed: &dyn Fn(Arch) -> bool) -> (Vec<Architecture>, Scope) {
        let mut scope = Scope {
            tables: 0b001,
            multiplexed: false,
        };
        let mut x32 = Meaning::Refused;
        if listed(Arch::ScmpArchX32) {
            scope.tables |= 0b010;
            x32 = Meaning::Growing(&names::X32);
        }
        let mut all = vec![Architecture {
            audit: AUDIT_ARCH_X86_64,
            width: Width::Wide,
            segments: vec![
                Segment {
                    start: 0,
                    meaning: Meaning::Growing(&names::X86_64),
                },
                Segment {
                    start: X32_SYSCALL_BIT,
                    meaning: x32,
                },
            ],
        }];
        if listed(Arch::ScmpArchX86) {
            scope.tables |= 0b100;
            scope.multiplexed = true;
            let segments = vec![Segment {
                start: 0,
                meaning: Meaning::Growing(&names::X86),
            }];
            all.push(Architecture {
                audit: AUDIT_ARCH_I386,
                width: Width::Narrow,
                segments,
            });
        }
        (all, scope)
    }
}

#[cfg(target_arch = "aarch64")]
mod tables {
    use super::*;

    const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
    const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
    /// First of the private numbers of 32-bit ARM: cacheflush, set_tls and others.
    const ARM_NR_BASE: u32 = 0x000f_0000;

    pub(super) fn of(listed: &dyn Fn(Arch) -> bool) -> (Vec<Architecture>, Scope) {
        let mut scope = Scope {
            tables: 0b01,
            multiplexed: false,
        };
        let mut all = vec![Architecture {
            audit: AUDIT_ARCH_AARCH64,
            width: Width::Wide,
            segments: vec![Segment {
                start: 0,
                meaning: Meaning::Growing(&names::AARCH64),
            }],
        }];
        if listed(Arch::ScmpArchArm) {
            scope.tables |= 0b10;
            let split = names::ARM.partition_point(|(number, _)| *number < ARM_NR_BASE);
            let (usual, private) = names::ARM.split_at(split);
            let segments = vec![
                Segment {
                    start: 0,
                    meaning: Meaning::Growing(usual),
                },
                Segment {
                    start: ARM_NR_BASE,
                    meaning: Meaning::Fixed(private),
                },
            ];
            all.push(Architecture {
                audit: AUDIT_ARCH_ARM,
                width: Width::Narrow,
                segments,
            });
        }
        (all, scope)
    }
}

/// The architectures of a profile's filter, the native one first.
pub(super) fn of(profile: &LinuxSeccomp) -> (Vec<Architecture>, Scope) {
    let listed = profile.architectures().as_deref().unwrap_or_default();
    tables::of(&|arch| listed.contains(&arch))
}
