//! The steps that remain after `start`.

use std::ffi::CString;
use std::fmt;

use super::steps::{HookStep, ProcessStep, Text};

/// What remains after `start`.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecStep {
    /// Tell the runtime that the container is created and wait for `start`.
    Park,
    /// A startContainer hook.
    Hook(HookStep),
    /// Go behind the Landlock ruleset.
    Restrict {
        /// `LANDLOCK_ACCESS_FS_*` that it handles.
        files: u64,
        /// How many descriptors the program gets.
        descriptors: i32,
    },
    /// Close every descriptor from this number on, so that no path can lead
    /// through one to the host (CVE-2024-21626).
    CloseDescriptors(i32),
    /// Clone the process that goes on, and stay as init.
    Init(Box<super::init::InitStep>),
    /// Label the next exec.
    Label(LabelStep),
    /// Load the seccomp filter.
    Seccomp(super::filter::FilterStep),
    /// A property that the filter had to be loaded before.
    Process(ProcessStep),
    /// Become the program.
    Execute(String),
}

/// An LSM label for the next exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelStep {
    /// Which module: `AppArmor` or `SELinux`.
    pub module: &'static str,
    /// Files below /proc/self to try in order.
    pub files: Vec<CString>,
    /// What is written.
    pub value: CString,
}

impl fmt::Display for LabelStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (module, value) = (self.module, Text(&self.value));
        write!(f, "label the program for {module}: {value}")
    }
}

impl fmt::Display for ExecStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecStep::Park => f.write_str("wait for start"),
            ExecStep::Hook(hook) => hook.fmt(f),
            ExecStep::CloseDescriptors(first) => write!(f, "close descriptors from {first} on"),
            ExecStep::Label(label) => label.fmt(f),
            ExecStep::Restrict { files: 0, .. } => f.write_str("go behind the ruleset"),
            ExecStep::Restrict { .. } => f.write_str(
                "go behind the ruleset, which also allows to open the program's descriptors again",
            ),
            ExecStep::Init(init) => init.fmt(f),
            ExecStep::Seccomp(filter) => write!(f, "load {}", filter.summary),
            ExecStep::Process(step) => step.fmt(f),
            ExecStep::Execute(program) => write!(f, "execute {program}"),
        }
    }
}
