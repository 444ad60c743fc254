//! `--report-denials`: how much is told of what a program was refused.

use clap::{Arg, ArgAction, ArgMatches};

use super::go_flags;
use crate::error::{Error, Result};
use crate::execute::tracer::Tracer;
use crate::log;
use crate::sandbox::within::Inside;

const NAME: &str = "report-denials";

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Which system calls the filter denied.
    Calls,
    /// Also which files and peers the kernel refused.
    All,
}

/// The option; alone it means the calls.
pub(super) fn option() -> Arg {
    Arg::new(NAME)
        .long(NAME)
        .value_name("all")
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("calls")
        .help(
            "Say at the end which system calls were denied, and what\nwould allow them; with \
             =all also which files and\nconnections, which is slower",
        )
}

/// What was asked for, if anything.
pub(super) fn extent(matches: &ArgMatches) -> Result<Option<Extent>> {
    let Some(word) = matches.get_one::<String>(NAME) else {
        return Ok(None);
    };
    match (word.as_str(), go_flags::parse_bool(word)) {
        ("calls", _) | (_, Some(true)) => Ok(Some(Extent::Calls)),
        ("all", _) => Ok(Some(Extent::All)),
        (_, Some(false)) => Ok(None),
        _ => Err(Error::Usage(format!(
            "--report-denials={word}: give calls or all"
        ))),
    }
}

/// The tracer that it takes to tell all.
pub(super) fn tracer(
    extent: Option<Extent>,
    inside: impl FnOnce() -> Inside,
) -> Result<Option<Tracer>> {
    match extent {
        Some(Extent::All) => Tracer::new(inside()).map(Some),
        Some(Extent::Calls) | None => Ok(None),
    }
}

/// Says what it costs.
pub(super) fn warn(extent: Option<Extent>) {
    if extent == Some(Extent::All) {
        log::tell(
            "--report-denials=all: every call that names a file or a peer takes longer, and \
             nothing inside can trace another program",
        );
    }
}

/// Says which files and peers were refused.
pub(super) fn tell(tracer: Option<&Tracer>) {
    for line in tracer.map(Tracer::lines).unwrap_or_default() {
        log::tell(format!("refused: {line}"));
    }
}
