//! `--pid-file`.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use syscalls::Sysno;

use crate::error::{Error, Result};

/// Writes a pid file: decimal, no newline, complete or not at all, readable by all.
pub(super) fn write(path: &Path, pid: i32) -> Result<()> {
    let failed = |sysno, error: &std::io::Error| {
        Error::io("write the pid file", path.display(), sysno, error)
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let mut file = match options.open(&temporary) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // Left by a runtime that was killed in between.
            std::fs::remove_file(&temporary).map_err(|error| failed(Sysno::unlinkat, &error))?;
            options.open(&temporary)
        }
        other => other,
    }
    .map_err(|error| failed(Sysno::openat, &error))?;
    // The caller's umask must not decide this.
    file.set_permissions(Permissions::from_mode(0o644))
        .map_err(|error| failed(Sysno::fchmod, &error))?;
    file.write_all(pid.to_string().as_bytes())
        .map_err(|error| failed(Sysno::write, &error))?;
    std::fs::rename(&temporary, path).map_err(|error| failed(Sysno::renameat, &error))
}
