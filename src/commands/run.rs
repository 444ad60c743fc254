//! `capsid run`: create and start a container, and wait for its end.

use clap::{ArgMatches, Command};

use std::os::fd::AsFd;

use super::cli::Global;
use super::create::CreateArgs;
use super::creation::{self, Created, Mode};
use super::{life, options};
use crate::error::{Error, Result};
use crate::execute::foreground::{self, Signals, Watch};
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
        .arg(options::new_container_id())
        .after_help(
            "Example, with an Alpine root file system that was unpacked to ./rootfs:\n  \
             capsid spec\n  \
             capsid run box",
        )
}

/// Creates and starts the container; in the foreground, stands in for its program.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = RunArgs::from_matches(matches)?;
    if args.detach {
        let created = start_at_once(global, &args)?;
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
    let signals = Signals::hold()?;
    let created = start_at_once(global, &args)?;
    let launched = &created.launched;
    let watch = created.notify.as_ref().map(|notify| Watch {
        fd: notify.socket(),
        act: Box::new(|| notify.pass_on(launched.pid)),
    });
    let (pid, pidfd) = (launched.pid, launched.pidfd.as_fd());
    let status = foreground::attend(&signals, pid, pidfd, created.console, watch);
    if !args.keep {
        let id = &args.create.id;
        life::delete::delete(&global.root, id, true, &creation::run_poststop)?;
    }
    status
}

/// Creates the container and has its program executed without waiting for `start`.
fn start_at_once(global: &Global, args: &RunArgs) -> Result<Created> {
    let mode = Mode {
        park: false,
        detach: args.detach,
    };
    let created = creation::create(global, &args.create, &mode)?;
    if let Err(error) = creation::run_poststart(&created.record) {
        let id = &args.create.id;
        life::delete::delete(&global.root, id, true, &creation::run_poststop)?;
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
}

impl RunArgs {
    /// Fails when a relative path cannot be made absolute.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            create: CreateArgs::from_matches(matches)?,
            detach: options::is_on(matches, "detach"),
            keep: options::is_on(matches, "keep"),
            no_subreaper: options::is_on(matches, "no-subreaper"),
        })
    }
}
