//! What a compiled filter can answer to a system call whose arguments are not
//! known: every way through the program at once.

use super::Program;
use super::abi::Answer;
use super::encode::{
    BPF_ALU_AND_K, BPF_JMP_JA, BPF_JMP_JEQ_K, BPF_JMP_JGE_K, BPF_JMP_JGT_K, BPF_LD_W_ABS, BPF_RET_K,
};

/// What a filter can answer to one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Each answer that some arguments get, smallest value first. An answer may
    /// be among them whose conditions contradict each other.
    pub answers: Vec<Answer>,
    /// Instructions that run when all arguments are zero.
    pub steps: usize,
    /// Instructions that run at most.
    pub longest: usize,
    /// Where arguments are first looked at, as an index of instructions.
    pub(super) decision: Option<usize>,
}

impl Verdict {
    /// The answer, when arguments do not matter.
    pub fn only(&self) -> Option<Answer> {
        match self.answers[..] {
            [answer] => Some(answer),
            _ => None,
        }
    }

    /// Whether some arguments get the call through.
    pub fn can_pass(&self) -> bool {
        self.answers.iter().any(|answer| answer.lets_through())
    }

    /// Whether no arguments are held back.
    pub fn always_passes(&self) -> bool {
        self.answers.iter().all(|answer| answer.lets_through())
    }
}

/// Where a way through the program has come to.
#[derive(Clone, Copy)]
struct Arrival {
    /// The accumulator, if arguments have no part in it.
    word: Option<u32>,
    /// The longest way here, in instructions.
    longest: usize,
    /// The way of zero arguments, if it comes here: accumulator and length.
    zero: Option<(u32, usize)>,
}

impl Arrival {
    const START: Self = Self {
        word: Some(0),
        longest: 0,
        zero: Some((0, 0)),
    };
}

/// What the filter answers to a number; `audit` is `seccomp_data.arch`.
pub fn verdict(program: &Program, audit: u32, number: u32) -> Verdict {
    let all = &program.instructions;
    let mut arrivals: Vec<Option<Arrival>> = vec![None; all.len()];
    arrive(&mut arrivals, 0, Arrival::START);
    let mut found = Verdict {
        answers: Vec::new(),
        steps: 0,
        longest: 0,
        decision: None,
    };
    // Jumps go forward only, so all ways to an instruction are known at it.
    for (at, instruction) in all.iter().enumerate() {
        let Some(mut here) = arrivals[at] else {
            continue;
        };
        here.longest += 1;
        here.zero = here.zero.map(|(word, steps)| (word, steps + 1));
        let next = at + 1;
        let k = instruction.k;
        match instruction.code {
            BPF_RET_K => {
                found.answers.push(Answer(k));
                found.longest = found.longest.max(here.longest);
                found.steps = here.zero.map_or(found.steps, |(_, steps)| steps);
                continue;
            }
            BPF_LD_W_ABS => {
                here.word = match k {
                    0 => Some(number),
                    4 => Some(audit),
                    _ => None,
                };
                if here.word.is_none() {
                    found.decision = found.decision.or(Some(at));
                }
                let word = here.word.unwrap_or(0);
                here.zero = here.zero.map(|(_, steps)| (word, steps));
                arrive(&mut arrivals, next, here);
            }
            BPF_ALU_AND_K => {
                here.word = here.word.map(|word| word & k);
                here.zero = here.zero.map(|(word, steps)| (word & k, steps));
                arrive(&mut arrivals, next, here);
            }
            BPF_JMP_JA => arrive(&mut arrivals, next.saturating_add(k as usize), here),
            test => {
                let yes = next + usize::from(instruction.jt);
                let no = next + usize::from(instruction.jf);
                branch(&mut arrivals, here, |word| holds(test, word, k), yes, no);
            }
        }
    }
    found.answers.sort_unstable_by_key(|answer| answer.0);
    found.answers.dedup();
    found
}

/// The value of each return instruction.
pub fn answers(program: &Program) -> Vec<Answer> {
    let all = program.instructions.iter();
    let returns = all.filter(|instruction| instruction.code == BPF_RET_K);
    returns.map(|instruction| Answer(instruction.k)).collect()
}

/// Whether a comparison of the accumulator with `k` holds.
fn holds(test: u16, word: u32, k: u32) -> bool {
    match test {
        BPF_JMP_JEQ_K => word == k,
        BPF_JMP_JGT_K => word > k,
        BPF_JMP_JGE_K => word >= k,
        _ => word & k != 0,
    }
}

/// Goes both ways where an argument decides.
fn branch(
    arrivals: &mut [Option<Arrival>],
    here: Arrival,
    test: impl Fn(u32) -> bool,
    yes: usize,
    no: usize,
) {
    for (target, outcome) in [(yes, true), (no, false)] {
        if here.word.is_none_or(|word| test(word) == outcome) {
            let zero = here.zero.filter(|(word, _)| test(*word) == outcome);
            arrive(arrivals, target, Arrival { zero, ..here });
        }
    }
}

fn arrive(arrivals: &mut [Option<Arrival>], target: usize, new: Arrival) {
    let Some(place) = arrivals.get_mut(target) else {
        return;
    };
    *place = Some(match *place {
        None => new,
        Some(known) => Arrival {
            word: known.word.filter(|_| known.word == new.word),
            longest: known.longest.max(new.longest),
            zero: known.zero.or(new.zero),
        },
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{abi, compile};

    #[test]
    fn arguments_that_matter_have_several_answers() {
        let profile = serde_json::json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
        ]});
        let program = compile(&serde_json::from_value(profile).unwrap()).unwrap();
        let native = abi::native();
        let of = |wanted: &str| {
            let (number, _) = native.calls().find(|(_, name)| *name == wanted).unwrap();
            verdict(&program, native.audit, number)
        };
        assert!(of("read").always_passes() && of("read").decision.is_none());
        let socket = of("socket");
        assert!(socket.can_pass() && !socket.always_passes() && socket.only().is_none());
        assert_eq!(socket.answers.len(), 2);
        // Both halves of the argument are loaded and compared, then one return.
        let decision = socket.decision.unwrap();
        assert_eq!(program.instructions[decision].code, BPF_LD_W_ABS);
        assert_eq!(
            (socket.steps, socket.longest),
            (socket.longest, socket.steps)
        );
        assert!(!of("ptrace").can_pass());
        let foreign = verdict(&program, 0, 0);
        assert_eq!(foreign.only(), Some(Answer(libc::SECCOMP_RET_KILL_PROCESS)));
    }

    /// Two ways to one test: with the number in the accumulator, or an argument.
    #[test]
    fn ways_that_meet_are_judged_together() {
        let line = |code, jt, jf, k| crate::seccomp::Instruction { code, jt, jf, k };
        let program = Program {
            instructions: vec![
                line(BPF_LD_W_ABS, 0, 0, 16),
                line(BPF_JMP_JGT_K, 0, 2, 5),
                line(BPF_LD_W_ABS, 0, 0, 0),
                line(BPF_JMP_JA, 0, 0, 1),
                line(BPF_LD_W_ABS, 0, 0, 24),
                line(BPF_JMP_JEQ_K, 0, 1, 7),
                line(BPF_RET_K, 0, 0, libc::SECCOMP_RET_ALLOW),
                line(BPF_RET_K, 0, 0, libc::SECCOMP_RET_TRAP),
            ],
            flags: 0,
            notify: false,
            default: libc::SECCOMP_RET_TRAP,
            skipped: Vec::new(),
        };
        let eight = verdict(&program, 0, 8);
        assert_eq!((eight.steps, eight.longest, eight.answers.len()), (5, 6, 2));
        assert_eq!(eight.decision, Some(0));
    }
}
