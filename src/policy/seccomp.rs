//! The rules about system calls: a filter where the bundle has none, and a
//! floor under every filter.

use oci_spec::runtime::Spec;

use super::Rule;
use super::judgement::Judgement;
use super::process::{PRIVILEGED, bounding, is_privileged};
use crate::seccomp::{self, Builtin, Filter, Profile};

/// A bundle without a profile gets the default one.
const DEFAULT: Rule = Rule::SeccompDefault;
/// Whatever the profile says, some calls are denied.
const FLOOR: Rule = Rule::SeccompFloor;

/// Takes the profile out of the configuration, and says what the container gets.
pub(super) fn filter(spec: &mut Spec, judgement: &mut Judgement<'_>) -> Filter {
    let privileged = is_privileged(spec);
    let bundle = spec
        .linux_mut()
        .as_mut()
        .and_then(|linux| linux.seccomp_mut().take());
    let profile = match bundle {
        Some(profile) => {
            judgement.enforced(DEFAULT, "the bundle has a profile");
            Profile::Bundle(Box::new(profile))
        }
        None if judgement.gives_up(DEFAULT) => Profile::None,
        None if privileged => {
            judgement.relaxed(DEFAULT, PRIVILEGED);
            Profile::None
        }
        None => {
            judgement.enforced(DEFAULT, "the default profile: the bundle has none");
            Profile::Builtin(Builtin::Default)
        }
    };
    let floor = judgement.hardening.wants(FLOOR) && !privileged;
    if floor {
        judgement.enforced(FLOOR, "under the profile");
    } else if !judgement.gives_up(FLOOR) {
        judgement.relaxed(FLOOR, PRIVILEGED);
    }
    // Written out they have no prefix.
    let bounding: Vec<String> = bounding(spec.process().as_ref())
        .iter()
        .map(|one| format!("CAP_{one}"))
        .collect();
    let known = seccomp::capabilities().iter();
    let granted = known.filter(|name| bounding.iter().any(|one| one == **name));
    Filter {
        profile,
        floor,
        granted: granted.map(|name| (*name).to_owned()).collect(),
    }
}
