//! `capsid explain`: what `create` would do with a bundle, and why.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, ValueHint};

use super::root;
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("explain")
        .about("Print what `create` would do with a bundle, and what protects it")
        .long_about(
            "Print the plan of a bundle: every step from the first namespace to the program,\n\
             in order, and each hardening rule with whether it is enforced here, relaxed by\n\
             the bundle, or not supported by this machine. Nothing is changed or started.",
        )
        .arg(
            Arg::new("bundle")
                .value_name("BUNDLE")
                .value_parser(ValueParser::os_string())
                .value_hint(ValueHint::DirPath)
                .default_value(".")
                .help("The bundle: a directory with config.json"),
        )
        .after_help("Example:\n  capsid explain /var/lib/web")
}

/// What was asked of `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExplainArgs {
    /// The bundle, absolute.
    pub(crate) bundle: PathBuf,
}

impl ExplainArgs {
    /// Fails when a relative path cannot be made absolute.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let bundle = matches
            .get_one::<OsString>("bundle")
            .filter(|path| !path.is_empty());
        Ok(Self {
            bundle: root::absolute(bundle.map_or(".".as_ref(), OsString::as_os_str))?,
        })
    }
}
