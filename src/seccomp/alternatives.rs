//! The rules of one system call as code: what several of them test is tested once.

use super::condition::{self, Condition, Equality, Width, high, low};
use super::encode::{Assembler, Label, Test};
use super::tree::Ranges;

/// A result for calls that meet all conditions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternative<'a> {
    /// All must hold.
    pub(super) conditions: &'a [Condition],
    /// The `SECCOMP_RET_*` value.
    pub(super) ret: u32,
}

/// Makes or finds the code for a result: a return, or more to be tried.
pub(super) type Outcome<'a> = dyn FnMut(&mut Assembler, u32) -> Label + 'a;

/// Code that tries the alternatives in order, and comes to `otherwise` when none holds.
pub(super) fn emit(
    code: &mut Assembler,
    width: Width,
    alternatives: &[Alternative<'_>],
    otherwise: u32,
    outcome: &mut Outcome<'_>,
) -> Label {
    let no = outcome(code, otherwise);
    emit_list(code, width, alternatives, no, outcome)
}

/// Works from the last alternative to the first, as many together as can be.
fn emit_list(
    code: &mut Assembler,
    width: Width,
    alternatives: &[Alternative<'_>],
    no: Label,
    outcome: &mut Outcome<'_>,
) -> Label {
    let mut next = no;
    let mut rest = alternatives;
    while let Some((last, before)) = rest.split_last() {
        let equal = tail(rest, |one| only(one)?.as_equality(width).map(without_value));
        let bits = tail(rest, |one| {
            let (offset, _) = only(one)?.as_bit()?;
            Some((offset, one.ret))
        });
        let shared = tail(rest, |one| one.conditions.first());
        let done = if equal > 1 {
            next = emit_equal(code, width, &rest[rest.len() - equal..], next, outcome);
            equal
        } else if bits > 1 {
            next = emit_bits(code, width, &rest[rest.len() - bits..], next, outcome);
            bits
        } else if shared > 1 {
            next = emit_shared(code, width, &rest[rest.len() - shared..], next, outcome);
            shared
        } else {
            let mut matched = outcome(code, last.ret);
            for condition in last.conditions.iter().rev() {
                matched = condition::emit(code, width, condition, matched, next);
            }
            next = matched;
            rest = before;
            continue;
        };
        rest = &rest[..rest.len() - done];
    }
    next
}

/// How many alternatives at the end have the key of the last one.
fn tail<'a, 'b, K: PartialEq>(
    alternatives: &'b [Alternative<'a>],
    key: impl Fn(&'b Alternative<'a>) -> Option<K>,
) -> usize {
    let Some(last) = alternatives.last().and_then(&key) else {
        return 0;
    };
    let same = alternatives.iter().rev();
    same.take_while(|one| key(one).as_ref() == Some(&last))
        .count()
}

/// The condition, if there is exactly one.
fn only<'a>(alternative: &Alternative<'a>) -> Option<&'a Condition> {
    match alternative.conditions {
        [condition] => Some(condition),
        _ => None,
    }
}

/// Equal for equalities that differ in the value alone.
fn without_value(equality: Equality) -> Equality {
    Equality {
        value: 0,
        ..equality
    }
}

/// A search tree over the values that one argument is compared with.
fn emit_equal(
    code: &mut Assembler,
    width: Width,
    run: &[Alternative<'_>],
    no: Label,
    outcome: &mut Outcome<'_>,
) -> Label {
    let equality = |one: &Alternative<'_>| only(one).and_then(|one| one.as_equality(width));
    let Some(common) = run.first().and_then(equality) else {
        return no;
    };
    let mut values: Vec<(u32, u32)> = run
        .iter()
        .filter_map(|one| Some((equality(one)?.value, one.ret)))
        .collect();
    // Of equal values the first one decides.
    values.sort_by_key(|(value, _)| *value);
    values.dedup_by_key(|(value, _)| *value);
    let mut ranges = Ranges::new(None);
    for (value, ret) in values {
        ranges.from(value, Some(ret));
        if let Some(above) = value.checked_add(1) {
            ranges.from(above, None);
        }
    }
    let mut next = ranges.emit(code, &mut |code, ret| match ret {
        Some(ret) => outcome(code, ret),
        None => no,
    });
    if common.mask != u32::MAX {
        next = code.and(common.mask, next);
    }
    next = code.load(common.offset, next);
    match common.upper {
        Some(upper) => condition::emit_half(code, common.offset + 4, u32::MAX, upper, next, no),
        None => next,
    }
}

/// One test for all bits of which any leads to the same result.
fn emit_bits(
    code: &mut Assembler,
    width: Width,
    run: &[Alternative<'_>],
    no: Label,
    outcome: &mut Outcome<'_>,
) -> Label {
    let mut found = None;
    let mut bits = 0;
    for one in run {
        if let Some((offset, bit)) = only(one).and_then(Condition::as_bit) {
            bits |= bit;
            found = Some((offset, one.ret));
        }
    }
    let Some((offset, ret)) = found else {
        return no;
    };
    let yes = outcome(code, ret);
    let mut next = no;
    if high(bits) != 0 && width == Width::Wide {
        let test = code.branch(Test::AnyBit(high(bits)), yes, next);
        next = code.load(offset + 4, test);
    }
    if low(bits) != 0 {
        let test = code.branch(Test::AnyBit(low(bits)), yes, next);
        next = code.load(offset, test);
    }
    next
}

/// The first condition once, then the rest of each.
fn emit_shared(
    code: &mut Assembler,
    width: Width,
    run: &[Alternative<'_>],
    no: Label,
    outcome: &mut Outcome<'_>,
) -> Label {
    let Some(first) = run.first().and_then(|one| one.conditions.first()) else {
        return no;
    };
    let rests: Vec<_> = run
        .iter()
        .map(|one| Alternative {
            conditions: &one.conditions[1..],
            ret: one.ret,
        })
        .collect();
    let yes = emit_list(code, width, &rests, no, outcome);
    condition::emit(code, width, first, yes, no)
}
