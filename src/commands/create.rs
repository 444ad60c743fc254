//! `capsid create`: a container, set up and waiting for `start`.

use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::announce::Announce;
use super::cli::Global;
use super::creation::{self, Mode};
use super::options;
use super::pins::{self, Pins};
use crate::error::Result;

pub(crate) fn command() -> Command {
    Command::new("create")
        .about("Create a container that waits for `start`")
        .long_about(
            "Create a container from a bundle, a directory with config.json and, as a rule,\n\
             rootfs/. Namespaces, mounts and limits are set up and the create hooks run; the\n\
             container's program does not run before `capsid start`.",
        )
        .arg(options::bundle())
        .arg(options::console_socket())
        .arg(options::pidfd_socket())
        .arg(options::pid_file())
        .arg(options::no_pivot())
        .arg(options::no_new_keyring())
        .arg(options::preserve_fds())
        .args(pins::options())
        // containerd's Go client may pass it, though create always detaches.
        .arg(options::detach().hide(true))
        .arg(options::new_container_id())
        .after_help(
            "Example:\n  \
             capsid create --bundle /var/lib/web --pid-file /run/web.pid web\n  \
             capsid start web",
        )
}

/// Creates the container and leaves it waiting for `start`.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = CreateArgs::from_matches(matches)?;
    let mode = Mode {
        park: true,
        detach: true,
        die_with_parent: false,
        secrets: Vec::new(),
        purpose: None,
        tracer: None,
        sandbox: false,
        passage: None,
    };
    creation::create(global, &args, mode)?;
    Ok(0)
}

/// What was asked of `create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreateArgs {
    /// The new container's id, not yet checked.
    pub(crate) id: String,
    /// The bundle, absolute.
    pub(crate) bundle: PathBuf,
    /// Where to send the terminal's descriptor.
    pub(crate) console_socket: Option<PathBuf>,
    /// Where to send a pidfd of the first process.
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Where to write the first process's id.
    pub(crate) pid_file: Option<PathBuf>,
    /// Enter the root by chroot instead of pivot_root.
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// How many descriptors after 2 (and those of LISTEN_FDS) the process gets.
    pub(crate) preserve_fds: u32,
    /// What configuration and root file system must be.
    pub(crate) pins: Pins,
}

impl CreateArgs {
    /// Who is to be told of the new container.
    pub(super) fn announce(&self) -> Announce<'_> {
        Announce {
            console_socket: self.console_socket.as_deref(),
            pidfd_socket: self.pidfd_socket.as_deref(),
            pid_file: self.pid_file.as_deref(),
            kind: "standard",
        }
    }

    /// Fails when a relative path cannot be made absolute.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
            bundle: options::bundle_path(matches)?,
            console_socket: options::host_path(matches, "console-socket")?,
            pidfd_socket: options::host_path(matches, "pidfd-socket")?,
            pid_file: options::host_path(matches, "pid-file")?,
            no_pivot: options::is_on(matches, "no-pivot"),
            no_new_keyring: options::is_on(matches, "no-new-keyring"),
            preserve_fds: options::preserved(matches),
            pins: Pins::from_matches(matches)?,
        })
    }
}
