//! `capsid spec`: a config.json to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use clap::{ArgMatches, Command};
use syscalls::Sysno;

use super::cli::Global;
use super::options;
use crate::error::{Error, Result};
use crate::spec::template;

pub(crate) fn command() -> Command {
    Command::new("spec")
        .about("Write a config.json to begin with")
        .long_about(
            "Write config.json for a container that runs `sh` in a terminal, with the root\n\
             file system in ./rootfs. An existing file is never overwritten.",
        )
        .arg(options::bundle())
        .arg(options::switch(
            "rootless",
            "For a caller without rights: map only the own user",
        ))
        .after_help(
            "Example:\n  \
             mkdir box && cd box\n  \
             mkdir rootfs && tar -C rootfs -xf ../alpine-minirootfs.tar.gz\n  \
             capsid spec --rootless\n  \
             capsid run box",
        )
}

/// What was asked of `spec`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SpecArgs {
    /// Where to write config.json, absolute.
    bundle: std::path::PathBuf,
    /// Map only the caller's own user and group.
    rootless: bool,
}

impl SpecArgs {
    fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            bundle: options::bundle_path(matches)?,
            rootless: options::is_on(matches, "rootless"),
        })
    }
}

pub(crate) fn run(_: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = SpecArgs::from_matches(matches)?;
    let ids = args.rootless.then(|| {
        (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        )
    });
    // capsid knows no other version of cgroups.
    let cgroup_v2 = true;
    let text = template::to_json(&template::default_spec(ids, cgroup_v2));
    write_new(&args.bundle.join("config.json"), &text)?;
    Ok(0)
}

/// O_EXCL: what somebody wrote by hand is not lost, and no link is followed.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let mut created = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(file)
    {
        Ok(created) => created,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::Usage(
                "File config.json exists. Remove it first".into(),
            ));
        }
        Err(e) => return Err(Error::io("create", file.display(), Sysno::openat, &e)),
    };
    created
        .write_all(text.as_bytes())
        .map_err(|e| Error::io("write to", file.display(), Sysno::write, &e))
}
