//! The options, as they were written.

use clap::{Arg, ArgMatches};

use crate::commands::hardening;
use crate::commands::options::{all, given, is_on, switch, text, texts};
use crate::error::{Error, Result};

/// What was written, on the command line or in a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choices {
    pub(super) ro: Vec<String>,
    pub(super) rw: Vec<String>,
    pub(super) cwd: bool,
    pub(super) chdir: Option<String>,
    pub(super) tmpfs: Vec<String>,
    pub(super) net: Option<String>,
    pub(super) env: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) cpus: Option<String>,
    pub(super) pids: Option<String>,
    pub(super) seccomp: Option<String>,
    pub(super) hardening: Option<String>,
    pub(super) relax: Vec<String>,
    pub(super) tty: Option<String>,
    pub(super) quiet: bool,
    pub(super) print_spec: bool,
    pub(super) bundle: Option<String>,
    pub(super) command: Vec<String>,
}

/// Options that may be given again and again: name, value, help.
const LISTS: [(&str, &str, &str); 4] = [
    (
        "ro",
        "PATH[:DEST]",
        "Show a file or directory, read-only (repeatable)",
    ),
    (
        "rw",
        "PATH[:DEST]",
        "Show a file or directory that may be changed (repeatable)",
    ),
    (
        "tmpfs",
        "DIR[:SIZE]",
        "An empty private directory in memory (repeatable)",
    ),
    (
        "env",
        "NAME[=VALUE]",
        "Set a variable, or pass the caller's on (repeatable)",
    ),
];

/// Options of one value.
const SINGLE: [(&str, &str, &str); 10] = [
    ("chdir", "DIR", "Begin in this directory, inside"),
    (
        "net",
        "none|host",
        "What is reached: nothing (the default), or all the host does",
    ),
    ("user", "UID[:GID]", "User and group id inside"),
    ("hostname", "NAME", "Host name inside (default: sandbox)"),
    ("memory", "SIZE", "At most so much memory: 512M, 2G"),
    ("cpus", "N", "At most so many CPUs: 1, 0.5"),
    ("pids", "N", "At most so many processes and threads"),
    (
        "seccomp",
        "strict|default|FILE",
        "The system calls that are allowed (default: strict)",
    ),
    (
        "tty",
        "auto|yes|no",
        "A terminal of its own (auto: if there is one)",
    ),
    (
        "bundle",
        "DIR",
        "Save a bundle for `capsid run` here, and run nothing",
    ),
];

/// Switches.
const SWITCHES: [(&str, &str); 3] = [
    (
        "cwd",
        "Show the current directory, which may be changed, and begin there",
    ),
    (
        "quiet",
        "Do not say at the end which system calls were refused",
    ),
    ("print-spec", "Print the OCI configuration, and run nothing"),
];

/// The options for the parser.
pub(super) fn definitions() -> Vec<Arg> {
    let lists = LISTS.map(|(name, value, help)| texts(name, value, help));
    let single = SINGLE.map(|(name, value, help)| text(name, value, help));
    let switches = SWITCHES.map(|(name, help)| switch(name, help));
    let all = lists.into_iter().chain(single).chain(switches);
    all.chain(hardening::options()).collect()
}

impl Choices {
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let choices = Self {
            ro: all(matches, "ro"),
            rw: all(matches, "rw"),
            cwd: is_on(matches, "cwd"),
            chdir: given(matches, "chdir"),
            tmpfs: all(matches, "tmpfs"),
            net: given(matches, "net"),
            env: all(matches, "env"),
            user: given(matches, "user"),
            hostname: given(matches, "hostname"),
            memory: given(matches, "memory"),
            cpus: given(matches, "cpus"),
            pids: given(matches, "pids"),
            seccomp: given(matches, "seccomp"),
            hardening: given(matches, "hardening"),
            relax: all(matches, "relax"),
            tty: given(matches, "tty"),
            quiet: is_on(matches, "quiet"),
            print_spec: is_on(matches, "print-spec"),
            bundle: given(matches, "bundle"),
            command: all(matches, "command"),
        };
        if choices.command.is_empty() {
            return Err(Error::Usage(
                "no program is given: write it after --, for example capsid sandbox -- ls".into(),
            ));
        }
        Ok(choices)
    }
}
