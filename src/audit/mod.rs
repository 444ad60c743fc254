//! What was done with containers, by whom: events as lines of JSON.
//!
//! Pure: an event and who caused it go in, text comes out; and text goes in, and
//! rows of a table come out. Nothing of it is a value of the environment, an
//! argument, or a file's content: there secrets are.

use std::path::Path;

use crate::policy::{Enforcement, Level, Outcome, Rule};

mod line;
mod names;
pub mod reading;
mod safe;
mod span;

pub use line::{journal_entry, line};
pub use names::names;
pub use reading::harmless_json;
pub use safe::Safe;
pub use span::Since;

/// Who caused an event, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// Real user id of capsid's process.
    pub uid: u32,
    /// Who logged in, whatever the process became since (`/proc/self/loginuid`).
    pub login: Option<u32>,
    /// The process that called capsid.
    pub caller: i32,
    /// The name of that process, which it chooses itself.
    pub program: Option<String>,
}

/// Something that was done, or refused.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The container's id, as it was given.
    pub id: &'a str,
    /// The state root that it is in.
    pub root: Option<&'a Path>,
    /// The engine's names of it: key and value of annotations.
    pub names: &'a [(&'a str, &'a str)],
    /// `sha256:` and the digest of config.json, where it was taken.
    pub config: Option<&'a str>,
    /// What.
    pub what: What<'a>,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A container was set up. Nothing of it has run yet.
    Create {
        /// Its first process.
        pid: i32,
        /// The bundle's directory.
        bundle: &'a Path,
        /// `args[0]` of its program.
        program: &'a str,
        /// The level that was insisted on.
        level: Level,
        /// What each rule came to.
        rules: &'a [Outcome],
        /// The digest that its root file system was held against.
        rootfs: Option<&'a str>,
    },
    /// A rule is not in force, for somebody gave it up.
    Relax {
        /// Which one.
        rule: Rule,
        /// Who.
        by: &'a str,
    },
    /// Its program is let go.
    Start {
        /// Its first process.
        pid: i32,
    },
    /// One more process was set up in it.
    Exec {
        /// That process.
        pid: i32,
        /// `args[0]`.
        program: &'a str,
        /// User and group inside.
        user: (u32, u32),
        /// It has a terminal.
        terminal: bool,
    },
    /// A signal reached it.
    Kill {
        /// The signal.
        signal: i32,
    },
    /// It is gone.
    Delete {
        /// It need not have been stopped.
        force: bool,
        /// It could not be set up after all.
        failed: bool,
    },
    /// Its filter denied a system call.
    Denied {
        /// The call, and the arguments that decided.
        call: &'a str,
        /// The name of the program that made it.
        program: &'a str,
        /// How often.
        count: u64,
        /// What became of the call.
        answer: &'a str,
    },
    /// capsid refused a request.
    Refused {
        /// The command.
        command: &'a str,
        /// The sentence that its caller was told.
        why: &'a str,
    },
}

impl What<'_> {
    /// The word for it in events.
    pub fn name(&self) -> &'static str {
        match self {
            What::Create { .. } => "create",
            What::Relax { .. } => "relax",
            What::Start { .. } => "start",
            What::Exec { .. } => "exec",
            What::Kill { .. } => "kill",
            What::Delete { .. } => "delete",
            What::Denied { .. } => "denial",
            What::Refused { .. } => "refusal",
        }
    }
}

/// Every word of [`What::name`].
pub const NAMES: [&str; 8] = [
    "create", "relax", "start", "exec", "kill", "delete", "denial", "refusal",
];

/// Rules of this level that were given up, with by whom. What a level does not
/// have, nobody gave up: the level itself is in the event.
pub fn relaxed(level: Level, outcomes: &[Outcome]) -> impl Iterator<Item = (Rule, &str)> {
    let of_level = move |outcome: &&Outcome| outcome.rule.least_level() <= level;
    outcomes
        .iter()
        .filter(of_level)
        .filter_map(|outcome| match &outcome.enforcement {
            Enforcement::Relaxed(by) => Some((outcome.rule, by.as_str())),
            _ => None,
        })
}
