//! Secrets: from the caller to files that only the program can read.
//!
//! On the way they are in a sealed file in memory, never in an argument, the
//! environment, a plan, a record or a log. Inside they are on a ramfs: unlike a
//! tmpfs it is never swapped out (and a user namespace may mount it).

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::plan::secrets::{DIRECTORY, SecretsStep};
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};

use super::child::Walk;
use super::lookup::{self, Make};

/// The most bytes that a secret may have.
pub const LIMIT: usize = 1 << 20;

/// A file that is to be below /run/secrets.
#[derive(Debug)]
pub struct Secret {
    name: CString,
    content: OwnedFd,
}

impl Secret {
    /// Takes the content from a file to its end.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is none and for what is too large;
    /// [`Error::System`] when it cannot be read or kept.
    pub fn read(name: &str, mut from: File) -> Result<Self> {
        check_name(name)?;
        let keep = |failure| Error::system("keep the secret", name, failure);
        let flags = libc::MFD_ALLOW_SEALING;
        let made = fd::memory_file(c"capsid-secret", flags).map_err(keep)?;
        let mut made = File::from(made);
        let mut buffer = [0u8; 4096];
        let mut length = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read the secret", name, Sysno::read, &error)),
            };
            length += read;
            if length > LIMIT {
                let text =
                    format!("--secret {name}: more than {LIMIT} bytes: give the program a file");
                return Err(Error::Usage(text));
            }
            let written = made.write_all(&buffer[..read]);
            written.map_err(|error| Error::io("keep the secret", name, Sysno::write, &error))?;
        }
        let rewound = made.rewind();
        rewound.map_err(|error| Error::io("keep the secret", name, Sysno::lseek, &error))?;
        let seals =
            libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        fd::seal(made.as_fd(), seals).map_err(keep)?;
        Ok(Self {
            name: CString::new(name).map_err(|_| wrong_name(name))?,
            content: made.into(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        self.name.to_bytes()
    }
}

/// Letters, digits and `_ . -`: one name of a file, and none that hides.
fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let whole = (1..=255).contains(&name.len()) && name.bytes().all(allowed);
    if whole && !name.starts_with('.') {
        return Ok(());
    }
    Err(wrong_name(name))
}

fn wrong_name(name: &str) -> Error {
    Error::Usage(format!(
        "--secret: {name:?} is no name for a secret: letters, digits and _ . - (no dot first)"
    ))
}

/// Makes the files, closes the file system to changes, and mounts it.
pub fn put(walk: &Walk<'_>, step: &SecretsStep) -> crate::sys::Result<()> {
    let context = mount::open_file_system(c"ramfs")?;
    mount::configure(context.as_fd(), c"mode", Some(c"500"))?;
    if let Some(label) = &step.label {
        mount::configure(context.as_fd(), c"context", Some(label))?;
    }
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let tree = mount::make_mount(context.as_fd(), attributes)?;
    for secret in &walk.handles.secrets {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let directory = At::Dir(tree.as_fd());
        let file = fd::open_mode(
            directory,
            &secret.name,
            flags,
            0o400,
            Resolve::IN_ROOT_NO_LINKS,
        )?;
        while fd::copy(secret.content.as_fd(), file.as_fd(), LIMIT)? > 0 {}
        fd::chown(file.as_fd(), step.uid, step.gid)?;
    }
    fd::chown(tree.as_fd(), step.uid, step.gid)?;
    let readonly = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), &readonly, false)?;
    let root = walk
        .root
        .as_ref()
        .ok_or(Failure::of(Sysno::openat2, libc::EBADF))?;
    let target = lookup::open_or_make(root.as_fd(), DIRECTORY, Make::Directory)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_files() {
        for good in ["token", "a.b-c_D", "0", &"x".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a b",
            "ä",
            "a\0",
            &"x".repeat(256),
        ] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_kept_cannot_be_changed() {
        let mut file = tempfile();
        file.write_all(b"top secret").unwrap();
        file.rewind().unwrap();
        let secret = Secret::read("token", file).unwrap();
        let mut kept = File::from(secret.content);
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "top secret");
        assert!(kept.write_all(b"x").is_err() && kept.set_len(0).is_err());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut file = tempfile();
        file.set_len(LIMIT as u64 + 1).unwrap();
        file.rewind().unwrap();
        assert!(matches!(Secret::read("t", file), Err(Error::Usage(_))));
    }

    fn tempfile() -> File {
        File::from(fd::memory_file(c"test", 0).unwrap())
    }
}
