//! `capsid state`: a container's state, as JSON.

use clap::{ArgMatches, Command};

use super::cli::{Global, print};
use super::{life, options};
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

/// Prints the container's state.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = StateArgs::from_matches(matches)?;
    let mut text = Vec::new();
    life::state::state(&global.root, &args.id, &mut text)?;
    print(&String::from_utf8_lossy(&text))
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
