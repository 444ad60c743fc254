//! The policy file: what root of the machine wants of all containers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Audit, Level, Rule};
use crate::error::{Problem, escape};

/// What the policy file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFile {
    /// `hardening`: the level of whoever asks for none.
    pub level: Option<Level>,
    /// `relax`: rules that are given up for all.
    pub relaxed: Vec<Rule>,
    /// `allowRelaxation`: what others may give up.
    pub permitted: Permitted,
    /// `userns`: which containers of root get a user namespace unasked.
    pub userns: Userns,
    /// `audit`: where it is written down what is done.
    pub audit: Audit,
}

/// Which rules others than the policy file may give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permitted {
    /// All that can be given up, and the level may be lowered.
    #[default]
    All,
    /// These, and the level may not be lowered; an empty list for `false`.
    Only(Vec<Rule>),
}

/// Which containers of root get a user namespace that their bundle does not ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Userns {
    /// None.
    Off,
    /// Those where nothing can go wrong by it.
    #[default]
    Default,
    /// Those on an overlay of the engine as well.
    Overlay,
}

impl Permitted {
    /// Whether a rule is among them.
    pub fn includes(&self, rule: Rule) -> bool {
        match self {
            Permitted::All => true,
            Permitted::Only(rules) => rules.contains(&rule),
        }
    }
}

impl PolicyFile {
    /// Where it is.
    pub const PATH: &'static str = "/etc/capsid/policy.json";

    /// The lowest level that may be asked for.
    pub fn least_level(&self) -> Level {
        match self.permitted {
            Permitted::All => Level::Compat,
            Permitted::Only(_) => self.level.unwrap_or_default(),
        }
    }

    /// Reads its text.
    ///
    /// # Errors
    /// Everything in it that is not as it must be, by its place.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<Problem>> {
        let entries: Entries = serde_json::from_slice(text)
            .map_err(|error| vec![Problem::new("", error.to_string())])?;
        let mut file = Self::default();
        let mut problems = Vec::new();
        for (key, value) in &entries.0 {
            let at = format!("/{}", escape(key));
            if let Err(found) = file.set(key, value, &at) {
                problems.extend(found);
            }
        }
        if problems.is_empty() {
            Ok(file)
        } else {
            Err(problems)
        }
    }

    fn set(&mut self, key: &str, value: &Value, at: &str) -> Result<(), Vec<Problem>> {
        let problem = |text: &str| Err(vec![Problem::new(at, text)]);
        match (key, value) {
            ("hardening", _) => match value.as_str().and_then(Level::named) {
                Some(level) => self.level = Some(level),
                None => return problem(r#"must be "baseline", "strict" or "compat""#),
            },
            ("relax", _) => self.relaxed = rules(value, at)?,
            ("allowRelaxation", Value::Bool(true)) => self.permitted = Permitted::All,
            ("allowRelaxation", Value::Bool(false)) => {
                self.permitted = Permitted::Only(Vec::new());
            }
            ("allowRelaxation", Value::Array(_)) => {
                self.permitted = Permitted::Only(rules(value, at)?);
            }
            ("allowRelaxation", _) => return problem("must be true, false or a list of rules"),
            ("userns", _) => {
                self.userns = match value.as_str() {
                    Some("off") => Userns::Off,
                    Some("default") => Userns::Default,
                    Some("overlay") => Userns::Overlay,
                    _ => return problem(r#"must be "off", "default" or "overlay""#),
                }
            }
            ("audit", _) => self.audit = Audit::of_value(value, at)?,
            _ => {
                return problem(
                    "is no key of this file: hardening, relax, allowRelaxation, userns and audit are",
                );
            }
        }
        Ok(())
    }
}

/// A list of rule ids.
fn rules(value: &Value, at: &str) -> Result<Vec<Rule>, Vec<Problem>> {
    let Some(list) = value.as_array() else {
        return Err(vec![Problem::new(at, "must be a list of rules")]);
    };
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let rule = match value.as_str() {
            Some(name) => Rule::relaxable(name),
            None => Err("must be the name of a rule".into()),
        };
        match rule {
            Ok(rule) => rules.push(rule),
            Err(problem) => problems.push(Problem::new(format!("{at}/{index}"), problem)),
        }
    }
    if problems.is_empty() {
        Ok(rules)
    } else {
        Err(problems)
    }
}

/// The entries of an object; a key that is there twice is an error, for one of
/// the two would have no effect.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if entries.iter().any(|(known, _)| *known == key) {
                let twice = format!("the key {key:?} is there twice");
                return Err(serde::de::Error::custom(twice));
            }
            entries.push((key, value));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sink;
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = br#"{"hardening": "strict", "relax": ["pids", "memory"],
            "allowRelaxation": ["seccomp-floor"], "userns": "overlay"}"#;
        let file = PolicyFile::parse(text).unwrap();
        assert_eq!(file.level, Some(Level::Strict));
        assert_eq!(file.relaxed, [Rule::Pids, Rule::Memory]);
        assert_eq!(file.permitted, Permitted::Only(vec![Rule::SeccompFloor]));
        assert_eq!(file.userns, Userns::Overlay);
        assert_eq!(file.least_level(), Level::Strict);
        assert_eq!(PolicyFile::parse(b"{}").unwrap(), PolicyFile::default());
        for (text, sink, required) in [
            (r#""off""#, Sink::Off, false),
            (r#""journald""#, Sink::Journal, false),
            (
                r#"{"journald": true, "required": true}"#,
                Sink::Journal,
                true,
            ),
            (r#"{"file": "/a/b"}"#, Sink::File("/a/b".into()), false),
        ] {
            let file = PolicyFile::parse(format!(r#"{{"audit": {text}}}"#).as_bytes()).unwrap();
            assert_eq!(file.audit, Audit { sink, required }, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (text, places) in [
            (r#"{"hardning": "strict"}"#, vec!["/hardning"]),
            (r#"{"a/b": 1, "relax": "pids"}"#, vec!["/a~1b", "/relax"]),
            (r#"{"hardening": "Strict"}"#, vec!["/hardening"]),
            (
                r#"{"relax": ["pids", "pid", 3]}"#,
                vec!["/relax/1", "/relax/2"],
            ),
            (r#"{"relax": ["self"]}"#, vec!["/relax/0"]),
            (r#"{"allowRelaxation": "yes"}"#, vec!["/allowRelaxation"]),
            (r#"{"allowRelaxation": ["x"]}"#, vec!["/allowRelaxation/0"]),
            (r#"{"userns": true}"#, vec!["/userns"]),
            (r#"{"audit": "syslog"}"#, vec!["/audit"]),
            (r#"{"audit": {"required": true}}"#, vec!["/audit"]),
            (
                r#"{"audit": {"file": "/a", "journald": true}}"#,
                vec!["/audit"],
            ),
            (r#"{"audit": {"file": "a.log"}}"#, vec!["/audit/file"]),
            (
                r#"{"audit": {"file": "/a", "journald": false}}"#,
                vec!["/audit/journald"],
            ),
            (r#"{"audit": {"requird": true}}"#, vec!["/audit/requird"]),
            (r#"{"userns": "off", "userns": "overlay"}"#, vec![""]),
            ("[]", vec![""]),
            ("", vec![""]),
        ] {
            let found = PolicyFile::parse(text.as_bytes()).unwrap_err();
            let found: Vec<_> = found.iter().map(|problem| problem.at.as_str()).collect();
            assert_eq!(found, places, "{text}");
        }
    }
}
