//! What the parent opens before clone, for the child to use.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use syscalls::Sysno;

use crate::error::{Check, Error, Failure, Result};
use crate::host::mountinfo;
use crate::plan::steps::HookStep;
use crate::plan::{ExecStep, Plan, RootStep};
use crate::sys::arguments::Place;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::process::{self, Pointers};

use super::secrets::Secret;

/// Descriptors and argument arrays, made before clone.
#[derive(Debug)]
pub struct Handles {
    /// The child's end of the socket pair, later the connection of `start`.
    pub socket: OwnedFd,
    /// The host's procfs, checked, opened before anything of the container
    /// exists: every write to procfs goes through it.
    pub procfs: OwnedFd,
    /// The container's first process, for `exec`.
    pub target: Option<OwnedFd>,
    /// Namespace files, in the order of the plan's paths.
    pub namespaces: Vec<OwnedFd>,
    /// The cgroup that the joiner clones into, where a mounter makes it clone twice.
    pub cgroup: Option<OwnedFd>,
    /// The directory of the cgroup that systemd moves the first process to.
    pub scope: Option<CString>,
    /// Detached mounts, in the order of the plan's bind sources; the child
    /// fills the places of those it opens itself.
    pub sources: Vec<Option<OwnedFd>>,
    /// Device and inode number of the root file system that an overlay of the
    /// runtime's takes the place of.
    pub covers: Option<(u64, u64)>,
    /// What goes below /run/secrets.
    pub secrets: Vec<Secret>,
    /// The socket on which `start` is heard.
    pub start: Option<OwnedFd>,
    /// Where hooks inside the container write what they have to say.
    pub hook_output: Option<OwnedFd>,
    /// Mount points of procfs and sysfs outside the container's root, for a
    /// root without pivot_root(2).
    pub kernel_mounts: Vec<std::ffi::CString>,
    /// Device and inode number of the runtime's own program file.
    pub own_program: (u64, u64),
    /// `argv` of the program.
    pub arguments: Pointers,
    /// Its environment.
    pub environment: Pointers,
    /// Where the runtime's own arguments are, for an init that hides them.
    pub own_arguments: Place,
    /// `argv` and environment of each hook inside the container, in order.
    pub hooks: Vec<(Pointers, Pointers)>,
}

/// The cgroup, for a joiner that stays outside of it.
pub fn cgroup(plan: &Plan, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<OwnedFd>> {
    let cgroup = cgroup.filter(|_| !plan.enter.mounter.is_empty());
    let own = cgroup.map(|cgroup| fd::duplicate_above(cgroup, 0));
    own.transpose()
        .map_err(|failure| Error::system("keep open", "the container's cgroup", failure))
}

/// The directory of the cgroup that systemd makes.
pub fn scope(plan: &Plan) -> Option<CString> {
    let cgroup = plan.cgroup.as_ref()?;
    cgroup.scope.as_ref()?;
    CString::new(cgroup.path.as_os_str().as_bytes()).ok()
}

/// The argument arrays of the hooks that the child runs.
pub fn hook_pointers(plan: &Plan) -> Vec<(Pointers, Pointers)> {
    hooks(plan)
        .map(|hook| {
            (
                Pointers::new(hook.arguments.clone()),
                Pointers::new(hook.environment.clone()),
            )
        })
        .collect()
}

/// The hooks that the child runs, in order.
pub fn hooks(plan: &Plan) -> impl Iterator<Item = &HookStep> {
    let inside = plan.root.iter().filter_map(|step| match step {
        RootStep::Hook(hook) => Some(hook),
        _ => None,
    });
    let last = plan.exec.iter().filter_map(|step| match step {
        ExecStep::Hook(hook) => Some(hook),
        _ => None,
    });
    inside.chain(last)
}

/// Opens namespace files and makes sure that each is of the kind it is listed as.
pub fn open_namespaces(plan: &Plan) -> Result<Vec<OwnedFd>> {
    let mut opened = Vec::new();
    for (kind, path) in &plan.enter.paths {
        let doing = format!("open the {} namespace", kind.name());
        let failed = |failure| Error::system(&*doing, path.display(), failure);
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| failed(Failure::of(Sysno::openat2, libc::EINVAL)))?;
        // A namespace file is a magic link more often than not.
        let file = fd::open(At::Cwd, &name, libc::O_RDONLY, Resolve::ANY).map_err(failed)?;
        if process::namespace_type(file.as_fd()).map_err(failed)? != kind.flag() {
            return Err(failed(Failure::check(Check::WrongNamespaceType)));
        }
        opened.push(file);
    }
    Ok(opened)
}

/// Mount points of procfs and sysfs, the innermost first.
pub fn kernel_mounts() -> Result<Vec<CString>> {
    let mounts = mountinfo::read()?.into_iter().rev();
    let kernel = mounts.filter(|mount| matches!(mount.kind.as_str(), "proc" | "sysfs"));
    // A path that came from the kernel has no NUL byte.
    let path = |mount: mountinfo::Mount| CString::new(mount.point.into_os_string().into_vec()).ok();
    Ok(kernel.filter_map(path).collect())
}
