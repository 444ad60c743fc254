//! `capsid explain`: what `create` would do with a bundle, and why.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, ValueHint};

use super::cli::{Global, print};
use super::pins::{self, Pins};
use super::prepared::{self, Entry, Prepared};
use super::root;
use crate::error::Result;
use crate::host::controllers;
use crate::policy;

pub(crate) fn command() -> Command {
    Command::new("explain")
        .about("Print what `create` would do with a bundle, and what protects it")
        .long_about(
            "Print the plan of a bundle: every step from the first namespace to the program,\n\
             in order, and each hardening rule with whether it is enforced here, relaxed by\n\
             the bundle, or not supported by this machine. Nothing is changed or started.\n\
             Digests that are demanded are compared, as `create` does.",
        )
        .args(pins::options())
        .arg(
            Arg::new("bundle")
                .value_name("BUNDLE")
                .value_parser(ValueParser::os_string())
                .value_hint(ValueHint::DirPath)
                .default_value(".")
                .help("The bundle: a directory with config.json"),
        )
        .after_help("Example:\n  capsid explain /var/lib/web")
}

/// Prints the first half of `create`: what was asked, what is insisted on, what would be done.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = ExplainArgs::from_matches(matches)?;
    // The name a container has by default, and the place of its cgroup.
    let id = "ID";
    let mut entry = Entry::measured(&args.bundle, args.pins.config)?;
    entry.measure = args.pins.measures_rootfs();
    let mut prepared = prepared::prepare(global, entry, id)?;
    prepared.tree = args.pins.check_rootfs(&prepared)?;
    let pins = args.pins.lines(&prepared)?;
    print(&(pins + &text(&mut prepared, id)?))
}

/// Rules, warnings and plan.
pub(super) fn text(prepared: &mut Prepared, id: &str) -> Result<String> {
    let (plan, warnings) = prepared.plan(prepared.options(id))?;
    look_for_controllers(prepared);
    let mut text = format!("hardening: {}\nrules:\n", prepared.hardened.level());
    for outcome in &prepared.hardened.outcomes {
        text += &format!("  {outcome}\n");
    }
    for warning in prepared.hardened.warnings.iter().chain(&warnings) {
        text += &format!("warning: {warning}\n");
    }
    text += &format!("cgroup: {}\n", prepared.choice.reason);
    for lost in &prepared.choice.lost {
        text += &format!("warning: {lost}\n");
    }
    Ok(format!("{text}{plan}"))
}

/// Says which of capsid's own limits could not be had; `create` would see it
/// once the cgroup is made.
fn look_for_controllers(prepared: &mut Prepared) {
    let Some(cgroup) = &prepared.cgroup else {
        return;
    };
    let parent = cgroup.path.parent().unwrap_or(&cgroup.mount);
    for limit in &prepared.hardened.limits {
        let controller = limit.file.split('.').next().unwrap_or(limit.file);
        if controllers::obstacle(&cgroup.mount, parent, controller).is_some() {
            let why = format!("the controller {controller} is not available");
            policy::lose(&mut prepared.hardened.outcomes, limit.rule, &why);
        }
    }
}

/// What was asked of `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExplainArgs {
    /// The bundle, absolute.
    pub(crate) bundle: PathBuf,
    /// Digests that are demanded.
    pub(crate) pins: Pins,
}

impl ExplainArgs {
    /// Fails when a relative path cannot be made absolute, or a digest is none.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let bundle = matches
            .get_one::<OsString>("bundle")
            .filter(|path| !path.is_empty());
        Ok(Self {
            bundle: root::absolute(bundle.map_or(".".as_ref(), OsString::as_os_str))?,
            pins: Pins::from_matches(matches)?,
        })
    }
}
