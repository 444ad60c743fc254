//! Writes BPF instructions from the end of the program to its start.
//!
//! Classic BPF jumps only forward, so every target exists before the jump to it
//! is written when the program grows backwards, and every distance is known.

/// Load a 32-bit word of `struct seccomp_data` into the accumulator.
pub(super) const BPF_LD_W_ABS: u16 = 0x20;
/// And the accumulator with a constant.
pub(super) const BPF_ALU_AND_K: u16 = 0x54;
/// Jump always; the only jump whose distance has 32 bits.
pub(super) const BPF_JMP_JA: u16 = 0x05;
/// Jump when the accumulator is equal to, greater than, at least, or has any bit of a constant.
pub(super) const BPF_JMP_JEQ_K: u16 = 0x15;
pub(super) const BPF_JMP_JGT_K: u16 = 0x25;
pub(super) const BPF_JMP_JGE_K: u16 = 0x35;
pub(super) const BPF_JMP_JSET_K: u16 = 0x45;
/// Return a constant.
pub(super) const BPF_RET_K: u16 = 0x06;

/// The longest distance of a conditional jump (`jt` and `jf` have 8 bits).
const LONGEST: usize = u8::MAX as usize;

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

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// What a conditional jump asks of the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Equal to.
    Equal(u32),
    /// Greater than.
    Greater(u32),
    /// Greater than or equal to.
    AtLeast(u32),
    /// Any of these bits is set.
    AnyBit(u32),
}

/// A program in the making.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
    /// The nearest return instruction of each value.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    /// An empty program with room for a usual one.
    pub(super) fn new() -> Self {
        Self {
            reversed: Vec::with_capacity(512),
            returns: Vec::with_capacity(8),
        }
    }

    /// A `BPF_RET` of `value` (`SECCOMP_RET_*`) that the next instruction can jump to.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(other, _)| *other == value);
        if let Some(index) = known
            && self.is_near(self.returns[index].1)
        {
            return self.returns[index].1;
        }
        let label = self.push(BPF_RET_K, 0, 0, value);
        match known {
            Some(index) => self.returns[index].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// Jumps to `yes` when the accumulator passes the test, else to `no`.
    pub(super) fn branch(&mut self, test: Test, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let (code, k) = match test {
            Test::Equal(k) => (BPF_JMP_JEQ_K, k),
            Test::Greater(k) => (BPF_JMP_JGT_K, k),
            Test::AtLeast(k) => (BPF_JMP_JGE_K, k),
            Test::AnyBit(k) => (BPF_JMP_JSET_K, k),
        };
        let yes = self.bring_near(yes);
        let no = self.bring_near(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        // `bring_near` made both fit; the saturation can never be reached.
        self.push(
            code,
            u8::try_from(jt).unwrap_or(u8::MAX),
            u8::try_from(jf).unwrap_or(u8::MAX),
            k,
        )
    }

    /// Loads the word at `offset` of `struct seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        if self.reversed[next.0].code == BPF_RET_K {
            return next; // A return does not look at the accumulator.
        }
        self.fall_into(next);
        self.push(BPF_LD_W_ABS, 0, 0, offset)
    }

    /// Masks the accumulator, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(BPF_ALU_AND_K, 0, 0, mask)
    }

    /// The program, first instruction first; `start` is where it begins.
    pub(super) fn finish(mut self, start: Label) -> Vec<Instruction> {
        self.fall_into(start);
        self.reversed.reverse();
        self.reversed
    }

    /// Makes the instruction written last go on at `next`.
    fn fall_into(&mut self, next: Label) {
        if next.0 + 1 != self.reversed.len() {
            self.long_jump(next);
        }
    }

    /// A place from which the next conditional jump, or the one after it, reaches `label`.
    fn bring_near(&mut self, label: Label) -> Label {
        if self.is_near(label) {
            label
        } else {
            self.long_jump(label)
        }
    }

    /// Leaves room for one more instruction: the long jump of the other target.
    fn is_near(&self, label: Label) -> bool {
        self.distance(label) < LONGEST
    }

    fn long_jump(&mut self, label: Label) -> Label {
        let target = self.reversed[label.0];
        if target.code == BPF_RET_K {
            return self.push(BPF_RET_K, 0, 0, target.k);
        }
        // A program of 2^32 instructions does not fit in memory.
        let k = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
        self.push(BPF_JMP_JA, 0, 0, k)
    }

    /// Instructions between the next one to be written and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}
