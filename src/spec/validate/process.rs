//! The process by itself: arguments, environment, limits, scheduling, capabilities.

use oci_spec::runtime::{
    Capabilities, ExecCPUAffinity, LinuxCapabilities, LinuxIOPriority, LinuxSchedulerPolicy,
    PosixRlimit, Process, Scheduler, User,
};

use super::findings::Findings;

/// The longest argument or environment string the kernel takes, in bytes,
/// without the ending NUL (`MAX_ARG_STRLEN`).
const ARGUMENT_LIMIT: usize = 131_071;

/// Not an id: the kernel's "leave it as it is".
const NO_ID: u32 = u32::MAX;

/// Checks a process; `at` is the JSON pointer it stands at.
pub(super) fn check(process: &Process, at: &str, findings: &mut Findings) {
    check_args(process, at, findings);
    check_env(process, at, findings);
    findings.absolute(format_args!("{at}/cwd"), process.cwd());
    check_user(process.user(), at, findings);
    check_terminal(process, at, findings);
    check_rlimits(
        process.rlimits().as_deref().unwrap_or_default(),
        at,
        findings,
    );
    if let Some(capabilities) = process.capabilities() {
        check_capabilities(capabilities, at, findings);
    }
    if let Some(profile) = process.apparmor_profile() {
        findings.line(format_args!("{at}/apparmorProfile"), profile);
    }
    if let Some(label) = process.selinux_label() {
        findings.line(format_args!("{at}/selinuxLabel"), label);
    }
    if let Some(score) = process.oom_score_adj()
        && !(-1000..=1000).contains(&score)
    {
        findings.problem(
            format_args!("{at}/oomScoreAdj"),
            format!("{score} is not in -1000..=1000"),
        );
    }
    if let Some(priority) = process.io_priority() {
        check_io_priority(priority, at, findings);
    }
    if let Some(scheduler) = process.scheduler() {
        check_scheduler(scheduler, at, findings);
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        check_affinity(affinity, at, findings);
    }
}

fn check_args(process: &Process, at: &str, findings: &mut Findings) {
    let args = process.args().as_deref().unwrap_or_default();
    match args.first() {
        None => findings.problem(format_args!("{at}/args"), "must not be empty"),
        Some(program) if program.is_empty() => {
            findings.problem(
                format_args!("{at}/args/0"),
                "the program's name must not be empty",
            );
        }
        Some(_) => {}
    }
    for (index, arg) in args.iter().enumerate() {
        findings.limited(format_args!("{at}/args/{index}"), arg, ARGUMENT_LIMIT);
    }
}

/// A string without a name cannot be found by any program, and what such
/// programs make of it differs: runc refuses it too.
fn check_env(process: &Process, at: &str, findings: &mut Findings) {
    for (index, variable) in process.env().iter().flatten().enumerate() {
        let at = format_args!("{at}/env/{index}");
        match variable.find('=') {
            None => findings.problem(at, "has no '=' between a name and a value"),
            Some(0) => findings.problem(at, "has no name before the '='"),
            Some(_) => findings.limited(at, variable, ARGUMENT_LIMIT),
        }
    }
}

fn check_user(user: &User, at: &str, findings: &mut Findings) {
    let text = "4294967295 is not an id: the kernel takes it for \"no change\"";
    if user.uid() == NO_ID {
        findings.problem(format_args!("{at}/user/uid"), text);
    }
    if user.gid() == NO_ID {
        findings.problem(format_args!("{at}/user/gid"), text);
    }
    for (index, &gid) in user.additional_gids().iter().flatten().enumerate() {
        if gid == NO_ID {
            findings.problem(format_args!("{at}/user/additionalGids/{index}"), text);
        }
    }
    if let Some(umask) = user.umask()
        && umask > 0o7777
    {
        let text = format!("{umask} is not a mode; 0022 is 18 in JSON");
        findings.problem(format_args!("{at}/user/umask"), text);
    }
}

fn check_terminal(process: &Process, at: &str, findings: &mut Findings) {
    let (Some(true), Some(size)) = (process.terminal(), process.console_size()) else {
        return;
    };
    for (name, value) in [("height", size.height()), ("width", size.width())] {
        if value > u64::from(u16::MAX) {
            findings.problem(
                format_args!("{at}/consoleSize/{name}"),
                format!("{value} is more than 65535"),
            );
        }
    }
}

fn check_rlimits(limits: &[PosixRlimit], at: &str, findings: &mut Findings) {
    let mut seen = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let at = format_args!("{at}/rlimits/{index}");
        if seen.contains(&limit.typ()) {
            findings.problem(at, format!("{} is given twice", limit.typ()));
        } else {
            seen.push(limit.typ());
        }
        if limit.soft() > limit.hard() {
            let (soft, hard) = (limit.soft(), limit.hard());
            findings.problem(
                at,
                format!("the soft limit {soft} is above the hard limit {hard}"),
            );
        }
    }
}

/// The kernel refuses an effective capability that is not permitted. An ambient
/// one that is not permitted and inheritable it just does not raise; engines
/// and `runc spec` before 1.3 write such sets, so that is only worth a warning.
fn check_capabilities(sets: &LinuxCapabilities, at: &str, findings: &mut Findings) {
    let lacking =
        |wanted: &Option<Capabilities>, in_sets: &[&Option<Capabilities>]| -> Vec<String> {
            let in_all = |name| {
                in_sets
                    .iter()
                    .all(|set| set.as_ref().is_some_and(|set| set.contains(name)))
            };
            let mut names: Vec<String> = wanted
                .iter()
                .flatten()
                .filter(|name| !in_all(name))
                .map(|name| format!("CAP_{name}"))
                .collect();
            names.sort();
            names
        };
    let effective = lacking(sets.effective(), &[sets.permitted()]);
    if !effective.is_empty() {
        let text = format!("{} must be permitted too", effective.join(", "));
        findings.problem(format_args!("{at}/capabilities/effective"), text);
    }
    let ambient = lacking(sets.ambient(), &[sets.permitted(), sets.inheritable()]);
    if !ambient.is_empty() {
        let text = format!(
            "{} will not be raised: not both permitted and inheritable",
            ambient.join(", ")
        );
        findings.warning(format_args!("{at}/capabilities/ambient"), text);
    }
}

fn check_io_priority(priority: &LinuxIOPriority, at: &str, findings: &mut Findings) {
    if !(0..=7).contains(&priority.priority()) {
        let text = format!("{} is not in 0..=7", priority.priority());
        findings.problem(format_args!("{at}/ioPriority/priority"), text);
    }
}

/// The kernel's shortest deadline run time, in nanoseconds (`DL_SCALE`).
const SHORTEST_RUNTIME: u64 = 1 << 10;

fn check_scheduler(scheduler: &Scheduler, at: &str, findings: &mut Findings) {
    use LinuxSchedulerPolicy::{
        SchedBatch, SchedDeadline, SchedFifo, SchedIso, SchedOther, SchedRr,
    };
    let policy = *scheduler.policy();
    if policy == SchedIso {
        findings.problem(
            format_args!("{at}/scheduler/policy"),
            "SCHED_ISO does not exist in Linux",
        );
    }
    let nice = scheduler.nice().unwrap_or_default();
    if !(-20..=19).contains(&nice) {
        findings.problem(
            format_args!("{at}/scheduler/nice"),
            format!("{nice} is not in -20..=19"),
        );
    } else if nice != 0 && !matches!(policy, SchedOther | SchedBatch) {
        let text = format!("{policy} has no nice value; only SCHED_OTHER and SCHED_BATCH have");
        findings.problem(format_args!("{at}/scheduler/nice"), text);
    }
    let priority = scheduler.priority().unwrap_or_default();
    let real_time = matches!(policy, SchedFifo | SchedRr);
    if real_time && !(1..=99).contains(&priority) {
        findings.problem(
            format_args!("{at}/scheduler/priority"),
            format!("{priority} is not in 1..=99"),
        );
    } else if !real_time && priority != 0 {
        let text = format!("{policy} has no priority; only SCHED_FIFO and SCHED_RR have");
        findings.problem(format_args!("{at}/scheduler/priority"), text);
    }
    let [runtime, deadline, period] = [
        scheduler.runtime(),
        scheduler.deadline(),
        scheduler.period(),
    ]
    .map(|time| time.unwrap_or_default());
    if policy != SchedDeadline {
        for (name, time) in [
            ("runtime", runtime),
            ("deadline", deadline),
            ("period", period),
        ] {
            if time != 0 {
                findings.problem(
                    format_args!("{at}/scheduler/{name}"),
                    "only SCHED_DEADLINE has it",
                );
            }
        }
    } else if runtime < SHORTEST_RUNTIME || runtime > deadline || (period != 0 && deadline > period)
    {
        let text =
            format!("SCHED_DEADLINE needs {SHORTEST_RUNTIME} <= runtime <= deadline <= period");
        findings.problem(format_args!("{at}/scheduler"), text);
    }
}

fn check_affinity(affinity: &ExecCPUAffinity, at: &str, findings: &mut Findings) {
    for (name, list) in [
        ("initial", affinity.initial()),
        ("final", affinity.cpu_affinity_final()),
    ] {
        if let Some(list) = list
            && !is_cpu_list(list)
        {
            let text = format!("{list:?} is not a list of CPUs like 0-3,7");
            findings.problem(format_args!("{at}/execCPUAffinity/{name}"), text);
        }
    }
}

/// Whether each range of a list goes upwards and each number is one a CPU can have.
pub(super) fn is_cpu_list(list: &str) -> bool {
    list.split(',').all(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => first <= last,
            _ => false,
        }
    })
}
