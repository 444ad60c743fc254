//! The ids that a container of this caller can have.

use super::finding::{Finding, Status};
use crate::host::id_programs::{self, Right};
use crate::host::{Facts, Subordinate};

const GROUP: &str = "ids";

pub(super) fn examine(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.privileged {
        findings.push(Finding::ok(
            GROUP,
            "mapping",
            "root maps any ids itself",
            "bundles name the ids",
        ));
        return;
    }
    findings.push(ranges(&facts.subordinate));
    findings.push(programs(&facts.subordinate));
}

const OWN_ID_ONLY: &str =
    "containers have the caller's own id only: a program cannot change to another user inside";

fn ranges(ids: &Subordinate) -> Finding {
    let list = |ranges: &[(u32, u32)]| {
        let one = |(first, count): &(u32, u32)| format!("{count} from {first}");
        ranges.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let line = Finding::ok(
        GROUP,
        "subordinate ids",
        format!("users {}; groups {}", list(&ids.users), list(&ids.groups)),
        "containers have users besides root",
    );
    match ids.missing_ranges() {
        None => line,
        Some((missing, repair)) => line.is(Status::Degraded, missing, OWN_ID_ONLY, repair),
    }
}

fn programs(ids: &Subordinate) -> Finding {
    let line = Finding::ok(
        GROUP,
        "newuidmap and newgidmap",
        "",
        "subordinate ids can be mapped",
    );
    if let Some((missing, repair)) = ids.missing_programs() {
        return line.is(Status::Degraded, missing, OWN_ID_ONLY, repair);
    }
    // Where there are ranges, `create` counts on the programs.
    let worst = match ids.missing_ranges() {
        None => Status::Missing,
        Some(_) => Status::Degraded,
    };
    let means = "mapping subordinate ids fails";
    if id_programs::are_powerless() {
        return line.is(
            worst,
            "this process has no_new_privs, so programs it runs have no rights of their own",
            means,
            "run capsid outside of what set no_new_privs (a container, a systemd unit)",
        );
    }
    let mut found = Vec::new();
    for path in id_programs::NAMES
        .iter()
        .filter_map(|name| id_programs::find(name))
    {
        let path_text = path.display();
        found.push(match id_programs::right(&path) {
            Right::Setuid => format!("{path_text} is setuid"),
            Right::Capabilities => format!("{path_text} has capabilities"),
            Right::None => {
                return line.is(
                    worst,
                    format!("{path_text} is neither setuid root nor has capabilities"),
                    means,
                    format!("as root: chown root {path_text} && chmod 4755 {path_text}"),
                );
            }
            Right::Nosuid => {
                return line.is(
                    worst,
                    format!("{path_text} is on a mount with nosuid"),
                    means,
                    "as root: remount that file system with suid",
                );
            }
        });
    }
    Finding {
        found: found.join(", "),
        ..line
    }
}
