//! A signal for a container.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::signals;
use crate::audit::What;
use crate::commands::audited;
use crate::error::{Error, Life, Result};
use crate::execute::alive::Init;
use crate::execute::cgroup::Cgroup;
use crate::state::{Container, Record};

/// How long a kill waits for its turn. It then acts all the same: a container
/// must be killable while another command hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends a signal to the first process of a container.
///
/// SIGKILL of a container without a pid namespace of its own goes to its whole
/// cgroup, for its other processes would outlive the first. With `all`, a
/// container that is not running is no error: engines make sure that way.
///
/// # Errors
/// `container does not exist`, `container not running`, `unknown signal "X"`.
pub(crate) fn kill(root: &Path, id: &str, signal: &str, all: bool) -> Result<()> {
    let (container, record) = super::load(root, id)?;
    let signal = signals::parse(signal)?;
    let reached = if signal == Signal::SIGKILL as i32 && !record.private_pid {
        kill_group(&container, &record)?
    } else {
        signal_init(&record, signal)?
    };
    if reached {
        audited::done(&container, &record, What::Kill { signal });
    }
    if reached || all {
        Ok(())
    } else {
        Err(Life::NotRunning.into())
    }
}

fn signal_init(record: &Record, signal: i32) -> Result<bool> {
    match Init::of(record)? {
        Some(init) => init.signal(signal),
        None => Ok(false),
    }
}

/// Under the lock: otherwise the cgroup could be deleted and become another
/// container's between reading the record and killing.
fn kill_group(container: &Container, record: &Record) -> Result<bool> {
    let _lock = match container.lock(PATIENCE) {
        Ok(lock) => Some(lock),
        Err(Error::State { .. }) => None,
        Err(error) => return Err(error),
    };
    let Some(cgroup) = Cgroup::of(record)? else {
        return signal_init(record, Signal::SIGKILL as i32);
    };
    let populated = cgroup.is_populated()?;
    cgroup.kill()?;
    // The first process may have been moved elsewhere.
    let signalled = signal_init(record, Signal::SIGKILL as i32)?;
    Ok(populated || signalled)
}
