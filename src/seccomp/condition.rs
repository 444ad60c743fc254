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

    /// Whether this is plain equality, so that it can share loads with others.
    fn as_equality(&self) -> Option<(u32, u64)> {
        match self.comparison {
            Comparison::Equal {
                mask: u64::MAX,
                value,
                expected: true,
            } => Some((self.offset, value)),
            _ => None,
        }
    }
}

fn argument_offset(index: usize) -> Option<u32> {
    let index = u32::try_from(index)
        .ok()
        .filter(|_| index < MAX_ARGUMENTS)?;
    Some(ARGS_OFFSET + 8 * index)
}

/// A return value for calls that meet all conditions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternative<'a> {
    /// All must hold.
    pub(super) conditions: &'a [Condition],
    /// The `SECCOMP_RET_*` value.
    pub(super) ret: u32,
}

/// How the arguments of an architecture are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// All 64 bits.
    Wide,
    /// The low 32 bits.
    Narrow,
}

/// Code that tries the alternatives in order, and returns `otherwise` when none holds.
pub(super) fn emit(
    code: &mut Assembler,
    width: Width,
    alternatives: &[Alternative<'_>],
    otherwise: u32,
) -> Label {
    let mut next = code.ret(otherwise);
    let mut rest = alternatives;
    while let Some((last, before)) = rest.split_last() {
        let run = equality_run(rest, width);
        if let [_, _, ..] = run {
            next = emit_run(code, width, run, next);
            rest = &rest[..rest.len() - run.len()];
            continue;
        }
        let mut matched = code.ret(last.ret);
        for condition in last.conditions.iter().rev() {
            matched = emit_condition(code, width, condition, matched, next);
        }
        next = matched;
        rest = before;
    }
    next
}

/// The longest tail that only compares one argument with values of one high half.
fn equality_run<'a, 'b>(
    alternatives: &'b [Alternative<'a>],
    width: Width,
) -> &'b [Alternative<'a>] {
    let key = |alternative: &Alternative<'_>| {
        let [condition] = alternative.conditions else {
            return None;
        };
        let (offset, value) = condition.as_equality()?;
        Some((
            offset,
            if width == Width::Narrow {
                0
            } else {
                high(value)
            },
        ))
    };
    let Some(last) = alternatives.last().and_then(key) else {
        return &[];
    };
    let others = alternatives
        .iter()
        .rev()
        .take_while(|other| key(other) == Some(last))
        .count();
    &alternatives[alternatives.len() - others..]
}

/// One load for each half serves all values of a run.
fn emit_run(code: &mut Assembler, width: Width, run: &[Alternative<'_>], no: Label) -> Label {
    let mut next = no;
    let mut common = None;
    for alternative in run.iter().rev() {
        if let Some((offset, value)) = alternative
            .conditions
            .first()
            .and_then(Condition::as_equality)
        {
            let yes = code.ret(alternative.ret);
            next = code.branch(Test::Equal(low(value)), yes, next);
            common = Some((offset, high(value)));
        }
    }
    let Some((offset, value)) = common else {
        return no;
    };
    let next = code.load(offset, next);
    match width {
        Width::Narrow => next,
        Width::Wide => emit_half(code, offset + 4, u32::MAX, value, next, no),
    }
}

fn emit_condition(
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
    if value & !mask != 0 {
        return no; // A masked argument has none of these bits.
    }
    let yes = emit_half(code, offset, low(mask), low(value), yes, no);
    emit_half(code, offset + 4, high(mask), high(value), yes, no)
}

/// Tests `word & mask == value`.
fn emit_half(
    code: &mut Assembler,
    offset: u32,
    mask: u32,
    value: u32,
    yes: Label,
    no: Label,
) -> Label {
    if value & !mask != 0 {
        return no;
    }
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

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
