//! How one more process gets into the container's cgroup.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::life;
use crate::error::{Error, Result};
use crate::execute::cgroup::Cgroup;
use crate::execute::systemd::Manager;
use crate::host::cgroup::{Access, CgroupFacts};
use crate::state::{Driver, Record};

/// The way into the cgroup.
pub(super) enum Entry {
    /// The container has none of its own.
    Nowhere,
    /// It is cloned into it.
    Clone(Rc<Cgroup>),
    /// systemd moves it: an ordinary user may not, from outside of what systemd
    /// delegated to that user (a login session).
    Systemd(Scope),
}

/// A scope, and the systemd that has it.
pub(super) struct Scope {
    manager: Manager,
    unit: String,
    /// Where the scope's cgroup is.
    path: PathBuf,
    /// The cgroup below it, with a slash before it; empty for its own.
    below: String,
    /// Which cgroup it is was not said.
    may_choose: bool,
    /// The container's first process.
    init: i32,
}

impl Entry {
    /// Finds it; `asked` are the values of `--cgroup`.
    ///
    /// # Errors
    /// [`Error::Usage`] for what is no path below the container's cgroup;
    /// [`Error::Missing`] for one that does not exist.
    pub(super) fn of(record: &Record, asked: &[String]) -> Result<Self> {
        let Some(own) = &record.cgroup else {
            return Ok(Entry::Nowhere);
        };
        let below = asked
            .first()
            .map_or("", |path| path.trim_start_matches('/'));
        if asked.len() > 1 || below.split('/').any(|part| part == "..") {
            return Err(Error::Usage(format!(
                "--cgroup {}: give one path below the container's cgroup, without ..",
                asked.join(" --cgroup ")
            )));
        }
        let path = own.path.join(below);
        let Some(cgroup) = Cgroup::open(&path)? else {
            return Err(Error::Missing {
                doing: "enter the cgroup".into(),
                missing: format!("{} does not exist", path.display()),
                repair: "make it inside the container's cgroup first".into(),
            });
        };
        if own.driver != Driver::Cgroupfs
            && let Access::Denied(..) = CgroupFacts::read()?.access(&path)
            && let Some((manager, unit)) = life::scope::manager(record)?
        {
            return Ok(Entry::Systemd(Scope {
                manager,
                unit,
                path: own.path.clone(),
                below: slashed(Path::new(below)),
                may_choose: asked.is_empty(),
                init: record.pid,
            }));
        }
        Ok(Entry::Clone(Rc::new(cgroup)))
    }
}

impl Scope {
    /// Has a process put into the scope; where its own cgroup takes none any
    /// more, into that of the container's first process.
    pub(super) fn take_in(&mut self, pid: i32) -> Result<()> {
        let refused = match self.manager.attach(&self.unit, &self.below, pid) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let init = path_of(self.init)?;
        match init.strip_prefix(&self.path) {
            Ok(below) if self.may_choose && below != Path::new("") => {
                self.manager.attach(&self.unit, &slashed(below), pid)
            }
            _ => Err(refused),
        }
    }
}

fn slashed(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => String::new(),
        false => format!("/{}", path.display()),
    }
}

fn path_of(pid: i32) -> Result<PathBuf> {
    let facts = CgroupFacts::of(pid)?;
    let mount = facts.mount.as_deref().unwrap_or(Path::new(""));
    Ok(facts.own_directory(mount))
}

/// The cgroup that the container's first process is in now.
pub(super) fn of_init(record: &Record) -> Result<Option<Cgroup>> {
    Cgroup::open(&path_of(record.pid)?)
}
