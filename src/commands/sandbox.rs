//! `capsid sandbox`: a program of this host, shut in.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::cli::{Global, print};
use super::create::CreateArgs;
use super::creation::{self, Created, Mode};
use super::prepared::{Entry, Sandboxed, prepare};
use super::{explain, life, run, system_calls};
use crate::error::{Error, Result};
use crate::execute::foreground::Signals;
use crate::execute::skeleton;
use crate::execute::supervisor::Purpose;
use crate::host::Facts;
use crate::host::userland::Userland;
use crate::sandbox::{self, ROOTFS, Sandbox};
use crate::seccomp::Denials;
use crate::spec::bundle::Bundle;
use crate::spec::template;
use crate::state::Root;
use crate::sys;

mod choices;
mod paths;
mod request;
mod saved;

use choices::Choices;
use request::Asked;

/// The exit code when the sandbox itself failed.
pub(super) const FAILED: u8 = 125;

pub(crate) fn command() -> Command {
    Command::new("sandbox")
        .about("Run a program of this host, shut in")
        .long_about(
            "Run a program of this host without its files, network, processes and privileges.\n\
             It sees the host's programs, an empty home and an empty /tmp, and what the options\n\
             give. Exits with the program's status, 128 + the number of the signal that ended\n\
             it, 126 or 127 when it could not be executed or was not found, 124 after a timeout,\n\
             and 125 when the sandbox itself failed.",
        )
        .args(choices::definitions())
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .action(ArgAction::Append)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("The program and its arguments"),
        )
        .after_help(
            "Examples:\n  \
             capsid sandbox -- sh -c 'id; ls /home; ls -l /proc'\n  \
             capsid sandbox --cwd -- make\n  \
             capsid sandbox --ro ~/data --rw ./out --net none -- python3 script.py\n  \
             capsid explain sandbox -- make",
        )
}

/// Runs the program in a sandbox, or prints or saves it.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    // The program gets the caller's umask; what capsid makes must be readable
    // for the sandbox's user.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let made = make(global, matches, umask.bits())?;
    made.sandbox.warnings.iter().for_each(crate::log::tell);
    match (&made.asked.bundle, made.asked.print_spec) {
        (Some(directory), _) => saved::write(directory, &made.sandbox, &made.asked),
        (None, true) => print(&template::to_json(&saved::whole(
            &made.sandbox,
            &made.asked,
        )?)),
        (None, false) => start(global, made),
    }
}

/// Prints what a sandbox of these options would be.
pub(super) fn explain(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let made = make(global, matches, umask.bits())?;
    let mut text = String::from("defaults:\n");
    for default in &made.sandbox.defaults {
        text += &format!("  {}: {}\n", default.what, default.why);
    }
    for warning in &made.sandbox.warnings {
        text += &format!("warning: {warning}\n");
    }
    let id = "ID";
    let place = global.root.join(id);
    let prepared = prepare(global, entry(global, &made, place), id)?;
    print(&(text + &explain::text(&prepared, id)?))
}

/// A sandbox and what was asked besides.
struct Made {
    sandbox: Sandbox,
    asked: Asked,
}

fn make(global: &Global, matches: &ArgMatches, umask: u32) -> Result<Made> {
    let facts = Facts::read();
    let userland = Userland::read(facts.uid, umask);
    let choices = Choices::from_matches(matches)?;
    let mut asked = Asked::of(choices, &global.root)?;
    let mut sandbox = sandbox::build(&asked.request, &userland, &facts)?;
    sandbox.warnings.append(&mut asked.warnings);
    Ok(Made { sandbox, asked })
}

fn entry(global: &Global, made: &Made, place: PathBuf) -> Entry {
    let mut spec = made.sandbox.spec.clone();
    let profile = made.asked.seccomp.place_in(&mut spec);
    Entry {
        sandbox: Some(Sandboxed {
            rootfs: place.join(ROOTFS),
            profile,
            hardening: global.hardening.clone().with(&made.asked.hardening),
            asked: made.asked.limited(),
        }),
        bundle: Bundle {
            dir: place,
            spec,
            warnings: Vec::new(),
        },
    }
}

/// Runs the sandbox in the foreground.
fn start(global: &Global, made: Made) -> Result<u8> {
    sys::process::become_subreaper().map_err(|failure| {
        Error::system("become", "the reaper of the sandbox's orphans", failure)
    })?;
    let signals = Signals::hold()?;
    let id = new_id();
    let mut created = create(global, &made, &id)?;
    let ended = run::follow(&signals, &mut created, Vec::new());
    life::delete::delete(&global.root, &id, true, &creation::run_poststop)?;
    let ended = ended?;
    if let Some(Purpose::Report(denials)) = created.supervisor.as_ref().map(|one| &one.purpose) {
        system_calls::tell_denials(denials, &created.record.filter);
    }
    Ok(ended.status())
}

/// A name that no other sandbox has, not even one with the same process number.
fn new_id() -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = time.map_or(0, |time| time.subsec_nanos());
    format!("sandbox-{}-{nanoseconds:08x}", std::process::id())
}

fn create(global: &Global, made: &Made, id: &str) -> Result<Created> {
    creation::close_on_exec()?;
    let slot = Root::open_or_create(&global.root)?.reserve(id)?;
    skeleton::make(slot.container().dir(), ROOTFS, &made.sandbox.skeleton)?;
    let place = slot.container().path().to_owned();
    let prepared = prepare(global, entry(global, made, place.clone()), id)?;
    let args = CreateArgs {
        id: id.to_owned(),
        bundle: place,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
    };
    let mode = Mode {
        park: false,
        detach: false,
        purpose: (!made.asked.quiet).then(|| Purpose::Report(Denials::default())),
        sandbox: true,
    };
    creation::create_in(|| Ok(slot), prepared, &args, mode)
}
