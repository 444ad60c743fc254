//! `capsid start`: let a created container run.

use clap::{ArgMatches, Command};

use super::options;
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("start")
        .about("Start a container that was created")
        .long_about(
            "Let the program of a container run that `capsid create` has set up. Returns once\n\
             the program runs and the poststart hooks have ended.",
        )
        .arg(options::container_id())
        .after_help("Example:\n  capsid create --bundle /var/lib/web web\n  capsid start web")
}

/// What was asked of `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartArgs {
    /// The container's id.
    pub(crate) id: String,
}

impl StartArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
        })
    }
}
