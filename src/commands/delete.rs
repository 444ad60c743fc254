//! `capsid delete`: remove what is left of a container.

use clap::{ArgMatches, Command};

use super::cli::Global;
use super::{hooks, life, options};
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("delete")
        .about("Remove a container that has stopped")
        .long_about(
            "Remove a container: its cgroup and its state directory; then the poststop hooks\n\
             run. The bundle stays. A container that is created but not started is killed; a\n\
             running one is left alone unless --force is given.",
        )
        .arg(
            options::switch(
                "force",
                "Kill the container first; no error if there is none",
            )
            .short('f'),
        )
        .arg(options::container_id())
        .after_help("Examples:\n  capsid delete web\n  capsid delete --force web")
}

/// Removes the container and runs its poststop hooks.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = DeleteArgs::from_matches(matches)?;
    life::delete::delete(&global.root, &args.id, args.force, &hooks::run_poststop)?;
    Ok(0)
}

/// What was asked of `delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeleteArgs {
    /// The container's id.
    pub(crate) id: String,
    /// Kill a live container, and be content when there is none.
    pub(crate) force: bool,
}

impl DeleteArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
            force: options::is_on(matches, "force"),
        })
    }
}
