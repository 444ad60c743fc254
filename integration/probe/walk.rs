//! What can be changed of all that is visible, and files that change their place.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::act::say;
use crate::{Outcome, raw};

/// How much was tried, and what of it succeeded.
#[derive(Default)]
struct Tried {
    files: u64,
    directories: u64,
    opened: Vec<PathBuf>,
    made_in: Vec<PathBuf>,
    removed: Vec<PathBuf>,
}

/// Tries to change every file and directory below these: opens files for
/// writing, makes and removes entries of directories. Nothing is written.
pub(crate) fn everything(tops: &[&str]) -> Outcome {
    let mut tried = Tried::default();
    let mut left: Vec<PathBuf> = tops.iter().map(PathBuf::from).collect();
    while let Some(path) = left.pop() {
        let Ok(kind) = fs::symlink_metadata(&path).map(|meta| meta.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            tried.directory(&path);
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            let inside = entries.map(|entry| entry.path());
            left.extend(inside.filter(|path| !of_a_process(path)));
        } else if !kind.is_symlink() && !kind.is_socket() {
            tried.file(&path);
        }
    }
    say(&json!({
        "files": tried.files,
        "directories": tried.directories,
        "opened": tried.opened,
        "made_in": tried.made_in,
        "removed": tried.removed,
    })
    .to_string());
    Ok(ExitCode::SUCCESS)
}

/// Files of processes are theirs: they have tests of their own.
fn of_a_process(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let first = name.starts_with(|first: char| first.is_ascii_digit());
    path.parent() == Some(Path::new("/proc")) && (first || name == "self" || name == "thread-self")
}

impl Tried {
    fn file(&mut self, path: &Path) {
        self.files += 1;
        // Not blocking: a pipe without a reader is no reason to wait.
        let opened = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open(path);
        if opened.is_ok() {
            self.opened.push(path.to_owned());
        }
    }

    fn directory(&mut self, path: &Path) {
        self.directories += 1;
        let new = path.join(".probe-was-here");
        let made = [
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&new)
                .is_ok()
                && fs::remove_file(&new).is_ok(),
            fs::create_dir(&new).is_ok() && fs::remove_dir(&new).is_ok(),
            std::os::unix::fs::symlink("x", &new).is_ok() && fs::remove_file(&new).is_ok(),
        ];
        if made.contains(&true) {
            self.made_in.push(path.to_owned());
        } else if fs::remove_dir(path).is_ok() {
            self.removed.push(path.to_owned());
        }
    }
}

/// Has two names change places for ever, as fast as the kernel lets it.
pub(crate) fn swap(one: &str, other: &str) -> Outcome {
    const EXCHANGE: usize = 2;
    // AT_FDCWD is -100: the calls take it as a sign-extended word.
    let here = usize::MAX - 99;
    let (mut one, mut other) = (crate::act::c_string(one)?, crate::act::c_string(other)?);
    let mut swaps = 0u64;
    loop {
        let other = other.as_mut_ptr() as usize;
        let arguments = [here, 0, here, other, EXCHANGE, 0];
        raw::call_with(syscalls::Sysno::renameat2, arguments, 1, &mut one)
            .map_err(|errno| format!("renameat2: {errno}"))?;
        swaps += 1;
        if swaps == 1 {
            say("READY");
        }
    }
}
