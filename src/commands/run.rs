//! `capsid run`: create and start a container, and wait for its end.

use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::cli::Global;
use super::create::CreateArgs;
use super::creation::{self, Created, Mode};
use super::reports::{self, Extent};
use super::{hooks, life, options, pins, secrets, system_calls};
use crate::error::{Error, Result};
use crate::execute::foreground::{self, Attended, Ended, Signals, Watch};
use crate::execute::lifeline;
use crate::execute::secrets::Secret;
use crate::execute::supervisor::Purpose;
use crate::sandbox::within::Inside;
use crate::seccomp::{Denials, Recording};
use crate::sys;

pub(crate) fn command() -> Command {
    Command::new("run")
        .about("Create a container, start it and wait for its end")
        .long_about(
            "Create a container from a bundle and start it. Without --detach, capsid passes\n\
             signals on, waits for the container's program, removes the container and exits\n\
             with the program's status, or 128 + the number of the signal that ended it.",
        )
        .arg(options::bundle())
        .arg(options::console_socket())
        .arg(options::pidfd_socket())
        .arg(options::detach())
        .arg(options::switch(
            "keep",
            "Do not remove the container after its end",
        ))
        .arg(options::pid_file())
        .arg(options::no_subreaper())
        .arg(options::no_pivot())
        .arg(options::no_new_keyring())
        .arg(options::preserve_fds())
        .args(pins::options())
        .arg(secrets::option())
        .arg(options::switch(
            "die-with-parent",
            "Be killed, and the container with it, when the caller ends",
        ))
        .args(options::watching())
        .arg(options::new_container_id())
        .after_help(
            "Examples, with an Alpine root file system that was unpacked to ./rootfs:\n  \
             capsid spec\n  \
             capsid run box\n  \
             capsid run --report-denials box",
        )
}

/// Creates and starts the container; in the foreground, stands in for its program.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = RunArgs::from_matches(matches)?;
    if args.die_with_parent {
        lifeline::end_with_parent()?;
    }
    let secrets = secrets::read(matches)?;
    if args.detach {
        let created = start_at_once(global, &args, secrets)?;
        if let Some(notify) = &created.notify {
            notify.forward(created.launched.pid, created.launched.pidfd.as_fd())?;
        }
        return Ok(0);
    }
    if !args.no_subreaper {
        sys::process::become_subreaper().map_err(|failure| {
            Error::system("become", "the reaper of the container's orphans", failure)
        })?;
    }
    if let Some(file) = &args.record_profile {
        system_calls::make_writable(file)?;
    }
    let signals = Signals::hold()?;
    reports::warn(args.report_denials);
    let mut created = start_at_once(global, &args, secrets)?;
    let ended = follow(&signals, &mut created, Vec::new());
    if !args.keep {
        let id = &args.create.id;
        life::delete::delete(&global.root, id, true, &hooks::run_poststop)?;
    }
    let ended = ended?;
    system_calls::tell(
        &created,
        &global.root,
        ended,
        args.record_profile.as_deref(),
    )?;
    reports::tell(created.tracer.as_ref());
    Ok(ended.status())
}

/// Waits for the program's end and does meanwhile what it needs, and what the
/// caller watches for.
pub(super) fn follow(
    signals: &Signals,
    created: &mut Created,
    others: Vec<Watch<'_>>,
) -> Result<Ended> {
    let launched = &created.launched;
    let (pid, pidfd) = (launched.pid, launched.pidfd.as_fd());
    let listener = match &mut created.supervisor {
        Some(supervisor) => supervisor.begin()?,
        None => None,
    };
    let mut watches: Vec<Watch<'_>> = Vec::new();
    watches.extend(others);
    watches.extend(created.notify.as_ref().map(|notify| Watch {
        fd: notify.socket(),
        act: Box::new(|| notify.pass_on(pid)),
    }));
    if let (Some(supervisor), Some(listener)) = (&mut created.supervisor, &listener) {
        watches.push(Watch {
            fd: listener.as_fd(),
            act: Box::new(|| supervisor.serve()),
        });
    }
    let attended = Attended {
        pid,
        pidfd,
        console: created.console.take(),
        tracer: created.tracer.as_mut(),
    };
    let ended = foreground::attend(signals, attended, watches)?;
    let supervisor = created.supervisor.as_ref();
    let killed = supervisor.is_some_and(|supervisor| supervisor.has_killed(pid));
    // The rules say that the call ends its process, with this signal.
    if killed {
        return Ok(system_calls::KILLED);
    }
    Ok(match created.record.has_init() {
        true => ended.said_by_init(),
        false => ended,
    })
}

/// Creates the container and has its program executed without waiting for `start`.
fn start_at_once(global: &Global, args: &RunArgs, secrets: Vec<Secret>) -> Result<Created> {
    let mode = Mode {
        park: false,
        detach: args.detach,
        die_with_parent: args.die_with_parent,
        secrets,
        purpose: args.purpose(),
        tracer: reports::tracer(args.report_denials, Inside::of_bundle)?,
        sandbox: false,
        passage: None,
    };
    let created = creation::create(global, &args.create, mode)?;
    if let Err(error) = hooks::run_poststart(&created.record) {
        let id = &args.create.id;
        life::delete::delete(&global.root, id, true, &hooks::run_poststop)?;
        return Err(error);
    }
    Ok(created)
}

/// What was asked of `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunArgs {
    /// What it has in common with `create`.
    pub(crate) create: CreateArgs,
    /// Return once the process runs.
    pub(crate) detach: bool,
    /// Do not remove the container after its end.
    pub(crate) keep: bool,
    /// Do not become the subreaper of the container's orphans.
    pub(crate) no_subreaper: bool,
    /// Be killed with the caller.
    pub(crate) die_with_parent: bool,
    /// What to say at the end of what was refused.
    pub(crate) report_denials: Option<Extent>,
    /// Where to write a profile that covers the program's system calls.
    pub(crate) record_profile: Option<PathBuf>,
}

impl RunArgs {
    /// Fails when a relative path cannot be made absolute, and when options
    /// exclude each other.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let args = Self {
            create: CreateArgs::from_matches(matches)?,
            detach: options::is_on(matches, "detach"),
            keep: options::is_on(matches, "keep"),
            no_subreaper: options::is_on(matches, "no-subreaper"),
            die_with_parent: options::is_on(matches, "die-with-parent"),
            report_denials: reports::extent(matches)?,
            record_profile: options::host_path(matches, "record-profile")?,
        };
        let watched = args.report_denials.is_some() || args.record_profile.is_some();
        if args.detach && watched {
            return Err(Error::Usage(
                "--report-denials and --record-profile need the foreground: leave --detach out"
                    .into(),
            ));
        }
        if args.detach && args.die_with_parent {
            return Err(Error::Usage(
                "--die-with-parent needs the foreground: leave --detach out".into(),
            ));
        }
        if args.report_denials.is_some() && args.record_profile.is_some() {
            return Err(Error::Usage(
                "--record-profile lets calls through that --report-denials denies: give one of them"
                    .into(),
            ));
        }
        Ok(args)
    }

    fn purpose(&self) -> Option<Purpose> {
        if self.record_profile.is_some() {
            Some(Purpose::Record(Recording::default()))
        } else {
            self.report_denials
                .map(|_| Purpose::Report(Denials::default()))
        }
    }
}
