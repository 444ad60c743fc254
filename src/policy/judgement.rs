//! What the rules came to, while they are applied one after the other.

use super::{Enforcement, Hardening, Level, Outcome, Rule};
use crate::error::Problem;

/// Outcomes so far, and what is refused.
pub(super) struct Judgement<'h> {
    pub(super) hardening: &'h Hardening,
    outcomes: Vec<Outcome>,
    problems: Vec<Problem>,
}

impl<'h> Judgement<'h> {
    pub(super) fn new(hardening: &'h Hardening) -> Self {
        Self {
            hardening,
            outcomes: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn push(&mut self, rule: Rule, enforcement: Enforcement) {
        self.outcomes.push(Outcome { rule, enforcement });
    }

    /// The rule is in force.
    pub(super) fn enforced(&mut self, rule: Rule, how: impl Into<String>) {
        self.push(rule, Enforcement::Enforced(how.into()));
    }

    /// The rule is given up by what the bundle leaves out, or by a demand that was
    /// judged already: nothing to refuse.
    pub(super) fn relaxed(&mut self, rule: Rule, by: impl Into<String>) {
        self.push(rule, Enforcement::Relaxed(by.into()));
    }

    /// The rule is wanted, and cannot be had.
    pub(super) fn unsupported(&mut self, rule: Rule, why: impl Into<String>) {
        self.push(rule, Enforcement::Unsupported(why.into()));
    }

    /// The same, and strict refuses a container without it.
    pub(super) fn cannot(&mut self, rule: Rule, at: &str, why: String) {
        if self.is_strict() {
            let way_out = format!("give the rule up with --relax {rule}");
            self.refuse(at, format!("{why} (rule {rule}): change it, or {way_out}"));
        }
        self.unsupported(rule, why);
    }

    /// Whether the rule is given up by name or level.
    pub(super) fn gives_up(&mut self, rule: Rule) -> bool {
        let outcome = self.hardening.given_up(rule);
        let given_up = outcome.is_some();
        self.outcomes.extend(outcome);
        given_up
    }

    /// Whether every rule is insisted on.
    pub(super) fn is_strict(&self) -> bool {
        self.hardening.level == Level::Strict
    }

    /// The bundle asks for less in so many words: strict refuses that.
    pub(super) fn asks_for_less(&mut self, rule: Rule, at: &str, by: &str) {
        if self.is_strict() {
            let instead = match rule.can_be_relaxed() {
                true => format!("give the rule up with --relax {rule}"),
                false => "run it with --hardening baseline".to_owned(),
            };
            self.refuse(
                at,
                format!("{by}: level strict refuses that (rule {rule}); change it, or {instead}"),
            );
        }
        self.relaxed(rule, format!("the bundle: {by}"));
    }

    /// What no bundle may ask for here.
    pub(super) fn refuse(&mut self, at: &str, problem: impl Into<String>) {
        self.problems.push(Problem::new(at, problem));
    }

    /// The outcomes in the order of the rules, if nothing is refused.
    pub(super) fn into_result(mut self) -> Result<Vec<Outcome>, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        self.outcomes.sort_by_key(|outcome| outcome.rule);
        Ok(self.outcomes)
    }
}
