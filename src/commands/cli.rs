//! The command line: finds the command, builds only that one, and turns what
//! happens into an exit code.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use syscalls::Sysno;

use super::go_flags::{self, Arguments, Asked, Order};
use super::{
    audit, create, delete, digest, doctor, events, exec, explain, features, kill, list, pause, ps,
    resume, root, run, sandbox, seccomp, spec, start, state, update,
};
use crate::error::{Error, Result};
use crate::execute::protect::{self, Ids};
use crate::log;

mod global;

pub(crate) use global::Global;
use global::top;

/// The newest version of the runtime specification that capsid follows.
pub(crate) const SPEC_VERSION: &str = "1.3.0";

/// The commit this binary was built from, if the build knew.
pub(crate) const COMMIT: &str = match option_env!("CAPSID_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Builds one command's definition.
type Definition = fn() -> Command;

/// Every command, in the order of `capsid --help`.
const COMMANDS: &[(&str, Definition)] = &[
    ("sandbox", sandbox::command),
    ("create", create::command),
    ("start", start::command),
    ("run", run::command),
    ("exec", exec::command),
    ("state", state::command),
    ("list", list::command),
    ("ps", ps::command),
    ("kill", kill::command),
    ("pause", pause::command),
    ("resume", resume::command),
    ("update", update::command),
    ("events", events::command),
    ("delete", delete::command),
    ("spec", spec::command),
    ("explain", explain::command),
    ("doctor", doctor::command),
    ("features", features::command),
    ("seccomp", seccomp::command),
    ("audit", audit::command),
    ("digest", digest::command),
];

/// Commands whose operands belong to another program, or may look like options.
const OPTIONS_FIRST: &[&str] = &["exec", "kill", "ps", "sandbox", EXPLAIN_SANDBOX];

/// `explain` of a sandbox takes the sandbox's options instead of a bundle.
const EXPLAIN_SANDBOX: &str = "explain sandbox";

/// Commands that have no use for the state root, and must work where there can be none.
const STATELESS: &[&str] = &[
    "spec",
    "features",
    "explain",
    EXPLAIN_SANDBOX,
    "doctor",
    "seccomp",
    "audit",
    "digest",
];

/// One line per command that does something.
fn execute(name: &str, global: &Global, matches: &ArgMatches) -> Result<u8> {
    match name {
        "sandbox" => sandbox::run(global, matches),
        "create" => create::run(global, matches),
        "start" => start::run(global, matches),
        "run" => run::run(global, matches),
        "exec" => exec::run(global, matches),
        "state" => state::run(global, matches),
        "list" => list::run(global, matches),
        "ps" => ps::run(global, matches),
        "kill" => kill::run(global, matches),
        "pause" => pause::run(global, matches),
        "resume" => resume::run(global, matches),
        "update" => update::run(global, matches),
        "events" => events::run(global, matches),
        "delete" => delete::run(global, matches),
        "spec" => spec::run(global, matches),
        "explain" => explain::run(global, matches),
        EXPLAIN_SANDBOX => sandbox::explain(global, matches),
        "doctor" => doctor::run(global, matches),
        "features" => features::run(global, matches),
        "seccomp" => seccomp::run(global, matches),
        "audit" => audit::run(global, matches),
        "digest" => digest::run(global, matches),
        _ => Err(unknown_command(global.called_as, name)),
    }
}

/// A command that failed: its exit code, and what to say.
struct Failed {
    code: u8,
    message: String,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed {
            code: 1,
            message: error.to_string(),
        }
    }
}

/// Does what the arguments say, the program's own name first; returns the exit code.
pub fn run(args: &[OsString]) -> u8 {
    let path = args.first().map(Path::new);
    let called_as = match path.and_then(Path::file_name) {
        Some(name) if name == "runc" => "runc",
        _ => "capsid",
    };
    let outcome = protect(args)
        .map_err(Failed::from)
        .and_then(|()| invoke(called_as, args.get(1..).unwrap_or_default()));
    match outcome {
        Ok(code) => code,
        Err(failed) => {
            log::fatal(&failed.message);
            failed.code
        }
    }
}

/// Commands whose processes enter a container, where the runtime's own program
/// file must be out of reach; and whose ids they may have there.
const ENTERING: [(&str, Ids); 4] = [
    ("create", Ids::Any),
    ("run", Ids::Any),
    ("exec", Ids::Any),
    ("sandbox", Ids::NotRoot),
];

/// Looks for such a word anywhere, before anything is parsed: once too often
/// does no harm, and the command line is read only once.
fn protect(args: &[OsString]) -> Result<()> {
    let words = args.iter().skip(1);
    let found = words.filter_map(|arg| ENTERING.iter().find(|(name, _)| arg == name));
    match found.map(|(_, ids)| *ids).max() {
        Some(ids) => protect::ensure(args, ids),
        None => Ok(()),
    }
}

fn invoke(called_as: &'static str, args: &[OsString]) -> Result<u8, Failed> {
    let top = top(called_as);
    let usage = |problem: String| Error::Usage(format!("{called_as}: {problem}"));
    let Arguments {
        options,
        operands,
        asked,
    } = go_flags::sort(&top, args, Order::OptionsFirst).map_err(usage)?;
    if asked == Some(Asked::Version) {
        return Ok(print(&version(called_as))?);
    }
    let Some((name, args)) = operands.split_first() else {
        return Ok(print_help(definition_as(called_as))?);
    };
    if asked == Some(Asked::Help) {
        return Ok(print_help(definition_as(called_as))?);
    }
    let matches = parse(top, &options, &[]).map_err(usage)?;
    let mut global = Global::from_matches(called_as, &matches)?;
    log::open(global.log.as_deref(), global.log_format, global.debug)?;
    let name = name.to_string_lossy();
    if name == "help" {
        return Ok(help(called_as, args)?);
    }
    if let ("explain", Some((word, args))) = (&*name, args.split_first())
        && word == "sandbox"
    {
        let command =
            with_help(sandbox::command()).bin_name(format!("{called_as} {EXPLAIN_SANDBOX}"));
        return command_line(command, EXPLAIN_SANDBOX, args, &mut global);
    }
    let command = find(called_as, &name).ok_or_else(|| unknown_command(called_as, &name))?;
    command_line(command, &name, args, &mut global)
}

/// Parses the arguments of one command, and runs it.
fn command_line(
    command: Command,
    name: &str,
    args: &[OsString],
    global: &mut Global,
) -> Result<u8, Failed> {
    let called_as = global.called_as;
    let refused = |problem: String| Failed {
        code: failure_code(name),
        message: format!("{called_as}: {name:?} {problem}"),
    };
    let order = match OPTIONS_FIRST.contains(&name) {
        true => Order::OptionsFirst,
        false => Order::Mixed,
    };
    let sorted = go_flags::sort(&command, args, order)
        .map_err(|problem| refused(with_remedy(&problem, called_as, name)))?;
    if sorted.asked.is_some() {
        return Ok(print_help(command)?);
    }
    if let Some(problem) = wrong_count(&command, sorted.operands.len()) {
        print(&format!("Incorrect Usage.\n\n{}", help_text(command)))?;
        return Err(refused(problem));
    }
    let matches = parse(command, &sorted.options, &sorted.operands).map_err(refused)?;
    prepare_root(global, name)
        .and_then(|()| execute(name, global, &matches))
        .map_err(|error| Failed {
            code: failure_code(name),
            message: describe(called_as, name, &error),
        })
}

fn prepare_root(global: &mut Global, name: &str) -> Result<()> {
    if !global.root_explicit && !STATELESS.contains(&name) {
        global.root = root::default_prepared()?;
    }
    Ok(())
}

/// Low numbers could be the status of the program that `exec` was to run.
fn failure_code(name: &str) -> u8 {
    match name {
        "exec" => 255,
        "sandbox" => sandbox::FAILED,
        _ => 1,
    }
}

/// The text of a failure. Engines know these beginnings from runc.
fn describe(called_as: &str, name: &str, error: &Error) -> String {
    match name {
        "create" | "run" => format!("{called_as} {name} failed: {error}"),
        "exec" => format!("exec failed: {error}"),
        "sandbox" => format!("{called_as} sandbox: {error}"),
        _ => error.to_string(),
    }
}

fn unknown_command(called_as: &str, name: &str) -> Error {
    Error::Usage(format!(
        "{called_as}: unknown command {name:?}: {called_as} --help lists the commands there are"
    ))
}

/// Says what to do about an unknown option: those of capsid itself are often
/// written after the command.
fn with_remedy(problem: &str, called_as: &'static str, name: &str) -> String {
    match problem.strip_prefix("unknown option ") {
        Some(option) if go_flags::knows(&top(called_as), option.as_ref()) => {
            format!("{problem}: it stands before the command, {called_as} {option} {name}")
        }
        Some(_) => format!("{problem}: {called_as} {name} --help lists the options there are"),
        None => problem.to_owned(),
    }
}

/// What is wrong with a number of operands, in runc's words.
fn wrong_count(command: &Command, count: usize) -> Option<String> {
    let least = command
        .get_positionals()
        .filter(|arg| arg.is_required_set())
        .count();
    let endless = command
        .get_positionals()
        .any(|a| matches!(a.get_action(), ArgAction::Append));
    let most = if endless {
        usize::MAX
    } else {
        command.get_positionals().count()
    };
    if (least..=most).contains(&count) {
        return None;
    }
    Some(if least == most {
        format!("requires exactly {least} argument(s)")
    } else if count < least {
        format!("requires a minimum of {least} argument(s)")
    } else {
        format!("requires a maximum of {most} argument(s)")
    })
}

/// Lets clap check the values of options that were sorted before.
fn parse(
    command: Command,
    options: &[OsString],
    operands: &[OsString],
) -> Result<ArgMatches, String> {
    let separator = OsString::from("--");
    let args = options
        .iter()
        .chain(std::iter::once(&separator))
        .chain(operands);
    command
        .no_binary_name(true)
        .args_override_self(true)
        .try_get_matches_from(args)
        .map_err(|e| {
            // clap's advice follows a blank line; a log wants one sentence.
            let text = e.to_string();
            let sentence = text.split("\n\n").next().unwrap_or(&text);
            let sentence = sentence.strip_prefix("error: ").unwrap_or(sentence);
            sentence.split_whitespace().collect::<Vec<_>>().join(" ")
        })
}

/// `--help` as an option of ours, for clap adds its own only while it parses.
fn with_help(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::Help)
                .help("Print this help"),
        )
}

/// One command in full, under the name its usage line shows.
fn find(called_as: &str, name: &str) -> Option<Command> {
    let (_, command) = COMMANDS.iter().find(|(known, _)| *known == name)?;
    Some(with_help(command()).bin_name(format!("{called_as} {name}")))
}

/// The whole command line: for help, man pages and completions.
pub fn definition() -> Command {
    definition_as("capsid")
}

fn definition_as(called_as: &'static str) -> Command {
    top(called_as)
        .subcommand_value_name("COMMAND")
        .subcommand_help_heading("Commands")
        .subcommands(COMMANDS.iter().map(|(_, command)| with_help(command())))
        .after_help(
            "A first container, from a root file system that was unpacked to ./rootfs:\n  \
             capsid spec\n  \
             capsid run box\n\n\
             `capsid help COMMAND` tells more about a command.",
        )
}

fn help(called_as: &'static str, topics: &[OsString]) -> Result<u8> {
    let Some(topic) = topics.first() else {
        return print_help(definition_as(called_as));
    };
    let topic = topic.to_string_lossy();
    let command = find(called_as, &topic).ok_or_else(|| unknown_command(called_as, &topic))?;
    print_help(command)
}

/// The long description, and one line per option.
fn help_text(command: Command) -> String {
    let long = command.get_long_about().cloned();
    let mut command = match long {
        Some(long) => command.about(long),
        None => command,
    };
    command.render_help().to_string()
}

fn print_help(command: Command) -> Result<u8> {
    print(&help_text(command))
}

/// The first line's form is what go-runc, dockerd and nerdctl take apart.
fn version(called_as: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{called_as} version {version}\ncommit: {COMMIT}\nspec: {SPEC_VERSION}\n")
}

/// Writes to standard output, now: callers read it to its end as soon as this process exits.
///
/// Returns exit code 0. Fails when nobody reads, or the disk behind it is full.
pub(crate) fn print(text: &str) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::io("write to", "standard output", Sysno::write, &e))?;
    Ok(0)
}

#[cfg(test)]
mod tests;
