//! What capsid insists on, whatever the bundle says.
//!
//! Pure: a checked configuration, facts and a level go in, a hardened
//! configuration and the outcome of every rule come out.

use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::host::Facts;
use crate::seccomp::Filter;
use crate::spec::validate::ValidSpec;

use judgement::Judgement;

mod audit;
mod file;
mod hardening;
mod judgement;
pub mod landlock;
mod level;
mod namespaces;
mod paths;
mod process;
mod resources;
mod rule;
mod seccomp;
mod userns;

pub use audit::{Audit, Sink};
pub use file::{Permitted, PolicyFile, Userns};
pub use hardening::{ANNOTATION, By, Hardening, Wish};
pub use level::Level;
pub use paths::{MASKED_PATHS, READONLY_PATHS};
pub use process::{grants, harden};
pub use resources::DefaultLimit;
pub use rule::Rule;
pub use userns::{IDS, is_candidate};

/// A configuration that the rules have been applied to.
#[derive(Debug)]
pub struct HardenedSpec {
    /// What was insisted on.
    pub hardening: Hardening,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The configuration, without `linux.seccomp`.
    pub spec: Spec,
    /// The system calls that the container may make.
    pub filter: Filter,
    /// What Landlock keeps the program to.
    pub fence: Option<landlock::Fence>,
    /// Limits that the bundle leaves out, for a cgroup that can have them.
    pub limits: Vec<DefaultLimit>,
    /// The first of the ids that a container of root got with a user namespace
    /// which its bundle does not ask for.
    pub given: Option<u32>,
    /// What each rule came to.
    pub outcomes: Vec<Outcome>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What a rule came to for this container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which one.
    pub rule: Rule,
    /// In force, or not and why.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}

/// Whether a rule is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
pub enum Enforcement {
    /// In force; what was done for it.
    Enforced(String),
    /// Given up; by whom.
    Relaxed(String),
    /// Wanted, and not to be had here; why.
    Unsupported(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.enforcement {
            Enforcement::Enforced(how) => write!(f, "{}: enforced ({how})", self.rule),
            Enforcement::Relaxed(by) => write!(f, "{}: relaxed by {by}", self.rule),
            Enforcement::Unsupported(why) => write!(f, "{}: unsupported: {why}", self.rule),
        }
    }
}

impl HardenedSpec {
    /// How much was insisted on.
    pub fn level(&self) -> Level {
        self.hardening.level
    }
}

/// Notes that a rule cannot be had, where only the machine could tell.
pub fn lose(outcomes: &mut [Outcome], rule: Rule, why: &str) {
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.rule == rule) {
        outcome.enforcement = Enforcement::Unsupported(why.to_owned());
    }
}

/// Applies every rule.
///
/// # Errors
///
/// An annotation that relaxes what is no rule, or may not be relaxed; what no
/// bundle may ask for at this level.
pub fn apply(
    valid: ValidSpec,
    facts: &Facts,
    mut hardening: Hardening,
) -> Result<HardenedSpec, Vec<Problem>> {
    let (bundle, mut spec, warnings) = valid.into_parts();
    hardening
        .relax_annotated(&spec)
        .map_err(|problem| vec![problem])?;
    let mut judgement = Judgement::new(&hardening);
    let given = namespaces::apply(&mut spec, facts, &mut judgement);
    paths::apply(&mut spec, &mut judgement);
    namespaces::forbid_nested(&mut spec, facts, &mut judgement);
    if let Some(process) = spec.process_mut() {
        process::apply(process, &mut judgement);
    }
    let filter = seccomp::filter(&mut spec, &mut judgement);
    let fence = landlock::fence(&spec, facts, &mut judgement);
    let limits = resources::apply(&spec, &mut judgement);
    judgement.enforced(
        Rule::Oneself,
        "capsid runs from an image of itself that nobody can write, and is closed to tracing",
    );
    let outcomes = judgement.into_result()?;
    Ok(HardenedSpec {
        hardening,
        bundle,
        spec,
        filter,
        fence,
        limits,
        given,
        outcomes,
        warnings,
    })
}
