//! What a container uses, and when it runs out of memory: one JSON object per line.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::freeze;
use crate::error::{Error, Result};
use crate::execute::alive::{self, Init};
use crate::execute::cgroup::{Cgroup, Woken};
use crate::log;
use crate::state::{Record, Status};

mod stats;

use stats::Stats;

/// One line of output, in runc's words.
#[derive(Serialize)]
struct Event<'e> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints the statistics once.
///
/// # Errors
/// `container with id ID is not running`; [`Error::Missing`] without a cgroup.
pub(crate) fn once(root: &Path, id: &str, out: &mut dyn Write) -> Result<()> {
    let (record, cgroup) = running(root, id)?;
    print(out, &record.id, Some(Stats::of(&cgroup)?)).map(drop)
}

/// Prints statistics at each interval and a line for each time the kernel has
/// killed for lack of memory, until the container or the reader has ended.
///
/// # Errors
/// As [`once`].
pub(crate) fn follow(root: &Path, id: &str, interval: Duration, out: &mut dyn Write) -> Result<()> {
    let (record, cgroup) = running(root, id)?;
    let Some(init) = Init::of(&record)? else {
        return Err(not_running(id));
    };
    let watch = cgroup.watch_memory()?;
    if watch.is_none() {
        log::warning(
            "no notices of memory running out: the container's cgroup does not have the controller memory",
        );
    }
    let mut killed = kills(&cgroup)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let woken = cgroup.wait_memory(watch.as_ref(), init.pidfd(), left)?;
        // Also at the end: the kernel counts a kill before it sends the signal.
        let now = kills(&cgroup)?;
        if now > killed && !print(out, id, None)? {
            return Ok(());
        }
        killed = now.max(killed);
        match woken {
            Woken::Ended => return Ok(()),
            Woken::Memory => {}
            Woken::Nothing => {
                if !cgroup.is_populated()? || !print(out, id, Some(Stats::of(&cgroup)?))? {
                    return Ok(());
                }
                next = Instant::now() + interval;
            }
        }
    }
}

fn running(root: &Path, id: &str) -> Result<(Record, Cgroup)> {
    let (container, record) = super::load(root, id)?;
    match alive::status(&container, &record)? {
        Status::Stopped | Status::Creating => Err(not_running(id)),
        Status::Created | Status::Running | Status::Paused => {
            let cgroup = freeze::cgroup(&record, "watch")?;
            Ok((record, cgroup))
        }
    }
}

/// runc's words.
fn not_running(id: &str) -> Error {
    Error::Usage(format!("container with id {id} is not running"))
}

/// Whether the kernel has killed a process of a container for lack of memory.
pub(crate) fn out_of_memory(record: &Record) -> bool {
    let cgroup = Cgroup::of(record).ok().flatten();
    cgroup.is_some_and(|cgroup| kills(&cgroup).is_ok_and(|kills| kills > 0))
}

/// How many processes the kernel has killed in the cgroup for lack of memory.
fn kills(cgroup: &Cgroup) -> Result<u64> {
    let events = cgroup.content("memory.events")?.unwrap_or_default();
    Ok(stats::number_of(&events, "oom_kill"))
}

/// Prints a line at once; `false` when nobody reads any more, which is no failure.
fn print(out: &mut dyn Write, id: &str, data: Option<Stats>) -> Result<bool> {
    let kind = if data.is_some() { "stats" } else { "oom" };
    let line = serde_json::to_string(&Event { kind, id, data })
        .map_err(|e| Error::Usage(format!("the event cannot be written as JSON: {e}")))?;
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        outcome => super::output(outcome).map(|()| true),
    }
}
