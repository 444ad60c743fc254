//! `capsid state`: a container's state, as JSON.

use clap::{ArgMatches, Command};

use super::options;
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("state")
        .about("Print the state of a container as JSON")
        .long_about(
            "Print the state of a container as the OCI runtime specification defines it: id,\n\
             status (creating, created, running, paused or stopped), process id, bundle, root,\n\
             time of creation and annotations.",
        )
        .arg(options::container_id())
        .after_help("Example:\n  capsid state web")
}

/// What was asked of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateArgs {
    /// The container's id.
    pub(crate) id: String,
}

impl StateArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
        })
    }
}
