//! Who mounts for a container that is given a user namespace: see `plan/staged`.
//!
//! The joiner stays the host's root. Once the first process has its namespaces, it
//! joins its pid namespace and clones the mounter, for that is one for children only.
//! The mounter joins the others, but for the user namespace.
//!
//! The mounter can be seen from inside. Nobody there can trace or signal it, or open
//! what it has open: that takes its user ids or a capability in its user namespace, which
//! is the host's, and it is not dumpable. Besides it, only the first process is there, and
//! that runs nothing of the image before the mounter has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Check, Failure};
use crate::plan::EnterStep;
use crate::spec::namespaces::Kind;
use crate::sys::Result;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::process::{self, Cloned};

use super::child::{FAILED, Walk, step_number};
use super::{own_namespace, protocol};

/// The pid of the mounter inside. It is free again before the program runs, and the
/// next process gets it as if nobody had had it.
const PID: i32 = 2;

fn connection<'w>(walk: &'w Walk<'_>) -> Result<BorrowedFd<'w>> {
    let connection = walk.mounter.as_ref();
    let connection = connection.ok_or(Failure::of(syscalls::Sysno::recvmsg, libc::EBADF))?;
    Ok(connection.as_fd())
}

/// The joiner's end: comes back with a failure only, of the joiner or the mounter.
pub(super) fn serve(walk: &mut Walk<'_>) -> Result<()> {
    if protocol::await_proceed(connection(walk)?).is_err() {
        // The first process has told why.
        process::exit(FAILED);
    }
    let plan = walk.plan;
    walk.at = step_number(plan.steps_before_mounter());
    let (join, rest) = plan.enter.mounter.split_at(1);
    walk.steps(join, Walk::enter)?;
    let entered = match (&walk.handles.cgroup, &walk.handles.scope) {
        (None, Some(path)) => Some(fd::open(At::Cwd, path, libc::O_PATH, Resolve::ANY)?),
        _ => None,
    };
    let cgroup = entered.as_ref().or(walk.handles.cgroup.as_ref());
    match process::clone_numbered(cgroup.map(OwnedFd::as_fd), PID)? {
        Cloned::Child => {
            walk.steps(rest, Walk::enter)?;
            if let Some(terminal) = &walk.terminal {
                protocol::proceed_with(connection(walk)?, terminal.as_fd())?;
            }
            process::exit(0)
        }
        Cloned::Parent { pid, .. } => {
            if process::wait(pid, 0)? != Some(0) {
                process::exit(FAILED);
            }
            protocol::proceed(connection(walk)?)?;
            process::exit(0)
        }
    }
}

/// Joins the namespace that comes next.
pub(super) fn join_first(walk: &Walk<'_>, kind: Kind) -> Result<()> {
    let namespace = protocol::await_proceed_with(connection(walk)?)?;
    let namespace = namespace.ok_or(Failure::check(Check::BadMessage))?;
    process::join_namespace(namespace.as_fd(), kind.flag())
}

/// The first process's end: has everything mounted, and takes its terminal.
///
/// It hands its namespaces over itself: others, of whom it is hidden, would need
/// CAP_SYS_PTRACE to open them.
pub(super) fn await_mounts(walk: &mut Walk<'_>) -> Result<()> {
    let connection = connection(walk)?;
    protocol::proceed(connection)?;
    for step in &walk.plan.enter.mounter {
        if let EnterStep::JoinFirst(kind) = step {
            let namespace = own_namespace::open(walk.handles.procfs.as_fd(), *kind)?;
            protocol::proceed_with(connection, namespace.as_fd())?;
        }
    }
    let terminal = protocol::await_proceed_with(connection)?;
    if terminal.is_some() {
        // That came from the mounter, and the word that it has ended comes next.
        protocol::await_proceed(connection)?;
    }
    walk.terminal = terminal;
    walk.mounter = None;
    Ok(())
}
