//! How much is insisted on, as the command line and the policy file say.

use std::sync::OnceLock;

use clap::{Arg, ArgMatches};

use super::options;
use crate::error::{Error, Result};
use crate::host::policy_file;
use crate::policy::{By, Hardening, Level, PolicyFile, Rule, Wish};

/// The options that say it.
pub(super) fn options() -> [Arg; 2] {
    [
        options::text(
            "hardening",
            "LEVEL",
            "How much is insisted on: baseline, strict, compat (runc)",
        ),
        options::texts("relax", "RULE", "Give a hardening rule up (repeatable)"),
    ]
}

/// Reads them. Fails when there is no such level or rule.
pub(super) fn wish(matches: &ArgMatches) -> Result<Wish> {
    let level = options::given(matches, "hardening");
    of_words(level.as_deref(), &options::all(matches, "relax"))
}

/// The same from the words alone.
pub(super) fn of_words(level: Option<&str>, rules: &[String]) -> Result<Wish> {
    let level = level.map(|word| {
        Level::named(word).ok_or_else(|| {
            Error::Usage(format!(
                "invalid value {word:?} for --hardening: use baseline, strict or compat"
            ))
        })
    });
    let rules = rules.iter().flat_map(|list| list.split(',')).map(str::trim);
    let rules = rules.filter(|name| !name.is_empty()).map(|name| {
        let rule = Rule::relaxable(name);
        let rule = rule.map_err(|problem| Error::Usage(format!("--relax: {problem}")))?;
        Ok((rule, By::Option))
    });
    Ok(Wish {
        level: level.transpose()?,
        relaxed: rules.collect::<Result<_>>()?,
    })
}

/// What is insisted on by a command that has a level of its own.
///
/// # Errors
/// A policy file that cannot be used, or does not allow what is asked for.
pub(super) fn settle(wish: &Wish, default: Level) -> Result<Hardening> {
    let file = file()?;
    Hardening::of_file(file, default)
        .asked(wish, file)
        .map_err(|problem| Error::Usage(problem).refused())
}

/// What is insisted on for one more process of a container that has been created
/// with this. The policy file matters only to who asks for something.
///
/// # Errors
/// As [`settle`].
pub(super) fn for_exec(wish: &Wish, created: &Hardening) -> Result<Hardening> {
    if wish.is_empty() {
        return Ok(created.clone());
    }
    let hardening = created.clone().asked(wish, file()?);
    hardening.map_err(|problem| Error::Usage(problem).refused())
}

/// The policy file, read once; `None` when there is none.
///
/// # Errors
/// It cannot be used.
pub(super) fn file() -> Result<Option<&'static PolicyFile>> {
    static FILE: OnceLock<Option<PolicyFile>> = OnceLock::new();
    if let Some(known) = FILE.get() {
        return Ok(known.as_ref());
    }
    let read = read()?;
    Ok(FILE.get_or_init(|| read).as_ref())
}

fn read() -> Result<Option<PolicyFile>> {
    let Some(text) = policy_file::read(PolicyFile::PATH)? else {
        return Ok(None);
    };
    let file = PolicyFile::parse(&text).map_err(|problems| Error::Spec {
        file: PolicyFile::PATH.into(),
        problems,
    })?;
    Ok(Some(file))
}
