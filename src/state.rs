//! The state directory: one directory per container, one record in each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{Hooks, LinuxMemoryPolicy, LinuxPersonality};
use serde::{Deserialize, Serialize};

use crate::error::{Life, Result};
use crate::policy::landlock::Fence;
use crate::policy::{Hardening, Outcome};
use crate::seccomp::Filter;
use crate::spec::annotations::INIT;

mod directory;
mod entries;
mod overlay;
mod ranges;
mod users;

pub use directory::{Container, Lock, Root, Slot};
pub use entries::names;
pub use overlay::OverlayRecord;
pub use ranges::{Range, give_back};
pub use users::{OfUser, of_users};

/// The format of `state.json`. A record with another number is refused, not guessed at.
pub const FORMAT: u32 = 3;

/// The socket on which a created container waits for `start`, in its state
/// directory. That it exists is what makes a live container `created`.
pub const START_SOCKET: &str = "start.sock";

/// The same socket while the container is being set up.
pub const PENDING_SOCKET: &str = "start.sock.pending";

/// What is remembered of a container: `<root>/<id>/state.json`.
///
/// Whether it is created, running, paused or stopped is never stored: a stored
/// word goes stale when a process dies. It is decided from the process, its
/// start time, the start socket and the freezer (see [`Status`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// `ociVersion` of the bundle's configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// When it was created: RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// User id of who created it.
    pub owner: u32,
    /// The bundle's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The first process, in the runtime's pid namespace; 0 until it exists.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat` of that process, in clock ticks since boot:
    /// tells it from a later process with the same number.
    pub start_time: u64,
    /// The container's cgroup, if it has one of its own.
    pub cgroup: Option<CgroupRecord>,
    /// Namespaces that differ from the runtime's, as `CLONE_NEW*` flags: what `exec` joins.
    pub namespaces: u64,
    /// Whether the container has a pid namespace that ends with its first process.
    pub private_pid: bool,
    /// The bundle's hooks as they were at create: later edits have no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// `sha256:` and the digest of config.json, where somebody wanted to know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
    /// The same of the root file system, where it was demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_digest: Option<String>,
    /// The digest of config.json was demanded: `exec` holds config.json against it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub config_pinned: bool,
    /// The system calls that the container may make, as decided at create:
    /// what `exec` loads.
    pub filter: Filter,
    /// What was insisted on at create: what `exec` insists on.
    pub hardening: Hardening,
    /// What each rule came to.
    pub outcomes: Vec<Outcome>,
    /// What Landlock keeps the program to, as decided at create: what `exec` makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// `linux.personality` as it was at create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<LinuxPersonality>,
    /// `linux.memoryPolicy` as it was at create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<LinuxMemoryPolicy>,
    /// The first of the user and group ids that it was given for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<u32>,
    /// The overlay that was made for it over the engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayRecord>,
    /// The resctrl class that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<RdtRecord>,
    /// The steps that remain after `start`, in words, with the number of the first:
    /// what `start` needs to report a failure.
    pub late_steps: LateSteps,
}

impl Record {
    /// Whether the first process stays as the container's init.
    pub fn has_init(&self) -> bool {
        self.annotations.get(INIT).is_some_and(|on| on == "true")
    }
}

/// The steps of a plan that the first process walks after `start`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LateSteps {
    /// Number of the first of them, from 1.
    pub first: usize,
    /// How many steps the whole plan has.
    pub of: usize,
    /// Each in words.
    pub steps: Vec<String>,
    /// `args[0]` of the process.
    pub program: String,
}

/// The resctrl class of a container, and what was made for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtRecord {
    /// Its directory; none for the class of everybody.
    pub class: Option<String>,
    /// It is called as the container is: nobody else's.
    pub own: bool,
    /// The monitoring group in it.
    pub group: Option<String>,
    /// The class was made.
    pub made_class: bool,
    /// The monitoring group was made.
    pub made_group: bool,
}

/// Where the container's cgroup is and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// The directory on the cgroup2 file system, absolute.
    pub path: PathBuf,
    /// Who manages it.
    pub driver: Driver,
}

/// Who makes and removes the container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// capsid itself, by mkdir and rmdir.
    Cgroupfs,
    /// The machine's systemd; the scope has the directory's name.
    Systemd,
    /// The systemd of the user who created the container.
    SystemdUser,
}

/// Whether `id` may name a container: runc's rule, so that engines see no difference.
///
/// # Errors
/// [`Life::InvalidId`].
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    // 255 is NAME_MAX: a longer one cannot be a directory.
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(allowed) {
        return Err(Life::InvalidId.into());
    }
    Ok(())
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Being created, or its creation was interrupted.
    Creating,
    /// Set up; its first process waits for `start`.
    Created,
    /// The process runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// The process is gone.
    Stopped,
}

impl Status {
    /// The word of the runtime specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}
