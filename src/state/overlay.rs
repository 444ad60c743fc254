//! What was changed of an engine's overlay, to be undone when the container goes.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

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

impl OverlayRecord {
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
