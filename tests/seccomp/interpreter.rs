//! Classic BPF as the kernel runs it on `struct seccomp_data`.

use capsid::seccomp::{Instruction, Program};

/// What a filter sees of a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) nr: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..=60 if offset.is_multiple_of(4) => {
                let argument = self.args[(offset as usize - 16) / 8];
                let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
                (argument >> shift) as u32
            }
            _ => panic!("load from offset {offset}, which no filter of ours needs"),
        }
    }
}

/// The return value, and how many instructions it took.
pub(crate) fn run(instructions: &[Instruction], call: &Call) -> (u32, usize) {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1.. {
        let Instruction { code, jt, jf, k } = instructions[at];
        let test = match code {
            0x06 => return (k, steps),
            0x20 => {
                accumulator = call.word(k);
                at += 1;
                continue;
            }
            0x54 => {
                accumulator &= k;
                at += 1;
                continue;
            }
            0x05 => {
                at += 1 + k as usize;
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => panic!("instruction {at}: unknown code {code:#x}"),
        };
        at += 1 + usize::from(if test { jt } else { jf });
    }
    unreachable!("the loop above has no end")
}

/// What the kernel checks before it accepts a filter (`bpf_check_classic`).
pub(crate) fn check(program: &Program) {
    let all = &program.instructions;
    assert!(
        (1..=4096).contains(&all.len()),
        "{} instructions",
        all.len()
    );
    for (at, instruction) in all.iter().enumerate() {
        let room = all.len() - at - 1;
        match instruction.code {
            0x15 | 0x25 | 0x35 | 0x45 => {
                let far = instruction.jt.max(instruction.jf);
                assert!(
                    usize::from(far) < room,
                    "instruction {at} jumps out of the filter"
                );
            }
            0x05 => assert!(
                (instruction.k as usize) < room,
                "instruction {at} jumps out"
            ),
            0x06 | 0x54 => {}
            0x20 => assert!(instruction.k < 64 && instruction.k.is_multiple_of(4)),
            code => panic!("instruction {at}: code {code:#x} is not allowed"),
        }
    }
    assert_eq!(
        all.last().map(|last| last.code),
        Some(0x06),
        "the last one returns"
    );
}
