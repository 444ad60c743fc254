//! What is insisted on for one container: a level, and rules that are given up.

use std::fmt;

use oci_spec::runtime::Spec;

use super::{Enforcement, Level, Outcome, Rule};
use crate::error::Problem;

/// The annotation: rule ids with commas in between.
pub const ANNOTATION: &str = "dev.capsid.relax";

/// Who gives a rule up by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `--relax` on the command line.
    Option,
    /// The bundle's annotation.
    Annotation,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Option => f.write_str("--relax"),
            By::Annotation => write!(f, "the bundle's annotation {ANNOTATION}"),
        }
    }
}

/// What is insisted on for one container.
///
/// Each rule asks [`Hardening::wants`] before it does anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardening {
    /// How much, as a whole.
    pub level: Level,
    relaxed: Vec<(Rule, By)>,
}

impl Hardening {
    /// A level, and nothing given up.
    pub fn at(level: Level) -> Self {
        Self {
            level,
            relaxed: Vec::new(),
        }
    }

    /// Gives rules up by name.
    pub fn relax(&mut self, rules: impl IntoIterator<Item = Rule>, by: By) {
        self.relaxed
            .extend(rules.into_iter().map(|rule| (rule, by)));
    }

    /// Gives up what the bundle's annotation names. A name that is no rule is
    /// refused: whoever wrote it believes in a container that is not there.
    pub(super) fn relax_annotated(&mut self, spec: &Spec) -> Result<(), Problem> {
        let annotations = spec.annotations().as_ref();
        let list = annotations.and_then(|all| all.get(ANNOTATION));
        let names = list.into_iter().flat_map(|list| list.split(','));
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            let rule = Rule::relaxable(name)
                .map_err(|problem| Problem::new(format!("/annotations/{ANNOTATION}"), problem))?;
            self.relax([rule], By::Annotation);
        }
        Ok(())
    }

    /// Whether a rule is to be in force, unless the bundle itself asks for less.
    pub fn wants(&self, rule: Rule) -> bool {
        self.given_up(rule).is_none()
    }

    /// What a rule came to that is given up by name or by level, before anything
    /// was looked at.
    pub fn given_up(&self, rule: Rule) -> Option<Outcome> {
        let by = self.relaxed.iter().find(|(relaxed, _)| *relaxed == rule);
        let by = by.map(|(_, by)| by.to_string());
        let level = || {
            let off = self.level < rule.least_level();
            off.then(|| format!("level {}", self.level))
        };
        by.or_else(level).map(|by| Outcome {
            rule,
            enforcement: Enforcement::Relaxed(by),
        })
    }
}
