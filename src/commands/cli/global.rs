//! The options that stand before the command, and hold for all of them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use super::with_help;
use crate::commands::{go_flags, hardening, options, root};
use crate::error::{Error, Result};
use crate::log;
use crate::policy::Wish;

/// What holds for every command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Global {
    /// The directory with one directory per container, absolute.
    pub(crate) root: PathBuf,
    /// Whether `--root` named it; a default root that does not exist is just empty.
    pub(crate) root_explicit: bool,
    /// Where errors are written as well, absolute.
    pub(crate) log: Option<PathBuf>,
    /// How they are written there.
    pub(crate) log_format: log::Format,
    /// Say what is being done.
    pub(crate) debug: bool,
    /// Let systemd manage the container's cgroup.
    pub(crate) systemd_cgroup: bool,
    /// Whether containers go without a cgroup of their own.
    pub(crate) no_cgroup: bool,
    /// Whether missing rights to cgroups are ignored; `None` means to find out.
    pub(crate) rootless: Option<bool>,
    /// Go on without the limits that cannot be had here, with a warning.
    pub(crate) best_effort: bool,
    /// The level and the rules that the command line names.
    pub(crate) hardening: Wish,
    /// `capsid`, or `runc` for callers that expect that name in messages.
    pub(crate) called_as: &'static str,
}

impl Global {
    pub(super) fn from_matches(called_as: &'static str, matches: &ArgMatches) -> Result<Self> {
        let explicit = matches
            .get_one::<OsString>("root")
            .filter(|root| !root.is_empty());
        let log_format = match options::given(matches, "log-format").as_deref() {
            None | Some("text") => log::Format::Text,
            Some("json") => log::Format::Json,
            Some(other) => return Err(Error::Usage(format!("invalid log-format: {other}"))),
        };
        let manager = options::given(matches, "cgroup-manager").unwrap_or_default();
        let rootless = match options::given(matches, "rootless").as_deref() {
            None | Some("auto") => None,
            Some(word) => Some(go_flags::parse_bool(word).ok_or_else(|| {
                Error::Usage(format!(
                    "invalid value {word:?} for --rootless: use true, false or auto"
                ))
            })?),
        };
        Ok(Self {
            root: match explicit {
                Some(root) => root::explicit(root)?,
                None => root::default_path(),
            },
            root_explicit: explicit.is_some(),
            log: options::host_path(matches, "log")?,
            log_format,
            debug: options::is_on(matches, "debug"),
            // crun's spelling, which podman uses for `--cgroups=disabled`.
            systemd_cgroup: options::is_on(matches, "systemd-cgroup") && manager != "disabled"
                || manager == "systemd",
            no_cgroup: manager == "disabled",
            rootless,
            best_effort: options::given(matches, "cgroups")
                .is_some_and(|word| word == "best-effort"),
            hardening: hardening::wish(matches)?,
            called_as,
        })
    }
}

/// The options of capsid itself, without any command.
pub(super) fn top(called_as: &'static str) -> Command {
    with_help(Command::new(called_as))
        .about("A rootless-first OCI container runtime with hardened defaults")
        .arg(
            options::path("root", "DIR", "Where container state is kept (default: /run/capsid,\nor $XDG_RUNTIME_DIR/capsid for ordinary users)")
                .value_hint(ValueHint::DirPath),
        )
        .arg(options::path("log", "FILE", "Write errors to this file too"))
        .arg(options::text("log-format", "FORMAT", "How to write them: text or json"))
        .arg(options::switch("debug", "Say what is being done"))
        .arg(options::switch("systemd-cgroup", "Let systemd manage cgroups (cgroupsPath is slice:prefix:name)"))
        .arg(
            options::text("cgroup-manager", "MANAGER", "Who manages cgroups: cgroupfs (the default), systemd, or\nnobody (disabled): no cgroup is made")
                .value_parser(["cgroupfs", "systemd", "disabled", ""])
                .hide_possible_values(true),
        )
        .arg(options::text("rootless", "BOOL", "Go on without rights to cgroups: true, false or auto"))
        .arg(
            options::text("cgroups", "POLICY", "Whether a limit that cannot be had is an error (required, the default)\nor a warning (best-effort)")
                .value_parser(["required", "best-effort", ""])
                .hide_possible_values(true),
        )
        .args(hardening::options())
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .version(env!("CARGO_PKG_VERSION"))
}
