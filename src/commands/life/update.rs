//! Changing the limits of a container.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::{freeze, scope};
use crate::error::{Error, Life, Result};
use crate::execute::alive;
use crate::execute::cgroup::{self, Cgroup};
use crate::host::cgroup::CgroupFacts;
use crate::log;
use crate::plan::cgroup::{Request, plan, systemd};
use crate::spec::{bundle, validate};
use crate::state::{Record, Status};

/// How long another command on the same container is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where new limits come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// Options of the command line.
    Options(Box<LinuxResources>),
    /// A file with JSON like `linux.resources`.
    File(PathBuf),
    /// The same on standard input.
    StandardInput,
}

/// Gives a container other limits; what is not named stays.
///
/// # Errors
/// `container not running`; [`Error::Spec`] for limits that make no sense;
/// [`Error::Missing`] without a cgroup, and for what the kernel refuses.
pub(crate) fn update(root: &Path, id: &str, source: Source) -> Result<()> {
    let container = super::find(root, id)?;
    let _lock = container.lock(PATIENCE)?;
    let record = container.load()?;
    match alive::status(&container, &record)? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(Life::NotRunning.into()),
    }
    let (file, mut resources) = read(source)?;
    validate::validate_resources(&mut resources, &record.oci_version, &file)?;
    let cgroup = freeze::cgroup(&record, "update")?;
    keep_quota_or_period(&cgroup, &mut resources)?;
    carry_out(&record, &resources, &file)
}

fn carry_out(record: &Record, resources: &LinuxResources, file: &Path) -> Result<()> {
    let request = Request {
        id: &record.id,
        path: None,
        resources: Some(resources),
        devices: &[],
        device_filter: false,
    };
    let mut plan = plan(&request, &CgroupFacts::read()?).map_err(|problems| Error::Spec {
        file: file.to_owned(),
        problems,
    })?;
    plan.notes.iter().for_each(log::warning);
    if let Some(cgroup) = &record.cgroup {
        plan.path = cgroup.path.clone();
    }
    let properties = systemd::changed(&plan.limits);
    let manager = match properties.is_empty() {
        true => None,
        false => scope::manager(record)?,
    };
    match manager {
        None => cgroup::update(&plan, None),
        // Otherwise it would bring back what it believes, at the next occasion.
        Some((mut manager, unit)) => {
            cgroup::update(&plan, Some(&mut || manager.set(&unit, &properties)))
        }
    }
}

/// The limits, and what their origin is called in messages.
fn read(source: Source) -> Result<(PathBuf, LinuxResources)> {
    let (bytes, file) = match source {
        Source::Options(resources) => return Ok(("the options".into(), *resources)),
        Source::File(file) => (bundle::read_limited(&file), file),
        Source::StandardInput => {
            let bytes = bundle::read_all(std::io::stdin(), 0);
            (bytes, PathBuf::from("standard input"))
        }
    };
    let bytes = bytes.map_err(|error| error.of(&file))?;
    let mut resources = bundle::parse_resources(&bytes, &file)?;
    if resources.devices().is_some() {
        // Engines send the whole object back; runc leaves devices alone as well.
        log::debug("the rules for devices stay as they are: update changes limits only");
        resources.set_devices(None);
    }
    Ok((file, resources))
}

/// `cpu.max` has quota and period. Where only one of them is to change, the other
/// is the one in force.
fn keep_quota_or_period(cgroup: &Cgroup, resources: &mut LinuxResources) -> Result<()> {
    let Some(mut cpu) = resources.cpu().clone() else {
        return Ok(());
    };
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if (quota == 0) == (period == 0) {
        return Ok(());
    }
    let Some(now) = cgroup.content("cpu.max")? else {
        return Ok(());
    };
    if let Some((old_quota, old_period)) = now.trim().split_once(' ') {
        if quota == 0 {
            // `max` is no number, and what a period without a quota means.
            cpu.set_quota(old_quota.parse().ok());
        } else {
            cpu.set_period(old_period.parse().ok());
        }
    }
    resources.set_cpu(Some(cpu));
    Ok(())
}
