//! `capsid digest`: the digest to pin something by.

use std::ffi::OsString;
use std::fs::File;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, ValueHint};
use syscalls::Sysno;

use super::cli::{Global, print};
use super::root;
use crate::error::{Error, Result};
use crate::image::{Digest, Tree};

pub(crate) fn command() -> Command {
    Command::new("digest")
        .about("Print the digest to pin a root file system or config.json by")
        .long_about(
            "Print the digest of a directory tree, for --pin-rootfs of create and run or the\n\
             annotation dev.capsid.digest.rootfs; or of a file's bytes, for --pin-config.",
        )
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .value_parser(ValueParser::os_string())
                .value_hint(ValueHint::AnyPath)
                .help("A directory, or a file"),
        )
        .after_help("Example:\n  capsid run --pin-rootfs $(capsid digest rootfs) box")
}

/// Prints it.
pub(crate) fn run(_: &Global, matches: &ArgMatches) -> Result<u8> {
    let path = matches.get_one::<OsString>("path");
    let path = path.ok_or_else(|| Error::Usage("the argument path is missing".into()))?;
    let path = root::absolute(path)?;
    let digest = match path.is_dir() {
        true => Tree::measure(&path)?.digest,
        false => {
            let digest = File::open(&path).and_then(Digest::read);
            digest.map_err(|error| Error::io("read", path.display(), Sysno::read, &error))?
        }
    };
    print(&format!("{digest}\n"))
}
