//! Which namespaces the process enters, in the order privileges allow.
//!
//! There is one clone where one is enough. A second process, the joiner, comes
//! between when namespaces must be entered before others are made: an existing
//! pid namespace takes effect for children only, a time namespace wants its
//! offsets before anyone is in it, and whoever has a new user namespace may no
//! longer join what belongs to the old one. The joiner clones the container's
//! first process as its sibling (`CLONE_PARENT`) and ends, so that the pid the
//! engine gets is one its subreaper can wait for.

use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::{Linux, Spec};

use super::steps::{Affinity, EnterStep, LabelStep, ProcessStep, RootStep};
use super::{BindSource, c_string};
use crate::error::Problem;
use crate::spec::namespaces::{Kind, NEW_TIME, Namespaces};

/// Entering namespaces: what the joiner does, what is new, what the first process does first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enter {
    /// Steps of the joiner; without any there is no joiner.
    pub joiner: Vec<EnterStep>,
    /// `CLONE_NEW*` of namespaces that the first process is cloned into.
    pub new: u64,
    /// First steps of the container's first process.
    pub first: Vec<EnterStep>,
    /// Steps of the mounter, a process of the host's root in the namespaces of the
    /// first process, which waits for it; see `staged`.
    pub mounter: Vec<EnterStep>,
    /// `oom_score_adj`, for the runtime to write with the id maps: to lower it
    /// takes a privilege that is lost in the new user namespace.
    pub oom_score_adj: Option<CString>,
    /// Namespace files to open before clone.
    pub paths: Vec<(Kind, PathBuf)>,
    /// Every namespace that will differ from the runtime's, as flags.
    pub differing: u64,
}

/// What besides the namespaces decides how to enter them.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The caller has root's privileges in its own user namespace.
    pub privileged: bool,
    /// The first process is put in a cgroup of its own.
    pub has_cgroup: bool,
    /// systemd puts it there once it exists: it is not cloned into the cgroup.
    pub awaits_cgroup: bool,
    /// `process.oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// What the process may not do in its user namespace: resource limits.
    pub early: Vec<ProcessStep>,
    /// The runtime makes the user namespace, which the bundle does not ask for.
    pub given: bool,
}

/// Plans how a new container enters its namespaces.
pub fn for_create(spec: &Spec, circumstances: &Circumstances) -> Result<Enter, Problem> {
    let wanted = Namespaces::of(spec);
    let offsets = time_offsets(spec.linux().as_ref())?;
    let joined = wanted.joined.iter().map(|(kind, _)| kind.flag());
    let mut enter = Enter {
        differing: joined.fold(wanted.new, |flags, flag| flags | flag),
        ..Enter::default()
    };
    enter.paths = in_joining_order(&wanted, circumstances.privileged);
    let paths = enter.paths.iter().enumerate();
    let joins = paths.map(|(index, (kind, _))| EnterStep::Join(index, *kind));
    // The cgroup namespace is made by the process itself: clone would make it
    // with the runtime's own cgroup as its root.
    let own_cgroup_namespace = wanted.makes(Kind::Cgroup) && circumstances.has_cgroup;
    enter.new = wanted.new;
    if own_cgroup_namespace {
        enter.new &= !Kind::Cgroup.flag();
    }
    let early = early(&wanted, circumstances)?;
    let makes_user = wanted.makes(Kind::User);
    if circumstances.given || needs_joiner(&wanted, offsets.is_some()) {
        enter.joiner = early;
        // Root of a namespace may trace whoever joins it, with all descriptors.
        let hide = wanted.joins(Kind::User) || circumstances.given;
        enter.joiner.extend(hide.then_some(EnterStep::Hide));
        enter.joiner.extend(joins);
        if circumstances.given {
            // The joiner stays the host's root. The mount namespace is made by the
            // first process itself, when there is something to copy.
            enter.new &= !Kind::Mount.flag();
            enter.first.push(EnterStep::IdMaps);
        } else if makes_user {
            enter.joiner.push(EnterStep::NewUserNamespace);
            enter.joiner.push(EnterStep::IdMaps);
            enter.new &= !Kind::User.flag();
        }
        if let Some(offsets) = offsets {
            enter.joiner.push(EnterStep::TimeOffsets(offsets));
            enter.new &= !NEW_TIME;
        }
        enter.first.push(EnterStep::Hide);
    } else {
        enter.first = early;
        if makes_user && circumstances.privileged {
            enter.oom_score_adj = take_score(&mut enter.first);
        }
        if makes_user {
            enter.first.push(EnterStep::IdMaps);
        }
        enter.first.push(EnterStep::Hide);
        enter.first.extend(joins);
    }
    if own_cgroup_namespace {
        enter.first.push(EnterStep::NewCgroupNamespace);
    }
    if circumstances.awaits_cgroup {
        enter.await_cgroup();
    }
    Ok(enter)
}

impl Enter {
    /// Has the first process wait for systemd before all else: nothing happens
    /// outside of the limits, and a user's systemd moves only what still has that
    /// user's id.
    pub fn await_cgroup(&mut self) {
        self.first.insert(0, EnterStep::AwaitCgroup);
    }

    /// Has the first process wait for its tracer before it hides: an ordinary user
    /// may trace nobody who is hidden.
    pub fn await_tracer(&mut self) {
        self.first.insert(0, EnterStep::AwaitTracer);
    }
}

impl EnterStep {
    /// The step in one line.
    pub fn describe(&self, sources: &[BindSource]) -> String {
        match self {
            EnterStep::Root(step) => step.describe(sources),
            other => other.to_string(),
        }
    }
}

fn take_score(steps: &mut Vec<EnterStep>) -> Option<CString> {
    let at = steps
        .iter()
        .position(|step| matches!(step, EnterStep::OomScoreAdj(_)))?;
    match steps.remove(at) {
        EnterStep::OomScoreAdj(score) => Some(score),
        _ => None,
    }
}

/// What takes privileges that a user namespace takes away.
fn early(wanted: &Namespaces, circumstances: &Circumstances) -> Result<Vec<EnterStep>, Problem> {
    let mut steps = Vec::new();
    if wanted.joins(Kind::User) || circumstances.given {
        let early = circumstances.early.iter().cloned().map(Box::new);
        steps.extend(early.map(EnterStep::Process));
    }
    if let Some(score) = circumstances.oom_score_adj {
        let score = c_string(score.to_string(), "/process/oomScoreAdj")?;
        steps.push(EnterStep::OomScoreAdj(score));
    }
    Ok(steps)
}

impl Enter {
    /// The bind source that is a root file system with mapped ids, if the joiner
    /// attaches one.
    pub fn mapped_root(&self) -> Option<usize> {
        self.joiner.iter().find_map(|step| match step {
            EnterStep::Root(step) => match **step {
                RootStep::AttachMapped { source, .. } => Some(source),
                _ => None,
            },
            _ => None,
        })
    }

    /// Has the joiner give up privileges before anyone in the container can see its
    /// child: whoever may trace others inside would have them by tracing it.
    pub fn give_up(&mut self, steps: [ProcessStep; 2]) {
        let steps = steps.map(Box::new).map(EnterStep::Process);
        self.joiner.extend(steps);
    }

    /// Has the joiner do what needs the host's files, and close them, before anyone
    /// in the container can see its child.
    pub fn leave_the_host(&mut self, labels: Vec<LabelStep>, first_closed: i32) {
        let labels = labels.into_iter().map(Box::new).map(EnterStep::Label);
        self.joiner.extend(labels);
        self.joiner.push(EnterStep::CloseDescriptors(first_closed));
    }
}

/// Whether one more process takes a joiner: a pid namespace is for children only.
pub fn exec_has_joiner(differing: u64) -> bool {
    differing & Kind::Pid.flag() != 0
}

/// Plans how one more process enters a running container.
///
/// `differing` are the namespaces recorded at create. What is `early` is done before
/// they are joined, where the process may no longer do it afterwards.
pub fn for_exec(
    differing: u64,
    oom_score_adj: Option<i32>,
    initial_affinity: Option<Affinity>,
    early: Vec<ProcessStep>,
) -> Result<Enter, Problem> {
    let early = early.into_iter().map(Box::new);
    let mut steps: Vec<_> = early.map(EnterStep::Process).collect();
    if let Some(affinity) = initial_affinity {
        steps.push(EnterStep::Affinity(affinity));
    }
    if let Some(score) = oom_score_adj {
        steps.push(EnterStep::OomScoreAdj(c_string(
            score.to_string(),
            "/process/oomScoreAdj",
        )?));
    }
    steps.push(EnterStep::Hide);
    if differing != 0 {
        steps.push(EnterStep::JoinProcess(differing));
    }
    let mut enter = Enter {
        differing,
        ..Enter::default()
    };
    if exec_has_joiner(differing) {
        enter.joiner = steps;
        enter.first.push(EnterStep::Hide);
    } else {
        enter.first = steps;
    }
    Ok(enter)
}

fn needs_joiner(wanted: &Namespaces, offsets: bool) -> bool {
    offsets
        || wanted.joins(Kind::Pid)
        || wanted.joins(Kind::User)
        || (wanted.makes(Kind::User) && !wanted.joined.is_empty())
}

/// The user namespace goes last for root, which gives privileges up by joining
/// it, and first for everyone else, who gains them.
fn in_joining_order(wanted: &Namespaces, privileged: bool) -> Vec<(Kind, PathBuf)> {
    let mut kinds = Kind::ALL;
    if !privileged {
        kinds.rotate_right(1);
    }
    kinds
        .iter()
        .filter_map(|kind| wanted.joined.iter().find(|(joined, _)| joined == kind))
        .cloned()
        .collect()
}

/// `linux.timeOffsets` as `/proc/self/timens_offsets` takes them.
fn time_offsets(linux: Option<&Linux>) -> Result<Option<CString>, Problem> {
    let Some(offsets) = linux.and_then(|l| l.time_offsets().as_ref()) else {
        return Ok(None);
    };
    let mut clocks: Vec<_> = offsets.iter().collect();
    clocks.sort_by(|a, b| a.0.cmp(b.0));
    let lines: String = clocks
        .iter()
        .map(|(clock, offset)| {
            format!(
                "{clock} {} {}\n",
                offset.secs().unwrap_or(0),
                offset.nanosecs().unwrap_or(0)
            )
        })
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    c_string(lines, "/linux/timeOffsets").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(namespaces: &str, rest: &str) -> Spec {
        let text =
            format!(r#"{{"ociVersion":"1.2.0","linux":{{"namespaces":[{namespaces}]{rest}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn circumstances(privileged: bool) -> Circumstances {
        Circumstances {
            privileged,
            has_cgroup: false,
            awaits_cgroup: false,
            oom_score_adj: None,
            early: Vec::new(),
            given: false,
        }
    }

    #[test]
    fn one_clone_is_enough_for_new_namespaces() {
        let spec = spec(r#"{"type":"pid"},{"type":"mount"},{"type":"user"}"#, "");
        let enter = for_create(&spec, &circumstances(true)).unwrap();
        assert!(enter.joiner.is_empty());
        assert_eq!(
            enter.new,
            Kind::Pid.flag() | Kind::Mount.flag() | Kind::User.flag()
        );
        assert_eq!(enter.first, [EnterStep::IdMaps, EnterStep::Hide]);
    }

    #[test]
    fn root_writes_the_oom_score_of_a_new_user_namespace_itself() {
        let spec = spec(r#"{"type":"user"},{"type":"mount"}"#, "");
        let mut around = circumstances(true);
        around.oom_score_adj = Some(-998);
        let enter = for_create(&spec, &around).unwrap();
        assert_eq!(enter.oom_score_adj, Some(c"-998".to_owned()));
        assert_eq!(enter.first, [EnterStep::IdMaps, EnterStep::Hide]);
        around.privileged = false;
        let enter = for_create(&spec, &around).unwrap();
        assert_eq!(enter.first[0], EnterStep::OomScoreAdj(c"-998".to_owned()));
    }

    #[test]
    fn a_process_that_systemd_moves_waits_before_all_else() {
        let spec = spec(r#"{"type":"user"},{"type":"cgroup"}"#, "");
        let mut around = circumstances(false);
        around.has_cgroup = true;
        around.awaits_cgroup = true;
        let enter = for_create(&spec, &around).unwrap();
        assert_eq!(
            enter.first,
            [
                EnterStep::AwaitCgroup,
                EnterStep::IdMaps,
                EnterStep::Hide,
                EnterStep::NewCgroupNamespace
            ]
        );
    }

    #[test]
    fn joined_namespaces_come_before_a_new_user_namespace() {
        let spec = spec(
            r#"{"type":"user"},{"type":"network","path":"/n"},{"type":"mount"}"#,
            "",
        );
        let enter = for_create(&spec, &circumstances(true)).unwrap();
        assert_eq!(
            enter.joiner,
            [
                EnterStep::Join(0, Kind::Network),
                EnterStep::NewUserNamespace,
                EnterStep::IdMaps
            ]
        );
        assert_eq!(enter.new, Kind::Mount.flag());
    }

    #[test]
    fn the_user_namespace_is_joined_last_by_root_and_first_by_others() {
        let spec = spec(
            r#"{"type":"user","path":"/u"},{"type":"ipc","path":"/i"}"#,
            "",
        );
        let order = |privileged| {
            let enter = for_create(&spec, &circumstances(privileged)).unwrap();
            enter
                .paths
                .iter()
                .map(|(kind, _)| *kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(order(true), [Kind::Ipc, Kind::User]);
        assert_eq!(order(false), [Kind::User, Kind::Ipc]);
    }

    #[test]
    fn time_offsets_are_written_before_anyone_is_inside() {
        let rest = r#","timeOffsets":{"monotonic":{"secs":7,"nanosecs":5},"boottime":{"secs":-1}}"#;
        let spec = spec(r#"{"type":"time"},{"type":"mount"}"#, rest);
        let enter = for_create(&spec, &circumstances(true)).unwrap();
        let expected = c"boottime -1 0\nmonotonic 7 5\n".to_owned();
        assert_eq!(enter.joiner, [EnterStep::TimeOffsets(expected)]);
        assert_eq!(enter.new, Kind::Mount.flag());
    }
}
