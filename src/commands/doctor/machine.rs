//! Security modules, systemd, and capsid's own needs.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::super::cli::Global;
use super::super::hardening;
use super::super::root;
use super::finding::{Finding, Status};
use crate::error::Error;
use crate::execute::protect;
use crate::host::{Facts, kernel};
use crate::policy::{Level, PolicyFile, Wish};

pub(super) fn examine(facts: &Facts, global: &Global, findings: &mut Vec<Finding>) {
    findings.push(security_modules());
    findings.push(landlock());
    findings.push(bus(facts));
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

/// For information: capsid does not use it yet.
fn landlock() -> Finding {
    let found = match kernel::landlock() {
        Some(version) => format!("version {version} of its interface"),
        None => "not in force".to_owned(),
    };
    Finding::ok("security", "Landlock", found, "capsid does not use it")
}

/// The bus on which this caller would ask systemd for a cgroup.
fn bus(facts: &Facts) -> Finding {
    let real_root = facts.is_real_root();
    let (name, path, repair) = if real_root {
        let path = PathBuf::from("/run/dbus/system_bus_socket");
        (
            "system bus",
            path,
            "boot with systemd and install dbus".to_owned(),
        )
    } else {
        let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let runtime =
            given.map_or_else(|| format!("/run/user/{}", facts.uid).into(), PathBuf::from);
        let repair = "as root: apt install dbus-user-session && loginctl enable-linger USER; \
                      then log in again, by ssh or machinectl and not by su";
        ("user bus", runtime.join("bus"), repair.to_owned())
    };
    let line = Finding::ok(
        "systemd",
        name,
        format!("{} is there", path.display()),
        "systemd can be asked for a cgroup",
    );
    if is_socket(&path) {
        return line;
    }
    line.is(
        Status::Degraded,
        format!("there is no socket {}", path.display()),
        "systemd cannot be asked for a cgroup; a cgroup that may be written is needed",
        repair,
    )
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
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
