//! Where a container's cgroup would be, and which limits it could have.

use std::path::Path;

use oci_spec::runtime::{LinuxPidsBuilder, LinuxResources};

use super::super::place::Wish;
use super::finding::{Finding, Status};
use crate::error::{Error, Result};
use crate::execute::cgroup::{not_handed_down, not_listed};
use crate::host::cgroup::CgroupFacts;
use crate::host::controllers::{self, Obstacle};
use crate::host::{Facts, mountinfo};
use crate::plan::cgroup::{CgroupPlan, Request};

const GROUP: &str = "cgroup";

/// What limits need, and what containers do without it.
const CONTROLLERS: [(&str, Status, &str); 6] = [
    ("memory", Status::Missing, "containers with memory limits"),
    (
        "pids",
        Status::Missing,
        "containers with a limit of processes",
    ),
    ("cpu", Status::Missing, "containers with cpu limits"),
    ("cpuset", Status::Degraded, "containers bound to some cpus"),
    ("io", Status::Degraded, "containers with io limits"),
    (
        "hugetlb",
        Status::Degraded,
        "containers with limits of huge pages",
    ),
];

pub(super) fn examine(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(mode());
    let line = Finding::ok(GROUP, "place", "", "containers get a cgroup of their own");
    let found = CgroupFacts::read().and_then(|cgroups| Ok((cgroups, place(facts)?)));
    let (cgroups, plan) = match found {
        Ok(found) => found,
        Err(error) => {
            let means = "limits cannot be enforced";
            let repair = "make /proc and /sys/fs/cgroup readable";
            findings.push(line.fails(Status::Missing, error, means, repair));
            return;
        }
    };
    let parent = plan.path.parent().unwrap_or(&plan.mount);
    let parent_name = parent.display();
    findings.push(Finding {
        found: match &plan.scope {
            Some(scope) => format!("{} makes scopes in {parent_name}", scope.instance),
            None => format!("containers get cgroups in {parent_name}"),
        },
        ..line
    });
    for (name, worst, asking) in CONTROLLERS {
        findings.push(controller(&plan.mount, parent, name, worst, asking));
    }
    findings.extend(swap(&cgroups, &plan.mount, parent));
}

fn mode() -> Finding {
    let line = Finding::ok(GROUP, "mode", "cgroup v2", "limits are possible");
    let mounts = match mountinfo::read() {
        Ok(mounts) => mounts,
        Err(error) => {
            let means = "whether limits are possible is not known";
            return line.fails(Status::Degraded, error, means, "mount /proc");
        }
    };
    let has = |kind: &str| mounts.iter().any(|mount| mount.kind == kind);
    let unified = "boot with systemd.unified_cgroup_hierarchy=1";
    match (has("cgroup2"), has("cgroup")) {
        (true, false) => line,
        (true, true) => line.is(
            Status::Degraded,
            "hybrid: cgroup v2 beside v1",
            "controllers that v1 holds are not there for containers",
            unified,
        ),
        (false, true) => line.is(
            Status::Missing,
            "cgroup v1 only",
            "limits are not possible: capsid uses v2 only",
            unified,
        ),
        (false, false) => line.is(
            Status::Missing,
            "no cgroup file system is mounted",
            "limits are not possible",
            "as root: mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

/// What `create` would decide for a bundle with a limit and no `cgroupsPath`.
fn place(facts: &Facts) -> Result<CgroupPlan> {
    let mut limited = LinuxResources::default();
    limited.set_pids(LinuxPidsBuilder::default().limit(100i64).build().ok());
    let wish = Wish {
        request: Request {
            id: "ID",
            path: None,
            resources: Some(&limited),
            devices: &[],
            device_filter: facts.is_real_root(),
        },
        annotations: Vec::new(),
        systemd: false,
        must_have: true,
        asked: None,
        disabled: false,
        best_effort: false,
        file: Path::new("config.json"),
    };
    let found = wish.find(facts)?;
    found.plan.ok_or(Error::Usage(found.choice.reason))
}

fn controller(
    mount: &Path,
    parent: &Path,
    name: &'static str,
    worst: Status,
    asking: &str,
) -> Finding {
    let line = Finding::ok(GROUP, name, "usable", format!("{asking} work"));
    let means = format!("{asking} are refused");
    match controllers::obstacle(mount, parent, name) {
        None => line,
        Some(Obstacle::NotListed(level)) => {
            let (missing, repair) = not_listed(mount, &level, name);
            line.is(worst, missing, means, repair)
        }
        Some(Obstacle::NotHandedDown(level, errno)) => {
            let error = not_handed_down(&level, name, errno);
            line.fails(worst, error, means, "look at that file")
        }
    }
}

/// Seen at a cgroup that has the memory controller, of which the root shows nothing.
fn swap(cgroups: &CgroupFacts, mount: &Path, parent: &Path) -> Option<Finding> {
    let own = cgroups.own_directory(mount);
    let seen = [own.as_path(), parent]
        .into_iter()
        .find(|level| level.join("memory.max").exists())?;
    let line = Finding::ok(
        GROUP,
        "swap accounting",
        "works",
        "limits of swap are possible",
    );
    Some(match seen.join("memory.swap.max").exists() {
        true => line,
        false => line.is(
            Status::Degraded,
            format!("{} has no memory.swap.max", seen.display()),
            "containers with a limit of swap are refused",
            "boot with swapaccount=1, or a kernel with CONFIG_SWAP",
        ),
    })
}
