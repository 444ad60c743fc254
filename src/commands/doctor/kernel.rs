//! The kernel: its version, its calls, its namespaces, its filters.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use super::finding::{Finding, Status, call_repair};
use crate::error::{Error, Failure, Result};
use crate::execute::{idmaps, parent};
use crate::host::kernel::{self, FLOOR, SECCOMP, Version};
use crate::host::trial::{self, Part, Trial};
use crate::host::{self, Facts};
use crate::plan::ids::{IdMaps, Writer};
use crate::spec::ids::IdRange;
use crate::sys::bpf;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};

const KERNEL: &str = "kernel";
const NAMESPACES: &str = "namespaces";
const SECCOMP_GROUP: &str = "seccomp";

pub(super) fn examine(facts: &Facts, findings: &mut Vec<Finding>) {
    let running = kernel::running();
    findings.push(version(running.as_ref()));
    for (name, since, outcome) in [
        ("openat2", "5.6", kernel::openat2()),
        ("clone3", "5.3", trial::clone3()),
        ("pidfd", "5.3", kernel::pidfd()),
    ] {
        let line = Finding::ok(KERNEL, name, "works", "every container needs it");
        findings.push(match outcome {
            Ok(()) => line,
            Err(failure) => {
                let error = Error::system("call", name, failure);
                let repair = call_repair(failure, since);
                line.fails(Status::Missing, error, "no container can be made", repair)
            }
        });
    }
    findings.push(into_cgroup(running.as_ref().map(|(version, _)| *version)));
    let tried = trial::run(!facts.privileged);
    if let Ok(trial) = &tried {
        findings.extend(mounts(trial));
    }
    findings.push(idmapped(facts));
    findings.extend(device_filter(facts));
    findings.push(namespaces(facts, &tried));
    if facts.privileged {
        findings.push(user_namespaces(&trial::run(true), Status::Degraded));
    }
    if let Ok(trial) = &tried {
        findings.extend(parts(trial));
    }
    findings.extend(seccomp());
}

fn version(running: Option<&(Version, String)>) -> Finding {
    let line = Finding::ok(KERNEL, "version", "", "new enough");
    let (major, minor) = FLOOR;
    match running {
        None => line.is(
            Status::Degraded,
            "procfs does not show it",
            format!("whether this is Linux {major}.{minor} or newer is not known"),
            "make /proc/sys/kernel/osrelease readable",
        ),
        Some((version, name)) if *version < FLOOR => line.is(
            Status::Missing,
            format!("Linux {name}"),
            format!("capsid needs Linux {major}.{minor}"),
            format!("boot Linux {major}.{minor} or newer"),
        ),
        Some((_, name)) => Finding {
            found: format!("Linux {name} ({major}.{minor} or newer is needed)"),
            ..line
        },
    }
}

/// By the version: to try it, a cgroup would have to be made.
fn into_cgroup(running: Option<Version>) -> Finding {
    let line = Finding::ok(
        KERNEL,
        "CLONE_INTO_CGROUP",
        "there, by the kernel's version (5.7)",
        "containers start inside their limits",
    );
    match running {
        Some(version) if version >= (5, 7) => line,
        found => line.is(
            if found.is_some() {
                Status::Missing
            } else {
                Status::Degraded
            },
            "not there, by what is known of the kernel's version",
            "containers with a cgroup cannot be made",
            "boot Linux 5.7 or newer",
        ),
    }
}

fn mounts(trial: &Trial) -> Vec<Finding> {
    let parts = [
        (Part::FileSystem, "fsopen", "mount", "a tmpfs", "5.2"),
        (
            Part::Attributes,
            "mount_setattr",
            "set flags of",
            "a mount",
            "5.12",
        ),
        (Part::Procfs, "procfs", "mount proc on", "/proc", "5.2"),
    ];
    parts
        .map(|(part, name, doing, object, since)| {
            let line = Finding::ok(KERNEL, name, "works", "root file systems can be set up");
            match trial.failure(part) {
                None => line,
                Some(failure) => line.fails(
                    Status::Missing,
                    Error::system(doing, object, failure),
                    "the root file system of a container cannot be set up",
                    call_repair(failure, since),
                ),
            }
        })
        .into()
}

fn idmapped(facts: &Facts) -> Finding {
    let line = Finding::ok(
        KERNEL,
        "idmapped mounts",
        "",
        "idmap and ridmap can be used",
    );
    if !facts.is_real_root() {
        let found = "only root of the machine may make them";
        return Finding {
            found: found.into(),
            means: "bundles with idmap or ridmap are for root".into(),
            ..line
        };
    }
    match try_idmapped() {
        Ok(()) => Finding {
            found: "works on the file system of /".into(),
            ..line
        },
        Err(error) => line.fails(
            Status::Degraded,
            error,
            "bundles with idmap or ridmap fail on that file system",
            "use a file system that supports it (ext4, xfs, btrfs; tmpfs since Linux 6.3)",
        ),
    }
}

/// A copy of the mount of `/` that is attached nowhere, mapped by a namespace that ends here.
fn try_idmapped() -> Result<()> {
    let failed = |failure| Error::system("idmap the mount of", "/", failure);
    let range = vec![IdRange {
        container: 0,
        host: 100_000,
        size: 65536,
    }];
    let maps = IdMaps {
        users: range.clone(),
        groups: range,
        writer: Writer::Runtime,
    };
    let open = |path: CString| fd::open(At::Cwd, &path, libc::O_PATH, Resolve::NO_MAGICLINKS);
    let procfs = open(c"/proc".into()).map_err(failed)?;
    let namespace = idmaps::describing_namespace(procfs.as_fd(), &maps)?;
    let root = open(c"/".into()).map_err(failed)?;
    let tree = mount::clone_tree_of(root.as_fd(), false).map_err(failed)?;
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_IDMAP,
        user_namespace: u64::from(namespace.as_raw_fd().cast_unsigned()),
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), &attributes, false).map_err(failed)
}

/// Loads a program that allows everything, and lets it go.
fn device_filter(facts: &Facts) -> Option<Finding> {
    if !facts.is_real_root() {
        return None;
    }
    // r0 = 1; exit
    let allow = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let line = Finding::ok(
        KERNEL,
        "device filter",
        "can be loaded",
        "linux.resources.devices is enforced",
    );
    Some(match bpf::load_device_program(&allow) {
        Ok(_) => line,
        Err(failure) => line.fails(
            Status::Missing,
            Error::system("load", "a device filter", failure),
            "containers of root with a cgroup cannot be made",
            call_repair(failure, "4.15"),
        ),
    })
}

/// The namespaces that every container of this caller has.
fn namespaces(facts: &Facts, tried: &Result<Trial, Failure>) -> Finding {
    if !facts.privileged {
        return user_namespaces(tried, Status::Missing);
    }
    let line = Finding::ok(
        NAMESPACES,
        "mount and pid",
        "can be made",
        "containers can be made",
    );
    match tried {
        Ok(_) => line,
        Err(failure) => line.fails(
            Status::Missing,
            Error::system("make", "mount and pid namespaces", *failure),
            "root here cannot make containers",
            "give the container that this is CAP_SYS_ADMIN, or run capsid in it as an ordinary user",
        ),
    }
}

fn user_namespaces(tried: &Result<Trial, Failure>, worst: Status) -> Finding {
    let settings: Vec<String> = host::USER_NAMESPACE_SETTINGS
        .iter()
        .filter_map(|name| Some(format!("{name} is {}", host::setting(name)?)))
        .collect();
    let settings = match settings.is_empty() {
        true => "the sysctls are hidden".to_owned(),
        false => settings.join(", "),
    };
    let line = Finding::ok(
        NAMESPACES,
        "user",
        format!("can be made and used ({settings})"),
        "root inside need not be root outside",
    );
    let means = match worst {
        Status::Missing => "an ordinary user cannot make containers",
        _ => "only bundles without a user namespace work",
    };
    let error = match tried {
        Err(failure) => {
            let flags = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
            parent::explain_clone(flags, *failure)
        }
        Ok(trial) => match trial.failure(Part::FirstMount) {
            None => return line,
            Some(failure) => match host::apparmor_restriction() {
                Some((missing, repair)) if failure.is(libc::EACCES) => Error::Missing {
                    doing: "use a user namespace".into(),
                    missing,
                    repair,
                },
                _ => Error::system("cut off the mounts of", "a user namespace", failure),
            },
        },
    };
    let (_, repair) = host::user_namespace_obstacle();
    line.fails(worst, error, means, repair)
}

fn parts(trial: &Trial) -> Vec<Finding> {
    let parts = [
        (Part::Network, "network", Status::Missing),
        (Part::Ipc, "ipc", Status::Missing),
        (Part::HostName, "uts", Status::Missing),
        (Part::Cgroup, "cgroup", Status::Missing),
        // Few bundles ask for one.
        (Part::Time, "time", Status::Degraded),
    ];
    parts
        .map(|(part, name, status)| {
            let line = Finding::ok(NAMESPACES, name, "can be made", "bundles may ask for one");
            match trial.failure(part) {
                None => line,
                Some(failure) => line.fails(
                    status,
                    Error::system("make", format!("a {name} namespace"), failure),
                    format!("bundles with a {name} namespace fail"),
                    call_repair(failure, "5.6"),
                ),
            }
        })
        .into()
}

/// What profiles use, besides the parts that capsid itself uses.
fn plain_seccomp(absent: &[&str]) -> Finding {
    let line = Finding::ok(
        SECCOMP_GROUP,
        "actions and flags",
        "all are known",
        "profiles can be loaded",
    );
    if absent.contains(&"SCMP_ACT_ERRNO") {
        return line.is(
            Status::Missing,
            "no seccomp filters",
            "no container can be made: every one has a filter",
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        );
    }
    if absent.is_empty() {
        return line;
    }
    line.is(
        Status::Degraded,
        format!("not known: {}", absent.join(", ")),
        "profiles that use them cannot be loaded",
        "boot Linux 4.17 or newer",
    )
}

fn seccomp() -> Vec<Finding> {
    let absent: Vec<&str> = SECCOMP
        .iter()
        .filter(|part| !part.is_there())
        .map(|part| part.name)
        .collect();
    let line = |name, found: &str, means: &str| Finding::ok(SECCOMP_GROUP, name, found, means);
    let mut findings = Vec::new();
    let parts = [
        (
            "SCMP_ACT_NOTIFY",
            "--report-denials and --record-profile",
            "5.0",
        ),
        (
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            "supervised calls that signals do not interrupt",
            "5.19",
        ),
    ];
    let special = |name: &str| parts.iter().any(|(special, ..)| *special == name);
    let plain: Vec<&str> = absent
        .iter()
        .copied()
        .filter(|name| !special(name))
        .collect();
    findings.push(plain_seccomp(&plain));
    for (name, used, since) in parts {
        let there = line(name, "works", used);
        findings.push(match absent.contains(&name) {
            false => there,
            true => there.is(
                Status::Degraded,
                "not known",
                format!("without it there are no {used}"),
                format!("boot Linux {since} or newer"),
            ),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_missing_and_a_hidden_one_degraded() {
        let status = |running: Option<Version>| {
            version(running.map(|version| (version, "name".to_owned())).as_ref()).status
        };
        assert_eq!(status(Some((5, 13))), Status::Missing);
        assert_eq!(status(Some((5, 14))), Status::Ok);
        assert_eq!(status(None), Status::Degraded);
        assert_eq!(into_cgroup(Some((5, 6))).status, Status::Missing);
        assert_eq!(into_cgroup(Some((5, 7))).status, Status::Ok);
        assert_eq!(into_cgroup(None).status, Status::Degraded);
    }
}
