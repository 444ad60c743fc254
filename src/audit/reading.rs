//! Lines of events, read back.
//!
//! They may be anybody's: a line can be cut off, edited, or made to deceive who
//! reads it. What cannot be read is counted and left out.

use serde_json::Value;

use super::line::START;
use super::safe::{Safe, acts};
use super::span::Since;

/// A longer line is none of capsid's.
pub const LONGEST_LINE: usize = 64 << 10;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this container.
    pub id: Option<String>,
    /// Of this kind.
    pub event: Option<String>,
    /// Then or later.
    pub since: Option<Since>,
}

/// How they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In columns.
    Table,
    /// As they were written, but safe to look at.
    Json,
}

/// Where lines come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of events.
    File,
    /// What `journalctl -o json` prints.
    Journal,
}

/// Reads lines, and counts those that cannot be read.
#[derive(Clone, Debug)]
pub struct Reading {
    wanted: Wanted,
    form: Form,
    source: Source,
    /// How many lines, or beginnings of lines, could not be read.
    pub damaged: u64,
}

/// The first line of a table.
pub const HEADER: &str =
    "TIME                 EVENT    UID    CALLER                  CONTAINER        DETAILS\n";

impl Reading {
    /// Nothing read yet.
    pub fn new(wanted: Wanted, form: Form, source: Source) -> Self {
        Self {
            wanted,
            form,
            source,
            damaged: 0,
        }
    }

    /// Whether a header belongs above what is shown.
    pub fn is_table(&self) -> bool {
        self.form == Form::Table
    }

    /// What is to be shown of a line, if anything.
    pub fn line(&mut self, line: &[u8]) -> Option<String> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        let Some((text, value, sender)) = self.parse(line) else {
            self.damaged += 1;
            return None;
        };
        if !self.wants(&value) {
            return None;
        }
        Some(match (self.form, sender) {
            (Form::Table, sender) => row(&value, sender.as_deref()),
            (Form::Json, None) => format!("{}\n", harmless_json(&text)),
            (Form::Json, Some(uid)) => {
                format!("{{\"journalUid\":{uid},{}\n", harmless_json(&text[1..]))
            }
        })
    }

    /// The text of an event, the event, and with the journal the user who sent it:
    /// that is the kernel's word, and what the event itself says is not.
    fn parse(&mut self, line: &[u8]) -> Option<(String, Value, Option<String>)> {
        let line = std::str::from_utf8(line).ok()?;
        match self.source {
            Source::File => {
                let (text, value) = self.event(line)?;
                Some((text, value, None))
            }
            Source::Journal => {
                let entry: Value = serde_json::from_str(line).ok()?;
                let uid = entry.get("_UID")?.as_str()?;
                uid.parse::<u32>().ok()?;
                let (text, value) = self.event(entry.get("CAPSID_JSON")?.as_str()?.trim())?;
                Some((text, value, Some(uid.to_owned())))
            }
        }
    }

    /// An event, also one that follows on a line which a full disk cut off.
    fn event(&mut self, line: &str) -> Option<(String, Value)> {
        let read = |text: &str| {
            let value: Value = serde_json::from_str(text).ok()?;
            let named = ["time", "event", "id"]
                .iter()
                .all(|key| value[key].is_string());
            named.then(|| (text.to_owned(), value))
        };
        read(line).or_else(|| {
            let at = line.rfind(START).filter(|at| *at > 0)?;
            let found = read(&line[at..])?;
            self.damaged += 1;
            Some(found)
        })
    }

    fn wants(&self, value: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| value[key] == wanted)
        };
        let time = value["time"].as_str().unwrap_or_default();
        let since = self.wanted.since.as_ref();
        is("id", &self.wanted.id)
            && is("event", &self.wanted.event)
            && since.is_none_or(|since| since.includes(time))
    }
}

/// JSON that means the same and acts on no terminal.
pub fn harmless_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text += &format!("\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// Fields that have a column of their own.
const COLUMNS: [&str; 7] = [
    "time",
    "event",
    "id",
    "uid",
    "loginuid",
    "caller",
    "callerProgram",
];

/// One line of the table.
fn row(value: &Value, sender: Option<&str>) -> String {
    let field = |key: &str| plain(&value[key]);
    let time: String = field("time").chars().take(19).collect();
    let mut uid = sender.map_or_else(|| field("uid"), str::to_owned);
    // Who logged in and became somebody else since.
    let login = field("loginuid");
    if !login.is_empty() && login != uid {
        uid = format!("{uid}/{login}");
    }
    let caller = format!("{} {}", field("callerProgram"), field("caller"));
    let mut row = format!(
        "{time:<20} {:<8} {uid:<6} {:<23} {:<16}",
        field("event"),
        caller.trim(),
        field("id")
    );
    if let Value::Object(fields) = value {
        let others = fields
            .iter()
            .filter(|(key, _)| !COLUMNS.contains(&key.as_str()));
        for (key, value) in others {
            match value {
                Value::Object(inner) => {
                    // Rules in force are the rule.
                    for (key, value) in inner.iter().filter(|(_, value)| *value != "enforced") {
                        detail(&mut row, key, value);
                    }
                }
                value => detail(&mut row, key, value),
            }
        }
    }
    row.push('\n');
    row
}

fn detail(row: &mut String, key: &str, value: &Value) {
    let value = plain(value);
    let quote = if value.contains([' ', '=']) { "\"" } else { "" };
    *row += &format!(" {}={quote}{value}{quote}", Safe(key));
}

/// A value as it is read by people.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => Safe(text).to_string(),
        Value::Null => String::new(),
        other => Safe(&other.to_string()).to_string(),
    }
}
