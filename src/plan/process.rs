//! The process's own properties, and the steps that follow `start`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use caps::Capability;
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, PosixRlimitType, Process, Scheduler,
};

use super::filter::FilterStep;
use super::init::InitStep;
use super::reach::RouteRule;
use super::steps::{Affinity, ExecStep, HookStep, LabelStep, ProcessStep};
use super::{c_string, capabilities};
use crate::error::Problem;

/// What the process phase depends on besides the configuration.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Name of the new session keyring; none keeps the caller's.
    pub keyring: Option<String>,
    /// A network namespace was made, whose loopback device is down.
    pub new_network: bool,
    /// Where packets may go, if somebody attaches a network.
    pub routes: Vec<RouteRule>,
    /// setgroups(2) is possible.
    pub may_set_groups: bool,
    /// Capabilities the process can have at all.
    pub available_capabilities: u64,
    /// `hostname` and `domainname`, for a new container.
    pub names: (Option<String>, Option<String>),
    /// The resource limits are set already, before a user namespace is entered.
    pub early_limits: bool,
    /// The process ends with its parent.
    pub die_with_parent: bool,
    /// The first process stays as init: the terminal is not for it.
    pub init: bool,
}

/// Plans the process phase; the second part is warnings.
pub fn steps(
    process: &Process,
    around: &Surroundings,
) -> Result<(Vec<ProcessStep>, Vec<String>), Problem> {
    let mut steps = vec![ProcessStep::Session];
    if let Some(name) = &around.keyring {
        steps.push(ProcessStep::Keyring(c_string(name.as_str(), "/id")?));
    }
    if process.terminal().unwrap_or(false) {
        steps.push(match around.init {
            true => ProcessStep::TerminalStdio,
            false => ProcessStep::Terminal,
        });
    } else {
        steps.push(ProcessStep::StdioOwner(process.user().uid()));
    }
    steps.extend(around.new_network.then_some(ProcessStep::LoopbackUp));
    steps.extend(around.routes.iter().cloned().map(ProcessStep::Route));
    if let Some(name) = around.names.0.as_deref().filter(|name| !name.is_empty()) {
        steps.push(ProcessStep::Hostname(c_string(name, "/hostname")?));
    }
    if let Some(name) = around.names.1.as_deref().filter(|name| !name.is_empty()) {
        steps.push(ProcessStep::Domainname(c_string(name, "/domainname")?));
    }
    if !around.early_limits {
        steps.extend(limits(process));
    }
    steps.extend(scheduling(process)?);
    if let Some(umask) = process.user().umask() {
        steps.push(ProcessStep::Umask(umask));
    }
    let cwd = c_string(process.cwd().as_os_str().as_bytes(), "/process/cwd")?;
    steps.push(ProcessStep::Cwd(cwd.clone()));
    let (wanted, warnings) = capabilities::read(
        process.capabilities().as_ref(),
        around.available_capabilities,
    );
    steps.push(ProcessStep::Bounding(wanted.bounding));
    let groups = process.user().additional_gids().clone().unwrap_or_default();
    if around.may_set_groups {
        steps.push(ProcessStep::Groups(groups));
    } else if !groups.is_empty() {
        let text = "the kernel denies setgroups(2) where only the caller's own group is mapped: give the \
                    caller subordinate ids, or no additionalGids";
        return Err(Problem::new("/process/user/additionalGids", text));
    }
    steps.push(ProcessStep::Gid(process.user().gid()));
    steps.push(ProcessStep::Uid(process.user().uid()));
    steps.push(wanted.step());
    steps.push(ProcessStep::CwdAsUser(cwd));
    steps.push(ProcessStep::FindProgram);
    if process.no_new_privileges().unwrap_or(true) {
        steps.push(ProcessStep::NoNewPrivileges);
    }
    if around.die_with_parent {
        steps.push(ProcessStep::DieWithParent);
    }
    Ok((steps, warnings))
}

/// `process.rlimits` as steps.
pub fn limits(process: &Process) -> Vec<ProcessStep> {
    let listed = process.rlimits().iter().flatten();
    listed
        .map(|limit| {
            let (name, resource) = resource(limit.typ());
            ProcessStep::Rlimit {
                name,
                resource,
                soft: limit.soft(),
                hard: limit.hard(),
            }
        })
        .collect()
}

fn resource(kind: PosixRlimitType) -> (&'static str, u32) {
    use PosixRlimitType as R;
    // The numbers are asm-generic's, which x86_64 and aarch64 share.
    match kind {
        R::RlimitCpu => ("RLIMIT_CPU", 0),
        R::RlimitFsize => ("RLIMIT_FSIZE", 1),
        R::RlimitData => ("RLIMIT_DATA", 2),
        R::RlimitStack => ("RLIMIT_STACK", 3),
        R::RlimitCore => ("RLIMIT_CORE", 4),
        R::RlimitRss => ("RLIMIT_RSS", 5),
        R::RlimitNproc => ("RLIMIT_NPROC", 6),
        R::RlimitNofile => ("RLIMIT_NOFILE", 7),
        R::RlimitMemlock => ("RLIMIT_MEMLOCK", 8),
        R::RlimitAs => ("RLIMIT_AS", 9),
        R::RlimitLocks => ("RLIMIT_LOCKS", 10),
        R::RlimitSigpending => ("RLIMIT_SIGPENDING", 11),
        R::RlimitMsgqueue => ("RLIMIT_MSGQUEUE", 12),
        R::RlimitNice => ("RLIMIT_NICE", 13),
        R::RlimitRtprio => ("RLIMIT_RTPRIO", 14),
        R::RlimitRttime => ("RLIMIT_RTTIME", 15),
    }
}

/// A limit as a person reads it.
pub(crate) fn limit_text(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".into()
    } else {
        limit.to_string()
    }
}

/// `struct sched_attr` without its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// Nanoseconds per period.
    pub runtime: u64,
    /// Nanoseconds until the deadline.
    pub deadline: u64,
    /// Nanoseconds of a period.
    pub period: u64,
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "policy {}, nice {}, priority {}",
            self.policy, self.nice, self.priority
        )?;
        if self.policy == 6 {
            write!(
                f,
                ", runtime {} deadline {} period {} ns",
                self.runtime, self.deadline, self.period
            )?;
        }
        Ok(())
    }
}

fn scheduling(process: &Process) -> Result<Vec<ProcessStep>, Problem> {
    let mut steps = Vec::new();
    if let Some(scheduler) = process.scheduler() {
        steps.push(ProcessStep::Scheduler(scheduler_of(scheduler)?));
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1u16,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u16::try_from(priority.priority())
            .ok()
            .filter(|level| *level <= 7);
        let level =
            level.ok_or_else(|| Problem::new("/process/ioPriority/priority", "must be 0 to 7"))?;
        steps.push(ProcessStep::IoPriority(class << 13 | level));
    }
    Ok(steps)
}

fn scheduler_of(scheduler: &Scheduler) -> Result<Scheduling, Problem> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().map(|flag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    });
    let priority = u32::try_from(scheduler.priority().unwrap_or(0))
        .map_err(|_| Problem::new("/process/scheduler/priority", "must not be negative"))?;
    Ok(Scheduling {
        policy,
        flags: flags.fold(0, |all, flag| all | flag),
        nice: scheduler.nice().unwrap_or(0),
        priority,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// `linux.personality` as a step.
pub fn personality(personality: &LinuxPersonality) -> ProcessStep {
    ProcessStep::Personality(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

/// What the last phase is made of.
#[derive(Debug)]
pub struct Ending {
    /// Wait for `start`.
    pub park: bool,
    /// startContainer hooks.
    pub hooks: Vec<HookStep>,
    /// Descriptors from this number on are closed.
    pub first_closed: i32,
    /// The first process stays as init.
    pub init: Option<InitStep>,
    /// The seccomp filter.
    pub filter: Option<FilterStep>,
    /// A filter that gives calls to a tracer.
    pub traced: Option<FilterStep>,
    /// AppArmor and SELinux labels.
    pub labels: Vec<LabelStep>,
    /// What the Landlock ruleset handles of files, if there is one.
    pub restrict: Option<u64>,
}

/// Plans the last phase, and moves out of `process_steps` what must wait for it.
///
/// With no_new_privs the filter comes last, so it need not allow what the
/// runtime itself still calls. Without, loading needs CAP_SYS_ADMIN: the
/// process keeps that one capability until the filter is in force.
pub fn ending(ending: Ending, process_steps: &mut [ProcessStep], program: &str) -> Vec<ExecStep> {
    let mut steps = Vec::new();
    if ending.park {
        steps.push(ExecStep::Park);
    }
    steps.extend(ending.hooks.into_iter().map(ExecStep::Hook));
    steps.extend(ending.labels.into_iter().map(ExecStep::Label));
    steps.extend(ending.restrict.map(|files| ExecStep::Restrict {
        files,
        descriptors: ending.first_closed,
    }));
    steps.push(ExecStep::CloseDescriptors(ending.first_closed));
    steps.extend(ending.init.map(Box::new).map(ExecStep::Init));
    // The other filter may forbid to load one, and comes last.
    let filters: Vec<_> = ending.traced.into_iter().chain(ending.filter).collect();
    if !filters.is_empty() {
        let with_nnp = process_steps.contains(&ProcessStep::NoNewPrivileges);
        let late = if with_nnp {
            None
        } else {
            keep_admin(process_steps)
        };
        steps.extend(filters.into_iter().map(ExecStep::Seccomp));
        steps.extend(late.map(ExecStep::Process));
    }
    steps.push(ExecStep::Execute(program.to_owned()));
    steps
}

/// What one more process needs before it becomes the program's user: to give a
/// terminal away, to enter a directory, to change its ids and its capabilities.
const ON_THE_WAY: [Capability; 5] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
];

/// Takes out of the process phase what can go before the process is seen by others,
/// and gives up what is neither the program's nor needed on the way.
pub fn give_up(steps: &mut Vec<ProcessStep>, available: u64) -> Option<[ProcessStep; 2]> {
    let mut kept = ON_THE_WAY.iter().fold(0, |set, one| set | one.bitmask());
    for step in steps.iter() {
        kept |= match step {
            ProcessStep::Capabilities { permitted, .. } => *permitted,
            ProcessStep::Scheduler(_) | ProcessStep::IoPriority(_) => {
                Capability::CAP_SYS_NICE.bitmask()
            }
            _ => 0,
        };
    }
    let kept = kept & available;
    let bounding = |step: &ProcessStep| matches!(step, ProcessStep::Bounding(_));
    let bounding = steps.iter().position(bounding)?;
    Some([
        steps.remove(bounding),
        ProcessStep::Capabilities {
            effective: kept,
            permitted: kept,
            inheritable: 0,
            ambient: 0,
        },
    ])
}

/// Adds CAP_SYS_ADMIN to the capability step and gives back the step as it was.
fn keep_admin(steps: &mut [ProcessStep]) -> Option<ProcessStep> {
    let admin = Capability::CAP_SYS_ADMIN.bitmask();
    let step = steps
        .iter_mut()
        .find(|step| matches!(step, ProcessStep::Capabilities { .. }))?;
    let final_step = step.clone();
    let ProcessStep::Capabilities {
        effective,
        permitted,
        ..
    } = step
    else {
        return None;
    };
    if *effective & admin != 0 {
        return None;
    }
    *effective |= admin;
    *permitted |= admin;
    Some(final_step)
}

/// Labels that the configuration asks for.
pub fn labels(process: &Process) -> Result<Vec<LabelStep>, Problem> {
    let mut labels = Vec::new();
    if let Some(profile) = process
        .apparmor_profile()
        .as_deref()
        .filter(|p| !p.is_empty())
    {
        let value = c_string(format!("exec {profile}"), "/process/apparmorProfile")?;
        let files = vec![
            c"self/attr/apparmor/exec".to_owned(),
            c"self/attr/exec".to_owned(),
        ];
        labels.push(LabelStep {
            module: "AppArmor",
            files,
            value,
        });
    }
    if let Some(label) = process.selinux_label().as_deref().filter(|l| !l.is_empty()) {
        let value = c_string(label, "/process/selinuxLabel")?;
        labels.push(LabelStep {
            module: "SELinux",
            files: vec![c"self/attr/exec".to_owned()],
            value,
        });
    }
    Ok(labels)
}

/// A list of CPUs such as `0-3,7` as a mask.
pub fn affinity(list: &str, at: &str) -> Result<Affinity, Problem> {
    // CONFIG_NR_CPUS is at most 8192 on the architectures supported.
    let mask = number_mask(list, 8192)
        .ok_or_else(|| Problem::new(at, format!("{list:?} is not a list of CPUs such as 0-3,7")))?;
    Ok(Affinity {
        list: list.to_owned(),
        mask,
    })
}

/// A list such as `0-3,7` as a mask, if it is one, is not empty, and all of it is
/// below `limit`.
pub(super) fn number_mask(list: &str, limit: usize) -> Option<Vec<u64>> {
    let mut mask: Vec<u64> = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last >= limit {
            return None;
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        (first..=last).for_each(|number| mask[number / 64] |= 1 << (number % 64));
    }
    (!mask.is_empty()).then_some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_become_masks() {
        assert_eq!(affinity("0-1,3", "").unwrap().mask, [0b1011]);
        assert_eq!(affinity("64", "").unwrap().mask, [0, 1]);
        for bad in ["", "x", "3-1", "8192", "-1"] {
            assert!(affinity(bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn without_no_new_privs_the_filter_comes_before_the_last_capabilities() {
        let filter = FilterStep {
            summary: "f".into(),
            instructions: vec![],
            flags: 0,
            wishes: 0,
            skipped: Vec::new(),
        };
        let caps = ProcessStep::Capabilities {
            effective: 1,
            permitted: 1,
            inheritable: 0,
            ambient: 0,
        };
        let mut steps = vec![caps.clone()];
        let plan = Ending {
            park: true,
            hooks: vec![],
            first_closed: 3,
            init: None,
            filter: Some(filter),
            traced: None,
            labels: vec![],
            restrict: None,
        };
        let exec = ending(plan, &mut steps, "p");
        assert!(matches!(exec[2], ExecStep::Seccomp(_)));
        assert_eq!(exec[3], ExecStep::Process(caps));
        assert!(matches!(
            steps[0],
            ProcessStep::Capabilities {
                effective: 0x0020_0001,
                ..
            }
        ));
    }
}
