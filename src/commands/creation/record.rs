//! The first record of a container, from what is going to be made.

use std::time::SystemTime;

use crate::commands::create::CreateArgs;
use crate::commands::prepared::Prepared;
use crate::log;
use crate::plan::Plan;
use crate::plan::cgroup::systemd::Instance;
use crate::spec::annotations;
use crate::spec::namespaces::{Kind, Namespaces};
use crate::state::{CgroupRecord, Driver, FORMAT, LateSteps, Record};

/// The record of a container that has no process yet.
pub(super) fn new(prepared: &Prepared, plan: &Plan, args: &CreateArgs) -> Record {
    let spec = &prepared.hardened.spec;
    let steps = plan.child_steps();
    let first = plan.steps_before_exec();
    let namespaces = Namespaces::of(spec);
    let linux = spec.linux().as_ref();
    Record {
        format: FORMAT,
        oci_version: spec.version().clone(),
        id: args.id.clone(),
        bundle: prepared.hardened.bundle.clone(),
        rootfs: prepared.rootfs.clone(),
        created: log::rfc3339_nanos(SystemTime::now()),
        owner: nix::unistd::getuid().as_raw(),
        annotations: annotations::all(spec),
        pid: 0,
        start_time: 0,
        cgroup: prepared.cgroup.as_ref().map(|plan| CgroupRecord {
            path: plan.path.clone(),
            driver: match plan.scope.as_ref().map(|scope| scope.instance) {
                None => Driver::Cgroupfs,
                Some(Instance::System) => Driver::Systemd,
                Some(Instance::User) => Driver::SystemdUser,
            },
        }),
        config_digest: prepared.digest.map(|digest| digest.to_string()),
        rootfs_digest: prepared.tree.as_ref().map(|tree| tree.digest.to_string()),
        config_pinned: args.pins.config.is_some(),
        namespaces: plan.enter.differing,
        private_pid: namespaces.makes(Kind::Pid),
        hooks: spec.hooks().clone(),
        filter: prepared.hardened.filter.clone(),
        fence: prepared.hardened.fence.clone(),
        hardening: prepared.hardened.hardening.clone(),
        outcomes: prepared.hardened.outcomes.clone(),
        personality: linux.and_then(|linux| linux.personality().clone()),
        memory_policy: linux.and_then(|linux| linux.memory_policy().clone()),
        ids: prepared.hardened.given,
        overlay: None,
        rdt: None,
        late_steps: LateSteps {
            first: first + 1,
            of: steps.len(),
            steps: steps[first.min(steps.len())..].to_vec(),
            program: plan
                .program
                .arguments
                .first()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        },
    }
}
