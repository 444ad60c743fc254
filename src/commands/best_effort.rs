//! `--cgroups=best-effort`: what is left of limits where no cgroup can have them.

use std::path::Path;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Spec};

use crate::host::controllers;
use crate::host::kernel::{self, FLOOR};
use crate::host::{self, Facts};
use crate::log;
use crate::plan::cgroup::CgroupPlan;
use crate::spec::namespaces::{Kind, Namespaces};

/// Which cgroup a container gets, and why.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The reason, a sentence.
    pub(super) reason: String,
    /// Which limits are not in force, and what is instead.
    pub(super) lost: Vec<String>,
    /// A limit of processes that no cgroup enforces.
    pub(super) processes: Option<u64>,
    /// Nobody asked for these limits: their loss is no news.
    pub(super) quiet: bool,
}

impl Choice {
    /// Notes what is lost of a plan's limits if it has no cgroup.
    pub(super) fn lose_all(&mut self, plan: &CgroupPlan) {
        let lost = plan.limits_in_words();
        if !lost.is_empty() {
            self.lost.push(format!("not in force: {lost}"));
        }
        self.processes = plan.most_processes();
    }

    /// Notes the limit of processes if the cgroup will not have its controller.
    pub(super) fn lose_processes(&mut self, plan: &CgroupPlan) {
        let parent: &Path = plan.path.parent().unwrap_or(&plan.mount);
        let lost = controllers::obstacle(&plan.mount, parent, "pids").is_some();
        self.processes = plan.most_processes().filter(|_| lost);
    }
}

/// Makes up for lost limits where it can, and warns of the loss.
pub(super) fn make_up(spec: &mut Spec, facts: &Facts, choice: &mut Choice) {
    limit_processes(spec, facts, choice);
    let say = if choice.quiet {
        log::debug
    } else {
        log::warning
    };
    if !choice.lost.is_empty() {
        say(&choice.reason);
    }
    choice.lost.iter().for_each(say);
}

/// Sets `RLIMIT_NPROC` in place of `pids.max`, and says so.
///
/// Only where the container has a user namespace of its own: elsewhere the
/// kernel counts all processes of the user on this machine. Root of the machine
/// it never stops, but whom root's container runs as, if that is another. The
/// count is one per user id inside, not one for all.
fn limit_processes(spec: &mut Spec, facts: &Facts, choice: &mut Choice) {
    let Some(asked) = choice.processes else {
        return;
    };
    let own = Namespaces::of(spec).makes(Kind::User);
    let counted = kernel::running().is_some_and(|(version, _)| version >= FLOOR);
    let unstoppable = facts.is_real_root() && runs_as_host_root(spec);
    let Some(process) = spec
        .process_mut()
        .as_mut()
        .filter(|_| own && counted && !unstoppable)
    else {
        return;
    };
    // A hard limit above the caller's cannot be set.
    let limit = asked.min(host::process_limit().unwrap_or(u64::MAX));
    lower(process, limit);
    choice.lost.push(format!(
        "in place of pids.max {asked}: RLIMIT_NPROC {limit}, which the kernel counts for each user id \
         in the container's own user namespace"
    ));
}

/// Whether the program's user is user 0 outside, for all that the mappings say.
fn runs_as_host_root(spec: &Spec) -> bool {
    let uid = spec
        .process()
        .as_ref()
        .map_or(0, |process| process.user().uid());
    let linux = spec.linux().as_ref();
    let maps = linux.and_then(|linux| linux.uid_mappings().as_ref());
    let mut outside = maps.into_iter().flatten().filter_map(|map| {
        let within = uid.checked_sub(map.container_id())?;
        (within < map.size()).then(|| map.host_id().saturating_add(within))
    });
    outside.next().is_none_or(|id| id == 0)
}

/// Lowers `RLIMIT_NPROC` to `limit`; a lower one of the bundle stays.
fn lower(process: &mut Process, limit: u64) {
    let mut limits: Vec<PosixRlimit> = process.rlimits().clone().unwrap_or_default();
    let is_own = |one: &PosixRlimit| one.typ() == PosixRlimitType::RlimitNproc;
    let given = limits.iter().find(|one| is_own(one));
    let (soft, hard) = given.map_or((limit, limit), |one| {
        (one.soft().min(limit), one.hard().min(limit))
    });
    limits.retain(|one| !is_own(one));
    let one = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNproc)
        .soft(soft)
        .hard(hard);
    // Every field is set, so there is nothing the builder could miss.
    limits.extend(one.build().ok());
    process.set_rlimits(Some(limits));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_the_machine_is_told_from_whom_its_container_runs_as() {
        let of = |uid: u32, maps: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.2.0","process":{{"cwd":"/","user":{{"uid":{uid},"gid":0}}}},
                     "linux":{{"uidMappings":[{maps}]}}}}"#
            );
            runs_as_host_root(&serde_json::from_str(&json).unwrap())
        };
        let range = r#"{"containerID":0,"hostID":1879048192,"size":65536}"#;
        assert!(!of(0, range));
        assert!(!of(1000, range));
        let host = r#"{"containerID":1000,"hostID":0,"size":1}"#;
        assert!(of(1000, host));
        assert!(of(7, range.replace("65536", "1").as_str()));
        assert!(of(0, ""));
    }

    #[test]
    fn the_lower_limit_of_processes_stays() {
        let limits = |json: &str, limit| {
            let mut process: Process = serde_json::from_str(json).unwrap();
            lower(&mut process, limit);
            let limits = process.rlimits().clone().unwrap();
            assert_eq!(limits.len(), 1);
            (limits[0].soft(), limits[0].hard())
        };
        let plain = r#"{"cwd":"/","user":{"uid":0,"gid":0}}"#;
        assert_eq!(limits(plain, 9), (9, 9));
        let given = r#"{"cwd":"/","user":{"uid":0,"gid":0},
                        "rlimits":[{"type":"RLIMIT_NPROC","soft":5,"hard":50}]}"#;
        assert_eq!(limits(given, 9), (5, 9));
        assert_eq!(limits(given, 70), (5, 50));
    }
}
