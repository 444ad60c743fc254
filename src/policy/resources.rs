//! The rules about limits that a bundle leaves out.

use oci_spec::runtime::{LinuxResources, Spec};

use super::Rule;
use super::judgement::Judgement;

/// How many processes and threads a container has at most, when its bundle does
/// not say. Twice what podman gives, for servers with a thread for each client;
/// and eight such containers still fit into the 32768 process ids of a small
/// machine, so that a fork bomb leaves the host enough to log in and kill it.
const PIDS_MAX: &str = "4096";

/// A limit of capsid's own, for the rule that wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultLimit {
    /// Which rule.
    pub rule: Rule,
    /// The file of the cgroup.
    pub file: &'static str,
    /// What is written.
    pub value: &'static str,
}

/// Applies them; gives the limits to add wherever the container's cgroup can have them.
pub(super) fn apply(spec: &Spec, judgement: &mut Judgement<'_>) -> Vec<DefaultLimit> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let mut limits = Vec::new();
    limits.extend(pids(resources, judgement));
    limits.extend(memory(resources, judgement));
    limits
}

/// What `linux.resources.unified` says of a file.
fn unified<'r>(resources: Option<&'r LinuxResources>, file: &str) -> Option<&'r str> {
    let unified = resources?.unified().as_ref()?;
    unified.get(file).map(|value| value.trim())
}

fn pids(resources: Option<&LinuxResources>, judgement: &mut Judgement<'_>) -> Option<DefaultLimit> {
    let (rule, file) = (Rule::Pids, "pids.max");
    let limit = resources.and_then(|resources| resources.pids().as_ref());
    let (said, at) = match (unified(resources, file), limit.map(|limit| limit.limit())) {
        (Some(value), _) => (Some(value.to_owned()), "/linux/resources/unified/pids.max"),
        (None, Some(-1)) => (Some("max".to_owned()), "/linux/resources/pids/limit"),
        (None, limit) => (limit.map(|limit| limit.to_string()), ""),
    };
    match said.as_deref() {
        Some("max") if judgement.gives_up(rule) => None,
        Some("max") => {
            judgement.asks_for_less(rule, at, "it asks for no limit of processes");
            None
        }
        Some(value) => {
            judgement.enforced(rule, format!("{file} {value}, as the bundle says"));
            None
        }
        None if judgement.gives_up(rule) => None,
        None => {
            judgement.enforced(rule, format!("{file} {PIDS_MAX}: the bundle has no limit"));
            Some(DefaultLimit {
                rule,
                file,
                value: PIDS_MAX,
            })
        }
    }
}

/// Where memory ends the kernel kills one process, and what is left of a program
/// that lost a part of itself does not always know. All of it ends together, as
/// if the machine had gone.
fn memory(
    resources: Option<&LinuxResources>,
    judgement: &mut Judgement<'_>,
) -> Option<DefaultLimit> {
    let (rule, file) = (Rule::Memory, "memory.oom.group");
    if let Some(value) = unified(resources, file) {
        match value {
            "0" if judgement.gives_up(rule) => {}
            "0" => judgement.asks_for_less(
                rule,
                "/linux/resources/unified/memory.oom.group",
                "it sets memory.oom.group to 0",
            ),
            value => judgement.enforced(rule, format!("{file} {value}, as the bundle says")),
        }
        return None;
    }
    if judgement.gives_up(rule) {
        return None;
    }
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let limit = memory.and_then(|memory| memory.limit()).unwrap_or(0);
    let own = |file| unified(resources, file).is_some_and(|value| value != "max");
    if limit <= 0 && !own("memory.max") {
        // Without a limit there is nothing here that the container could run into.
        judgement.relaxed(rule, "the bundle, which limits no memory");
        return None;
    }
    judgement.enforced(rule, format!("{file} 1: all of it ends when memory ends"));
    Some(DefaultLimit {
        rule,
        file,
        value: "1",
    })
}
