//! Unpacked images, kept for the next time: `~/.cache/capsid/images`.
//!
//! A tree is made as `KEY.new` and renamed to `KEY` when it is whole: what has
//! no `.new` is complete. The lock is on the directory itself, so it ends with
//! the process, and goes with the directory when that is renamed.
//!
//! Whoever may write here may change what images are. So the directories must
//! be the caller's own, closed to others, and no links.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, mkdir, unlinkat};
use syscalls::Sysno;

use super::unpack::Place;
use super::{refuse, tree};
use crate::error::{Error, Result};
use crate::sys::NEWFSTATAT;
use crate::sys::fd;

const NEW: &str = ".new";

/// A directory of unpacked images.
#[derive(Debug)]
pub struct Cache {
    directory: OwnedFd,
    path: PathBuf,
}

/// A directory under its temporary name, held by this process only.
struct Claim {
    directory: Flock<OwnedFd>,
}

impl Cache {
    /// `$XDG_CACHE_HOME`, or `.cache` in `$HOME`.
    ///
    /// # Errors
    /// [`Error::Missing`] where neither is an absolute path.
    pub fn base(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
        let absolute = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_CACHE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".cache")))
            .ok_or_else(|| Error::Missing {
                doing: "find a place for unpacked images".into(),
                missing: "neither XDG_CACHE_HOME nor HOME is an absolute path".into(),
                repair: "set XDG_CACHE_HOME".into(),
            })
    }

    /// Opens `capsid/images` below such a base, making what is missing.
    ///
    /// # Errors
    /// [`Error::Image`] for a directory that others could write to.
    pub fn open(base: &Path) -> Result<Self> {
        make_with_parents(base)?;
        let mut directory = super::open_host_directory(base)?;
        let mut path = base.to_owned();
        // Of the base only the owner is looked at: who owns it can rename what is in it.
        owned(directory.as_fd(), &path, 0)?;
        for (name, closed) in [(c"capsid", 0o022), (c"images", 0o077)] {
            path.push(name.to_string_lossy().as_ref());
            match mkdirat(&directory, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => {
                    return Err(Error::nix("make", path.display(), Sysno::mkdirat, errno));
                }
            }
            directory = tree::enter(directory.as_fd(), name)
                .map_err(|problem| refuse(path.display(), format!("not a directory: {problem}")))?;
            owned(directory.as_fd(), &path, closed)?;
        }
        Ok(Self { directory, path })
    }

    /// The tree of that key, made by `fill` if there is none. Waits while
    /// another process makes it.
    pub(super) fn tree(
        &self,
        key: &str,
        fill: impl FnOnce(&Place<'_>) -> Result<()>,
    ) -> Result<PathBuf> {
        self.sweep();
        let name = self.name(key)?;
        let new = self.name(&format!("{key}{NEW}"))?;
        let done = self.path.join(key).join("rootfs");
        let claim = loop {
            if self.inode(&name)?.is_some() {
                return Ok(done);
            }
            if let Some(claim) = self.claim(&new)? {
                break claim;
            }
        };
        // It can have been completed between the look and the lock.
        if self.inode(&name)?.is_some() {
            self.discard(&new, &claim)?;
            return Ok(done);
        }
        let outcome = self.fill(&claim, fill).and_then(|()| {
            renameat(
                &self.directory,
                new.as_c_str(),
                &self.directory,
                name.as_c_str(),
            )
            .map_err(|errno| self.failed("complete", Sysno::renameat, errno))
        });
        if let Err(error) = outcome {
            // The first error is the one to tell; what is left is swept later.
            let _ = self.discard(&new, &claim);
            return Err(error);
        }
        Ok(done)
    }

    fn fill(&self, claim: &Claim, fill: impl FnOnce(&Place<'_>) -> Result<()>) -> Result<()> {
        let directory = claim.directory.as_fd();
        let failed = |problem| refuse(self.path.display(), problem);
        // What a process left behind that was killed.
        tree::clear(directory, &mut drop).map_err(failed)?;
        let make = |name: &CStr| {
            mkdirat(directory, name, Mode::S_IRWXU)
                .map_err(|errno| self.failed("make a directory in", Sysno::mkdirat, errno))?;
            let made = tree::enter(directory, name).map_err(failed)?;
            Ok::<OwnedFd, Error>(made)
        };
        let root = make(c"rootfs")?;
        let scrap = make(c"scrap")?;
        fd::chmod(root.as_fd(), 0o755)
            .map_err(|failure| Error::system("set the mode of", self.path.display(), failure))?;
        fill(&Place {
            root: root.as_fd(),
            scrap: scrap.as_fd(),
        })?;
        unlinkat(directory, c"scrap", UnlinkatFlags::RemoveDir)
            .map_err(|errno| self.failed("tidy", Sysno::unlinkat, errno))
    }

    /// Makes or opens a temporary directory and locks it. Nothing when it lost
    /// its name meanwhile: it was completed, or swept away.
    fn claim(&self, new: &CStr) -> Result<Option<Claim>> {
        match mkdirat(&self.directory, new, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(self.failed("make a directory in", Sysno::mkdirat, errno)),
        }
        let Ok(directory) = tree::enter(self.directory.as_fd(), new) else {
            return match self.inode(new)? {
                None => Ok(None),
                Some(_) => Err(refuse(
                    self.path.join(new.to_string_lossy().as_ref()).display(),
                    "not a directory of capsid's; remove it",
                )),
            };
        };
        let directory = Flock::lock(directory, FlockArg::LockExclusive)
            .map_err(|(_, errno)| self.failed("lock a directory in", Sysno::flock, errno))?;
        let held = tree::inode(directory.as_fd());
        let claim = Claim { directory };
        Ok((self.inode(new)? == held.ok()).then_some(claim))
    }

    /// Removes what interrupted processes left behind; nobody waits for it, so
    /// what cannot be removed stays for the next time.
    fn sweep(&self) {
        let Ok(names) = tree::list(self.directory.as_fd()) else {
            return;
        };
        for name in names {
            if !name.to_bytes().ends_with(NEW.as_bytes()) {
                continue;
            }
            let Ok(directory) = tree::enter(self.directory.as_fd(), &name) else {
                continue;
            };
            let Ok(directory) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            let held = tree::inode(directory.as_fd()).ok();
            if self.inode(&name).is_ok_and(|named| named == held) {
                let _ = self.discard(&name, &Claim { directory });
            }
        }
    }

    fn discard(&self, name: &CStr, claim: &Claim) -> Result<()> {
        tree::clear(claim.directory.as_fd(), &mut drop)
            .map_err(|problem| refuse(self.path.display(), problem))?;
        unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir)
            .map_err(|errno| self.failed("remove a directory in", Sysno::unlinkat, errno))
    }

    fn name(&self, name: &str) -> Result<CString> {
        CString::new(name).map_err(|error| refuse(self.path.display(), error))
    }

    /// The inode number of a name here, if there is one.
    fn inode(&self, name: &CStr) -> Result<Option<u64>> {
        match fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("look into", NEWFSTATAT, errno)),
        }
    }

    fn failed(&self, doing: &str, call: Sysno, errno: Errno) -> Error {
        Error::nix(doing, self.path.display(), call, errno)
    }
}

/// Makes the base and what is missing above it, for the caller only.
fn make_with_parents(base: &Path) -> Result<()> {
    let mut paths: Vec<&Path> = base.ancestors().collect();
    paths.retain(|path| !path.as_os_str().is_empty());
    for path in paths.into_iter().rev() {
        match mkdir(path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::nix("make", path.display(), Sysno::mkdirat, errno)),
        }
    }
    Ok(())
}

/// The directory is the caller's, and lets others do none of `closed`.
fn owned(directory: BorrowedFd<'_>, path: &Path, closed: u32) -> Result<()> {
    let stat =
        fd::stat(directory).map_err(|failure| Error::system("look at", path.display(), failure))?;
    let own = Uid::effective().as_raw();
    // Root's directories are as safe as the caller's, and the base may be one of them.
    if stat.uid != own && (closed != 0 || stat.uid != 0) {
        let problem = format!(
            "it belongs to user {}, who could change what images are; \
             set XDG_CACHE_HOME to a directory of your own",
            stat.uid
        );
        return Err(refuse(path.display(), problem));
    }
    if stat.mode & closed != 0 {
        let problem = format!(
            "its mode {:04o} lets others in, who could change what images are; \
             `chmod go= {}` closes it",
            stat.mode & 0o7777,
            path.display()
        );
        return Err(refuse(path.display(), problem));
    }
    Ok(())
}
