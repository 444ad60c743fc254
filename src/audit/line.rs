//! An event as a line of JSON, and as an entry of the journal.

use std::fmt::Write;

use super::safe::acts;
use super::{Event, Origin, What};
use crate::policy::{Enforcement, Outcome};

/// The longest text of others that is kept of one field, in bytes. A line has at
/// most some thirty of them, so it is far below what a datagram can carry.
const LONGEST: usize = 512;

/// How each line begins, and what stands nowhere else in one: within a text the
/// quotes are escaped. Where a full disk cut a line off, the next is found by it.
pub(super) const START: &str = "{\"time\":\"";

/// A JSON object that is being written.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".into())
    }

    fn key(&mut self, key: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        quote(&mut self.0, key);
        self.0.push(':');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        quote(&mut self.0, value);
    }

    fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.key(key);
        self.0.push_str(if value { "true" } else { "false" });
    }

    fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.0.push('{');
        fill(self);
        self.0.push('}');
    }
}

/// A JSON string of at most [`LONGEST`] bytes. What a terminal would act on is
/// escaped, so that a file of events can be looked at with any program.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for (at, c) in value.char_indices() {
        if at >= LONGEST {
            text.push('\u{2026}');
            break;
        }
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            c if acts(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// The event as one line of JSON, with its end. Each begins with [`START`].
pub fn line(event: &Event<'_>, origin: &Origin) -> String {
    let mut object = Object::new();
    // First, for the sake of `START`.
    object.text("time", &origin.time);
    object.text("event", event.what.name());
    object.text("id", event.id);
    if let Some(root) = event.root {
        object.text("root", &root.to_string_lossy());
    }
    object.number("uid", origin.uid.into());
    if let Some(login) = origin.login {
        object.number("loginuid", login.into());
    }
    object.number("caller", origin.caller.into());
    if let Some(program) = &origin.program {
        object.text("callerProgram", program);
    }
    if !event.names.is_empty() {
        object.object("names", |object| {
            for (key, value) in event.names {
                object.text(key, value);
            }
        });
    }
    if let Some(config) = event.config {
        object.text("config", config);
    }
    what(&mut object, &event.what);
    object.0.push_str("}\n");
    object.0
}

fn what(object: &mut Object, what: &What<'_>) {
    match what {
        What::Create {
            pid,
            bundle,
            program,
            level,
            rules: outcomes,
            rootfs,
        } => {
            object.number("pid", (*pid).into());
            object.text("bundle", &bundle.to_string_lossy());
            object.text("program", program);
            if let Some(rootfs) = rootfs {
                object.text("rootfs", rootfs);
            }
            object.text("hardening", level.name());
            object.object("rules", |object| rules(object, outcomes));
        }
        What::Relax { rule, by } => {
            object.text("rule", rule.id());
            object.text("by", by);
        }
        What::Start { pid } => object.number("pid", (*pid).into()),
        What::Exec {
            pid,
            program,
            user,
            terminal,
        } => {
            object.number("pid", (*pid).into());
            object.text("program", program);
            object.text("user", &format!("{}:{}", user.0, user.1));
            object.truth("terminal", *terminal);
        }
        What::Kill { signal } => object.number("signal", (*signal).into()),
        What::Delete { force, failed } => {
            object.truth("force", *force);
            object.truth("failed", *failed);
        }
        What::Denied {
            call,
            program,
            count,
            answer,
        } => {
            object.text("call", call);
            object.text("program", program);
            object.number("count", i64::try_from(*count).unwrap_or(i64::MAX));
            object.text("answer", answer);
        }
        What::Refused { command, why } => {
            object.text("command", command);
            object.text("why", why);
        }
    }
}

/// Each rule with its outcome, and where it is not in force by whom or why.
fn rules(object: &mut Object, outcomes: &[Outcome]) {
    for Outcome { rule, enforcement } in outcomes {
        match enforcement {
            Enforcement::Enforced(_) => object.text(rule.id(), "enforced"),
            Enforcement::Relaxed(by) => object.text(rule.id(), &format!("relaxed by {by}")),
            Enforcement::Unsupported(why) => {
                object.text(rule.id(), &format!("unsupported: {why}"));
            }
        }
    }
}

/// The event as an entry of the journal, in its native protocol: fields to look
/// for, and the line as it would be in a file.
///
/// No value has a line end, so each is `NAME=value`.
pub fn journal_entry(event: &Event<'_>, line: &str) -> Vec<u8> {
    // Those that are about what did not stay as it should: notice, and not info.
    let priority = match event.what {
        What::Relax { .. } | What::Denied { .. } | What::Refused { .. } => 5,
        _ => 6,
    };
    let name = event.what.name();
    let mut id = String::new();
    quote(&mut id, event.id);
    // Without the quotes that JSON wants: an honest id needs no escapes.
    let id = &id[1..id.len() - 1];
    format!(
        "MESSAGE=capsid {name} {id}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=capsid\n\
         CAPSID_EVENT={name}\nCAPSID_ID={id}\nCAPSID_JSON={line}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests;
