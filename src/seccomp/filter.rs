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
        if let (Profile::Builtin(own), true, true, Asks::Nobody) =
            (&self.profile, self.floor, self.granted.is_empty(), asks)
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

    /// Where a rule stands in the file of the project that it is from; none for
    /// rules of a bundle.
    pub fn origin(&self, decider: Decider) -> Option<(Builtin, Origin)> {
        let (own, index) = match (decider, &self.profile) {
            (Decider::Floor(index), _) => (Builtin::Floor, index),
            (Decider::Rule(index), Profile::Builtin(own)) => (*own, index),
            _ => return None,
        };
        let origin = own.resolve(&self.granted).ok()?.rules.get(index)?.clone();
        Some((own, origin))
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

struct Rules<'a> {
    profile: Cow<'a, LinuxSeccomp>,
    floor: Option<LinuxSeccomp>,
}

fn allow_all() -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActAllow);
    profile
}
