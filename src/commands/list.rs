//! `capsid list`: the containers of a state root.

use clap::{ArgMatches, Command};

use super::cli::{Global, print};
use super::life::list::{Form, Whose};
use super::{life, options};
use crate::audit::Safe;
use crate::error::{Error, Result};

pub(crate) fn command() -> Command {
    Command::new("list")
        .about("List containers")
        .long_about("List the containers of the state root (see `capsid --root`), whatever their state.")
        .arg(options::format())
        .arg(options::switch("quiet", "Print only the ids").short('q'))
        .arg(options::all_users())
        .after_help("Examples:\n  capsid list\n  capsid --root /run/containerd/runc/k8s.io list --format json")
}

/// Prints all containers of the state directory.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = ListArgs::from_matches(matches)?;
    let form = match (args.quiet, args.json) {
        (true, _) => Form::Ids,
        (false, true) => Form::Json,
        (false, false) => Form::Table,
    };
    let mut text = Vec::new();
    // Not a warning of the log: whoever lists containers wants to know.
    let mut broken = |id: &str, problem: &Error| {
        let problem = problem.to_string();
        eprintln!("{}: {}", Safe(id), Safe(&problem));
    };
    life::list::list(
        &global.root,
        global.root_explicit,
        args.whose,
        form,
        &mut text,
        &mut broken,
    )?;
    print(&String::from_utf8_lossy(&text))
}

/// What was asked of `list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListArgs {
    /// JSON instead of a table.
    pub(crate) json: bool,
    /// Only the ids, whatever the format.
    pub(crate) quiet: bool,
    /// Those of all users.
    pub(crate) whose: Whose,
}

impl ListArgs {
    /// Cannot fail; the form is that of the other commands.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            json: options::wants_json(matches),
            quiet: options::is_on(matches, "quiet"),
            whose: options::whose(matches),
        })
    }
}
