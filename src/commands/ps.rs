//! `capsid ps`: the processes of a container.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::cli::{Global, print};
use super::life::list::Whose;
use super::{life, options};
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("ps")
        .about("List the processes of a container")
        .long_about(
            "List the processes in the container's cgroup, by their ids on the host. The table\n\
             is that of ps(1); what follows the container's id is passed to it. Options of\n\
             capsid stand before the id.",
        )
        .arg(options::format())
        .arg(options::all_users())
        .arg(options::container_id())
        .arg(
            Arg::new("ps-args")
                .value_name("PS-OPTION")
                .num_args(0..)
                .action(ArgAction::Append)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Options for ps(1), which must show the PID column (default: -ef)"),
        )
        .after_help("Examples:\n  capsid ps web\n  capsid ps --format json web\n  capsid ps web -o pid,rss,args")
}

/// Prints the container's processes.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = PsArgs::from_matches(matches)?;
    let mut text = Vec::new();
    if args.json {
        life::ps::ids(&global.root, &args.id, args.whose, &mut text)?;
    } else {
        life::ps::table(&global.root, &args.id, args.whose, &args.ps_args, &mut text)?;
    }
    print(&String::from_utf8_lossy(&text))
}

/// What was asked of `ps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PsArgs {
    /// The container's id.
    pub(crate) id: String,
    /// Only the process ids, as a JSON array.
    pub(crate) json: bool,
    /// Of all users' containers of this id.
    pub(crate) whose: Whose,
    /// Options for ps(1); empty means `-ef`.
    pub(crate) ps_args: Vec<String>,
}

impl PsArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
            json: options::wants_json(matches),
            whose: options::whose(matches),
            ps_args: options::all(matches, "ps-args"),
        })
    }
}
