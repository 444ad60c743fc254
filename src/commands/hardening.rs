//! How much is insisted on, as the command line says.

use clap::{Arg, ArgMatches};

use super::options;
use crate::error::{Error, Result};
use crate::policy::{By, Hardening, Level, Rule};

/// The options that say it.
pub(super) fn options() -> [Arg; 2] {
    [
        options::text(
            "hardening",
            "LEVEL",
            "How much is insisted on: baseline, strict or compat (what runc does)",
        ),
        options::texts("relax", "RULE", "Give a hardening rule up (repeatable)"),
    ]
}

/// The level and the rules that a command line names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `--hardening`
    level: Option<Level>,
    /// `--relax`
    relaxed: Vec<Rule>,
}

impl Wish {
    /// Fails when there is no such level or rule.
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let level = options::given(matches, "hardening");
        Self::of(level.as_deref(), &options::all(matches, "relax"))
    }

    /// The same from the words alone.
    pub(super) fn of(level: Option<&str>, rules: &[String]) -> Result<Self> {
        let level = level.map(|word| {
            Level::named(word).ok_or_else(|| {
                Error::Usage(format!(
                    "invalid value {word:?} for --hardening: use baseline, strict or compat"
                ))
            })
        });
        let rules = rules.iter().flat_map(|list| list.split(',')).map(str::trim);
        let rules = rules.filter(|name| !name.is_empty()).map(|name| {
            Rule::relaxable(name).map_err(|problem| Error::Usage(format!("--relax: {problem}")))
        });
        Ok(Self {
            level: level.transpose()?,
            relaxed: rules.collect::<Result<_>>()?,
        })
    }

    /// The same with what another one adds or changes.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.level = other.level.or(self.level);
        self.relaxed.extend(&other.relaxed);
        self
    }

    /// What is insisted on, with the level of a command whose line names none.
    pub(super) fn settle(&self, default: Level) -> Result<Hardening> {
        let mut hardening = Hardening::at(self.level.unwrap_or(default));
        hardening.relax(self.relaxed.iter().copied(), By::Option);
        Ok(hardening)
    }
}
