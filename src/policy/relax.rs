//! Rules that a bundle gives up in so many words.

use oci_spec::runtime::Spec;

use super::{Outcome, relaxed, seccomp};
use crate::error::Problem;

/// The annotation: rule ids with commas in between.
pub const ANNOTATION: &str = "dev.capsid.relax";

/// The rules that the annotation may name.
const RELAXABLE: [&str; 2] = [seccomp::DEFAULT, seccomp::FLOOR];

/// The rules that a bundle's annotation names.
#[derive(Debug, Default)]
pub(super) struct Relaxations(Vec<&'static str>);

impl Relaxations {
    /// Reads the annotation. A name that is no rule is refused: whoever wrote
    /// it believes in a container that is not there.
    pub(super) fn of(spec: &Spec) -> Result<Self, Problem> {
        let annotations = spec.annotations().as_ref();
        let Some(list) = annotations.and_then(|all| all.get(ANNOTATION)) else {
            return Ok(Self::default());
        };
        let names = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let rules = names.map(|name| {
            let known = RELAXABLE.iter().copied().find(|rule| *rule == name);
            known.ok_or_else(|| {
                Problem::new(
                    format!("/annotations/{ANNOTATION}"),
                    format!(
                        "{name:?} is no rule that can be relaxed here: {} can",
                        RELAXABLE.join(" and ")
                    ),
                )
            })
        });
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// Whether a rule is given up.
    pub(super) fn has(&self, rule: &str) -> bool {
        self.0.contains(&rule)
    }

    /// What such a rule came to.
    pub(super) fn outcome(&self, rule: &'static str) -> Outcome {
        relaxed(rule, format!("the bundle's annotation {ANNOTATION}"))
    }
}
