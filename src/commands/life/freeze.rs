//! Suspending a container and letting it go on.

use std::path::Path;

use crate::error::{Error, Life, Result};
use crate::execute::alive;
use crate::execute::cgroup::Cgroup;
use crate::state::{Record, Status};

/// Freezes all processes of a container.
///
/// # Errors
/// `container not running`, `container paused`; [`Error::Missing`] without a cgroup.
pub(crate) fn pause(root: &Path, id: &str) -> Result<()> {
    let (container, record) = super::load(root, id)?;
    match alive::status(&container, &record)? {
        Status::Running | Status::Created => {
            cgroup(&record, "pause")?.freeze(true)?;
            super::show_engine(&record);
            Ok(())
        }
        Status::Paused => Err(Life::Paused.into()),
        Status::Creating | Status::Stopped => Err(Life::NotRunning.into()),
    }
}

/// Thaws a paused container.
///
/// # Errors
/// `container not paused`.
pub(crate) fn resume(root: &Path, id: &str) -> Result<()> {
    let (container, record) = super::load(root, id)?;
    match alive::status(&container, &record)? {
        Status::Paused => cgroup(&record, "resume")?.freeze(false),
        _ => Err(Life::NotPaused.into()),
    }
}

pub(super) fn cgroup(record: &Record, doing: &str) -> Result<Cgroup> {
    Cgroup::of(record)?.ok_or_else(|| Error::Missing {
        doing: format!("{doing} the container {}", record.id),
        missing: "it has no cgroup of its own, where freezer and limits are".into(),
        repair: "create it where a cgroup can be made: as root, or in a delegated cgroup \
                 (systemd-run --user --scope -p Delegate=yes)"
            .into(),
    })
}
