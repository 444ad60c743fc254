//! Conditions on system call arguments, and the code that tests them.
//!
//! A BPF word has 32 bits and an argument 64, so each comparison is made in two
//! halves. On 32-bit architectures (and x32, as in libseccomp) only the low half
//! counts: the kernel drops the high one there, but a 64-bit process that enters
//! through `int 0x80` or with an x32 number can fill it, and a filter that looked
//! at it could be talked out of a match.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use super::encode::{Assembler, Label, Test};

/// Offset of `args` in `struct seccomp_data`.
pub(super) const ARGS_OFFSET: u32 = 16;
/// A system call has this many arguments.
pub(super) const MAX_ARGUMENTS: usize = 6;

/// One comparison of an argument with constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Offset of the argument's low half in `struct seccomp_data`.
    offset: u32,
    comparison: Comparison,
}

/// `>`, `>=` and equality under a mask; the other operators swap the outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal {
        mask: u64,
        value: u64,
        expected: bool,
    },
    Greater {
        value: u64,
        expected: bool,
    },
    AtLeast {
        value: u64,
        expected: bool,
    },
}

impl Condition {
    /// A condition of a profile, or `None` when there is no such argument.
    pub(super) fn new(arg: &LinuxSeccompArg) -> Option<Self> {
        use LinuxSeccompOperator as Op;
        let value = arg.value();
        let all = u64::MAX;
        let comparison = match arg.op() {
            Op::ScmpCmpEq => Comparison::Equal {
                mask: all,
                value,
                expected: true,
            },
            Op::ScmpCmpNe => Comparison::Equal {
                mask: all,
                value,
                expected: false,
            },
            // For this operator `value` is the mask, and an absent valueTwo is 0.
            // Bits outside of the mask do not count (seccomp_rule_add(3)): a
            // denial that has some must not be lost.
            Op::ScmpCmpMaskedEq => Comparison::Equal {
                mask: value,
                value: arg.value_two().unwrap_or(0) & value,
                expected: true,
            },
            Op::ScmpCmpGt => Comparison::Greater {
                value,
                expected: true,
            },
            Op::ScmpCmpLe => Comparison::Greater {
                value,
                expected: false,
            },
            Op::ScmpCmpGe => Comparison::AtLeast {
                value,
                expected: true,
            },
            Op::ScmpCmpLt => Comparison::AtLeast {
                value,
                expected: false,
            },
        };
        Some(Self {
            offset: argument_offset(arg.index())?,
            comparison,
        })
    }

    /// The first argument, masked, equals a value.
    pub(super) fn first_argument(mask: u64, value: u64) -> Self {
        let comparison = Comparison::Equal {
            mask,
            value,
            expected: true,
        };
        Self {
            offset: ARGS_OFFSET,
            comparison,
        }
    }

    /// The index of the argument.
    pub(super) fn argument(&self) -> usize {
        usize::try_from((self.offset - ARGS_OFFSET) / 8).unwrap_or(0)
    }

    /// Whether a call with these arguments meets it.
    pub(super) fn holds(&self, width: Width, args: &[u64; MAX_ARGUMENTS]) -> bool {
        let cut = |value: u64| match width {
            Width::Wide => value,
            Width::Narrow => u64::from(low(value)),
        };
        let argument = cut(args[self.argument()]);
        match self.comparison {
            Comparison::Equal {
                mask,
                value,
                expected,
            } => (argument & mask == cut(value)) == expected,
            Comparison::Greater { value, expected } => (argument > value) == expected,
            Comparison::AtLeast { value, expected } => (argument >= value) == expected,
        }
    }

    /// The comparison as equality of one masked half, if it is one.
    pub(super) fn as_equality(&self, width: Width) -> Option<Equality> {
        let Comparison::Equal {
            mask,
            value,
            expected: true,
        } = self.comparison
        else {
            return None;
        };
        let upper = match (width, high(mask)) {
            (Width::Narrow, _) => None,
            (Width::Wide, 0) if high(value) == 0 => None,
            (Width::Wide, u32::MAX) => Some(high(value)),
            (Width::Wide, _) => return None,
        };
        let equality = Equality {
            offset: self.offset,
            upper,
            mask: low(mask),
            value: low(value),
        };
        (equality.mask != 0).then_some(equality)
    }

    /// The argument's offset and the bit, if the condition is that one bit is set.
    pub(super) fn as_bit(&self) -> Option<(u32, u64)> {
        match self.comparison {
            Comparison::Equal {
                mask,
                value,
                expected: true,
            } if mask == value && mask.is_power_of_two() => Some((self.offset, mask)),
            _ => None,
        }
    }
}

/// `word & mask == value` for the low half of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Equality {
    /// Offset of the low half.
    pub(super) offset: u32,
    /// What the high half must be, if it counts.
    pub(super) upper: Option<u32>,
    /// The mask.
    pub(super) mask: u32,
    /// The value.
    pub(super) value: u32,
}

fn argument_offset(index: usize) -> Option<u32> {
    let index = u32::try_from(index)
        .ok()
        .filter(|_| index < MAX_ARGUMENTS)?;
    Some(ARGS_OFFSET + 8 * index)
}

/// How the arguments of an architecture are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// All 64 bits.
    Wide,
    /// The low 32 bits.
    Narrow,
}

/// Code that tests one condition.
pub(super) fn emit(
    code: &mut Assembler,
    width: Width,
    condition: &Condition,
    yes: Label,
    no: Label,
) -> Label {
    let offset = condition.offset;
    let outcomes = |expected| if expected { (yes, no) } else { (no, yes) };
    match condition.comparison {
        Comparison::Equal {
            mask,
            value,
            expected,
        } => {
            let (yes, no) = outcomes(expected);
            emit_equal(code, width, offset, (mask, value), yes, no)
        }
        Comparison::Greater { value, expected } => {
            let (yes, no) = outcomes(expected);
            emit_order(
                code,
                width,
                offset,
                value,
                Test::Greater(low(value)),
                yes,
                no,
            )
        }
        Comparison::AtLeast { value, expected } => {
            let (yes, no) = outcomes(expected);
            emit_order(
                code,
                width,
                offset,
                value,
                Test::AtLeast(low(value)),
                yes,
                no,
            )
        }
    }
}

fn emit_equal(
    code: &mut Assembler,
    width: Width,
    offset: u32,
    (mask, value): (u64, u64),
    yes: Label,
    no: Label,
) -> Label {
    if width == Width::Narrow {
        return emit_half(code, offset, low(mask), low(value), yes, no);
    }
    let yes = emit_half(code, offset, low(mask), low(value), yes, no);
    emit_half(code, offset + 4, high(mask), high(value), yes, no)
}

/// Tests `word & mask == value`.
pub(super) fn emit_half(
    code: &mut Assembler,
    offset: u32,
    mask: u32,
    value: u32,
    yes: Label,
    no: Label,
) -> Label {
    if mask == 0 || yes == no {
        return yes;
    }
    let test = match (mask, value) {
        (u32::MAX, value) => code.branch(Test::Equal(value), yes, no),
        (mask, 0) => code.branch(Test::AnyBit(mask), no, yes),
        (mask, value) => {
            let test = code.branch(Test::Equal(value), yes, no);
            code.and(mask, test)
        }
    };
    code.load(offset, test)
}

/// Tests the order of an argument and `value`; `low_test` decides when the high halves are equal.
fn emit_order(
    code: &mut Assembler,
    width: Width,
    offset: u32,
    value: u64,
    low_test: Test,
    yes: Label,
    no: Label,
) -> Label {
    if width == Width::Narrow && high(value) != 0 {
        return no; // Every 32-bit argument is less.
    }
    if yes == no {
        return yes;
    }
    let test = code.branch(low_test, yes, no);
    let low_half = code.load(offset, test);
    if width == Width::Narrow {
        return low_half;
    }
    let greater = match high(value) {
        0 => code.branch(Test::Equal(0), low_half, yes),
        high => {
            let equal = code.branch(Test::Equal(high), low_half, no);
            code.branch(Test::Greater(high), yes, equal)
        }
    };
    code.load(offset + 4, greater)
}

pub(super) fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

pub(super) fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
