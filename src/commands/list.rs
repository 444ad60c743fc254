//! `capsid list`: the containers of a state root.

use clap::{ArgMatches, Command};

use super::options;
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("list")
        .about("List containers")
        .long_about("List the containers of the state root (see `capsid --root`), whatever their state.")
        .arg(options::format())
        .arg(options::switch("quiet", "Print only the ids").short('q'))
        .after_help("Examples:\n  capsid list\n  capsid --root /run/containerd/runc/k8s.io list --format json")
}

/// What was asked of `list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListArgs {
    /// JSON instead of a table.
    pub(crate) json: bool,
    /// Only the ids, whatever the format.
    pub(crate) quiet: bool,
}

impl ListArgs {
    /// Cannot fail; the form is that of the other commands.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            json: options::wants_json(matches),
            quiet: options::is_on(matches, "quiet"),
        })
    }
}
