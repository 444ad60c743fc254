//! Ranges of user and group ids, each for one container of the machine at a time.
//!
//! There is a file for each range in use, whatever state directory its container
//! is in: it names that container's directory. While the container is created the
//! file is locked; afterwards the range is taken as long as the container's record
//! names it. So whoever is killed leaves no range behind that could not be used
//! again, and no two containers can ever have the same.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use syscalls::Sysno;

use super::Root;
use crate::error::{Error, Life, Result};

/// One file for each range: on a tmpfs that is empty after a restart.
const REGISTRY: &str = "/run/capsid-ids";

/// A range that this process holds; given back when dropped, unless kept.
#[derive(Debug)]
#[must_use]
pub struct Range {
    /// The first id.
    pub first: u32,
    lock: Flock<File>,
    path: PathBuf,
    kept: bool,
}

impl Range {
    /// Takes one of these ranges, by their first ids, for the container in a state
    /// directory. `None` when all are taken.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn take(ranges: &[u32], container: &Path) -> Result<Option<Self>> {
        Self::take_in(Path::new(REGISTRY), ranges, container)
    }

    fn take_in(registry: &Path, ranges: &[u32], container: &Path) -> Result<Option<Self>> {
        let made = DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(registry);
        made.map_err(|error| Error::io("make", registry.display(), Sysno::mkdirat, &error))?;
        // Where it begins to look depends on the name: the first is free nearly always.
        let bytes = container.as_os_str().as_bytes().iter();
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let count = ranges.len();
        let start = usize::try_from((hash >> 32) % count.max(1) as u64).unwrap_or(0);
        for index in 0..count {
            let first = ranges[(start + index) % count];
            let path = registry.join(first.to_string());
            let taken = try_take(first, path, container);
            match taken {
                Ok(Some(range)) => return Ok(Some(range)),
                Ok(None) => {}
                Err((call, error)) => {
                    let doing = "take the range of ids";
                    return Err(Error::io(
                        doing,
                        registry.join(first.to_string()).display(),
                        call,
                        &error,
                    ));
                }
            }
        }
        Ok(None)
    }

    /// The container has it from now on: its record says so.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if !self.kept {
            // A file that stays names a container that does not have the range.
            let _ = std::fs::remove_file(&self.path);
        }
        // A child that was cloned meanwhile has the open file as well.
        let _ = self.lock.relock(FlockArg::Unlock);
    }
}

/// Gives back what a container had. Without this the range is found free as well,
/// once somebody looks at it.
pub fn give_back(first: u32, container: &Path) {
    give_back_in(Path::new(REGISTRY), first, container);
}

fn give_back_in(registry: &Path, first: u32, container: &Path) {
    let path = registry.join(first.to_string());
    let Ok(Some(mut lock)) = lock(&path, false) else {
        return;
    };
    if holder(&mut lock).is_ok_and(|holder| holder == container) {
        let _ = std::fs::remove_file(&path);
    }
}

type Failed = (Sysno, std::io::Error);

fn try_take(
    first: u32,
    path: PathBuf,
    container: &Path,
) -> std::result::Result<Option<Range>, Failed> {
    let Some(mut lock) = lock(&path, true)? else {
        return Ok(None);
    };
    let holder = holder(&mut lock).map_err(|error| (Sysno::read, error))?;
    if has(&holder, first) {
        return Ok(None);
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(container.as_os_str().as_bytes())
    };
    write(&mut lock).map_err(|error| (Sysno::write, error))?;
    Ok(Some(Range {
        first,
        lock,
        path,
        kept: false,
    }))
}

/// Opens and locks the file of a range; `None` while somebody else works on it.
fn lock(path: &Path, make: bool) -> std::result::Result<Option<Flock<File>>, Failed> {
    let mut options = File::options();
    options.read(true).write(true).create(make).mode(0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path);
    let file = file.map_err(|error| (Sysno::openat, error))?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err((Sysno::flock, errno.into())),
    };
    // Who gave the range back removed the file that this one waited for.
    let links = lock
        .metadata()
        .map_err(|error| (Sysno::fstat, error))?
        .nlink();
    Ok((links > 0).then_some(lock))
}

fn holder(file: &mut File) -> std::io::Result<PathBuf> {
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)))
}

/// Whether a container has a range: it exists, and its record names the range or
/// cannot be read.
fn has(container: &Path, first: u32) -> bool {
    let (Some(root), Some(id)) = (container.parent(), container.file_name()) else {
        return false;
    };
    let found = Root::open(root).and_then(|root| root.find(&id.to_string_lossy()));
    match found.and_then(|container| container.load()) {
        Ok(record) => record.ids == Some(first),
        Err(Error::Life(Life::DoesNotExist | Life::InvalidId)) => false,
        Err(Error::System { failure, .. }) => !failure.is(libc::ENOENT),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_containers_until_it_is_given_back() {
        let base = std::env::temp_dir().join(format!("capsid-ids-{}", std::process::id()));
        let registry = base.join("ids");
        let take =
            |ranges: &[u32], id: &str| Range::take_in(&registry, ranges, &base.join(id)).unwrap();
        let first = take(&[10, 20], "a").unwrap();
        let second = take(&[10, 20], "b").unwrap();
        assert_ne!(first.first, second.first);
        assert!(take(&[10, 20], "c").is_none(), "both are being used");
        let number = first.first;
        drop(first);
        assert!(!registry.join(number.to_string()).exists());
        let again = take(&[number], "c").unwrap();
        // Its container never came to be.
        again.keep();
        let after = take(&[number], "d").unwrap();
        after.keep();
        give_back_in(&registry, number, &base.join("c"));
        assert!(registry.join(number.to_string()).exists(), "it is d's");
        give_back_in(&registry, number, &base.join("d"));
        assert!(!registry.join(number.to_string()).exists());
        drop(second);
        std::fs::remove_dir_all(&base).unwrap();
    }
}
