//! OCI seccomp profiles, compiled to BPF. Pure: loading is `sys::restrict`'s.
//!
//! A filter is a search tree over ranges of system call numbers whose leaves
//! return a value or test arguments. Order matters at load time and not only at
//! run time: the kernel walks a new filter once for each system call to learn
//! which ones are always allowed.
//!
//! `rules` says which rule decides when several name one system call, and
//! `architecture` what happens to numbers of other architectures.

use std::fmt;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use crate::error::Problem;

mod architecture;
mod condition;
mod encode;
mod multiplex;
mod names;
mod returns;
mod rules;
pub mod source;
mod tree;

use architecture::{Architecture, Meaning};
use encode::{Assembler, Label, Test};
use rules::Rules;
use tree::{Leaf, Ranges};

/// The kernel takes at most this many instructions (`linux/bpf_common.h`).
const BPF_MAXINSNS: usize = 4096;
/// Offsets in `struct seccomp_data` of `linux/seccomp.h`.
const NR_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;

/// A compiled filter, ready for seccomp(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The instructions, at most `BPF_MAXINSNS` (4096).
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*` to load it with; has `NEW_LISTENER` when `notify` is set.
    pub flags: u32,
    /// Whether the filter asks a supervisor (`SCMP_ACT_NOTIFY`), so that loading
    /// it returns a descriptor which somebody has to serve.
    pub notify: bool,
    /// The `SECCOMP_RET_*` value of the profile's default action.
    pub default: u32,
    /// Names without a number on any architecture of the filter, in the order
    /// of the profile; rules for them have no effect.
    pub skipped: Vec<String>,
}

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// `BPF_*` operation code.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seccomp filter: {} instructions, default ",
            self.instructions.len()
        )?;
        returns::write(f, self.default)
    }
}

/// Compiles a profile for this machine's architecture and those it lists.
///
/// Numbers above the greatest one that the profile names get ENOSYS where the
/// default is `ERRNO(EPERM)`, as with runc: they are newer than the profile, and
/// libraries fall back to older calls on ENOSYS only.
///
/// # Errors
///
/// Everything that is wrong with the profile: arguments that do not exist,
/// numbers out of range, numbers for actions that return none, supervision of
/// what cannot be supervised, more instructions than the kernel takes.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, Vec<Problem>> {
    let (architectures, scope) = architecture::of(profile);
    let mut rules = Rules::new(profile, scope)?;
    let leaves = rules.leaves();
    let mut code = Assembler::new();
    let mut next = code.ret(libc::SECCOMP_RET_KILL_PROCESS);
    for architecture in architectures.iter().rev() {
        let tree = emit_architecture(&mut code, architecture, &rules, &leaves);
        let entry = code.load(NR_OFFSET, tree);
        next = code.branch(Test::Equal(architecture.audit), entry, next);
    }
    let start = code.load(ARCH_OFFSET, next);
    let instructions = code.finish(start);
    if instructions.len() > BPF_MAXINSNS {
        let problem = format!(
            "these rules make a filter of {} instructions, and the kernel takes at most \
             {BPF_MAXINSNS}: merge rules or drop conditions",
            instructions.len(),
        );
        return Err(vec![Problem::new("/linux/seccomp/syscalls", problem)]);
    }
    let Rules {
        default,
        notify,
        skipped,
        ..
    } = rules;
    Ok(Program {
        instructions,
        flags: flags(profile, notify),
        notify,
        default,
        skipped,
    })
}

/// The search tree of one architecture, with the number in the accumulator.
fn emit_architecture(
    code: &mut Assembler,
    architecture: &Architecture,
    rules: &Rules,
    leaves: &[Leaf],
) -> Label {
    let ranges = ranges(architecture, rules, leaves);
    let mut decisions: Vec<(Leaf, Label)> = Vec::new();
    ranges.emit(code, &mut |code, leaf| match leaf {
        Leaf::Return(value) => code.ret(value),
        Leaf::Decide(decision, width) => {
            if let Some((_, label)) = decisions.iter().find(|(known, _)| *known == leaf) {
                return *label;
            }
            let (alternatives, otherwise) = rules.alternatives(decision);
            let label = condition::emit(code, width, &alternatives, otherwise);
            decisions.push((leaf, label));
            label
        }
    })
}

/// The leaf of every number of one architecture.
fn ranges(architecture: &Architecture, rules: &Rules, leaves: &[Leaf]) -> Ranges {
    let default = Leaf::Return(rules.default);
    let enosys = Leaf::Return(returns::errno(libc::ENOSYS));
    let refuses_newer = rules.default == returns::errno(libc::EPERM);
    let mut ranges = Ranges::new(default);
    for segment in &architecture.segments {
        let (numbers, width, grows) = match segment.meaning {
            Meaning::Growing(numbers, width) => (numbers, width, true),
            #[cfg(target_arch = "aarch64")]
            Meaning::Fixed(numbers, width) => (numbers, width, false),
            #[cfg(target_arch = "x86_64")]
            Meaning::Refused => {
                ranges.from(segment.start, enosys);
                continue;
            }
        };
        let mut next = segment.start;
        let mut newest = None;
        ranges.from(next, default);
        for &(number, row) in numbers {
            if number != next {
                ranges.from(next, default);
            }
            ranges.from(number, leaves[usize::from(row)].with_width(width));
            next = number + 1;
            newest = if rules.is_named(row) {
                Some(number)
            } else {
                newest
            };
        }
        ranges.from(next, default);
        if let Some(newest) = newest.filter(|_| grows && refuses_newer) {
            ranges.from(newest + 1, enosys);
        }
    }
    ranges
}

/// `TSYNC` does nothing here: the filter is loaded while there is one thread.
fn flags(profile: &LinuxSeccomp, notify: bool) -> u32 {
    use LinuxSeccompFilterFlag as Flag;
    let mut flags = 0;
    for flag in profile.flags().iter().flatten() {
        flags |= match flag {
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // The kernel takes it only together with a listener.
            Flag::SeccompFilterFlagWaitKillableRecv if notify => {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
            Flag::SeccompFilterFlagWaitKillableRecv | Flag::SeccompFilterFlagTsync => 0,
        };
    }
    if notify {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    // All of them are below 2^32, which is what seccomp(2) takes.
    u32::try_from(flags).unwrap_or(0)
}
