//! `capsid pause`: freeze a container.

use clap::{ArgMatches, Command};

use super::cli::Global;
use super::{life, options};
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("pause")
        .about("Suspend all processes of a container")
        .long_about(
            "Freeze the cgroup of a container, so that none of its processes runs until\n\
             `capsid resume`. Needs write access to that cgroup.",
        )
        .arg(options::container_id())
        .after_help("Example:\n  capsid pause web\n  capsid resume web")
}

/// Freezes the container.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    life::freeze::pause(&global.root, &PauseArgs::from_matches(matches)?.id)?;
    Ok(0)
}

/// What was asked of `pause`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PauseArgs {
    /// The container's id.
    pub(crate) id: String,
}

impl PauseArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
        })
    }
}
