//! The options, as they were written.

use clap::{Arg, ArgMatches};
use serde::Deserialize;

use super::profile;

use crate::commands::hardening;
use crate::commands::options::{all, given, is_on, switch, text, texts};
use crate::commands::reports::{self, Extent};
use crate::error::{Error, Result};

/// What was written, on the command line or in a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Choices {
    pub(super) ro: Vec<String>,
    pub(super) rw: Vec<String>,
    pub(super) cwd: bool,
    pub(super) chdir: Option<String>,
    pub(super) overlay: Vec<String>,
    pub(super) overlay_upper: Option<String>,
    pub(super) rootfs: Option<String>,
    pub(super) image: Option<String>,
    #[serde(deserialize_with = "profile::word")]
    pub(super) timeout: Option<String>,
    #[serde(skip)]
    pub(super) report_denials: Option<Extent>,
    #[serde(skip)]
    pub(super) record_profile: Option<String>,
    #[serde(skip)]
    pub(super) json_status: Option<String>,
    #[serde(skip)]
    pub(super) detach: bool,
    pub(super) tmpfs: Vec<String>,
    pub(super) net: Option<String>,
    pub(super) connect: Vec<String>,
    pub(super) listen: Vec<String>,
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "profile::word")]
    pub(super) user: Option<String>,
    pub(super) hostname: Option<String>,
    #[serde(deserialize_with = "profile::word")]
    pub(super) memory: Option<String>,
    #[serde(deserialize_with = "profile::word")]
    pub(super) cpus: Option<String>,
    #[serde(deserialize_with = "profile::word")]
    pub(super) pids: Option<String>,
    pub(super) seccomp: Option<String>,
    pub(super) hardening: Option<String>,
    pub(super) relax: Vec<String>,
    pub(super) tty: Option<String>,
    pub(super) quiet: bool,
    #[serde(skip)]
    pub(super) print_spec: bool,
    #[serde(skip)]
    pub(super) bundle: Option<String>,
    #[serde(skip)]
    pub(super) command: Vec<String>,
}

/// Options that may be given again and again: name, value, help.
const LISTS: [(&str, &str, &str); 7] = [
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
        "overlay",
        "PATH[:DEST]",
        "Show a directory whose changes are thrown away (repeatable)",
    ),
    (
        "tmpfs",
        "DIR[:SIZE]",
        "An empty private directory in memory (repeatable)",
    ),
    (
        "connect",
        "HOST:PORT|any",
        "With --net pasta: it may connect to this (repeatable)",
    ),
    (
        "listen",
        "PORT",
        "With --net pasta: reached from the host's loopback",
    ),
    (
        "env",
        "NAME[=VALUE]",
        "Set a variable, or pass the caller's on (repeatable)",
    ),
];

/// Options of one value.
const SINGLE: [(&str, &str, &str); 17] = [
    (
        "overlay-upper",
        "DIR",
        "Keep the changes of the one --overlay here",
    ),
    (
        "rootfs",
        "DIR",
        "Programs of this root directory, not the host's",
    ),
    (
        "image",
        "DIR[:TAG]@DIGEST",
        "Programs of this OCI image layout on disk,\nif it has this digest (sha256:...)",
    ),
    ("chdir", "DIR", "Begin in this directory, inside"),
    (
        "net",
        "NET",
        "What is reached: none (the default), host, or
pasta: what --connect and --listen name",
    ),
    ("user", "UID[:GID]", "User and group id inside"),
    ("hostname", "NAME", "Host name inside (default: sandbox)"),
    ("memory", "SIZE", "At most so much memory: 512M, 2G"),
    ("cpus", "N", "At most so many CPUs: 1, 0.5"),
    ("pids", "N", "At most so many processes and threads"),
    (
        "timeout",
        "TIME",
        "End it after this time (90s, 5m), with exit code 124",
    ),
    (
        "seccomp",
        "PROFILE",
        "System calls: strict (the default), default, or a file",
    ),
    (
        "tty",
        "auto|yes|no",
        "A terminal of its own (auto: if there is one)",
    ),
    (
        "profile",
        "FILE",
        "Read options from this TOML or JSON file as well",
    ),
    (
        "record-profile",
        "FILE",
        "Write a seccomp profile of the program's calls;\nwhile recording, only the floor denies any",
    ),
    (
        "json-status",
        "FD",
        "Write JSON lines about its life to this descriptor",
    ),
    (
        "bundle",
        "DIR",
        "Save a bundle for `capsid run` here, and run nothing",
    ),
];

/// Switches.
const SWITCHES: [(&str, &str); 4] = [
    (
        "cwd",
        "Show the current directory, to be changed, and begin there",
    ),
    (
        "quiet",
        "Do not say at the end which system calls were refused",
    ),
    (
        "detach",
        "Return once it runs, and print its id for kill and delete",
    ),
    ("print-spec", "Print the OCI configuration, and run nothing"),
];

/// The options for the parser.
pub(super) fn definitions() -> Vec<Arg> {
    let lists = LISTS.map(|(name, value, help)| texts(name, value, help));
    let single = SINGLE.map(|(name, value, help)| text(name, value, help));
    let switches = SWITCHES.map(|(name, help)| switch(name, help));
    let all = lists.into_iter().chain(single).chain(switches);
    let all = all.map(|one| match one.get_id().as_str() {
        "env" => one.short('e'),
        "user" => one.short('u'),
        "quiet" => one.short('q'),
        _ => one,
    });
    all.chain([reports::option()])
        .chain(hardening::options())
        .collect()
}

impl Choices {
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let choices = Self {
            ro: all(matches, "ro"),
            rw: all(matches, "rw"),
            cwd: is_on(matches, "cwd"),
            chdir: given(matches, "chdir"),
            overlay: all(matches, "overlay"),
            overlay_upper: given(matches, "overlay-upper"),
            rootfs: given(matches, "rootfs"),
            image: given(matches, "image"),
            timeout: given(matches, "timeout"),
            report_denials: reports::extent(matches)?,
            record_profile: given(matches, "record-profile"),
            json_status: given(matches, "json-status"),
            detach: is_on(matches, "detach"),
            tmpfs: all(matches, "tmpfs"),
            net: given(matches, "net"),
            connect: all(matches, "connect"),
            listen: all(matches, "listen"),
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
        let choices = match given(matches, "profile") {
            Some(file) => profile::read(&file)?.overridden_by(choices),
            None => choices,
        };
        if choices.command.is_empty() && choices.image.is_none() {
            return Err(Error::Usage(
                "no program is given: write it after --, for example capsid sandbox -- ls".into(),
            ));
        }
        Ok(choices)
    }

    /// Lists of both; of what can be given once, what `other` says.
    fn overridden_by(self, other: Self) -> Self {
        let both = |mut own: Vec<String>, more: Vec<String>| {
            own.extend(more);
            own
        };
        Self {
            ro: both(self.ro, other.ro),
            rw: both(self.rw, other.rw),
            cwd: self.cwd || other.cwd,
            chdir: other.chdir.or(self.chdir),
            overlay: both(self.overlay, other.overlay),
            overlay_upper: other.overlay_upper.or(self.overlay_upper),
            rootfs: other.rootfs.or(self.rootfs),
            image: other.image.or(self.image),
            timeout: other.timeout.or(self.timeout),
            tmpfs: both(self.tmpfs, other.tmpfs),
            net: other.net.or(self.net),
            connect: both(self.connect, other.connect),
            listen: both(self.listen, other.listen),
            env: both(self.env, other.env),
            user: other.user.or(self.user),
            hostname: other.hostname.or(self.hostname),
            memory: other.memory.or(self.memory),
            cpus: other.cpus.or(self.cpus),
            pids: other.pids.or(self.pids),
            seccomp: other.seccomp.or(self.seccomp),
            hardening: other.hardening.or(self.hardening),
            relax: both(self.relax, other.relax),
            tty: other.tty.or(self.tty),
            quiet: self.quiet || other.quiet,
            ..other
        }
    }
}
