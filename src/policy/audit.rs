//! The key `audit` of the policy file: where it is written down what is done.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::Problem;

/// Where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    #[default]
    Off,
    /// To the journal of systemd.
    Journal,
    /// To a file of root, one line each.
    File(PathBuf),
}

/// What the policy file says of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Where they go.
    pub sink: Sink,
    /// Nothing is begun whose event cannot be written.
    pub required: bool,
}

impl Audit {
    /// Reads `"off"`, `"journald"`, or an object with `file` or `journald`, and `required`.
    pub(super) fn of_value(value: &Value, at: &str) -> Result<Self, Vec<Problem>> {
        let problem = |at: &str, text: &str| Err(vec![Problem::new(at, text)]);
        let mut audit = Self::default();
        let object = match value {
            Value::Object(object) => object,
            Value::String(word) if word == "off" => return Ok(audit),
            Value::String(word) if word == "journald" => {
                audit.sink = Sink::Journal;
                return Ok(audit);
            }
            _ => {
                return problem(
                    at,
                    r#"must be "off", "journald", or an object with file or journald, and required"#,
                );
            }
        };
        let mut sinks = 0;
        for (key, value) in object {
            let sink = match (key.as_str(), value) {
                ("required", Value::Bool(required)) => {
                    audit.required = *required;
                    continue;
                }
                ("journald", Value::Bool(true)) => Sink::Journal,
                ("file", Value::String(path)) if Path::new(path).is_absolute() => {
                    Sink::File(path.into())
                }
                _ => {
                    return problem(
                        &format!("{at}/{}", crate::error::escape(key)),
                        r#"must be one of "file": an absolute path, "journald": true, "required": true or false"#,
                    );
                }
            };
            audit.sink = sink;
            sinks += 1;
        }
        match sinks {
            1 => Ok(audit),
            _ => problem(at, r#"must have either "file" or "journald""#),
        }
    }
}
