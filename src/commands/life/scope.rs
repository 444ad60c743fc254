//! The scope of a container whose cgroup systemd made.

use crate::error::Result;
use crate::execute::cgroup::Cgroup;
use crate::execute::systemd::{Environment, Manager};
use crate::log;
use crate::plan::cgroup::systemd::Instance;
use crate::state::{Driver, Record};

/// Whose systemd made the container's cgroup, and as which unit; `None` where
/// capsid made it, or there is none.
fn of(record: &Record) -> Option<(Instance, String)> {
    let place = record.cgroup.as_ref()?;
    let instance = match place.driver {
        Driver::Cgroupfs => return None,
        Driver::Systemd => Instance::System,
        Driver::SystemdUser => Instance::User,
    };
    let unit = place.path.file_name().unwrap_or_default();
    Some((instance, unit.to_string_lossy().into_owned()))
}

/// The systemd of a container's scope, and the unit's name; `None` where there is no scope.
///
/// # Errors
/// [`Error::Missing`](crate::error::Error::Missing) when it cannot be reached.
pub(crate) fn manager(record: &Record) -> Result<Option<(Manager, String)>> {
    let Some((instance, unit)) = of(record) else {
        return Ok(None);
    };
    let manager = Manager::connect(instance, &Environment::read())?;
    Ok(Some((manager, unit)))
}

/// Ends the scope of a container, with all processes in it. A systemd that
/// cannot be reached any more is a warning: the cgroup can be removed without
/// it, and it then forgets the scope by itself.
///
/// # Errors
/// [`Error::System`](crate::error::Error::System) when processes cannot be killed.
pub(crate) fn end(record: &Record) -> Result<()> {
    if of(record).is_none() {
        return Ok(());
    }
    if let Some(cgroup) = Cgroup::of(record)? {
        cgroup.kill()?;
    }
    let ended = match manager(record) {
        Ok(Some((mut manager, unit))) => manager.stop(&unit),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        log::warning(error);
    }
    Ok(())
}
