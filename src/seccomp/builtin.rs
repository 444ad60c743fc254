//! The project's own profiles, as `build.rs` compiled them.

use std::fmt;

use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use super::compile::Program;
use super::encode::Instruction;
use super::source::{self, Resolved};
use crate::error::Problem;

include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// A filter that was compiled together with capsid.
#[derive(Debug)]
struct Compiled {
    flags: u32,
    default: u32,
    instructions: &'static [Instruction],
}

/// A profile of the project, in `seccomp-profiles/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// For bundles that bring none.
    Default,
    /// For programs that are not trusted.
    Strict,
    /// What is denied under every profile.
    Floor,
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Builtin::Default => "default",
            Builtin::Strict => "strict",
            Builtin::Floor => "floor",
        })
    }
}

impl Builtin {
    /// The profile of a name: `default`, `strict` or `floor`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Builtin::Default),
            "strict" => Some(Builtin::Strict),
            "floor" => Some(Builtin::Floor),
            _ => None,
        }
    }

    /// The file.
    pub fn text(self) -> &'static str {
        match self {
            Builtin::Default => include_str!("../../seccomp-profiles/default.json"),
            Builtin::Strict => include_str!("../../seccomp-profiles/strict.json"),
            Builtin::Floor => include_str!("../../seccomp-profiles/floor.json"),
        }
    }

    /// What the profile comes to for a container with these capabilities.
    ///
    /// # Errors
    ///
    /// None that a test has not found: the build has read the file.
    pub fn resolve(self, granted: &[String]) -> Result<Resolved, Vec<Problem>> {
        let has = |name: &str| granted.iter().any(|granted| granted == name);
        source::resolve(self.text().as_bytes(), &has)
    }

    /// The filter of the profile for containers without any of [`capabilities`];
    /// it denies what the floor denies, and runs the native architecture only.
    pub(super) fn compiled(self) -> Option<Program> {
        let compiled = match self {
            Builtin::Default => &DEFAULT,
            Builtin::Strict => &STRICT,
            Builtin::Floor => return None,
        };
        Some(Program {
            instructions: compiled.instructions.to_vec(),
            flags: compiled.flags,
            notify: false,
            default: compiled.default,
            skipped: Vec::new(),
        })
    }
}

/// The capabilities that the project's profiles speak of, by name.
pub fn capabilities() -> &'static [&'static str] {
    CAPABILITIES
}

/// The floor for a container with these capabilities.
pub(super) fn floor(granted: &[String]) -> Result<LinuxSeccomp, Vec<Problem>> {
    if granted.is_empty() {
        // What is left of the file without comments: it is read on the way of
        // every start.
        let read = serde_json::from_str(FLOOR_RESOLVED);
        return read.map_err(|error| vec![Problem::new("", error.to_string())]);
    }
    Ok(Builtin::Floor.resolve(granted)?.profile)
}
