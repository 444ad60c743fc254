//! `capsid kill`: send a signal to a container.

use clap::{Arg, ArgMatches, Command};

use super::cli::Global;
use super::{life, options};
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("kill")
        .about("Send a signal to a container")
        .long_about(
            "Send a signal to the first process of a container. Signals are written as a\n\
             number or a name, with or without SIG, in any case: 9, KILL, sigkill.",
        )
        .arg(
            options::switch("all", "No error if the container is not running (obsolete)")
                .short('a')
                .hide(true),
        )
        .arg(options::container_id())
        .arg(
            Arg::new("signal")
                .value_name("SIGNAL")
                .default_value("SIGTERM")
                .allow_hyphen_values(true)
                .help("The signal to send"),
        )
        .after_help("Examples:\n  capsid kill web\n  capsid kill web KILL")
}

/// Sends the signal.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = KillArgs::from_matches(matches)?;
    life::kill::kill(&global.root, &args.id, &args.signal, args.all)?;
    Ok(0)
}

/// What was asked of `kill`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KillArgs {
    /// The container's id.
    pub(crate) id: String,
    /// The signal, as given: a number, `TERM`, `SIGTERM` or `sigterm`.
    pub(crate) signal: String,
    /// containerd and podman pass it; a container that is not running is then no error.
    pub(crate) all: bool,
}

impl KillArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
            signal: options::given(matches, "signal").unwrap_or_else(|| "SIGTERM".into()),
            all: options::is_on(matches, "all"),
        })
    }
}
