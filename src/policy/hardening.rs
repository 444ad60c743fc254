//! What is insisted on for one container: a level, and rules that are given up.

use std::fmt;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::file::{Permitted, PolicyFile, Userns};
use super::{Enforcement, Level, Outcome, Rule};
use crate::error::Problem;

/// The annotation: rule ids with commas in between.
pub const ANNOTATION: &str = "dev.capsid.relax";

/// Who gives a rule up by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// `--relax` on the command line.
    Option,
    /// `--no-new-keyring` on the command line.
    NoNewKeyring,
    /// The bundle's annotation.
    Annotation,
    /// The policy file.
    File,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Option => f.write_str("--relax"),
            By::NoNewKeyring => f.write_str("--no-new-keyring"),
            By::Annotation => write!(f, "the bundle's annotation {ANNOTATION}"),
            By::File => f.write_str(PolicyFile::PATH),
        }
    }
}

/// What is insisted on for one container.
///
/// Each rule asks [`Hardening::wants`] before it does anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// How much, as a whole.
    pub level: Level,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relaxed: Vec<(Rule, By)>,
    /// What may be relaxed besides; the policy file says it anew each time.
    #[serde(skip)]
    permitted: Permitted,
    /// Which containers of root get a user namespace unasked; said by the policy
    /// file where a container is created.
    #[serde(skip)]
    pub userns: Userns,
}

/// The level and the rules that a command line names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `--hardening`
    pub level: Option<Level>,
    /// `--relax`, or an option that comes to the same.
    pub relaxed: Vec<(Rule, By)>,
}

impl Wish {
    /// Whether the command line says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Hardening {
    /// A level, and nothing given up.
    pub fn at(level: Level) -> Self {
        Self {
            level,
            ..Self::default()
        }
    }

    /// What the policy file says, where the command line names no level for a
    /// command that has this one by default.
    ///
    /// The file may lower what OCI bundles get without asking; it does not lower
    /// the level of a command that has a higher one of its own.
    pub fn of_file(file: Option<&PolicyFile>, default: Level) -> Self {
        let Some(file) = file else {
            return Self::at(default);
        };
        let level = match file.level {
            Some(level) if default == Level::Baseline => level,
            Some(level) => level.max(default),
            None => default,
        };
        let relaxed = file.relaxed.iter().map(|rule| (*rule, By::File));
        Self {
            level,
            relaxed: relaxed.collect(),
            permitted: file.permitted.clone(),
            userns: file.userns,
        }
    }

    /// Does what the command line says, as far as the policy file lets it.
    ///
    /// # Errors
    /// The sentence that says what it does not allow.
    pub fn asked(mut self, wish: &Wish, file: Option<&PolicyFile>) -> Result<Self, String> {
        if let Some(file) = file {
            self.permitted = file.permitted.clone();
            self.userns = file.userns;
        }
        let least = file.map_or(Level::Compat, PolicyFile::least_level);
        if let Some(level) = wish.level {
            if level < least {
                return Err(format!(
                    "--hardening {level}: {} asks for {least} at least: leave the option out, or \
                     have root set \"allowRelaxation\" to true there",
                    PolicyFile::PATH
                ));
            }
            self.level = level;
        }
        for (rule, by) in &wish.relaxed {
            let named = match by {
                By::Option => format!("--relax {rule}"),
                by => by.to_string(),
            };
            self.permit(*rule)
                .map_err(|refusal| format!("{named}: {refusal}"))?;
            self.relaxed.push((*rule, *by));
        }
        Ok(self)
    }

    /// Whether the policy file lets others give a rule up.
    ///
    /// # Errors
    /// The sentence that says that it does not.
    pub fn permit(&self, rule: Rule) -> Result<(), String> {
        match self.permitted.includes(rule) {
            true => Ok(()),
            false => Err(format!(
                "{} does not allow to relax {rule}: have root add it to \"allowRelaxation\" there",
                PolicyFile::PATH
            )),
        }
    }

    /// Gives up what the bundle's annotation names. A name that is no rule is
    /// refused: whoever wrote it believes in a container that is not there.
    pub(super) fn relax_annotated(&mut self, spec: &Spec) -> Result<(), Problem> {
        let annotations = spec.annotations().as_ref();
        let list = annotations.and_then(|all| all.get(ANNOTATION));
        let names = list.into_iter().flat_map(|list| list.split(','));
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            let rule = Rule::relaxable(name).and_then(|rule| self.permit(rule).map(|()| rule));
            let rule = rule
                .map_err(|problem| Problem::new(format!("/annotations/{ANNOTATION}"), problem))?;
            self.relaxed.push((rule, By::Annotation));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> PolicyFile {
        PolicyFile::parse(text.as_bytes()).unwrap()
    }

    fn wish(level: Option<Level>, rules: &[Rule]) -> Wish {
        Wish {
            level,
            relaxed: rules.iter().map(|rule| (*rule, By::Option)).collect(),
        }
    }

    #[test]
    fn the_file_gives_the_level_that_nobody_asked_for() {
        for (text, default, expected) in [
            ("{}", Level::Baseline, Level::Baseline),
            (r#"{"hardening":"compat"}"#, Level::Baseline, Level::Compat),
            (r#"{"hardening":"strict"}"#, Level::Baseline, Level::Strict),
            (r#"{"hardening":"compat"}"#, Level::Strict, Level::Strict),
        ] {
            let hardening = Hardening::of_file(Some(&file(text)), default);
            assert_eq!(hardening.level, expected, "{text} {default}");
        }
    }

    #[test]
    fn what_the_file_does_not_allow_is_refused() {
        let asked = |text: &str, wish: &Wish| {
            let file = file(text);
            Hardening::of_file(Some(&file), Level::Baseline).asked(wish, Some(&file))
        };
        let compat = wish(Some(Level::Compat), &[]);
        let strict = wish(Some(Level::Strict), &[]);
        let floor = wish(None, &[Rule::SeccompFloor]);
        let pids = wish(None, &[Rule::Pids]);
        let open = r#"{"hardening":"strict"}"#;
        let shut = r#"{"allowRelaxation":false}"#;
        let one = r#"{"hardening":"strict","allowRelaxation":["pids"]}"#;
        for (text, wish, allowed) in [
            (open, &compat, true),
            (open, &floor, true),
            (shut, &compat, false),
            (shut, &strict, true),
            (shut, &floor, false),
            (one, &compat, false),
            (one, &wish(Some(Level::Baseline), &[]), false),
            (one, &floor, false),
            (one, &pids, true),
        ] {
            let answer = asked(text, wish);
            assert_eq!(answer.is_ok(), allowed, "{text} {wish:?}: {answer:?}");
        }
        let said = asked(shut, &floor).unwrap_err();
        assert!(said.starts_with("--relax seccomp-floor: "), "{said}");
    }

    #[test]
    fn what_is_relaxed_is_not_wanted() {
        let hardening = Hardening::default().asked(&wish(None, &[Rule::Pids]), None);
        let hardening = hardening.unwrap();
        assert!(!hardening.wants(Rule::Pids) && hardening.wants(Rule::Memory));
        let compat = Hardening::at(Level::Compat);
        assert!(!compat.wants(Rule::SeccompFloor) && compat.wants(Rule::Keyring));
    }
}
