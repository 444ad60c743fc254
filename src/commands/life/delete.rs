//! The end of a container: processes, cgroup, state directory.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::scope;
use crate::audit::What;
use crate::commands::audited;
use crate::error::{Error, Life, Result};
use crate::execute::alive::{self, Init};
use crate::execute::cgroup::Cgroup;
use crate::execute::{overlay, rdt};
use crate::state::{self, Container, OverlayRecord, Record, Status};
use crate::sys;

/// How long another command may hold the container, and how long a killed
/// process may take to end: runc's ten seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a stopped or created container, with `force` any; `poststop` gets
/// its record when everything is gone.
///
/// With `force` a container that does not exist, or that only left a directory
/// behind, is no error: callers use it to be sure.
///
/// # Errors
/// `container does not exist`; `cannot delete container X that is not stopped`;
/// `container init still running` ten seconds after SIGKILL. What could not be
/// removed stays recorded, so that delete can be tried again.
pub(crate) fn delete(root: &Path, id: &str, force: bool, poststop: &dyn Fn(&Record)) -> Result<()> {
    match remove(root, id, force) {
        Ok(Some(record)) => {
            poststop(&record);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(Error::Life(Life::DoesNotExist)) if force => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove(root: &Path, id: &str, force: bool) -> Result<Option<Record>> {
    let container = super::find(root, id)?;
    // Before the lock: whoever holds it may be waiting for this very process,
    // and a live container need not be waited for to be refused.
    match container.load() {
        Ok(record) if force => kill(&record)?,
        Ok(record) => refuse_live(&container, &record)?,
        Err(_) => {}
    }
    let _lock = container.lock(PATIENCE)?;
    let record = match container.load() {
        Ok(record) => record,
        Err(Error::Life(Life::DoesNotExist)) => {
            // Left over from a creation that was killed before it wrote anything.
            container.remove()?;
            return Err(Life::DoesNotExist.into());
        }
        Err(Error::State { .. }) if force => {
            salvage(&container)?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !force {
        refuse_live(&container, &record)?;
    }
    kill(&record)?;
    if let Some(init) = Init::of(&record)?
        && !init.wait_end(PATIENCE)?
    {
        return Err(Life::StillRunning.into());
    }
    scope::end(&record)?;
    if let Some(cgroup) = Cgroup::of(&record)? {
        clear(&cgroup)?;
    }
    overlay::undo(record.overlay.as_ref(), &record.rootfs)?;
    if let Some(rdt) = &record.rdt {
        rdt::leave(rdt)?;
    }
    if let Some(first) = record.ids {
        state::give_back(first, container.path());
    }
    container.remove()?;
    let failed = false;
    audited::done(&container, &record, What::Delete { force, failed });
    Ok(Some(record))
}

fn refuse_live(container: &Container, record: &Record) -> Result<()> {
    match alive::status(container, record)? {
        // The own lock makes an interrupted creation look like one in progress.
        Status::Creating | Status::Created | Status::Stopped => Ok(()),
        live => Err(Life::DeleteLive(record.id.clone(), live.as_str()).into()),
    }
}

/// SIGKILL for the first process, and for the others where they would outlive it.
fn kill(record: &Record) -> Result<()> {
    if let Some(init) = Init::of(record)? {
        init.signal(Signal::SIGKILL as i32)?;
    }
    // Without a known first process, the one of an interrupted creation may be there.
    if (!record.private_pid || record.pid <= 0)
        && let Some(cgroup) = Cgroup::of(record)?
    {
        cgroup.kill()?;
    }
    Ok(())
}

/// Ends what is left in a cgroup and removes it.
fn clear(cgroup: &Cgroup) -> Result<()> {
    if cgroup.is_populated()? {
        cgroup.kill()?;
    }
    cgroup.remove()
}

/// Removes a container whose record cannot be used, with what the record still
/// tells: another version's names its process, cgroup, overlay and ids as this one's does.
fn salvage(container: &Container) -> Result<()> {
    let record = container.load_raw().unwrap_or(Value::Null);
    let pid = record
        .get("pid")
        .and_then(Value::as_i64)
        .and_then(|pid| i32::try_from(pid).ok());
    let start_time = record.get("start_time").and_then(Value::as_u64);
    if let (Some(pid), Some(start_time)) = (pid, start_time)
        && let Some(init) = Init::open(pid, start_time)?
    {
        init.signal(Signal::SIGKILL as i32)?;
        if !init.wait_end(PATIENCE)? {
            return Err(Life::StillRunning.into());
        }
    }
    if let Some(path) = record.pointer("/cgroup/path").and_then(Value::as_str)
        && let Some(cgroup) = Cgroup::open(Path::new(path))?
        // A damaged path must not end this very command.
        && !cgroup.pids()?.contains(&sys::process::id())
    {
        clear(&cgroup)?;
    }
    let overlay = record
        .get("overlay")
        .and_then(|told| OverlayRecord::deserialize(told).ok())
        .filter(OverlayRecord::is_named_so);
    let rootfs = record.get("rootfs").and_then(Value::as_str);
    overlay::undo(overlay.as_ref(), Path::new(rootfs.unwrap_or_default()))?;
    let first = record.get("ids").and_then(Value::as_u64);
    if let Some(first) = first.and_then(|first| u32::try_from(first).ok()) {
        // Taken back only where this container holds it.
        state::give_back(first, container.path());
    }
    container.remove()
}
