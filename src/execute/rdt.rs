//! Classes and monitoring groups on the resctrl file system.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use syscalls::Sysno;

use crate::error::{Error, Result, errno_text};
use crate::host::mountinfo;
use crate::plan::rdt::RdtPlan;
use crate::state::RdtRecord;

/// Where classes are.
#[derive(Debug)]
pub struct Resctrl {
    root: PathBuf,
    /// mkdir(2) and rmdir(2): with a directory the kernel makes and removes the
    /// files in it, which no directory tree of a test does by itself.
    make: fn(&Path) -> io::Result<()>,
    remove: fn(&Path) -> io::Result<()>,
}

impl Resctrl {
    /// Where it is mounted.
    ///
    /// # Errors
    /// [`Error::Missing`] where it is not.
    pub fn mounted() -> Result<Self> {
        Self::find()?.ok_or_else(|| Error::Missing {
            doing: "apply linux.intelRdt".into(),
            missing: "no resctrl file system is mounted".into(),
            repair: "where the processor has it, as root: mount -t resctrl resctrl /sys/fs/resctrl"
                .into(),
        })
    }

    fn find() -> Result<Option<Self>> {
        let mounts = mountinfo::read()?;
        let mount = mounts.into_iter().find(|mount| mount.kind == "resctrl");
        Ok(mount.map(|mount| Self {
            root: mount.point,
            make: |path| fs::create_dir(path),
            remove: |path| fs::remove_dir(path),
        }))
    }

    fn class(&self, name: Option<&String>) -> PathBuf {
        name.map_or_else(|| self.root.clone(), |name| self.root.join(name))
    }

    fn group(&self, class: Option<&String>, group: Option<&String>) -> PathBuf {
        let class = self.class(class);
        group.map_or_else(
            || class.clone(),
            |group| class.join("mon_groups").join(group),
        )
    }

    /// Makes sure that the class can be used; says whether it is there.
    ///
    /// # Errors
    /// [`Error::Missing`] where it must be there and is not, or is another one.
    pub fn check(&self, plan: &RdtPlan) -> Result<bool> {
        let class = self.class(plan.class.as_ref());
        let refuse = |missing: String| {
            Err(Error::Missing {
                doing: format!("use the resctrl class {}", class.display()),
                missing,
                repair: "correct linux.intelRdt, or name another closID".into(),
            })
        };
        let there = match fs::read_to_string(class.join("schemata")) {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound && plan.may_make() => {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return refuse(
                    "it does not exist, and the bundle does not say what it is to be".into(),
                );
            }
            Err(error) => return Err(failed("read the schemata of", &class, &error)),
        };
        match plan.difference(&there) {
            Some(difference) => refuse(format!("it is there and differs: {difference}")),
            None => Ok(true),
        }
    }

    /// Puts a process into the class, which is made if it is not there. `note`
    /// gets what is about to be made: whoever finds that can remove it.
    ///
    /// # Errors
    /// As [`Resctrl::check`], and [`Error::System`].
    pub fn enter(
        &self,
        plan: &RdtPlan,
        pid: i32,
        note: &mut dyn FnMut(&RdtRecord) -> Result<()>,
    ) -> Result<()> {
        let mut record = RdtRecord {
            class: plan.class.clone(),
            own: plan.own,
            group: plan.group.clone(),
            ..RdtRecord::default()
        };
        let class = self.class(record.class.as_ref());
        record.made_class = !self.check(plan)?;
        note(&record)?;
        if record.made_class {
            record.made_class = self.make_class(plan, &class)?;
            if !record.made_class {
                note(&record)?;
            }
        }
        let group = self.group(record.class.as_ref(), record.group.as_ref());
        record.made_group = record.group.is_some() && !group.exists();
        if record.made_group {
            note(&record)?;
            (self.make)(&group)
                .map_err(|error| failed("make the monitoring group", &group, &error))?;
        }
        self.join(&record, pid)
    }

    /// Makes and describes a class, unless somebody made the same one meanwhile.
    fn make_class(&self, plan: &RdtPlan, class: &Path) -> Result<bool> {
        match (self.make)(class) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return self.check(plan).map(|_| false);
            }
            other => other.map_err(|error| failed("make the resctrl class", class, &error))?,
        }
        let schemata = class.join("schemata");
        let mut texts = plan.schemata.iter();
        texts.try_for_each(|text| self.write(&schemata, text))?;
        Ok(true)
    }

    /// Puts one more process where the container's first one is.
    ///
    /// # Errors
    /// [`Error::Missing`] with the kernel's words.
    pub fn join(&self, record: &RdtRecord, pid: i32) -> Result<()> {
        let group = self.group(record.class.as_ref(), record.group.as_ref());
        self.write(&group.join("tasks"), &format!("{pid}\n"))
    }

    /// Removes what was made for a container. A class that was named stays as
    /// long as processes of others are in it: they would lose it in silence.
    fn leave(&self, record: &RdtRecord) -> Result<()> {
        let group = self.group(record.class.as_ref(), record.group.as_ref());
        if record.made_group {
            self.remove(&group)?;
        }
        let class = self.class(record.class.as_ref());
        let tasks = fs::read_to_string(class.join("tasks")).unwrap_or_default();
        if record.made_class && (record.own || tasks.trim().is_empty()) {
            self.remove(&class)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match (self.remove)(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("remove", path, &error))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let file = OpenOptions::new().write(true).truncate(true).open(path);
        let outcome = file.and_then(|mut file| file.write_all(text.as_bytes()));
        let Err(error) = outcome else { return Ok(()) };
        let status = self.root.join("info/last_cmd_status");
        let status = fs::read_to_string(status).unwrap_or_default();
        let errno = errno_text(error.raw_os_error().unwrap_or(libc::EIO));
        Err(Error::Missing {
            doing: format!("write {:?} to {}", text.trim_end(), path.display()),
            missing: format!("the kernel refused it: {errno}; it says: {}", status.trim()),
            repair: "see what /sys/fs/resctrl/info says that the processor has".into(),
        })
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    let call = match doing.split(' ').next() {
        Some("make") => Sysno::mkdir,
        Some("remove") => Sysno::rmdir,
        _ => Sysno::read,
    };
    Error::io(doing, path.display(), call, error)
}

/// Removes what was made for a container. Where nothing is mounted any more, the
/// kernel has done so.
///
/// # Errors
/// [`Error::System`].
pub fn leave(record: &RdtRecord) -> Result<()> {
    match Resctrl::find()? {
        Some(resctrl) => resctrl.leave(record),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
