//! A compiled filter as text: one line for each instruction, with what its
//! numbers mean.

use std::collections::BTreeMap;
use std::fmt;

use super::abi::{self, Answer};
use super::compile::{ARCH_OFFSET, NR_OFFSET, Program};
use super::condition::ARGS_OFFSET;
use super::encode::{
    BPF_ALU_AND_K, BPF_JMP_JA, BPF_JMP_JEQ_K, BPF_JMP_JGE_K, BPF_JMP_JGT_K, BPF_JMP_JSET_K,
    BPF_LD_W_ABS, BPF_RET_K,
};
use super::{Instruction, walk};

/// A filter that shows itself.
#[derive(Debug)]
pub struct Listing<'a> {
    program: &'a Program,
    contexts: Vec<Option<Context>>,
    /// Names of the system calls whose arguments are looked at from here on.
    decisions: BTreeMap<usize, Vec<String>>,
}

/// What is known on every way to an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Context {
    /// `seccomp_data.arch`, where it has been compared.
    audit: Option<u32>,
    /// What the accumulator holds.
    word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Nothing,
    Architecture,
    Number,
    Argument,
}

impl<'a> Listing<'a> {
    /// Finds out what the instructions of a filter are about.
    pub fn new(program: &'a Program) -> Self {
        let mut decisions: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for abi in abi::all() {
            for (number, name) in abi.calls() {
                let verdict = walk::verdict(program, abi.audit, number);
                if let Some(at) = verdict.decision {
                    let names = decisions.entry(at).or_default();
                    names.push(if abi.arch == abi::native().arch {
                        name.to_owned()
                    } else {
                        format!("{name} ({})", abi.name)
                    });
                }
            }
        }
        Self {
            program,
            contexts: contexts(&program.instructions),
            decisions,
        }
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, instruction) in self.program.instructions.iter().enumerate() {
            if let Some(names) = self.decisions.get(&at) {
                writeln!(f, "      {}:", names.join(", "))?;
            }
            let (operation, operand) = operation(at, instruction);
            let comment = comment(instruction, self.contexts[at]);
            if comment.is_empty() {
                writeln!(f, "{at:>4}  {operation:<4}  {operand}")?;
            } else {
                writeln!(f, "{at:>4}  {operation:<4}  {operand:<28}  ; {comment}")?;
            }
        }
        Ok(())
    }
}

/// The mnemonic and operands; targets of jumps are numbers of lines.
fn operation(at: usize, instruction: &Instruction) -> (&'static str, String) {
    let Instruction { code, jt, jf, k } = *instruction;
    let test = match code {
        BPF_LD_W_ABS => return ("ld", format!("[{k}]")),
        BPF_ALU_AND_K => return ("and", format!("{k:#x}")),
        BPF_RET_K => return ("ret", format!("{k:#010x}")),
        BPF_JMP_JA => return ("ja", format!("{}", at + 1 + k as usize)),
        BPF_JMP_JEQ_K => "jeq",
        BPF_JMP_JGT_K => "jgt",
        BPF_JMP_JGE_K => "jge",
        BPF_JMP_JSET_K => "jset",
        // No other instruction is ever written.
        _ => "?",
    };
    let (yes, no) = (at + 1 + usize::from(jt), at + 1 + usize::from(jf));
    (test, format!("{k:#x}, {yes}, {no}"))
}

fn comment(instruction: &Instruction, context: Option<Context>) -> String {
    let Instruction { code, k, .. } = *instruction;
    let Some(context) = context else {
        return "never reached".to_owned();
    };
    match (code, context.word) {
        (BPF_RET_K, _) => Answer(k).to_string(),
        (BPF_LD_W_ABS, _) => loaded(k),
        (BPF_JMP_JEQ_K, Word::Architecture) => architecture(k),
        (BPF_JMP_JEQ_K | BPF_JMP_JGT_K | BPF_JMP_JGE_K, Word::Number) => {
            let name = context.audit.and_then(|audit| abi::name_of(audit, k));
            let name = name.map_or_else(|| k.to_string(), |name| format!("{k} {name}"));
            match code {
                BPF_JMP_JEQ_K => name,
                BPF_JMP_JGT_K => format!("after {name}"),
                _ => format!("from {name} on"),
            }
        }
        (BPF_JMP_JEQ_K | BPF_JMP_JGT_K | BPF_JMP_JGE_K, Word::Argument) if k > 9 => k.to_string(),
        _ => String::new(),
    }
}

/// The field of `struct seccomp_data` at an offset, in bytes.
fn loaded(offset: u32) -> String {
    match offset {
        NR_OFFSET => "nr".to_owned(),
        ARCH_OFFSET => "arch".to_owned(),
        _ => {
            let place = offset.saturating_sub(ARGS_OFFSET);
            let half = if place.is_multiple_of(8) {
                "low"
            } else {
                "high"
            };
            format!("args[{}], {half} half", place / 8)
        }
    }
}

/// The names behind an `AUDIT_ARCH_*`.
fn architecture(audit: u32) -> String {
    let abis = abi::all().iter().filter(|abi| abi.audit == audit);
    abis.map(|abi| abi.name).collect::<Vec<_>>().join(" and ")
}

/// What is known at each instruction; `None` where no way leads to.
fn contexts(all: &[Instruction]) -> Vec<Option<Context>> {
    let mut known = vec![None; all.len()];
    if let Some(first) = known.first_mut() {
        *first = Some(Context {
            audit: None,
            word: Word::Nothing,
        });
    }
    // Jumps go forward only.
    for (at, instruction) in all.iter().enumerate() {
        let Some(here) = known[at] else { continue };
        let Instruction { code, jt, jf, k } = *instruction;
        match code {
            BPF_RET_K => {}
            BPF_JMP_JA => arrive(&mut known, at + 1 + k as usize, here),
            BPF_ALU_AND_K => arrive(&mut known, at + 1, here),
            BPF_LD_W_ABS => {
                let word = match k {
                    NR_OFFSET => Word::Number,
                    ARCH_OFFSET => Word::Architecture,
                    _ => Word::Argument,
                };
                arrive(&mut known, at + 1, Context { word, ..here });
            }
            _ => {
                let mut matched = here;
                if code == BPF_JMP_JEQ_K && here.word == Word::Architecture {
                    matched.audit = Some(k);
                }
                arrive(&mut known, at + 1 + usize::from(jt), matched);
                arrive(&mut known, at + 1 + usize::from(jf), here);
            }
        }
    }
    known
}

/// Keeps what is the same on all ways.
fn arrive(known: &mut [Option<Context>], target: usize, new: Context) {
    let Some(place) = known.get_mut(target) else {
        return;
    };
    *place = Some(match *place {
        None => new,
        Some(old) => Context {
            audit: old.audit.filter(|_| old.audit == new.audit),
            word: if old.word == new.word {
                old.word
            } else {
                Word::Nothing
            },
        },
    });
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::seccomp::compile;

    #[test]
    fn numbers_have_their_meaning_beside_them() {
        let profile = serde_json::json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket", "clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 1, "value": 15, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ" }] },
        ]});
        let program = compile(&serde_json::from_value(profile).unwrap()).unwrap();
        let text = Listing::new(&program).to_string();
        for line in [
            "   0  ld    [4]                           ; arch",
            "; x86_64 and x32",
            "; nr",
            "      socket, clone:",
            "; args[1], low half",
            "  and   0xf\n",
            "; from 56 clone on",
            "; ERRNO(38)",
            "  ret   0x7fff0000                    ; ALLOW",
            "  ret   0x80000000                    ; KILL_PROCESS",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        let lines = text.lines().filter(|line| line.contains("  ")).count();
        assert_eq!(lines, program.instructions.len() + 1, "{text}");
        assert!(
            !text.contains("never reached") && !text.contains('?'),
            "{text}"
        );
    }
}
