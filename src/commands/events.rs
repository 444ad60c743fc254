//! `capsid events`: what a container uses, and when the kernel kills in it.

use std::time::Duration;

use clap::{ArgMatches, Command};

use super::cli::Global;
use super::{go_flags, life, options};
use crate::error::{Error, Result};

pub(crate) fn command() -> Command {
    Command::new("events")
        .about("Print what a container uses, and when it runs out of memory")
        .long_about(
            "Print one JSON object per line until the container ends: of type \"stats\" at each\n\
             interval, from the files of its cgroup, and of type \"oom\" when the kernel has\n\
             killed a process in it for lack of memory. What this machine does not count is 0\n\
             or left out.",
        )
        .arg(options::text(
            "interval",
            "TIME",
            "Time between two statistics, like 500ms (default: 5s)",
        ))
        .arg(options::switch(
            "stats",
            "Print the statistics once, and end",
        ))
        .arg(options::container_id())
        .after_help("Examples:\n  capsid events --stats web\n  capsid events --interval 1s web")
}

/// Prints the events.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = EventsArgs::from_matches(matches)?;
    let mut out = std::io::stdout().lock();
    if args.once {
        life::events::once(&global.root, &args.id, &mut out)?;
    } else {
        life::events::follow(&global.root, &args.id, args.interval, &mut out)?;
    }
    Ok(0)
}

/// What was asked of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventsArgs {
    /// The container's id.
    pub(crate) id: String,
    /// Between two statistics; more than nothing.
    pub(crate) interval: Duration,
    /// Only one of them.
    pub(crate) once: bool,
}

impl EventsArgs {
    /// Fails when there is no id, or the interval is none.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let interval = options::given(matches, "interval");
        let interval = go_flags::parse_duration(interval.as_deref().unwrap_or("5s"))
            .map_err(|problem| Error::Usage(format!("--interval: {problem}")))?;
        if interval.is_zero() {
            return Err(Error::Usage(
                "duration interval must be greater than 0".into(),
            ));
        }
        Ok(Self {
            id: options::operand(matches, "id")?,
            interval,
            once: options::is_on(matches, "stats"),
        })
    }
}
