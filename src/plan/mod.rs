//! What will be done, as plain data: in order, ready to use, printable.
//!
//! Nothing here calls the kernel or holds a descriptor. The phases are fields,
//! so a mount after privileges were dropped has no place to be written.

pub mod build;
pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod enter;
pub mod exec;
pub mod explain;
pub mod filter;
pub mod hooks;
pub mod ids;
pub mod init;
pub mod landlock;
pub mod memory_policy;
pub mod mounts;
pub mod net_devices;
pub mod netlink;
pub mod process;
pub mod program;
pub mod rdt;
pub mod reach;
pub mod rootfs;
pub mod secrets;
pub mod staged;
pub mod steps;

use std::ffi::CString;

use crate::error::Problem;

pub use steps::{EnterStep, ExecStep, ProcessStep, RootStep};

/// Everything that will be done for one process in a container.
///
/// `create` and `exec` make the same type and the same code walks it: a
/// hardening fix is made once.
#[derive(Debug)]
pub struct Plan {
    /// Where limits and accounting happen; none when nothing was asked for and
    /// the caller may not make one.
    pub cgroup: Option<cgroup::CgroupPlan>,
    /// How user and group ids are mapped, if the container gets a user namespace of its own.
    pub ids: Option<ids::IdMaps>,
    /// Resource limits that the runtime sets, because the process in its new
    /// user namespace may not raise them.
    pub limits: Vec<ProcessStep>,
    /// Which namespaces the process is in when it starts to work.
    pub enter: enter::Enter,
    /// The class of the cache and of memory bandwidth.
    pub rdt: Option<rdt::RdtPlan>,
    /// Network interfaces that the runtime moves into the container.
    pub net_devices: Vec<net_devices::NetDevice>,
    /// Host files and directories that will be visible inside.
    pub sources: Vec<BindSource>,
    /// The root file system. Empty for `exec`.
    pub root: Vec<RootStep>,
    /// The process's own properties, in the order in which privileges allow them.
    pub process: Vec<ProcessStep>,
    /// The last steps, after `start`.
    pub exec: Vec<ExecStep>,
    /// What is executed.
    pub program: Program,
}

/// The program, its arguments and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// `args`; the first names the program.
    pub arguments: Vec<CString>,
    /// `NAME=value` lines.
    pub environment: Vec<CString>,
    /// The paths to try in order: one for a name with a slash, else one for each entry of PATH.
    pub candidates: Vec<CString>,
}

/// A host path that is bound into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindSource {
    /// The path on the host.
    pub path: CString,
    /// With everything mounted below it.
    pub recursive: bool,
    /// Who opens it.
    pub opener: Opener,
    /// The id mapping of the mount, if it is an idmapped one.
    pub idmap: Option<Idmap>,
    /// The path must lead there without any link: it was found before, and who
    /// puts a link in its place later must not choose what is shown.
    pub plain: bool,
}

/// Who opens a bind source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The runtime, before clone: it can reach what container root cannot, and
    /// only it may idmap.
    Runtime,
    /// The container's first process, in its own mount namespace, before it
    /// changes its user id.
    Child,
}

/// The id mapping of an idmapped mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idmap {
    /// Also for all mounts below.
    pub recursive: bool,
    /// The mappings; none means those of the container's user namespace.
    pub maps: Option<ids::IdMaps>,
}

impl Plan {
    /// The steps that the child walks, in words and in order.
    pub fn child_steps(&self) -> Vec<String> {
        let joiner = self.enter.joiner.iter();
        let mut steps: Vec<String> = joiner.map(|step| step.describe(&self.sources)).collect();
        steps.extend(self.enter.first.iter().map(ToString::to_string));
        let mounter = self.enter.mounter.iter();
        steps.extend(mounter.map(|step| step.describe(&self.sources)));
        steps.extend(self.root.iter().map(|step| step.describe(&self.sources)));
        steps.extend(self.process.iter().map(ToString::to_string));
        steps.extend(self.exec.iter().map(ToString::to_string));
        steps
    }

    /// Names of the seccomp profile that mean nothing on this machine.
    pub fn skipped_system_calls(&self) -> &[String] {
        let filter = self.exec.iter().rev().find_map(|step| match step {
            ExecStep::Seccomp(filter) => Some(filter.skipped.as_slice()),
            _ => None,
        });
        filter.unwrap_or_default()
    }

    /// How many steps come before the last phase.
    pub fn steps_before_exec(&self) -> usize {
        self.steps_before_mounter()
            + self.enter.mounter.len()
            + self.root.len()
            + self.process.len()
    }

    /// How many steps come before those of the mounter.
    pub fn steps_before_mounter(&self) -> usize {
        self.enter.joiner.len() + self.enter.first.len()
    }
}

/// A string for the kernel, or a problem at `at` when it has a NUL byte inside.
pub(crate) fn c_string(text: impl Into<Vec<u8>>, at: &str) -> Result<CString, Problem> {
    CString::new(text).map_err(|_| Problem::new(at, "has a NUL byte inside"))
}
