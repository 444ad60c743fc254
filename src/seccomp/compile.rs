//! From a profile, and the floor under it, to a filter.

use std::fmt;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use super::alternatives::{self, Outcome};
use super::architecture::{self, Architecture, Meaning};
use super::condition::Width;
use super::encode::{Assembler, Instruction, Label, Test};
use super::returns;
use super::rules::{Rules, Verdict};
use super::tree::{Leaf, Ranges};
use crate::error::Problem;

/// The kernel takes at most this many instructions (`linux/bpf_common.h`).
const BPF_MAXINSNS: usize = 4096;
/// Offsets in `struct seccomp_data` of `linux/seccomp.h`.
pub(super) const NR_OFFSET: u32 = 0;
pub(super) const ARCH_OFFSET: u32 = 4;

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

impl Program {
    /// The default action, in words.
    pub fn default(&self) -> impl fmt::Display {
        returns::Words(self.default)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seccomp filter: {} instructions, default {}",
            self.instructions.len(),
            self.default()
        )
    }
}

/// Whom a filter asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nobody: the kernel does what the rules say.
    Nobody,
    /// A supervisor is asked about each call that would be denied, so that the
    /// denial can be reported. It answers with the errno of the rules.
    /// `SCMP_ACT_TRAP` stays: the signal may be what the program waits for.
    AboutDenied,
    /// A supervisor is asked about each call that would be allowed, so that it
    /// can be written down.
    AboutAllowed,
}

impl Asks {
    /// What the filter returns where the rules come to `value`.
    fn answer(self, value: u32) -> u32 {
        let ask = libc::SECCOMP_RET_USER_NOTIF;
        let asks = match self {
            Asks::Nobody => false,
            Asks::AboutDenied => {
                let trap = value & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_TRAP;
                returns::is_laxer(ask, value) && !trap
            }
            Asks::AboutAllowed => returns::is_laxer(value, ask),
        };
        if asks { ask } else { value }
    }
}

/// What a filter is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The profile.
    pub profile: &'a LinuxSeccomp,
    /// What is denied whatever the profile says. Of the two results the stricter
    /// one counts, as if they were two filters (of two error numbers that of the
    /// profile). Under a floor only the native architecture runs: behind i386's
    /// socketcall a filter cannot see which socket is asked for.
    pub floor: Option<&'a LinuxSeccomp>,
    /// Whom it asks.
    pub asks: Asks,
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
    let request = Request {
        profile,
        floor: None,
        asks: Asks::Nobody,
    };
    request.compile()
}

impl Request<'_> {
    /// The filter.
    ///
    /// # Errors
    ///
    /// As [`compile`]; and a profile that has a supervisor of its own leaves no
    /// room for another.
    pub fn compile(&self) -> Result<Program, Vec<Problem>> {
        let (architectures, scope) = architecture::of(self.profile, self.floor.is_some());
        let profile = Rules::new(self.profile, scope)?;
        if profile.notify && self.asks != Asks::Nobody {
            let problem = "SCMP_ACT_NOTIFY: a process can have one supervisor only, and this \
                           profile brings its own; run it without reporting or recording";
            return Err(vec![Problem::new("/linux/seccomp/syscalls", problem)]);
        }
        let floor = self
            .floor
            .map(|floor| Rules::new(floor, scope))
            .transpose()?;
        let mut layers = Layers::new(profile, floor, self.asks);
        let instructions = layers.emit(&architectures);
        if instructions.len() > BPF_MAXINSNS {
            let problem = format!(
                "these rules make a filter of {} instructions, and the kernel takes at most \
                 {BPF_MAXINSNS}: merge rules or drop conditions",
                instructions.len(),
            );
            return Err(vec![Problem::new("/linux/seccomp/syscalls", problem)]);
        }
        let notify = layers.profile.notify || self.asks != Asks::Nobody;
        Ok(Program {
            instructions,
            flags: flags(self.profile, notify),
            notify,
            default: layers.profile.default,
            skipped: layers.profile.skipped,
        })
    }
}

/// The rules of the profile and of the floor, and what each says of every row.
struct Layers {
    profile: Rules,
    floor: Option<Rules>,
    verdicts: Vec<Verdict>,
    floor_verdicts: Vec<Verdict>,
    asks: Asks,
}

impl Layers {
    fn new(mut profile: Rules, mut floor: Option<Rules>, asks: Asks) -> Self {
        Self {
            verdicts: profile.verdicts(),
            floor_verdicts: floor.as_mut().map(Rules::verdicts).unwrap_or_default(),
            profile,
            floor,
            asks,
        }
    }

    fn emit(&mut self, architectures: &[Architecture]) -> Vec<Instruction> {
        let mut code = Assembler::new();
        let mut next = code.ret(self.asks.answer(libc::SECCOMP_RET_KILL_PROCESS));
        for architecture in architectures.iter().rev() {
            let tree = self.emit_architecture(&mut code, architecture);
            let entry = code.load(NR_OFFSET, tree);
            next = code.branch(Test::Equal(architecture.audit), entry, next);
        }
        let start = code.load(ARCH_OFFSET, next);
        code.finish(start)
    }

    /// The search tree of one architecture, with the number in the accumulator.
    fn emit_architecture(&self, code: &mut Assembler, architecture: &Architecture) -> Label {
        let ranges = self.ranges(architecture);
        let mut decisions: Vec<(Leaf, Label)> = Vec::new();
        ranges.emit(code, &mut |code, leaf| {
            let (profile, floor, width) = match leaf {
                Leaf::Return(value) => return code.ret(self.asks.answer(value)),
                Leaf::Decide {
                    profile,
                    floor,
                    width,
                } => (profile, floor, width),
            };
            if let Some((_, label)) = decisions.iter().find(|(known, _)| *known == leaf) {
                return *label;
            }
            let label = self.emit_decision(code, profile, floor, width);
            decisions.push((leaf, label));
            label
        })
    }

    /// Code that asks the profile, and then the floor where it could be stricter.
    fn emit_decision(
        &self,
        code: &mut Assembler,
        profile: Verdict,
        floor: Verdict,
        width: Width,
    ) -> Label {
        let mut second: Vec<(u32, Label)> = Vec::new();
        let mut first = |code: &mut Assembler, value: u32| {
            if let Some((_, label)) = second.iter().find(|(known, _)| *known == value) {
                return *label;
            }
            let Some(rules) = self
                .floor
                .as_ref()
                .filter(|rules| rules.matters(floor, value))
            else {
                return code.ret(self.asks.answer(value));
            };
            let label = emit_verdict(code, rules, floor, width, &mut |code, denied| {
                code.ret(self.asks.answer(returns::stricter(value, denied)))
            });
            second.push((value, label));
            label
        };
        emit_verdict(code, &self.profile, profile, width, &mut first)
    }

    /// What happens to the calls of one row.
    fn leaf(&self, row: u16, width: Width) -> Leaf {
        let profile = self.verdicts[usize::from(row)];
        let allowed = Verdict::Return(libc::SECCOMP_RET_ALLOW);
        let floor = self.floor_verdicts.get(usize::from(row));
        let floor = floor.copied().unwrap_or(allowed);
        match (profile, floor) {
            (Verdict::Return(value), Verdict::Return(denied)) => {
                Leaf::Return(returns::stricter(value, denied))
            }
            (Verdict::Return(value), _)
                if !self
                    .floor
                    .as_ref()
                    .is_some_and(|rules| rules.matters(floor, value)) =>
            {
                Leaf::Return(value)
            }
            _ => Leaf::Decide {
                profile,
                floor,
                width,
            },
        }
    }

    /// The leaf of every number of one architecture.
    fn ranges(&self, architecture: &Architecture) -> Ranges<Leaf> {
        let default = Leaf::Return(self.profile.default);
        let enosys = Leaf::Return(returns::errno(libc::ENOSYS));
        let mut ranges = Ranges::new(default);
        for segment in &architecture.segments {
            let Meaning::Calls(calls) = &segment.meaning else {
                ranges.from(segment.start, enosys);
                continue;
            };
            let newest = self.profile.refuses_newer(calls);
            let mut next = segment.start;
            for &(number, row) in calls.numbers {
                if newest.is_some_and(|newest| number > newest) {
                    break;
                }
                if number != next {
                    ranges.from(next, default);
                }
                ranges.from(number, self.leaf(row, calls.width));
                next = number + 1;
            }
            let rest = if newest.is_some() { enosys } else { default };
            ranges.from(next, rest);
        }
        ranges
    }
}

fn emit_verdict(
    code: &mut Assembler,
    rules: &Rules,
    verdict: Verdict,
    width: Width,
    outcome: &mut Outcome<'_>,
) -> Label {
    match verdict {
        Verdict::Return(value) => outcome(code, value),
        Verdict::Decide(decision) => {
            let (alternatives, otherwise) = rules.alternatives(decision);
            alternatives::emit(code, width, &alternatives, otherwise, outcome)
        }
    }
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
