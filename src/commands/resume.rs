//! `capsid resume`: let a paused container go on.

use clap::{ArgMatches, Command};

use super::cli::Global;
use super::{life, options};
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("resume")
        .about("Let a paused container go on")
        .long_about("Thaw the cgroup of a container that `capsid pause` has frozen.")
        .arg(options::container_id())
        .after_help("Example:\n  capsid pause web\n  capsid resume web")
}

/// Thaws the container.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    life::freeze::resume(&global.root, &ResumeArgs::from_matches(matches)?.id)?;
    Ok(0)
}

/// What was asked of `resume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResumeArgs {
    /// The container's id.
    pub(crate) id: String,
}

impl ResumeArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
        })
    }
}
