//! Options that several commands share, and how their values are read.
//!
//! An empty value means "not given": that is how Go programs pass an option
//! they do not use.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, ValueHint};

use super::life::list::Whose;
use super::{reports, root};
use crate::error::{Error, Result};

/// A switch.
pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// An option with a text as its value.
pub(super) fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// A text option that may be given again and again.
pub(super) fn texts(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text(name, value, help).action(ArgAction::Append)
}

/// An option with a file on this host as its value.
pub(super) fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text(name, value, help)
        .value_parser(ValueParser::os_string())
        .value_hint(ValueHint::FilePath)
}

/// The container's id, as the first operand.
pub(super) fn container_id() -> Arg {
    Arg::new("id")
        .value_name("CONTAINER")
        .required(true)
        .help("The container's id")
}

/// The id of a container that is to be made.
pub(super) fn new_container_id() -> Arg {
    container_id().help("The new container's id: letters, digits and _ + . -")
}

pub(super) fn bundle() -> Arg {
    path(
        "bundle",
        "DIR",
        "The bundle: a directory with config.json (default: the current one)",
    )
    .short('b')
    .value_hint(ValueHint::DirPath)
}

pub(super) fn console_socket() -> Arg {
    path(
        "console-socket",
        "SOCKET",
        "Send the terminal's descriptor to this AF_UNIX socket",
    )
}

pub(super) fn pidfd_socket() -> Arg {
    path(
        "pidfd-socket",
        "SOCKET",
        "Send a pidfd of the process to this AF_UNIX socket",
    )
}

pub(super) fn pid_file() -> Arg {
    path("pid-file", "FILE", "Write the process id to this file")
}

pub(super) fn detach() -> Arg {
    switch(
        "detach",
        "Return once the process runs, instead of waiting for its end",
    )
    .short('d')
}

pub(super) fn no_subreaper() -> Arg {
    switch(
        "no-subreaper",
        "Do not adopt the container's orphaned processes",
    )
}

pub(super) fn no_pivot() -> Arg {
    switch(
        "no-pivot",
        "Enter the root file system by chroot (for a root on an initramfs)",
    )
}

pub(super) fn no_new_keyring() -> Arg {
    switch("no-new-keyring", "Keep the caller's session keyring")
}

pub(super) fn preserve_fds() -> Arg {
    text(
        "preserve-fds",
        "N",
        "Pass N descriptors after 0, 1, 2 (and LISTEN_FDS) on",
    )
    .value_parser(clap::value_parser!(u32))
    .default_value("0")
    .hide_default_value(true)
}

/// What to watch the program's system calls for.
pub(super) fn watching() -> [Arg; 2] {
    [
        reports::option(),
        path(
            "record-profile",
            "FILE",
            "Write a seccomp profile of the program's calls;\nwhile recording, only the floor denies any",
        ),
    ]
}

/// `--format table|json`, `table` unless given.
pub(super) fn format() -> Arg {
    text("format", "FORMAT", "Print a table or JSON")
        .short('f')
        .value_parser(["table", "json"])
        .default_value("table")
}

/// `--all-users`
pub(super) fn all_users() -> Arg {
    switch(
        "all-users",
        "Those of all users as well, below /run/user (for root)",
    )
}

/// The value of [`all_users`].
pub(super) fn whose(matches: &ArgMatches) -> Whose {
    match is_on(matches, "all-users") {
        true => Whose::Everybodys,
        false => Whose::Callers,
    }
}

/// Whether a switch is on.
pub(super) fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_flag(name)
}

/// Whether `--format json` was given.
pub(super) fn wants_json(matches: &ArgMatches) -> bool {
    matches
        .get_one::<String>("format")
        .is_some_and(|format| format == "json")
}

/// A required operand; clap has refused a command line without it.
pub(super) fn operand(matches: &ArgMatches, name: &str) -> Result<String> {
    let missing = || Error::Usage(format!("the argument {name} is missing"));
    matches.get_one::<String>(name).cloned().ok_or_else(missing)
}

/// A text, if one was given that is not empty.
pub(super) fn given(matches: &ArgMatches, name: &str) -> Option<String> {
    matches
        .get_one::<String>(name)
        .filter(|text| !text.is_empty())
        .cloned()
}

/// Every value of an option or operand that may be repeated, in order.
pub(super) fn all(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches
        .get_many::<String>(name)
        .map(|values| values.cloned().collect())
        .unwrap_or_default()
}

/// The same, each as a number.
pub(super) fn all_numbers<T: FromStr>(matches: &ArgMatches, name: &str) -> Result<Vec<T>> {
    let number = |text: String| {
        text.parse()
            .map_err(|_| Error::Usage(format!("--{name} {text:?} is not a valid number")))
    };
    all(matches, name).into_iter().map(number).collect()
}

/// The value of [`preserve_fds`].
pub(super) fn preserved(matches: &ArgMatches) -> u32 {
    matches
        .get_one::<u32>("preserve-fds")
        .copied()
        .unwrap_or_default()
}

/// A path of this host, made absolute while the caller's directory still is the current one.
pub(super) fn host_path(matches: &ArgMatches, name: &str) -> Result<Option<PathBuf>> {
    match matches
        .get_one::<OsString>(name)
        .filter(|path| !path.is_empty())
    {
        Some(path) => root::absolute(path).map(Some),
        None => Ok(None),
    }
}

/// The bundle's directory, absolute; the current one unless `--bundle` names another.
pub(super) fn bundle_path(matches: &ArgMatches) -> Result<PathBuf> {
    match host_path(matches, "bundle")? {
        Some(path) => Ok(path),
        None => root::absolute(".".as_ref()),
    }
}
