//! `--secret NAME=FILE|-`: what the caller gives the program alone.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use clap::{Arg, ArgMatches};
use syscalls::Sysno;

use super::options;
use crate::error::{Error, Result};
use crate::execute::secrets::Secret;

pub(super) fn option() -> Arg {
    options::texts(
        "secret",
        "NAME=FILE|-",
        "Give the program /run/secrets/NAME with the content of a file,\nor of standard input (repeatable)",
    )
}

/// Reads all that the command line names.
///
/// # Errors
/// A name that is none or comes twice; a file that cannot be read or is too large.
pub(super) fn read(matches: &ArgMatches) -> Result<Vec<Secret>> {
    let mut secrets: Vec<Secret> = Vec::new();
    let mut standard_input = false;
    for word in options::all(matches, "secret") {
        let usage = |text: &str| Error::Usage(format!("--secret {text}"));
        let Some((name, file)) = word.split_once('=').filter(|(_, file)| !file.is_empty()) else {
            return Err(usage("takes NAME=FILE, or NAME=- for standard input"));
        };
        if secrets.iter().any(|one| one.name() == name.as_bytes()) {
            return Err(usage(&format!("{name}: given twice")));
        }
        let from = match file {
            "-" if standard_input => {
                return Err(usage(&format!(
                    "{name}: standard input is another secret already"
                )));
            }
            "-" => {
                standard_input = true;
                own_input(name)?
            }
            file => open(Path::new(file))?,
        };
        secrets.push(Secret::read(name, from)?);
    }
    Ok(secrets)
}

/// Standard input without a buffer, which would keep what it has read.
fn own_input(name: &str) -> Result<File> {
    let copy = std::io::stdin().as_fd().try_clone_to_owned();
    let failed = |error| Error::io("read the secret", name, Sysno::fcntl, &error);
    copy.map(File::from).map_err(failed)
}

fn open(file: &Path) -> Result<File> {
    File::open(file).map_err(|error| Error::io("open", file.display(), Sysno::openat, &error))
}
