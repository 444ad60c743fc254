//! From a hardened configuration and facts to a plan.

use std::path::PathBuf;

use oci_spec::runtime::{
    Capability, LinuxIdMapping, LinuxMemoryPolicy, LinuxPersonality, Process, Spec,
};

use super::cgroup::CgroupPlan;
use super::enter::{self, Circumstances, Enter};
use super::ids::IdMaps;
use super::landlock::{self, FenceStep, Whose};
use super::memory_policy;
use super::mounts::Setting;
use super::net_devices;
use super::process::{self, Ending, Surroundings};
use super::program;
use super::rdt;
use super::reach::Network;
use super::rootfs::{self, Frame};
use super::secrets::SecretsStep;
use super::staged::{self, Stage};
use super::steps::{EnterStep, HookStep, ProcessStep, RootStep};
use super::{BindSource, Plan, c_string, filter, hooks, init};
use crate::error::Problem;
use crate::host::Facts;
use crate::policy::landlock::Fence;
use crate::policy::{self, HardenedSpec, Rule};
use crate::seccomp::Asks;
use crate::spec::annotations;
use crate::spec::ids::IdRange;
use crate::spec::namespaces::{Kind, Namespaces};

mod exec;

pub use exec::{Target, for_exec};

/// What the command line adds to the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The mount point it is below, where its propagation matters.
    pub parent_mount: Option<PathBuf>,
    /// Wait for `start` before the last phase.
    pub park: bool,
    /// Without pivot_root(2).
    pub no_pivot: bool,
    /// Descriptors after 2 that the program gets.
    pub preserved_fds: i32,
    /// How many of them are for socket activation.
    pub listen_fds: i32,
    /// How many secrets come with the launch.
    pub secrets: usize,
    /// The program ends with whoever launches it.
    pub die_with_parent: bool,
    /// A directory with the socket for sd_notify.
    pub notify: Option<PathBuf>,
    /// Somebody attaches a network to the container.
    pub network: Option<Network>,
    /// Whom the seccomp filter asks.
    pub asks: Asks,
    /// The caller traces the program's calls that name a file or a peer.
    pub traced: bool,
    /// File system and inode number that the root directory must have.
    pub measured: Option<(u64, u64)>,
    /// Bind sources are paths without any link.
    pub plain_paths: bool,
    /// The cgroup, planned from `linux.cgroupsPath` and `linux.resources`.
    pub cgroup: Option<CgroupPlan>,
}

/// A plan and what the user should know about it.
pub type Planned = Result<(Plan, Vec<String>), Vec<Problem>>;

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

/// Plans a new container.
pub fn for_create(hardened: &HardenedSpec, facts: &Facts, options: Options) -> Planned {
    let namespaces = Namespaces::of(&hardened.spec);
    let process = hardened.spec.process().as_ref();
    let missing = || Problem::new("", "process property must not be empty");
    let create = Create {
        spec: &hardened.spec,
        ids: id_maps(&hardened.spec, &namespaces, facts).map_err(one)?,
        process: process.ok_or_else(missing).map_err(one)?,
        hardened,
        facts,
        options,
        namespaces,
    };
    create.plan()
}

/// Everything a new container's plan is made from.
struct Create<'a> {
    spec: &'a Spec,
    process: &'a Process,
    hardened: &'a HardenedSpec,
    facts: &'a Facts,
    options: Options,
    namespaces: Namespaces,
    ids: Option<IdMaps>,
}

impl Create<'_> {
    fn plan(self) -> Planned {
        let mut enter = self.enter().map_err(one)?;
        let rdt = rdt::plan(self.spec, &self.options.id, self.facts).map_err(one)?;
        if rdt.is_some() {
            // What the program starts early would not be in it.
            enter.first.insert(0, EnterStep::AwaitClass);
        }
        if self.options.traced {
            enter.await_tracer();
        }
        let net_devices = net_devices::plan(self.spec, self.facts)?;
        if !net_devices.is_empty() {
            // Before hooks: they find them there, and may configure more.
            enter.first.push(EnterStep::NetDevices);
        }
        let (mut root, mut sources) = self.root()?;
        if let Some(first) = self.hardened.given {
            let stage = Stage {
                first,
                rootfs: &self.options.rootfs,
                low_ports: policy::grants(self.process, Capability::NetBindService),
            };
            root = staged::stage(&stage, &mut enter, root, &mut sources).map_err(one)?;
        }
        let surroundings = self.surroundings(&enter);
        let (mut steps, warnings) = process::steps(self.process, &surroundings).map_err(one)?;
        let linux = self.spec.linux().as_ref();
        let domain = linux.and_then(|linux| linux.personality().as_ref());
        let policy = linux.and_then(|linux| linux.memory_policy().as_ref());
        steps.splice(1..1, of_linux(domain, policy).map_err(one)?);
        let ending = Ending {
            restrict: handled_files(&root),
            ..self.ending()?
        };
        let exec = process::ending(ending, &mut steps, program_name(self.process));
        let (listen, notify) = (self.options.listen_fds, self.options.notify.is_some());
        let extra = environment(self.process, listen, notify);
        let program = program::program(self.process, &extra).map_err(one)?;
        let plan = Plan {
            // Where the namespace is joined, the joiner sets them before.
            limits: match (&self.ids, self.hardened.given) {
                (Some(_), None) => self.limits(),
                _ => Vec::new(),
            },
            cgroup: self.options.cgroup,
            ids: self.ids,
            enter,
            rdt,
            net_devices,
            sources,
            root,
            process: steps,
            exec,
            program,
        };
        Ok((plan, warnings))
    }

    fn enter(&self) -> Result<Enter, Problem> {
        let circumstances = Circumstances {
            privileged: self.facts.privileged,
            has_cgroup: self.options.cgroup.is_some(),
            awaits_cgroup: self
                .options
                .cgroup
                .as_ref()
                .is_some_and(|cgroup| cgroup.scope.is_some()),
            oom_score_adj: self.process.oom_score_adj(),
            early: self.early(),
            given: self.hardened.given.is_some(),
        };
        enter::for_create(self.spec, &circumstances)
    }

    fn limits(&self) -> Vec<ProcessStep> {
        early_limits(self.process, self.facts, self.namespaces.has(Kind::User))
    }

    fn early(&self) -> Vec<ProcessStep> {
        let user_namespace = self.namespaces.has(Kind::User);
        early(
            self.process,
            self.facts,
            user_namespace,
            self.hardened.given,
        )
    }

    fn root(&self) -> Result<(Vec<RootStep>, Vec<BindSource>), Vec<Problem>> {
        let linux = self.spec.linux().as_ref();
        let hooks = self.hooks("createContainer", "creating").map_err(one)?;
        let frame = Frame {
            setting: Setting {
                bundle: &self.hardened.bundle,
                namespaces: &self.namespaces,
                ids: self.ids.as_ref(),
                privileged: self.facts.privileged,
                staged: self.hardened.given.is_some(),
                plain_paths: self.options.plain_paths,
                label: linux.and_then(|linux| linux.mount_label().as_deref()),
                harden_volumes: self.hardened.hardening.wants(Rule::Volumes),
                cgroup: self
                    .options
                    .cgroup
                    .as_ref()
                    .map(|cgroup| cgroup.path.as_path()),
            },
            rootfs: &self.options.rootfs,
            parent_mount: self.options.parent_mount.as_deref(),
            bind_devices: self.namespaces.has(Kind::User) || self.facts.in_user_namespace,
            no_pivot: self.options.no_pivot,
            runtime_hooks: has_runtime_hooks(self.spec),
            hooks,
            secrets: self.secrets().map_err(one)?,
            notify: self.options.notify.as_deref(),
            measured: self.options.measured,
        };
        let (mut steps, sources) = rootfs::plan(self.spec, frame)?;
        let fence = self.hardened.fence.as_ref();
        steps.extend(fence_steps(fence, self.facts, Whose::First).map_err(one)?);
        Ok((steps, sources))
    }

    fn secrets(&self) -> Result<Option<SecretsStep>, Problem> {
        let linux = self.spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        let label = label.filter(|label| !label.is_empty());
        Ok((self.options.secrets > 0).then_some(SecretsStep {
            count: self.options.secrets,
            uid: self.process.user().uid(),
            gid: self.process.user().gid(),
            label: label
                .map(|label| c_string(label, "/linux/mountLabel"))
                .transpose()?,
        }))
    }

    /// The hooks of a list that the child runs.
    fn hooks(&self, list: &str, status: &str) -> Result<Vec<HookStep>, Problem> {
        let lists = self.spec.hooks().as_ref();
        let hooks = lists.and_then(|lists| match list {
            "createContainer" => lists.create_container().as_ref(),
            _ => lists.start_container().as_ref(),
        });
        let state = hooks::state(self.spec, &self.options.id, status, &self.hardened.bundle);
        hooks::steps(hooks, list, &state)
    }

    fn surroundings(&self, enter: &Enter) -> Surroundings {
        let keyring = self.hardened.hardening.wants(Rule::Keyring);
        Surroundings {
            keyring: keyring.then(|| format!("_ses.{}", self.options.id)),
            new_network: self.namespaces.makes(Kind::Network),
            routes: self
                .options
                .network
                .as_ref()
                .map(Network::rules)
                .unwrap_or_default(),
            may_set_groups: may_set_groups(enter, self.ids.as_ref(), self.facts),
            available_capabilities: available(self.namespaces.has(Kind::User), self.facts),
            names: (self.spec.hostname().clone(), self.spec.domainname().clone()),
            early_limits: sets_limits_early(self.facts, self.namespaces.has(Kind::User)),
            init: annotations::has_init(self.spec),
            die_with_parent: self.options.die_with_parent,
        }
    }

    fn ending(&self) -> Result<Ending, Vec<Problem>> {
        Ok(Ending {
            park: self.options.park,
            hooks: self.hooks("startContainer", "created").map_err(one)?,
            first_closed: 3 + self.options.preserved_fds,
            init: init::plan(self.spec, &self.hardened.filter, self.options.listen_fds)?,
            filter: filter::plan(&self.hardened.filter, self.options.asks)?,
            traced: match self.options.traced {
                true => Some(filter::traced()?),
                false => None,
            },
            labels: process::labels(self.process).map_err(one)?,
            restrict: None,
        })
    }
}

/// What a process has from `linux`: its execution domain and its memory policy,
/// which the specification gives to the whole container, so to `exec` too.
fn of_linux(
    domain: Option<&LinuxPersonality>,
    policy: Option<&LinuxMemoryPolicy>,
) -> Result<Vec<ProcessStep>, Problem> {
    let domain = domain.map(process::personality);
    let policy = policy.map(memory_policy::plan).transpose()?;
    let policy = policy.map(ProcessStep::MemoryPolicy);
    Ok(domain.into_iter().chain(policy).collect())
}

/// The fence as steps that follow the new root.
fn fence_steps(
    fence: Option<&Fence>,
    facts: &Facts,
    whose: Whose,
) -> Result<Vec<RootStep>, Problem> {
    match (fence, facts.landlock) {
        (Some(fence), Some(abi)) => {
            let steps = landlock::steps(fence, abi, whose)?;
            Ok(steps.into_iter().map(RootStep::Fence).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// What the ruleset among these steps handles of files.
fn handled_files(root: &[RootStep]) -> Option<u64> {
    root.iter().find_map(|step| match step {
        RootStep::Fence(FenceStep::Ruleset(ruleset)) => Some(ruleset.files),
        _ => None,
    })
}

/// Capabilities a process can have: all in a new user namespace, else the caller's.
fn available(user_namespace: bool, facts: &Facts) -> u64 {
    if user_namespace {
        u64::MAX
    } else {
        facts.capabilities
    }
}

/// Whether limits must be set at the very beginning: in a user namespace, or once it
/// has given up the privilege, the process of a privileged caller may no longer raise
/// them.
fn sets_limits_early(facts: &Facts, loses_privilege: bool) -> bool {
    facts.privileged && loses_privilege
}

/// The limits that are set so early.
fn early_limits(process: &Process, facts: &Facts, loses_privilege: bool) -> Vec<ProcessStep> {
    match sets_limits_early(facts, loses_privilege) {
        true => process::limits(process),
        false => Vec::new(),
    }
}

/// What the process may not do later, when it has lost the privilege: besides limits,
/// pipes of the host's root are to become those of the program's user.
fn early(
    process: &Process,
    facts: &Facts,
    loses_privilege: bool,
    given: Option<u32>,
) -> Vec<ProcessStep> {
    let mut early = early_limits(process, facts, loses_privilege);
    let terminal = process.terminal().unwrap_or(false);
    let uid = given.and_then(|first| process.user().uid().checked_add(first));
    early.extend(uid.filter(|_| !terminal).map(ProcessStep::StdioOwner));
    early
}

fn program_name(process: &Process) -> &str {
    process
        .args()
        .as_ref()
        .and_then(|args| args.first())
        .map_or("", String::as_str)
}

fn id_maps(spec: &Spec, namespaces: &Namespaces, facts: &Facts) -> Result<Option<IdMaps>, Problem> {
    if !namespaces.makes(Kind::User) {
        return Ok(None);
    }
    let linux = spec.linux().as_ref();
    let ranges = |list: Option<&Vec<LinuxIdMapping>>| -> Vec<IdRange> {
        list.into_iter().flatten().map(IdRange::from).collect()
    };
    let users = ranges(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    let groups = ranges(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    for (ranges, at) in [
        (&users, "/linux/uidMappings"),
        (&groups, "/linux/gidMappings"),
    ] {
        if ranges.is_empty() {
            return Err(Problem::new(at, "a new user namespace needs mappings"));
        }
    }
    let caller = (facts.uid, facts.gid);
    Ok(Some(IdMaps::new(users, groups, facts.privileged, caller)))
}

/// prestart hooks are deprecated, and engines still use them.
#[allow(
    deprecated,
    reason = "the runtime specification still demands that they run"
)]
fn has_runtime_hooks(spec: &Spec) -> bool {
    spec.hooks().as_ref().is_some_and(|hooks| {
        hooks
            .prestart()
            .as_ref()
            .is_some_and(|list| !list.is_empty())
            || hooks
                .create_runtime()
                .as_ref()
                .is_some_and(|list| !list.is_empty())
    })
}

fn may_set_groups(enter: &Enter, ids: Option<&IdMaps>, facts: &Facts) -> bool {
    match ids {
        Some(ids) => ids.writer != super::ids::Writer::RuntimeOwnIdOnly,
        // Whether a joined user namespace denies it shows when it is tried.
        None => facts.may_set_groups || enter.differing & Kind::User.flag() != 0,
    }
}

/// What the runtime adds to the environment.
///
/// HOME is set where the bundle sets none, without reading the container's
/// /etc/passwd: that file is the image's, and a runtime that believes it can
/// be misled (CVE-2016-3697).
fn environment(process: &Process, listen_fds: i32, notify: bool) -> Vec<String> {
    let mut extra = Vec::new();
    let given = process
        .env()
        .iter()
        .flatten()
        .any(|entry| entry.starts_with("HOME="));
    if !given {
        extra.push(if process.user().uid() == 0 {
            "HOME=/root".into()
        } else {
            "HOME=/".into()
        });
    }
    if listen_fds > 0 {
        extra.push(format!("LISTEN_FDS={listen_fds}"));
        // The first process of the container's own pid namespace.
        extra.push("LISTEN_PID=1".into());
    }
    if notify {
        extra.push("NOTIFY_SOCKET=/run/notify/notify.sock".into());
    }
    extra
}
