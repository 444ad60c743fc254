//! capsid from outside and inside: real containers on this machine's kernel,
//! as root and as ordinary users.
//!
//! What this machine cannot host is reported as ignored, with the reason, and
//! never as passed. `CAPSID_TEST_NO_SKIP=1` turns such reasons into failures,
//! but for the keys listed in `CAPSID_TEST_ALLOW_SKIP` (comma-separated).
//! `CAPSID_TEST_BIN` names another runtime to hold against the same contract,
//! `CAPSID_TEST_KEEP=1` keeps the directories of failed tests.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

mod all_users;
mod audit;
mod bad_input;
mod bad_process;
mod bundle;
mod cases;
mod container;
mod contract;
mod controllers;
mod defaults;
mod delegation;
mod denials;
mod devices;
#[path = "../escapes/escapes.rs"]
mod escapes;
mod exec;
mod given;
mod hardening;
mod hardware;
mod hooks;
mod identity;
mod images;
mod init;
mod journal;
mod kernel_views;
mod landlock;
mod lifecycle;
mod limits;
mod lists;
mod locked;
mod machine;
mod mounts;
mod namespaces;
mod needs;
mod net_devices;
mod network;
mod old_overlays;
mod overlays;
mod parents;
mod passing;
mod pins;
mod policy_file;
mod process;
mod recordings;
mod refusals;
mod relaxed;
mod roles;
mod runtime;
mod sandbox;
mod sandbox_attacks;
mod sandbox_files;
mod sandbox_image;
mod sandbox_inside;
mod sandbox_life;
mod sandbox_net;
mod sandbox_programs;
mod sandboxed;
mod scopes;
mod seccomp;
mod secrets;
mod supervisors;
mod systemd;
mod terminal;
mod units;
mod verity;

use cases::{Case, Skip};
use machine::Machine;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // One thread so far: the mount namespace made here is every test's.
    let machine: &'static Machine = match Machine::prepare(!arguments.list) {
        Ok(machine) => Box::leak(Box::new(machine)),
        Err(problem) => {
            eprintln!("host tests: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let trials = groups()
        .into_iter()
        .flat_map(|(group, cases)| cases.into_iter().map(move |case| (group, case)))
        .flat_map(|(group, case)| {
            case.roles
                .iter()
                .map(move |role| trial(machine, group, case, *role))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = machine.tear_down();
    for problem in &left {
        eprintln!("host tests: left behind: {problem}");
    }
    if conclusion.has_failed() || !left.is_empty() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Every group, in the order of the life of a container.
fn groups() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("lifecycle", lifecycle::cases()),
        ("lists", lists::cases()),
        ("bad_input", bad_input::cases()),
        ("bad_process", bad_process::cases()),
        ("process", process::cases()),
        ("identity", identity::cases()),
        ("limits", limits::cases()),
        ("mounts", mounts::cases()),
        ("kernel_views", kernel_views::cases()),
        ("hooks", hooks::cases()),
        ("namespaces", namespaces::cases()),
        ("given", given::cases()),
        ("locked", locked::cases()),
        ("overlays", overlays::cases()),
        ("old_overlays", old_overlays::cases()),
        ("devices", devices::cases()),
        ("net_devices", net_devices::cases()),
        ("terminal", terminal::cases()),
        ("passing", passing::cases()),
        ("init", init::cases()),
        ("landlock", landlock::cases()),
        ("secrets", secrets::cases()),
        ("parents", parents::cases()),
        ("exec", exec::cases()),
        ("hardening", hardening::cases()),
        ("hardening", policy_file::cases()),
        ("audit", audit::cases()),
        ("audit", pins::cases()),
        ("audit", all_users::cases()),
        ("seccomp", seccomp::cases()),
        ("seccomp", relaxed::cases()),
        ("seccomp", denials::cases()),
        ("seccomp", recordings::cases()),
        ("seccomp", supervisors::cases()),
        ("contract", contract::cases()),
        ("controllers", controllers::cases()),
        ("controllers", delegation::cases()),
        ("hardware", hardware::cases()),
        ("hardware", verity::cases()),
        ("systemd", systemd::cases()),
        ("systemd", scopes::cases()),
        ("systemd", journal::cases()),
        ("controllers", defaults::cases()),
        ("escapes", escapes::cases()),
        ("images", images::cases()),
        ("sandbox", sandbox::cases()),
        ("sandbox", sandbox_files::cases()),
        ("sandbox", sandbox_life::cases()),
        ("sandbox", sandbox_net::cases()),
        ("sandbox", refusals::cases()),
        ("sandbox", sandbox_image::cases()),
        ("sandbox", sandbox_programs::cases()),
        ("attacks", sandbox_attacks::cases()),
        ("attacks", sandbox_inside::cases()),
    ]
}

fn trial(machine: &'static Machine, group: &str, case: Case, role: roles::Role) -> Trial {
    let name = format!("{}::{group}::{}", role.name(), case.name);
    let full = name.clone();
    Trial::ignorable_test(name, move || {
        if let Some(skip) = machine.cannot(role, case.needs) {
            return skipped(&skip);
        }
        let test = roles::Test::new(machine, role, &full);
        (case.run)(&test);
        Ok(Completion::Completed)
    })
}

fn skipped(skip: &Skip) -> Result<Completion, Failed> {
    let strict = std::env::var("CAPSID_TEST_NO_SKIP").is_ok_and(|value| value == "1");
    let allowed = std::env::var("CAPSID_TEST_ALLOW_SKIP").unwrap_or_default();
    if strict && !allowed.split(',').any(|key| key == skip.key) {
        return Err(format!("may not be skipped here: {}: {}", skip.key, skip.reason).into());
    }
    Ok(Completion::ignored_with(format!(
        "{}: {}",
        skip.key, skip.reason
    )))
}
