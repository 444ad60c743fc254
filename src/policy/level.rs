//! How much is insisted on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much capsid insists on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What runc does: nothing that the bundle does not ask for.
    Compat,
    /// Every rule, unless the bundle asks for less in so many words.
    #[default]
    Baseline,
    /// Every rule; a bundle that asks for less is refused.
    Strict,
}

impl Level {
    /// All of them, the weakest first.
    pub const ALL: [Level; 3] = [Level::Compat, Level::Baseline, Level::Strict];

    /// The word for it, on the command line and in the policy file.
    pub fn name(self) -> &'static str {
        match self {
            Level::Compat => "compat",
            Level::Baseline => "baseline",
            Level::Strict => "strict",
        }
    }

    /// The level of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
