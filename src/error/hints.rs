//! What to do about a failed call: one table, for all messages.

use std::fmt;

use syscalls::Sysno;

use super::{Call, Check, Failure};

struct Hint {
    call: Call,
    errno: i32,
    /// A word that the attempted step must contain, or "" for any.
    step: &'static str,
    advice: &'static str,
}

const HINTS: &[Hint] = &[];

/// Appends the advice for a failure, if there is any.
pub(super) fn write(f: &mut fmt::Formatter<'_>, failure: &Failure, step: &str) -> fmt::Result {
    let found = HINTS.iter().find(|h| {
        h.call == failure.call && h.errno == failure.errno && step.contains(h.step)
    });
    match found {
        Some(hint) => write!(f, "\n  hint: {}", hint.advice),
        None => Ok(()),
    }
}
