//! `capsid seccomp`: what a profile does, for the people who write one.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, ValueHint};
use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use syscalls::Sysno;

use super::cli::{Global, print};
use super::options;
use crate::error::{Error, Problem, Result};
use crate::seccomp::source::{self, Resolved};
use crate::seccomp::{self, Builtin, Program};
use crate::spec::bundle::{self, ReadError};

mod check;
mod kernel;
mod show;

pub(crate) fn command() -> Command {
    Command::new("seccomp")
        .about("Check a seccomp profile, or show the filter that it becomes")
        .long_about(
            "Check a seccomp profile, or show the filter that it becomes on this machine.\n\n\
             check  all mistakes, each with its place in the file; then how many system calls\n\
             \x20      are allowed, what is redundant, and what this kernel has that the profile\n\
             \x20      does not know. The exit code is 1 when there are mistakes.\n\
             show   the compiled filter, one instruction on a line; with --calls instead the\n\
             \x20      system calls by what happens to them.\n\
             print  the profile as `linux.seccomp`, with conditions on the container decided.\n\n\
             A profile is a `linux.seccomp` object, a file in Docker's format, or a whole\n\
             config.json. Where there is no such file, `default`, `strict` and `floor` are\n\
             capsid's own. Nothing is loaded.",
        )
        .arg(
            Arg::new("action")
                .value_name("ACTION")
                .required(true)
                .value_parser(["check", "show", "print"])
                .help("What to do: check, show or print"),
        )
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(ValueParser::os_string())
                .value_hint(ValueHint::FilePath)
                .help("The profile, or the name of one of capsid's own"),
        )
        .arg(options::texts(
            "cap",
            "CAP",
            "Decide conditions of rules as for a container with this capability, or ALL\n(default: none; may be repeated)",
        ))
        .arg(options::switch("calls", "With show: the system calls, by what happens to them"))
        .after_help(
            "Examples:\n  \
             capsid seccomp check profile.json\n  \
             capsid seccomp show --calls --cap CAP_SYS_ADMIN profile.json\n  \
             capsid seccomp print default",
        )
}

pub(crate) fn run(_: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = SeccompArgs::from_matches(matches);
    match args.action {
        Action::Check => check::run(&args),
        Action::Show { calls } => print(&show::text(&load(&args)?, calls)),
        Action::Print => print(&show::profile(&load(&args)?)),
    }
}

/// What was asked of `seccomp`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeccompArgs {
    action: Action,
    /// The profile, or the name of one that is built in.
    file: PathBuf,
    /// Capabilities of the container, as profiles call them; or `ALL`.
    capabilities: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Check,
    Show { calls: bool },
    Print,
}

impl SeccompArgs {
    fn from_matches(matches: &ArgMatches) -> Self {
        let word = |name: &str| {
            let names = matches.get_many::<String>(name);
            names.map_or(Vec::new(), |names| names.cloned().collect())
        };
        let calls = options::is_on(matches, "calls");
        let capabilities = word("cap").into_iter().map(|name| name.to_uppercase());
        Self {
            action: match word("action").first().map(String::as_str) {
                Some("show") => Action::Show { calls },
                Some("print") => Action::Print,
                _ => Action::Check,
            },
            file: PathBuf::from(
                matches
                    .get_one::<OsString>("file")
                    .cloned()
                    .unwrap_or_default(),
            ),
            capabilities: capabilities
                .map(|name| match name.as_str() {
                    "ALL" => name,
                    _ if name.starts_with("CAP_") => name,
                    _ => format!("CAP_{name}"),
                })
                .collect(),
        }
    }

    fn grants(&self, capability: &str) -> bool {
        let mut names = self.capabilities.iter();
        names.any(|name| name == "ALL" || name.eq_ignore_ascii_case(capability))
    }
}

/// A profile, and the filter that it becomes here.
struct Loaded {
    resolved: Resolved,
    program: Program,
    place: Place,
}

/// Where the profile stands in its file, as a JSON pointer.
#[derive(Clone, Copy)]
struct Place(&'static str);

/// Where a profile stands in a configuration.
const IN_CONFIGURATION: &str = "/linux/seccomp";

impl Loaded {
    fn profile(&self) -> &LinuxSeccomp {
        &self.resolved.profile
    }

    /// Where a rule that is left stands in the file.
    fn rule(&self, index: usize) -> String {
        self.place.rule(&self.resolved, index)
    }
}

impl Place {
    fn rule(self, resolved: &Resolved, index: usize) -> String {
        let origin = resolved.rules.get(index).map_or(index, |rule| rule.index);
        format!("{}/syscalls/{origin}", self.0)
    }

    /// A problem that `source` found.
    fn below(self, problem: Problem) -> Problem {
        Problem::new(format!("{}{}", self.0, problem.at), problem.problem)
    }

    /// A problem of the compiler, which counts the rules that are left.
    fn compiled(self, resolved: &Resolved, problem: Problem) -> Problem {
        let at = problem.at.strip_prefix(IN_CONFIGURATION);
        let at = at.unwrap_or(&problem.at);
        let rule = at.strip_prefix("/syscalls/").map(|rest| {
            let end = rest.find('/').unwrap_or(rest.len());
            rest.split_at(end)
        });
        let at = match rule.and_then(|(index, rest)| Some((index.parse().ok()?, rest))) {
            Some((index, rest)) => format!("{}{rest}", self.rule(resolved, index)),
            None => format!("{}{at}", self.0),
        };
        Problem::new(at, problem.problem)
    }
}

/// So many fit a message.
const MOST_PROBLEMS: usize = 10;

/// The profile of the command line, compiled.
fn load(args: &SeccompArgs) -> Result<Loaded> {
    let (json, place) = read(&args.file)?;
    compile(&json, place, &|name| args.grants(name)).map_err(|mut problems| {
        let more = problems.len().saturating_sub(MOST_PROBLEMS);
        if more > 0 {
            problems.truncate(MOST_PROBLEMS);
            let text = format!("and {more} more: `seccomp check` lists them");
            problems.push(Problem::new("", text));
        }
        Error::Spec {
            file: args.file.clone(),
            problems,
        }
    })
}

fn compile(
    json: &[u8],
    place: Place,
    granted: &dyn Fn(&str) -> bool,
) -> Result<Loaded, Vec<Problem>> {
    let all = |problems: Vec<Problem>, of: &dyn Fn(Problem) -> Problem| {
        problems.into_iter().map(of).collect::<Vec<_>>()
    };
    let resolved =
        source::resolve(json, granted).map_err(|found| all(found, &|one| place.below(one)))?;
    let program = seccomp::compile(&resolved.profile)
        .map_err(|found| all(found, &|one| place.compiled(&resolved, one)))?;
    Ok(Loaded {
        resolved,
        program,
        place,
    })
}

/// The text of a profile, and where it stood.
fn read(file: &Path) -> Result<(Vec<u8>, Place)> {
    let bytes = match bundle::read_limited(file) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => {
            match file.to_str().and_then(Builtin::named) {
                Some(own) => own.text().as_bytes().to_vec(),
                None => return Err(unreadable(file, &error)),
            }
        }
        Err(ReadError::Io(error)) => return Err(unreadable(file, &error)),
        Err(too_large) => return Err(too_large.of(file)),
    };
    let one = |at: &str, problem: String| Error::Spec {
        file: file.to_owned(),
        problems: vec![Problem::new(at, problem)],
    };
    let Ok(Document { version, linux }) = serde_json::from_slice::<Document>(&bytes) else {
        return Ok((bytes, Place("")));
    };
    if version.is_none() && linux.is_none() {
        return Ok((bytes, Place("")));
    }
    let filter = linux.and_then(|linux| linux.seccomp);
    let filter = filter.ok_or_else(|| {
        one(
            IN_CONFIGURATION,
            "this configuration has no filter".to_owned(),
        )
    })?;
    let filter = serde_json::to_vec(&filter).map_err(|error| one("", error.to_string()))?;
    Ok((filter, Place(IN_CONFIGURATION)))
}

/// What tells a configuration from a profile.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "ociVersion")]
    version: Option<IgnoredAny>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    seccomp: Option<Value>,
}

fn unreadable(file: &Path, error: &std::io::Error) -> Error {
    Error::io(
        "read the seccomp profile",
        file.display(),
        Sysno::openat,
        error,
    )
}

/// Words of a file could command the terminal they are shown on.
fn printable(problem: Problem) -> Problem {
    Problem::new(escaped(&problem.at), escaped(&problem.problem))
}

fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => plain.extend(character.escape_default()),
            false => plain.push(character),
        }
    }
    plain
}

/// Names in lines of at most 100 characters, indented.
fn wrapped<'a>(names: impl IntoIterator<Item = &'a str>, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut text = String::new();
    let mut line = margin.clone();
    for name in names {
        if line.len() > indent && line.len() + 1 + name.len() > 100 {
            text += &line;
            text.push('\n');
            line.clone_from(&margin);
        }
        if line.len() > indent {
            line.push(' ');
        }
        line += name;
    }
    if line.len() > indent {
        text += &line;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
