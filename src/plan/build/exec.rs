//! One more process in a container that runs.

use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, Process};

use super::{
    Planned, available, early, environment, fence_steps, handled_files, of_linux, one,
    program_name, sets_limits_early,
};
use crate::error::Problem;
use crate::host::Facts;
use crate::plan::enter::{self, Enter};
use crate::plan::landlock::Whose;
use crate::plan::process::{self, Ending, Surroundings};
use crate::plan::steps::{Affinity, EnterStep, ProcessStep, RootStep};
use crate::plan::{Plan, filter, program};
use crate::policy::landlock::Fence;
use crate::seccomp::{Asks, Filter};
use crate::spec::namespaces::Kind;

/// What `exec` knows of the container it enters.
#[derive(Clone, Debug)]
pub struct Target {
    /// The container's id.
    pub id: String,
    /// Namespaces that differ from the runtime's.
    pub differing: u64,
    /// setgroups(2) works inside.
    pub may_set_groups: bool,
    /// Descriptors after 2 that the program gets.
    pub preserved_fds: i32,
    /// A session keyring of its own.
    pub new_keyring: bool,
    /// The filter as decided at create: later edits of the bundle loosen nothing.
    pub filter: Filter,
    /// The fence as decided at create.
    pub fence: Option<Fence>,
    /// `linux.personality` as it was at create.
    pub personality: Option<LinuxPersonality>,
    /// `linux.memoryPolicy` as it was at create.
    pub memory_policy: Option<LinuxMemoryPolicy>,
    /// The runtime puts the process into its resctrl class.
    pub awaits_class: bool,
    /// systemd puts the process into its cgroup.
    pub awaits_cgroup: bool,
    /// The first of the ids that the container got unasked.
    pub given: Option<u32>,
}

/// Plans one more process in a running container.
pub fn for_exec(process: &Process, facts: &Facts, target: &Target) -> Planned {
    let (initial, last) = affinities(process).map_err(one)?;
    let in_user_namespace = target.differing & Kind::User.flag() != 0;
    let has_joiner = enter::exec_has_joiner(target.differing);
    let loses_privilege = in_user_namespace || has_joiner;
    let available = available(in_user_namespace, facts);
    let surroundings = Surroundings {
        keyring: target.new_keyring.then(|| format!("_ses.{}", target.id)),
        new_network: false,
        routes: Vec::new(),
        may_set_groups: target.may_set_groups,
        available_capabilities: available,
        names: (None, None),
        early_limits: sets_limits_early(facts, loses_privilege),
        init: false,
        die_with_parent: false,
    };
    let early = early(process, facts, loses_privilege, target.given);
    let score = process.oom_score_adj();
    let mut enter = entering(target, score, initial, early).map_err(one)?;
    let (mut steps, warnings) = process::steps(process, &surroundings).map_err(one)?;
    let (domain, policy) = (target.personality.as_ref(), target.memory_policy.as_ref());
    let inherited = of_linux(domain, policy).map_err(one)?;
    let last = last.map(ProcessStep::Affinity);
    steps.splice(1..1, inherited.into_iter().chain(last));
    let root = root_of_exec(process, facts, target, in_user_namespace)?;
    let first_closed = 3 + target.preserved_fds;
    let mut ending = Ending {
        park: false,
        hooks: Vec::new(),
        first_closed,
        init: None,
        filter: filter::plan(&target.filter, Asks::Nobody)?,
        traced: None,
        labels: process::labels(process).map_err(one)?,
        restrict: handled_files(&root),
    };
    let labels_of_joiner = has_joiner.then(|| std::mem::take(&mut ending.labels));
    let exec = process::ending(ending, &mut steps, program_name(process));
    if has_joiner {
        let given_up = process::give_up(&mut steps, available);
        given_up.into_iter().for_each(|steps| enter.give_up(steps));
        enter.leave_the_host(labels_of_joiner.unwrap_or_default(), first_closed);
    }
    let plan = Plan {
        cgroup: None,
        ids: None,
        limits: Vec::new(),
        enter,
        rdt: None,
        net_devices: Vec::new(),
        sources: Vec::new(),
        root,
        process: steps,
        exec,
        program: program::program(process, &environment(process, 0, false)).map_err(one)?,
    };
    Ok((plan, warnings))
}

fn entering(
    target: &Target,
    oom_score_adj: Option<i32>,
    affinity: Option<Affinity>,
    early: Vec<ProcessStep>,
) -> Result<Enter, Problem> {
    let mut enter = enter::for_exec(target.differing, oom_score_adj, affinity, early)?;
    if target.awaits_class {
        enter.first.insert(0, EnterStep::AwaitClass);
    }
    if target.awaits_cgroup {
        enter.await_cgroup();
    }
    Ok(enter)
}

/// What one more process does with the root file system it finds.
fn root_of_exec(
    process: &Process,
    facts: &Facts,
    target: &Target,
    in_user_namespace: bool,
) -> Result<Vec<RootStep>, Vec<Problem>> {
    let fence = target.fence.as_ref();
    let no_new_privileges = process.no_new_privileges().unwrap_or(true);
    if fence.is_some() && !no_new_privileges {
        let text = "the container is behind a Landlock fence, which takes no_new_privs";
        return Err(one(Problem::new("/process/noNewPrivileges", text)));
    }
    let fence = fence_steps(fence, facts, Whose::Another).map_err(one)?;
    let terminal = process
        .terminal()
        .unwrap_or(false)
        .then(|| console(process));
    if fence.is_empty() && terminal.is_none() {
        return Ok(Vec::new());
    }
    // Only whoever is mapped in there may give the terminal away, and finds every path.
    let root = in_user_namespace.then_some(RootStep::BecomeRoot);
    Ok(root.into_iter().chain(terminal).chain(fence).collect())
}

/// `execCPUAffinity`: before the process enters the container's cgroup, and after.
fn affinities(process: &Process) -> Result<(Option<Affinity>, Option<Affinity>), Problem> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let mask = |list: Option<&String>, name: &str| {
        let at = format!("/process/execCPUAffinity/{name}");
        list.map(|list| process::affinity(list, &at)).transpose()
    };
    let initial = mask(affinity.and_then(|a| a.initial().as_ref()), "initial")?;
    let last = mask(
        affinity.and_then(|a| a.cpu_affinity_final().as_ref()),
        "final",
    )?;
    Ok((initial, last))
}

fn console(process: &Process) -> RootStep {
    let small = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    RootStep::Terminal {
        size: process
            .console_size()
            .map(|size| (small(size.height()), small(size.width()))),
        uid: process.user().uid(),
    }
}
