//! The filter that a container gets: which profile, and what lies under it.

use std::borrow::Cow;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde::{Deserialize, Serialize};

use super::builtin::{self, Builtin};
use super::compile::{Asks, Program, Request};
use super::judge::{Decider, Judge};
use super::source::Origin;
use crate::error::Problem;

/// Which filter a container gets. Kept in its record: `exec` loads the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The profile.
    pub profile: Profile,
    /// Whether the floor lies under it.
    pub floor: bool,
    /// Granted capabilities that the project's own profiles speak of, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
}

/// A profile and where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// None: what the floor does not deny is allowed.
    None,
    /// `linux.seccomp` of the bundle.
    Bundle(Box<LinuxSeccomp>),
    /// One of the project's own.
    Builtin(Builtin),
}

impl Filter {
    /// Whether there is anything to load.
    pub fn is_empty(&self) -> bool {
        !self.floor && matches!(self.profile, Profile::None)
    }

    /// The profile of the bundle, if it has one.
    pub fn bundle(&self) -> Option<&LinuxSeccomp> {
        match &self.profile {
            Profile::Bundle(profile) => Some(profile),
            Profile::None | Profile::Builtin(_) => None,
        }
    }

    /// The same with nothing above the floor.
    pub fn without_profile(&self) -> Self {
        Self {
            profile: Profile::None,
            floor: self.floor,
            granted: self.granted.clone(),
        }
    }

    /// The program to load; none when there is nothing to filter.
    ///
    /// # Errors
    ///
    /// What is wrong with the bundle's profile, see [`compile`](super::compile()).
    pub fn compile(&self, asks: Asks) -> Result<Option<Program>, Vec<Problem>> {
        if self.is_empty() && asks == Asks::Nobody {
            return Ok(None);
        }
        // As the build compiled it: with the floor, and no capability.
        let as_built = self.floor && self.granted.is_empty() && asks == Asks::Nobody;
        if let (Profile::Builtin(own), true) = (&self.profile, as_built)
            && let Some(program) = own.compiled()
        {
            return Ok(Some(program));
        }
        let Rules { profile, floor } = self.rules()?;
        let request = Request {
            profile: &profile,
            floor: floor.as_ref(),
            asks,
        };
        request.compile().map(Some)
    }

    /// The rules behind the program, for reports.
    ///
    /// # Errors
    ///
    /// As [`compile`](Self::compile).
    pub fn judge(&self) -> Result<Judge, Vec<Problem>> {
        let Rules { profile, floor } = self.rules()?;
        Judge::new(&profile, floor.as_ref())
    }

    /// Where the rules of the project's own files stand in these.
    pub(super) fn origins(&self) -> Origins {
        let of = |own: Builtin| {
            let resolved = own.resolve(&self.granted);
            (
                own,
                resolved.map_or_else(|_| Vec::new(), |resolved| resolved.rules),
            )
        };
        Origins {
            profile: match self.profile {
                Profile::Builtin(own) => Some(of(own)),
                Profile::Bundle(_) | Profile::None => None,
            },
            floor: of(Builtin::Floor),
        }
    }

    fn rules(&self) -> Result<Rules<'_>, Vec<Problem>> {
        let profile = match &self.profile {
            Profile::Bundle(profile) => Cow::Borrowed(&**profile),
            Profile::Builtin(own) => Cow::Owned(own.resolve(&self.granted)?.profile),
            Profile::None => Cow::Owned(allow_all()),
        };
        let floor = match self.floor {
            true => Some(builtin::floor(&self.granted)?),
            false => None,
        };
        Ok(Rules { profile, floor })
    }
}

/// The rules of the project's own files that are in a filter.
pub(super) struct Origins {
    /// Of the profile, if it is one of the project's.
    profile: Option<(Builtin, Vec<Origin>)>,
    /// Of the floor.
    floor: (Builtin, Vec<Origin>),
}

impl Origins {
    /// The file and the place of a rule; none for rules of a bundle.
    pub(super) fn of(&self, decider: Decider) -> Option<(Builtin, &Origin)> {
        let ((own, rules), index) = match decider {
            Decider::Floor(index) => (&self.floor, index),
            Decider::Rule(index) => (self.profile.as_ref()?, index),
            Decider::Default | Decider::Newer | Decider::Architecture => return None,
        };
        Some((*own, rules.get(index)?))
    }
}

struct Rules<'a> {
    profile: Cow<'a, LinuxSeccomp>,
    floor: Option<LinuxSeccomp>,
}

fn allow_all() -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActAllow);
    profile
}
