//! What the parent opens before clone, for the child to use.

use std::os::fd::OwnedFd;

use crate::plan::steps::HookStep;
use crate::plan::{ExecStep, Plan, RootStep};
use crate::sys::arguments::Place;
use crate::sys::process::Pointers;

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
    /// Detached mounts, in the order of the plan's bind sources; the child
    /// fills the places of those it opens itself.
    pub sources: Vec<Option<OwnedFd>>,
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
