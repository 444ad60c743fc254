//! The cgroup a container gets: where, with which controllers, with which limits.
//!
//! Pure: the bundle's `linux.cgroupsPath` and `linux.resources` and what is
//! known of the machine go in, file names and values come out. What cgroup v2
//! cannot express is a [`Problem`], never left out in silence.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxResources};

use super::devices::{self, DeviceFilter};
use crate::error::{Error, Problem, Result, errno_text};
use crate::host::cgroup::{Access, CgroupFacts};

mod io;
mod limit;
mod owner;
mod resources;
pub mod systemd;
mod waive;

pub use limit::{Limit, Shown, line_of};
pub use owner::owner;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The container's id: the cgroup's name where no path is given.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub path: Option<&'a Path>,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// `linux.devices`: nodes that are made inside.
    pub devices: &'a [LinuxDevice],
    /// The caller may load a device filter: root of the first user namespace.
    /// Elsewhere the kernel refuses both that and mknod.
    pub device_filter: bool,
}

/// The container's cgroup, ready to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPlan {
    /// The cgroup2 mount below which it is.
    pub mount: PathBuf,
    /// The cgroup's directory, absolute, strictly below `mount`.
    pub path: PathBuf,
    /// The limits, in the order in which they are written.
    pub limits: Vec<Limit>,
    /// Which devices may be opened or made inside; none where the bundle allows
    /// all of them, or the caller cannot load it.
    pub devices: Option<DeviceFilter>,
    /// What the bundle says and this plan does not do, with the reason: one sentence each.
    pub notes: Vec<String>,
    /// The scope, where systemd makes the cgroup; otherwise capsid does.
    pub scope: Option<systemd::Scope>,
    /// The user whom it is given to, as the caller's user namespace numbers it.
    pub owner: Option<u32>,
}

impl CgroupPlan {
    /// The controllers that the limits need, in their order.
    pub fn controllers(&self, required: bool) -> Vec<&str> {
        let mut controllers: Vec<&str> = Vec::new();
        for limit in self
            .limits
            .iter()
            .filter(|limit| limit.required || !required)
        {
            if let Some(controller) = limit.controller.as_deref()
                && !controllers.contains(&controller)
            {
                controllers.push(controller);
            }
        }
        controllers
    }

    /// Adds a limit of capsid's own, unless the bundle sets that file.
    pub fn prefer(&mut self, file: &str, value: &str) {
        if self.limits.iter().all(|limit| limit.file != file) {
            self.limits.push(Limit::new(file, value, false));
        }
    }

    /// Whether the bundle asks for limits.
    pub fn is_required(&self) -> bool {
        self.limits.iter().any(|limit| limit.required)
    }

    /// Whether the container can go on without the scope that capsid chose for it.
    pub fn can_do_without_scope(&self) -> bool {
        let asked = self.scope.as_ref().is_some_and(|scope| scope.asked);
        !asked && !self.is_required()
    }

    /// Decides whether the container has a cgroup of its own.
    ///
    /// Without limits it can go without where none can be had: then this gives
    /// the reason in a sentence. With limits that is an error, for a limit that
    /// is not enforced is worse than a container that does not start. A caller
    /// that is `privileged` goes without only where there is no cgroup2 at all.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn settle(self, access: &Access, privileged: bool) -> Result<Result<Self, String>> {
        let missing = match access {
            Access::Writable => return Ok(Ok(self)),
            Access::NoMount => "no cgroup2 file system is mounted".to_owned(),
            Access::Unwanted => "--cgroup-manager disabled".to_owned(),
            Access::Denied(path, errno) => {
                format!(
                    "no write access to {}: {}",
                    path.display(),
                    errno_text(*errno)
                )
            }
        };
        let can_go_without = !privileged || matches!(access, Access::NoMount | Access::Unwanted);
        if can_go_without && !self.is_required() {
            return Ok(Err(format!("no cgroup of its own: {missing}")));
        }
        Err(Error::Missing {
            doing: format!("make the cgroup {}", self.path.display()),
            missing,
            repair: self.repair(access),
        })
    }

    fn repair(&self, access: &Access) -> String {
        let without = if self.is_required() {
            "or remove the limits from linux.resources"
        } else {
            "or set another linux.cgroupsPath"
        };
        match access {
            Access::NoMount => format!(
                "boot with systemd.unified_cgroup_hierarchy=1 or run \
                 `mount -t cgroup2 none /sys/fs/cgroup`, {without}"
            ),
            Access::Unwanted => format!("leave --cgroup-manager disabled out, {without}"),
            _ => format!(
                "have it delegated (`systemd-run --user --scope -p Delegate=yes capsid ...`, or give \
                 linux.cgroupsPath inside a delegated cgroup that you are in), {without}"
            ),
        }
    }
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "{scope}: the cgroup {}", self.path.display())?,
            None => write!(f, "make the cgroup {}", self.path.display())?,
        }
        let controllers = self.controllers(false);
        if !controllers.is_empty() {
            write!(f, " with the controllers {}", controllers.join(", "))?;
        }
        match self.owner {
            Some(uid) => write!(f, ", and give it to user {uid}"),
            None => Ok(()),
        }
    }
}

const NO_FILTER: &str = "linux.resources.devices is not enforced by a device filter: what keeps \
     devices away are the container's own /dev, nodev mounts and its user namespace";

/// Plans the cgroup.
///
/// # Errors
/// Everything in `cgroupsPath` and `resources` that cannot be had on cgroup v2.
pub fn plan(request: &Request<'_>, facts: &CgroupFacts) -> Result<CgroupPlan, Vec<Problem>> {
    let mount = facts
        .mount
        .clone()
        .unwrap_or_else(|| "/sys/fs/cgroup".into());
    let mut problems = Vec::new();
    let path = match place(request, &facts.own) {
        Ok(below) => mount.join(below),
        Err(problem) => {
            problems.push(problem);
            PathBuf::new()
        }
    };
    let mut found = resources::Found::default();
    if let Some(resources) = request.resources {
        found.read(resources);
    }
    problems.append(&mut found.problems);
    let rules = request
        .resources
        .and_then(|resources| resources.devices().as_deref());
    let rules = rules.unwrap_or_default();
    let mut devices = None;
    if request.device_filter && facts.mount.is_some() {
        match devices::filter(rules, request.devices) {
            Ok(filter) => devices = filter,
            Err(mut wrong) => problems.append(&mut wrong),
        }
    } else if !rules.is_empty() {
        found.notes.push(NO_FILTER.into());
    }
    if problems.is_empty() {
        Ok(CgroupPlan {
            mount,
            path,
            limits: found.limits,
            devices,
            notes: found.notes,
            scope: None,
            owner: None,
        })
    } else {
        Err(problems)
    }
}

/// The cgroup's path relative to the mount.
///
/// An absolute `cgroupsPath` begins at the mount. A relative one, and the id
/// where there is none, begins at the parent of the runtime's own cgroup: the
/// own one has a process in it, the runtime, and such a cgroup cannot hand
/// controllers down.
fn place(request: &Request<'_>, own: &Path) -> Result<PathBuf, Problem> {
    let asked = match request.path {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => Path::new(request.id),
    };
    let problem = |text: &str| Err(Problem::new("/linux/cgroupsPath", text));
    let base = if asked.is_absolute() {
        Path::new("")
    } else {
        own.parent().unwrap_or(own)
    };
    let mut path: PathBuf = base.iter().filter(|part| *part != "/").collect();
    let mut named = false;
    for part in asked.components() {
        match part {
            Component::ParentDir => {
                return problem("may not contain .. (it would leave its parent)");
            }
            Component::Normal(name)
                if name.as_encoded_bytes().iter().any(|b| b"\n\0".contains(b)) =>
            {
                return problem("may not contain a newline or a zero byte");
            }
            Component::Normal(name) => {
                path.push(name);
                named = true;
            }
            _ => {}
        }
    }
    if !named {
        return problem("names the root of the hierarchy, which cannot be a container's cgroup");
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
