//! Making a cgroup: levels, controllers, limits, and reading the limits back.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};
use syscalls::Sysno;

use super::handing_down::{not_handed_down, not_listed};
use super::{Cgroup, limits, owner, remove_at};
use crate::error::{Error, Result};
use crate::plan::cgroup::{CgroupPlan, Limit};
use crate::plan::devices::DeviceFilter;
use crate::sys::bpf;

/// A cgroup that was just made, empty and with its limits.
#[derive(Debug)]
pub struct Made {
    /// The cgroup.
    pub cgroup: Cgroup,
    /// Limits that nobody insists on and this machine cannot enforce.
    pub left_out: Vec<LeftOut>,
}

/// A limit that is not in force: one of capsid's own, or with
/// `--cgroups=best-effort` one of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The limit.
    pub limit: Limit,
    /// Why, in words.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.limit, self.why)
    }
}

/// Directories made on the way, removed again unless everything succeeded:
/// a failed create must leave nothing behind.
struct Undo<'m> {
    mount: &'m OwnedFd,
    made: Vec<PathBuf>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for below in self.made.drain(..).rev() {
            // The failure that led here is what will be reported.
            let _ = remove_at(self.mount, &below);
        }
    }
}

/// Makes the cgroup of a plan, writes its limits and attaches its device filter.
///
/// An existing cgroup is used if it is empty and not frozen: processes in it
/// belong to somebody else, and a frozen one would stop the container for ever.
///
/// # Errors
/// [`Error::System`] with the file, value and error number; [`Error::Missing`]
/// for a controller that is not available. Nothing is left behind then.
pub fn make(plan: &CgroupPlan) -> Result<Made> {
    let mount = open_mount(plan)?;
    let below = plan.path.strip_prefix(&plan.mount).unwrap_or(&plan.path);
    let mut undo = Undo {
        mount: &mount,
        made: Vec::new(),
    };
    make_levels(&mut undo, plan, below)?;
    let is_new = undo.made.last().is_some_and(|last| last == below);
    let cgroup = open_level(&mount, below, plan)?;
    if !is_new {
        refuse_used(&cgroup)?;
    }
    let left_out = limit(&mount, plan, below, &cgroup)?;
    undo.made.clear();
    Ok(Made { cgroup, left_out })
}

/// Takes over the cgroup of a plan that systemd made, with a process in it that
/// waits: writes the limits, all of them, and reads them back.
///
/// # Errors
/// As [`make`].
pub fn adopt(plan: &CgroupPlan) -> Result<Made> {
    let mount = open_mount(plan)?;
    let below = plan.path.strip_prefix(&plan.mount).unwrap_or(&plan.path);
    let cgroup = open_level(&mount, below, plan)?;
    let left_out = limit(&mount, plan, below, &cgroup)?;
    Ok(Made { cgroup, left_out })
}

/// Writes the limits and attaches the device filter; gives what was left out.
fn limit(
    mount: &OwnedFd,
    plan: &CgroupPlan,
    below: &Path,
    cgroup: &Cgroup,
) -> Result<Vec<LeftOut>> {
    let available = available(cgroup)?;
    let wanted = missing(&plan.controllers(false), &available);
    let available = if wanted.is_empty() {
        available
    } else {
        enable(mount, plan, below, &wanted)?;
        self::available(cgroup)?
    };
    let mut left_out = Vec::new();
    for limit in &plan.limits {
        match &limit.controller {
            Some(controller) if !available.iter().any(|a| a == controller) => {
                if limit.required {
                    return Err(lacking(plan, mount, below, controller));
                }
                left_out.push(LeftOut {
                    limit: limit.clone(),
                    why: format!("the controller {controller} is not available"),
                });
            }
            _ => {
                limits::refuse_above_parents(mount, plan, below, limit)?;
                limits::refuse_below_usage(cgroup, limit)?;
                limits::set(cgroup, limit)?;
            }
        }
    }
    if let Some(devices) = &plan.devices {
        attach(cgroup, devices)?;
    }
    if let Some(uid) = plan.owner {
        owner::give(cgroup, uid)?;
    }
    Ok(left_out)
}

pub(super) fn open_mount(plan: &CgroupPlan) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&plan.mount, flags, Mode::empty())
        .map_err(|e| Error::nix("open", plan.mount.display(), Sysno::openat, e))
}

/// Attaches the device filter, before anything runs in the cgroup. The cgroup
/// keeps the program from then on; it ends with the cgroup.
fn attach(cgroup: &Cgroup, devices: &DeviceFilter) -> Result<()> {
    let failed = |doing: &str, failure| {
        let path = cgroup.path().display();
        Error::system(doing, format!("the cgroup {path}"), failure)
    };
    let program: Vec<[u8; 8]> = devices.program.iter().map(|i| i.bytes()).collect();
    let program = bpf::load_device_program(&program)
        .map_err(|failure| failed("load the device filter for", failure))?;
    bpf::attach_device_program(cgroup.dir(), program.as_fd())
        .map_err(|failure| failed("attach the device filter to", failure))
}

/// Makes the missing levels of a path. The whole path first: nearly always only
/// the last level is missing.
fn make_levels(undo: &mut Undo<'_>, plan: &CgroupPlan, below: &Path) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    let failed = |path: &Path, errno| {
        let path = plan.mount.join(path);
        Error::nix("make the cgroup", path.display(), Sysno::mkdirat, errno)
    };
    match mkdirat(undo.mount, below, mode) {
        Ok(()) => {
            undo.made.push(below.to_owned());
            return Ok(());
        }
        Err(Errno::EEXIST) => return Ok(()),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(failed(below, errno)),
    }
    let mut level = PathBuf::new();
    for name in below {
        level.push(name);
        match mkdirat(undo.mount, &level, mode) {
            Ok(()) => undo.made.push(level.clone()),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(&level, errno)),
        }
    }
    Ok(())
}

pub(super) fn open_level(mount: &OwnedFd, below: &Path, plan: &CgroupPlan) -> Result<Cgroup> {
    let path = plan.mount.join(below);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let dir = openat2(mount, below, how)
        .map_err(|e| Error::nix("open the cgroup", path.display(), Sysno::openat2, e))?;
    Cgroup::from_dir(dir, path)
}

/// Refuses the place of a planned cgroup where processes are.
///
/// # Errors
/// [`Error::Missing`] if there are; [`Error::System`].
pub fn refuse_populated(plan: &CgroupPlan) -> Result<()> {
    match Cgroup::open(&plan.path)? {
        Some(cgroup) => refuse_used(&cgroup),
        None => Ok(()),
    }
}

fn refuse_used(cgroup: &Cgroup) -> Result<()> {
    let refused = |missing: String, repair: &str| {
        Err(Error::Missing {
            doing: format!("use the existing cgroup {}", cgroup.path().display()),
            missing,
            repair: repair.into(),
        })
    };
    if cgroup.is_populated()? {
        let pids = cgroup.pids()?;
        return refused(
            format!(
                "container's cgroup is not empty: {} process(es) found",
                pids.len()
            ),
            "give the container a linux.cgroupsPath of its own, or end the processes in cgroup.procs there",
        );
    }
    if cgroup.is_frozen()? {
        return refused(
            "container's cgroup unexpectedly frozen".into(),
            "write 0 to its cgroup.freeze, or give the container a linux.cgroupsPath of its own",
        );
    }
    Ok(())
}

/// The controllers that a cgroup has files for.
pub(super) fn available(cgroup: &Cgroup) -> Result<Vec<String>> {
    words(cgroup, "cgroup.controllers")
}

fn words(cgroup: &Cgroup, file: &str) -> Result<Vec<String>> {
    let content = cgroup
        .read(file)
        .map_err(|e| cgroup.failed("read", file, Sysno::read, e))?;
    Ok(content
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect())
}

pub(super) fn missing<'w>(wanted: &[&'w str], present: &[String]) -> Vec<&'w str> {
    wanted
        .iter()
        .copied()
        .filter(|wanted| present.iter().all(|p| p != wanted))
        .collect()
}

/// Hands controllers down from the mount to the container's parent, each level
/// only where they are not handed down already.
///
/// A controller that a level does not have is skipped here: whether that is an
/// error depends on the limits that need it.
pub(super) fn enable(
    mount: &OwnedFd,
    plan: &CgroupPlan,
    below: &Path,
    wanted: &[&str],
) -> Result<()> {
    let parent = below.parent().unwrap_or(Path::new(""));
    let required = plan.controllers(true);
    let mut level = PathBuf::new();
    let mut names = parent.iter();
    loop {
        let cgroup = open_level(mount, &level, plan)?;
        let enabled = words(&cgroup, "cgroup.subtree_control")?;
        let present = available(&cgroup)?;
        for controller in missing(wanted, &enabled) {
            if !present.iter().any(|p| p == controller) {
                continue;
            }
            match cgroup.write("cgroup.subtree_control", &format!("+{controller}")) {
                Ok(()) => {}
                Err(errno) if required.contains(&controller) => {
                    return Err(not_handed_down(cgroup.path(), controller, errno));
                }
                // Reported as left out, with the limit that needs it.
                Err(_) => {}
            }
        }
        match names.next() {
            Some(name) => level.push(name),
            None => return Ok(()),
        }
    }
}

/// The error for a limit whose controller the container's cgroup does not have:
/// says at which level it is lost, for the repair is different there.
pub(super) fn lacking(plan: &CgroupPlan, mount: &OwnedFd, below: &Path, controller: &str) -> Error {
    let asking: Vec<&str> = plan
        .limits
        .iter()
        .filter(|limit| limit.required && limit.controller.as_deref() == Some(controller))
        .map(|limit| limit.file.as_str())
        .collect();
    let has = |level: &Path| {
        open_level(mount, level, plan)
            .and_then(|cgroup| available(&cgroup))
            .is_ok_and(|present| present.iter().any(|p| p == controller))
    };
    let mut level = PathBuf::new();
    let mut names = below.iter();
    while has(&level) {
        match names.next() {
            Some(name) => level.push(name),
            None => break,
        }
    }
    let level = plan.mount.join(&level);
    let (missing, repair) = not_listed(&plan.mount, &level, controller);
    Error::Missing {
        doing: format!("set {} of {}", asking.join(", "), plan.path.display()),
        missing: format!("invalid configuration: {missing}"),
        repair: format!("{repair}; or go on without it: capsid --cgroups=best-effort"),
    }
}
