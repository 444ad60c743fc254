//! `capsid sandbox`: a program of this host, shut in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::cli::{Global, print};
use super::create::CreateArgs;
use super::creation::{self, Created, Mode};
use super::pins::Pins;
use super::prepared::{Entry, Sandboxed, prepare};
use super::{
    announce, audited, descriptors, explain, hooks, life, reports, root, run, secrets, system_calls,
};
use crate::error::{Error, Result};
use crate::execute::foreground::{Ended, Signals};
use crate::execute::lifeline;
use crate::execute::secrets::Secret;
use crate::execute::skeleton;
use crate::execute::supervisor::Purpose;
use crate::execute::tracer::Tracer;
use crate::host::Facts;
use crate::host::userland::Userland;
use crate::log;
use crate::policy::Wish;
use crate::sandbox::within::Inside;
use crate::sandbox::{self, ROOTFS, Sandbox};
use crate::seccomp::Advice;
use crate::spec::bundle::Bundle;
use crate::spec::template;
use crate::state::Root;
use crate::sys;

mod choices;
mod dangers;
mod image;
mod leftovers;
mod missing;
mod net;
mod paths;
mod profile;
mod request;
mod saved;
mod status;
mod streams;
mod timeout;

use choices::Choices;
use leftovers::Owner;
use paths::Surroundings;
use request::Asked;
use status::{End, Status};
use streams::Streams;
use timeout::Timeout;

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
        .arg(secrets::option())
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
    log::for_a_person();
    // The program gets the caller's umask; what capsid makes must be readable
    // for the sandbox's user.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let made = make(global, matches, umask.bits())?;
    made.sandbox.warnings.iter().for_each(log::tell);
    match (&made.asked.bundle, made.asked.print_spec) {
        (Some(directory), _) => saved::write(directory, &made.sandbox, &made.asked),
        (None, true) => print(&template::to_json(&saved::whole(
            &made.sandbox,
            &made.asked,
        )?)),
        (None, false) => start(global, &made, secrets::read(matches)?),
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
    let mut prepared = prepare(global, entry(global, &made, place), id)?;
    print(&(text + &explain::text(&mut prepared, id)?))
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
    let surroundings = Surroundings {
        here: root::absolute(".".as_ref())?,
        state: global.root.clone(),
        root: facts.is_real_root(),
        warnings: Vec::new(),
    };
    let mut asked = Asked::of(choices, surroundings)?;
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
            hardening: both(&global.hardening, &made.asked.hardening),
            network: net::network(&made.asked.request.net),
            asked: made.asked.limited(),
        }),
        digest: None,
        measure: false,
        bundle: Bundle {
            dir: place,
            spec,
            warnings: Vec::new(),
        },
    }
}

/// `--hardening` and `--relax` may stand before the command and after it.
fn both(before: &Wish, after: &Wish) -> Wish {
    let relaxed = before.relaxed.iter().chain(&after.relaxed);
    Wish {
        level: after.level.or(before.level),
        relaxed: relaxed.copied().collect(),
    }
}

/// Runs the sandbox; in the foreground, stands in for its program.
fn start(global: &Global, made: &Made, secrets: Vec<Secret>) -> Result<u8> {
    let mut status = Status::open(made.asked.json_status.as_deref())?;
    if let Some(file) = &made.asked.record_profile {
        system_calls::make_writable(file)?;
    }
    // Where nothing could be swept, nothing keeps this one from running.
    if let Err(error) = leftovers::sweep(&global.root) {
        log::debug(error);
    }
    let outcome = match made.asked.detach {
        true => detach(global, made, secrets, &mut status),
        false => attend(global, made, secrets, &mut status),
    };
    match outcome {
        Err(Error::Program { program, failure }) => {
            let advice = missing::advice(&program, &failure, &made.asked.request);
            let code = missing::code(&failure);
            let error = Error::Program { program, failure };
            let advice = advice.map_or_else(String::new, |advice| format!("\n  {advice}"));
            let message = format!("{} sandbox: {error}{advice}", global.called_as);
            status.failed(code, &message)?;
            log::fatal(message);
            Ok(code)
        }
        Err(error) => {
            // The error itself is what has to be told.
            let _ = status.failed(FAILED, &error.to_string());
            Err(error)
        }
        done => done,
    }
}

fn attend(global: &Global, made: &Made, secrets: Vec<Secret>, status: &mut Status) -> Result<u8> {
    streams::refuse_directories()?;
    lifeline::end_with_parent()?;
    sys::process::become_subreaper().map_err(|failure| {
        Error::system("become", "the reaper of the sandbox's orphans", failure)
    })?;
    let signals = Signals::hold()?;
    reports::warn(made.asked.extent().filter(|_| !made.asked.quiet));
    let id = new_id();
    let mut streams = match made.asked.request.terminal {
        true => Streams::kept(),
        false => Streams::without_terminal()?,
    };
    let created = create(global, made, &id, secrets);
    streams.put_back()?;
    let (mut created, owner) = created?;
    let told = status.started(&id, created.launched.pid);
    let time = made.asked.timeout;
    let timeout = time.map(|time| Timeout::of(&created.launched.pidfd, time));
    let followed = told.and_then(|()| timeout.transpose()).and_then(|timeout| {
        let mut watches = streams.watches();
        watches.extend(timeout.iter().map(Timeout::watch));
        let ended = run::follow(&signals, &mut created, watches)?;
        streams.drain();
        Ok((ended, timeout.is_some_and(|timeout| timeout.is_over())))
    });
    // The network ends with the program.
    drop(created.pasta.take());
    let out_of_memory = life::events::out_of_memory(&created.record);
    if let Ok(container) = Root::open(&global.root).and_then(|root| root.find(&id)) {
        skeleton::remove(container.dir(), ROOTFS, &made.sandbox.skeleton);
    }
    life::delete::delete(&global.root, &id, true, &hooks::run_poststop)?;
    drop(owner);
    let (ended, timeout) = followed?;
    let refused = refused(&created, made, &global.root, ended)?;
    let code = if timeout {
        timeout::CODE
    } else {
        ended.status()
    };
    if timeout {
        log::tell("the time of --timeout is over, and the program was ended");
    }
    if out_of_memory {
        log::tell("the kernel ended a process for lack of memory: --memory gives more");
    }
    status.ended(&End {
        ended,
        code,
        timeout,
        out_of_memory,
        refused: &refused,
    })?;
    Ok(code)
}

/// Says which calls were refused, or writes down which were made.
fn refused(created: &Created, made: &Made, root: &Path, ended: Ended) -> Result<Vec<String>> {
    let filter = &created.record.filter;
    match created.supervisor.as_ref().map(|one| &one.purpose) {
        Some(Purpose::Report(denials)) => {
            audited::denials(Some(root), &created.record, denials);
            let mut lines = denials.lines(filter, Advice::Sandbox);
            let mut files = created
                .tracer
                .as_ref()
                .map(Tracer::lines)
                .unwrap_or_default();
            for (word, lines) in [("denied", &lines), ("refused", &files)] {
                for line in lines.iter().filter(|_| !made.asked.quiet) {
                    log::tell(format!("{word}: {line}"));
                }
            }
            lines.append(&mut files);
            Ok(lines)
        }
        _ => {
            let file = made.asked.record_profile.as_deref();
            system_calls::tell(created, root, ended, file)?;
            Ok(Vec::new())
        }
    }
}

/// Starts the sandbox and leaves it to `list`, `kill`, `exec` and `delete`.
fn detach(global: &Global, made: &Made, secrets: Vec<Secret>, status: &mut Status) -> Result<u8> {
    let id = new_id();
    // Whoever waits for the id reads to the end of what is written.
    let mut streams = Streams::cut_off()?;
    let created = create(global, made, &id, secrets);
    streams.put_back()?;
    let (created, _) = created?;
    status.started(&id, created.launched.pid)?;
    print(&format!("{id}\n"))
}

/// A name that no other sandbox has, not even one with the same process number.
fn new_id() -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = time.map_or(0, |time| time.subsec_nanos());
    format!(
        "{}{}-{nanoseconds:08x}",
        leftovers::PREFIX,
        std::process::id()
    )
}

fn create(
    global: &Global,
    made: &Made,
    id: &str,
    secrets: Vec<Secret>,
) -> Result<(Created, Option<Owner>)> {
    descriptors::close_on_exec()?;
    let slot = Root::open_or_create(&global.root)?.reserve(id)?;
    let detach = made.asked.detach;
    let owner = if detach {
        // For `exec`, which reads what a process of this container is like.
        saved::write_configuration(slot.container().path(), &made.sandbox, &made.asked)?;
        None
    } else {
        Some(leftovers::own(slot.container())?)
    };
    skeleton::make(slot.container().dir(), ROOTFS, &made.sandbox.skeleton)?;
    let place = slot.container().path().to_owned();
    let prepared = prepare(global, entry(global, made, place.clone()), id);
    let prepared = prepared.inspect_err(|error| {
        audited::refused("sandbox", id, &global.root, &BTreeMap::new(), error);
    })?;
    announce::check_terminal(prepared.terminal(), detach, None)?;
    let args = CreateArgs {
        id: id.to_owned(),
        bundle: place,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        pins: Pins::default(),
    };
    let mode = Mode {
        park: false,
        detach,
        die_with_parent: !detach,
        secrets,
        purpose: made.asked.purpose(),
        tracer: reports::tracer(made.asked.extent(), || {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            Inside::of_sandbox(&made.sandbox.spec, &made.asked.request, home)
        })?,
        sandbox: true,
        passage: net::passage(&made.asked.request.net),
    };
    Ok((
        creation::create_in(|| Ok(slot), prepared, &args, mode)?,
        owner,
    ))
}
