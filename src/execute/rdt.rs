//! Classes and monitoring groups on the resctrl file system.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use syscalls::Sysno;

use crate::error::{Error, Result, errno_text};
use crate::host::mountinfo;
use crate::plan::rdt::RdtPlan;
use crate::state::RdtRecord;

/// How a directory is made or removed, below an open one.
type Act = fn(BorrowedFd<'_>, &Path) -> io::Result<()>;

/// Where classes are. All paths are below its descriptor.
#[derive(Debug)]
pub struct Resctrl {
    root: OwnedFd,
    /// mkdir(2) and rmdir(2): with a directory the kernel makes and removes the
    /// files in it, which no directory tree of a test does by itself.
    make: Act,
    remove: Act,
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
        let Some(mount) = mounts.into_iter().find(|mount| mount.kind == "resctrl") else {
            return Ok(None);
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(&mount.point, flags, Mode::empty());
        let failed = |errno| Error::nix("open", mount.point.display(), Sysno::openat, errno);
        Ok(Some(Self {
            root: root.map_err(failed)?,
            make: |root, path| Ok(mkdirat(root, path, Mode::from_bits_truncate(0o755))?),
            remove: |root, path| Ok(unlinkat(root, path, UnlinkatFlags::RemoveDir)?),
        }))
    }

    /// A file or directory, through no link and no other mount.
    fn open(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(resolve);
        Ok(openat2(&self.root, path, how)?.into())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let mut file = self.open(path, OFlag::O_RDONLY)?;
        file.read_to_string(&mut text).map(|_| text)
    }

    fn class(name: Option<&String>) -> PathBuf {
        name.map_or_else(PathBuf::new, PathBuf::from)
    }

    fn group(class: Option<&String>, group: Option<&String>) -> PathBuf {
        let class = Self::class(class);
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
        let class = Self::class(plan.class.as_ref());
        let refuse = |missing: String| {
            Err(Error::Missing {
                doing: format!(
                    "use the resctrl class {}",
                    plan.class.as_deref().unwrap_or("/")
                ),
                missing,
                repair: "correct linux.intelRdt, or name another closID".into(),
            })
        };
        let there = match self.read(&class.join("schemata")) {
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
        let class = Self::class(record.class.as_ref());
        record.made_class = !self.check(plan)?;
        note(&record)?;
        if record.made_class {
            record.made_class = self.make_class(plan, &class)?;
            if !record.made_class {
                note(&record)?;
            }
        }
        let group = Self::group(record.class.as_ref(), record.group.as_ref());
        record.made_group = record.group.is_some() && self.open(&group, OFlag::O_PATH).is_err();
        if record.made_group {
            note(&record)?;
            (self.make)(self.root.as_fd(), &group)
                .map_err(|error| failed("make the monitoring group", &group, &error))?;
        }
        self.join(&record, pid)
    }

    /// Makes and describes a class, unless somebody made the same one meanwhile.
    fn make_class(&self, plan: &RdtPlan, class: &Path) -> Result<bool> {
        match (self.make)(self.root.as_fd(), class) {
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
        let group = Self::group(record.class.as_ref(), record.group.as_ref());
        self.write(&group.join("tasks"), &format!("{pid}\n"))
    }

    /// Removes what was made for a container. A class that was named stays as
    /// long as processes of others are in it: they would lose it in silence.
    fn leave(&self, record: &RdtRecord) -> Result<()> {
        let group = Self::group(record.class.as_ref(), record.group.as_ref());
        if record.made_group {
            self.remove(&group)?;
        }
        let class = Self::class(record.class.as_ref());
        let tasks = self.read(&class.join("tasks")).unwrap_or_default();
        if record.made_class && (record.own || tasks.trim().is_empty()) {
            self.remove(&class)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match (self.remove)(self.root.as_fd(), path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("remove", path, &error))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let file = self.open(path, OFlag::O_WRONLY | OFlag::O_TRUNC);
        let outcome = file.and_then(|mut file| file.write_all(text.as_bytes()));
        let Err(error) = outcome else { return Ok(()) };
        let status = self.read(Path::new("info/last_cmd_status"));
        let status = status.unwrap_or_default();
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
        Some("make") => Sysno::mkdirat,
        Some("remove") => Sysno::unlinkat,
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
