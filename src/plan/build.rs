//! From a hardened configuration and facts to a plan.

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use super::cgroup::CgroupPlan;
use super::enter::{self, Circumstances};
use super::ids::IdMaps;
use super::mounts::Setting;
use super::process::{self, Ending, Surroundings};
use super::program;
use super::rootfs::{self, Frame};
use super::steps::{EnterStep, FilterStep, ProcessStep};
use super::{Plan, hooks};
use crate::error::Problem;
use crate::host::Facts;
use crate::policy::HardenedSpec;
use crate::seccomp;
use crate::spec::ids::IdRange;
use crate::spec::namespaces::{Kind, Namespaces};

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
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors after 2 that the program gets.
    pub preserved_fds: i32,
    /// How many of them are for socket activation.
    pub listen_fds: i32,
    /// A directory with the socket for sd_notify.
    pub notify: Option<PathBuf>,
    /// The cgroup, planned from `linux.cgroupsPath` and `linux.resources`.
    pub cgroup: Option<CgroupPlan>,
}

/// Plans a new container; the second part is warnings.
pub fn for_create(
    hardened: &HardenedSpec,
    facts: &Facts,
    options: Options,
) -> Result<(Plan, Vec<String>), Vec<Problem>> {
    let spec = &hardened.spec;
    let namespaces = Namespaces::of(spec);
    let ids = id_maps(spec, &namespaces, facts);
    let process = spec.process().as_ref();
    let process = process.ok_or_else(|| {
        vec![Problem::new(
            "/process",
            "process property must not be empty",
        )]
    })?;
    let one = |problem| vec![problem];
    let hook_lists = spec.hooks().as_ref();
    let circumstances = Circumstances {
        privileged: facts.privileged,
        has_cgroup: options.cgroup.is_some(),
        runtime_hooks: has_runtime_hooks(spec),
        oom_score_adj: process.oom_score_adj(),
    };
    let enter = enter::for_create(spec, &circumstances).map_err(one)?;
    let creating = hooks::state(spec, &options.id, "creating", &hardened.bundle);
    let create_container = hook_lists.and_then(|h| h.create_container().as_ref());
    let frame = Frame {
        setting: Setting {
            bundle: &hardened.bundle,
            namespaces: &namespaces,
            ids: ids.as_ref(),
            privileged: facts.privileged,
            label: spec
                .linux()
                .as_ref()
                .and_then(|l| l.mount_label().as_deref()),
            cgroup: options.cgroup.as_ref().map(|cgroup| cgroup.path.as_path()),
        },
        rootfs: &options.rootfs,
        parent_mount: options.parent_mount.as_deref(),
        bind_devices: namespaces.has(Kind::User) || facts.in_user_namespace,
        no_pivot: options.no_pivot,
        hooks: hooks::steps(create_container, "createContainer", &creating).map_err(one)?,
        notify: options.notify.as_deref(),
    };
    if let Some(problem) = rootfs::needs_mount_namespace(&frame.setting) {
        return Err(one(problem));
    }
    let (root, sources) = rootfs::plan(spec, frame)?;
    let surroundings = Surroundings {
        keyring: (!options.no_new_keyring).then(|| format!("_ses.{}", options.id)),
        new_network: namespaces.makes(Kind::Network),
        may_set_groups: may_set_groups(&enter.first, &enter.joiner, ids.as_ref(), facts),
        available_capabilities: if namespaces.has(Kind::User) {
            u64::MAX
        } else {
            facts.capabilities
        },
        names: (spec.hostname().clone(), spec.domainname().clone()),
        limits_by_runtime: facts.privileged && ids.is_some(),
    };
    let (mut steps, warnings) = process::steps(process, &surroundings).map_err(one)?;
    steps.splice(1..1, process::personality(spec));
    let created = hooks::state(spec, &options.id, "created", &hardened.bundle);
    let start_container = hook_lists.and_then(|h| h.start_container().as_ref());
    let ending = Ending {
        park: options.park,
        hooks: hooks::steps(start_container, "startContainer", &created).map_err(one)?,
        first_closed: 3 + options.preserved_fds,
        filter: filter(spec)?,
        labels: process::labels(process).map_err(one)?,
    };
    let exec = process::ending(ending, &mut steps, program_name(process));
    let program = program::program(
        process,
        &environment(process, options.listen_fds, options.notify.is_some()),
    )
    .map_err(one)?;
    let limits = if surroundings.limits_by_runtime {
        process::limits(process)
    } else {
        Vec::new()
    };
    let plan = Plan {
        cgroup: options.cgroup,
        ids,
        limits,
        enter,
        sources,
        root,
        process: steps,
        exec,
        program,
    };
    Ok((plan, warnings))
}

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
}

/// Plans one more process in a running container.
pub fn for_exec(
    spec: &Spec,
    process: &Process,
    facts: &Facts,
    target: &Target,
) -> Result<(Plan, Vec<String>), Vec<Problem>> {
    let one = |problem| vec![problem];
    let affinity = process.exec_cpu_affinity().as_ref();
    let mask = |list: Option<&String>, name: &str| {
        list.map(|list| process::affinity(list, &format!("/process/execCPUAffinity/{name}")))
            .transpose()
    };
    let initial = mask(affinity.and_then(|a| a.initial().as_ref()), "initial").map_err(one)?;
    let last = mask(
        affinity.and_then(|a| a.cpu_affinity_final().as_ref()),
        "final",
    )
    .map_err(one)?;
    let enter = enter::for_exec(target.differing, process.oom_score_adj(), initial).map_err(one)?;
    let in_user_namespace = target.differing & Kind::User.flag() != 0;
    let surroundings = Surroundings {
        keyring: Some(format!("_ses.{}", target.id)),
        new_network: false,
        may_set_groups: target.may_set_groups,
        available_capabilities: if in_user_namespace {
            u64::MAX
        } else {
            facts.capabilities
        },
        names: (None, None),
        limits_by_runtime: facts.privileged && in_user_namespace,
    };
    let (mut steps, warnings) = process::steps(process, &surroundings).map_err(one)?;
    steps.splice(
        1..1,
        process::personality(spec)
            .into_iter()
            .chain(last.map(ProcessStep::Affinity)),
    );
    let root = if process.terminal().unwrap_or(false) {
        vec![console(process)]
    } else {
        Vec::new()
    };
    let ending = Ending {
        park: false,
        hooks: Vec::new(),
        first_closed: 3 + target.preserved_fds,
        filter: filter(spec)?,
        labels: process::labels(process).map_err(one)?,
    };
    let exec = process::ending(ending, &mut steps, program_name(process));
    let program = program::program(process, &environment(process, 0, false)).map_err(one)?;
    let limits = if surroundings.limits_by_runtime {
        process::limits(process)
    } else {
        Vec::new()
    };
    let plan = Plan {
        cgroup: None,
        ids: None,
        limits,
        enter,
        sources: Vec::new(),
        root,
        process: steps,
        exec,
        program,
    };
    Ok((plan, warnings))
}

fn console(process: &Process) -> super::RootStep {
    let small = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    super::RootStep::Terminal {
        size: process
            .console_size()
            .map(|size| (small(size.height()), small(size.width()))),
        uid: process.user().uid(),
    }
}

fn program_name(process: &Process) -> &str {
    process
        .args()
        .as_ref()
        .and_then(|args| args.first())
        .map_or("", String::as_str)
}

fn id_maps(spec: &Spec, namespaces: &Namespaces, facts: &Facts) -> Option<IdMaps> {
    if !namespaces.makes(Kind::User) {
        return None;
    }
    let linux = spec.linux().as_ref()?;
    let ranges = |list: &Option<Vec<oci_spec::runtime::LinuxIdMapping>>| -> Vec<IdRange> {
        list.iter().flatten().map(IdRange::from).collect()
    };
    let users = ranges(linux.uid_mappings());
    let groups = ranges(linux.gid_mappings());
    Some(IdMaps::new(
        users,
        groups,
        facts.privileged,
        (facts.uid, facts.gid),
    ))
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

fn may_set_groups(
    first: &[EnterStep],
    joiner: &[EnterStep],
    ids: Option<&IdMaps>,
    facts: &Facts,
) -> bool {
    match ids {
        Some(ids) => ids.writer != super::ids::Writer::RuntimeOwnIdOnly,
        // A joined user namespace may deny it; the child then says so.
        None => {
            facts.may_set_groups
                || first
                    .iter()
                    .chain(joiner)
                    .any(|s| matches!(s, EnterStep::Join(_, Kind::User)))
        }
    }
}

/// The seccomp filter of the bundle.
fn filter(spec: &Spec) -> Result<Option<FilterStep>, Vec<Problem>> {
    let Some(profile) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref())
    else {
        return Ok(None);
    };
    let program = seccomp::compile(profile)?;
    if program.notify {
        return Err(vec![Problem::new(
            "/linux/seccomp",
            "SCMP_ACT_NOTIFY needs a listener, which this version cannot serve",
        )]);
    }
    let instructions = program.instructions.iter().map(|i| libc::sock_filter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    });
    Ok(Some(FilterStep {
        summary: program.to_string(),
        instructions: instructions.collect(),
        flags: program.flags,
    }))
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
