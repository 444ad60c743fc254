//! What was changed of an engine's overlay, to be undone when the container goes.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use crate::error::{Error, Result};

/// The overlay that a container has over the engine's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayRecord {
    /// The work directory beside the upper layer. Nobody but the kernel uses it.
    pub work: PathBuf,
    /// The device number of the engine's, which became read-only.
    pub device: u64,
}

/// What names of work directories begin with, before the container's first id.
const PREFIX: &str = "capsid-";

impl OverlayRecord {
    /// One for a container with these ids, beside the upper layer. The name is no
    /// other container's.
    pub fn new(beside: &Path, first: u32, device: u64) -> Self {
        Self {
            work: beside.join(format!("{PREFIX}{first}")),
            device,
        }
    }

    /// Whether the work directory has such a name: a damaged record must not have
    /// another one removed.
    pub fn is_named_so(&self) -> bool {
        let name = self.work.file_name().and_then(|name| name.to_str());
        let first = name.and_then(|name| name.strip_prefix(PREFIX));
        first.is_some_and(|first| first.parse::<u32>().is_ok())
    }

    /// Makes the work directory. One that a machine left behind when it was switched
    /// off has the same name, and is nobody's.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn make_work(&self) -> Result<()> {
        self.remove_work()?;
        let made = DirBuilder::new().mode(0o700).create(&self.work);
        made.map_err(|error| Error::io("make", self.work.display(), Sysno::mkdirat, &error))
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`Error::System`], and none where it is gone.
    pub fn remove_work(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.work) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(
                "remove",
                self.work.display(),
                Sysno::unlinkat,
                &error,
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_directories_are_known_by_their_names() {
        let named = |work: &str| {
            let record = OverlayRecord {
                work: work.into(),
                device: 1,
            };
            record.is_named_so()
        };
        assert!(OverlayRecord::new(Path::new("/l/7"), 65536, 1).is_named_so());
        for other in ["/l/7/diff", "/l/capsid-7/diff", "/l/capsid-", "/", ""] {
            assert!(!named(other), "{other}");
        }
    }
}
