//! Making the Landlock fence and going behind it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::Failure;
use crate::plan::landlock::{self as rights, Beneath, FenceStep, Ruleset};
use crate::sys::Result;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::landlock::{self, Handled};

use super::child::Walk;
use super::lookup;

/// Carries out one step of making it.
pub fn step(walk: &mut Walk<'_>, step: &FenceStep) -> Result<()> {
    match step {
        FenceStep::Ruleset(ruleset) => make(walk, ruleset),
        FenceStep::Beneath(rule) => allow_beneath(walk, rule),
        FenceStep::Port(port) => landlock::allow_port(ruleset_of(walk)?, port.number, port.access),
    }
}

fn make(walk: &mut Walk<'_>, ruleset: &Ruleset) -> Result<()> {
    let handled = Handled {
        files: ruleset.files,
        ports: ruleset.ports,
        scopes: ruleset.scopes,
    };
    walk.ruleset = Some(landlock::create_ruleset(&handled)?);
    Ok(())
}

/// Allows something below a path: found as everything below the container's root
/// is, after all mounts are made, so that it is what the program will see.
///
/// What is not there needs no rule. In a container that runs already its programs
/// can have put something else in a path's way; then the rule allows that, and
/// the mounts still say what may be done with it.
fn allow_beneath(walk: &Walk<'_>, rule: &Beneath) -> Result<()> {
    let ruleset = ruleset_of(walk)?;
    let found = match &walk.root {
        Some(root) => lookup::open(root.as_fd(), &rule.path),
        None => {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let root = fd::open(At::Cwd, c"/", flags, Resolve::ANY)?;
            lookup::open(root.as_fd(), &rule.path)
        }
    };
    let found = match found {
        Err(failure) if matches!(failure.errno, libc::ENOENT | libc::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let access = match fd::stat(found.as_fd())?.is(libc::S_IFDIR) {
        true => rule.access,
        false => rule.access & rights::OF_FILES,
    };
    landlock::allow_beneath(ruleset, found.as_fd(), access)
}

/// Goes behind the fence. What the program gets opened it may open again through
/// /proc/self/fd and /dev/stdout, as far as it is open: a log file of the caller
/// is below no mount of the container.
pub fn restrict_self(walk: &mut Walk<'_>, handled: u64, descriptors: i32) -> Result<()> {
    let ruleset = ruleset_of(walk)?;
    if handled != 0 {
        for number in 0..descriptors {
            if let Some(open) = fd::of_program(number) {
                allow_again(ruleset, open, handled)?;
            }
        }
    }
    landlock::restrict_self(ruleset)?;
    walk.ruleset = None;
    Ok(())
}

fn allow_again(ruleset: BorrowedFd<'_>, open: BorrowedFd<'_>, handled: u64) -> Result<()> {
    let flags = fd::status_flags(open)?;
    if flags & libc::O_PATH != 0 || fd::stat(open)?.is(libc::S_IFDIR) {
        return Ok(());
    }
    let access = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => rights::READING,
        libc::O_WRONLY => rights::WRITING,
        _ => rights::READING | rights::WRITING,
    };
    match landlock::allow_beneath(ruleset, open, access & handled) {
        // Pipes, sockets and memory files: no fence is around them.
        Err(failure) if failure.is(libc::EBADFD) => Ok(()),
        other => other,
    }
}

fn ruleset_of<'w>(walk: &'w Walk<'_>) -> Result<BorrowedFd<'w>> {
    let ruleset: Option<&OwnedFd> = walk.ruleset.as_ref();
    let missing = Failure::of(syscalls::Sysno::landlock_restrict_self, libc::EBADF);
    ruleset.map(AsFd::as_fd).ok_or(missing)
}
