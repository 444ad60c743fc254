//! Security modules, systemd, and capsid's own needs.

use super::super::cli::Global;
use super::super::hardening;
use super::super::place::instance;
use super::super::root;
use super::finding::{Finding, Status};
use crate::error::Error;
use crate::execute::protect;
use crate::execute::systemd::{Environment, Manager};
use crate::host::{Facts, kernel};
use crate::policy::{Level, PolicyFile, Wish};

pub(super) fn examine(facts: &Facts, global: &Global, findings: &mut Vec<Finding>) {
    findings.push(security_modules());
    findings.push(landlock());
    findings.push(systemd(facts));
    findings.push(state(global));
    findings.push(self_protection());
    findings.push(policy());
}

fn security_modules() -> Finding {
    let line = Finding::ok(
        "security",
        "modules",
        "",
        "labels of bundles for them can be set",
    );
    match kernel::security_modules() {
        Some(modules) => Finding {
            found: modules.join(", "),
            ..line
        },
        None => line.is(
            Status::Degraded,
            "/sys/kernel/security/lsm cannot be read",
            "whether AppArmor or SELinux is in force is not known",
            "as root: mount -t securityfs none /sys/kernel/security",
        ),
    }
}

fn landlock() -> Finding {
    let line = Finding::ok(
        "security",
        "Landlock",
        "",
        "strict containers and sandboxes have a second fence",
    );
    match kernel::landlock() {
        Some(version) => Finding {
            found: format!("version {version} of its interface"),
            ..line
        },
        None => line.is(
            Status::Degraded,
            "not in force",
            "strict containers and sandboxes do without their second fence",
            "boot with landlock in the list of lsm=, on Linux 5.13 or newer",
        ),
    }
}

/// Whether systemd answers this caller: it makes cgroups with `--systemd-cgroup`,
/// and for ordinary users where nothing is delegated.
fn systemd(facts: &Facts) -> Finding {
    let line = Finding::ok(
        "systemd",
        match facts.is_real_root() {
            true => "system bus",
            false => "user bus",
        },
        "",
        "systemd can be asked for a cgroup",
    );
    let answer = Manager::connect(instance(facts), &Environment::read())
        .and_then(|mut manager| Ok((manager.version()?, manager.control_group()?)));
    match answer {
        Ok((version, group)) => Finding {
            found: match group.as_str() {
                "" | "/" => format!("systemd {version} answers"),
                group => format!("systemd {version} answers; its cgroup is {group}"),
            },
            ..line
        },
        Err(error) => line.fails(
            Status::Degraded,
            error,
            "systemd cannot be asked for a cgroup; a cgroup that may be written is needed",
            "see systemctl status",
        ),
    }
}

fn state(global: &Global) -> Finding {
    let explicit = global.root_explicit.then_some(global.root.as_path());
    let line = Finding::ok(
        "capsid",
        "state directory",
        "",
        "containers can be recorded",
    );
    match root::usable(explicit) {
        Ok(path) => Finding {
            found: format!("{} can be used", path.display()),
            ..line
        },
        Err(error) => line.fails(
            Status::Missing,
            error,
            "no container can be recorded",
            "give another one with --root",
        ),
    }
}

/// A policy file that cannot be obeyed keeps every container from starting.
fn policy() -> Finding {
    let line = Finding::ok("capsid", "policy", "", "of bundles that name none");
    match hardening::settle(&Wish::default(), Level::Baseline) {
        Ok(hardening) => Finding {
            found: format!("hardening at level {}", hardening.level),
            ..line
        },
        Err(error) => line.fails(
            Status::Missing,
            error,
            "no container is created",
            format!("as root: repair {}, or remove it", PolicyFile::PATH),
        ),
    }
}

fn self_protection() -> Finding {
    let line = Finding::ok(
        "capsid",
        "self-protection",
        "",
        "containers cannot overwrite capsid",
    );
    match protect::possible() {
        Ok(how) => Finding {
            found: how.into(),
            ..line
        },
        Err(failure) => line.fails(
            Status::Missing,
            Error::system("protect", "the runtime's own program file", failure),
            "create, run and exec refuse to work",
            "make /proc readable, and memory files executable: sysctl vm.memfd_noexec=1",
        ),
    }
}
