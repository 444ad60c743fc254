//! The text of the policy file, if it can be trusted.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use syscalls::Sysno;

use crate::error::{Error, Result};

/// More is not a policy.
const LARGEST: u64 = 64 * 1024;

/// Reads it; `None` when there is none, at the cost of one system call.
///
/// # Errors
/// It cannot be read, or others than root could have written it.
pub fn read(path: &str) -> Result<Option<Vec<u8>>> {
    let failed =
        |call, error: &std::io::Error| Error::io("read the policy file", path, call, error);
    // Whoever put something else in its place must not make capsid wait.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = match file {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(Sysno::openat, &error)),
        Ok(file) => file,
    };
    let found = file
        .metadata()
        .map_err(|error| failed(Sysno::fstat, &error))?;
    if !found.is_file() {
        return Err(refused(path, "it is no regular file".into()));
    }
    if let Some(problem) = distrust(found.uid(), found.mode(), super::in_user_namespace) {
        return Err(refused(path, problem));
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| failed(Sysno::read, &error))?;
    if text.len() as u64 > LARGEST {
        return Err(refused(path, format!("it has more than {LARGEST} bytes")));
    }
    Ok(Some(text))
}

fn refused(path: &str, missing: String) -> Error {
    Error::Missing {
        doing: format!("obey the policy file {path}"),
        missing,
        repair: format!("as root: chown root {path} && chmod 0644 {path}, or remove it"),
    }
}

/// Why a file with this owner and mode cannot be trusted. In a user namespace
/// the machine's root is nobody.
fn distrust(owner: u32, mode: u32, root_is_unmapped: impl Fn() -> bool) -> Option<String> {
    const NOBODY: u32 = 65534;
    if owner != 0 && !(owner == NOBODY && root_is_unmapped()) {
        return Some(format!("it belongs to user {owner} and not to root"));
    }
    let writable = mode & 0o022 != 0;
    writable.then(|| {
        format!(
            "others than its owner may write it (mode {:04o})",
            mode & 0o7777
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roots_own_file_is_trusted() {
        for (owner, mode, unmapped, trusted) in [
            (0, 0o100_644, false, true),
            (0, 0o100_600, true, true),
            (0, 0o100_664, false, false),
            (0, 0o100_646, false, false),
            (1000, 0o100_644, false, false),
            (1000, 0o100_644, true, false),
            (65534, 0o100_644, false, false),
            (65534, 0o100_644, true, true),
            (65534, 0o100_666, true, false),
        ] {
            let problem = distrust(owner, mode, || unmapped);
            assert_eq!(problem.is_none(), trusted, "{owner} {mode:o} {problem:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_no_policy_and_what_is_odd_is_an_error() {
        assert_eq!(read("/nonexistent/policy.json").unwrap(), None);
        assert_eq!(read("/dev/null/policy.json").unwrap(), None);
        let error = read("/").unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
}
