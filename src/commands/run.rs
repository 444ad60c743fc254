//! `capsid run`: create and start a container, and wait for its end.

use clap::{ArgMatches, Command};

use super::create::CreateArgs;
use super::options;
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("run")
        .about("Create a container, start it and wait for its end")
        .long_about(
            "Create a container from a bundle and start it. Without --detach, capsid passes\n\
             signals on, waits for the container's program, removes the container and exits\n\
             with the program's status, or 128 + the number of the signal that ended it.",
        )
        .arg(options::bundle())
        .arg(options::console_socket())
        .arg(options::pidfd_socket())
        .arg(options::detach())
        .arg(options::switch(
            "keep",
            "Do not remove the container after its end",
        ))
        .arg(options::pid_file())
        .arg(options::no_subreaper())
        .arg(options::no_pivot())
        .arg(options::no_new_keyring())
        .arg(options::preserve_fds())
        .arg(options::new_container_id())
        .after_help(
            "Example, with an Alpine root file system that was unpacked to ./rootfs:\n  \
             capsid spec\n  \
             capsid run box",
        )
}

/// What was asked of `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunArgs {
    /// What it has in common with `create`.
    pub(crate) create: CreateArgs,
    /// Return once the process runs.
    pub(crate) detach: bool,
    /// Do not remove the container after its end.
    pub(crate) keep: bool,
    /// Do not become the subreaper of the container's orphans.
    pub(crate) no_subreaper: bool,
}

impl RunArgs {
    /// Fails when a relative path cannot be made absolute.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            create: CreateArgs::from_matches(matches)?,
            detach: options::is_on(matches, "detach"),
            keep: options::is_on(matches, "keep"),
            no_subreaper: options::is_on(matches, "no-subreaper"),
        })
    }
}
