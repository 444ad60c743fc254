//! The rules about system calls: a filter where the bundle has none, and a
//! floor under every filter.

use oci_spec::runtime::Spec;

use super::relax::Relaxations;
use super::{Outcome, bounding, enforced, is_privileged, relaxed};
use crate::seccomp::{self, Builtin, Filter, Profile};

/// A bundle without a profile gets the default one.
pub(super) const DEFAULT: &str = "seccomp-default";
/// Whatever the profile says, some calls are denied.
pub(super) const FLOOR: &str = "seccomp-floor";

/// Whoever may mount can undo most of what a filter denies, and asks to.
const PRIVILEGED: &str = "the bundle, which grants CAP_SYS_ADMIN";

/// Takes the profile out of the configuration, and says what the container gets.
pub(super) fn filter(spec: &mut Spec, relaxations: &Relaxations) -> (Filter, [Outcome; 2]) {
    let privileged = is_privileged(spec);
    let bundle = spec
        .linux_mut()
        .as_mut()
        .and_then(|linux| linux.seccomp_mut().take());
    let (profile, default) = match bundle {
        Some(profile) => (
            Profile::Bundle(Box::new(profile)),
            enforced(DEFAULT, "the bundle has a profile"),
        ),
        None if relaxations.has(DEFAULT) => (Profile::None, relaxations.outcome(DEFAULT)),
        None if privileged => (Profile::None, relaxed(DEFAULT, PRIVILEGED)),
        None => (
            Profile::Builtin(Builtin::Default),
            enforced(DEFAULT, "the default profile: the bundle has none"),
        ),
    };
    let floor = if relaxations.has(FLOOR) {
        relaxations.outcome(FLOOR)
    } else if privileged {
        relaxed(FLOOR, PRIVILEGED)
    } else {
        enforced(FLOOR, "under the profile")
    };
    // Written out they have no prefix.
    let bounding: Vec<String> = bounding(spec)
        .iter()
        .map(|one| format!("CAP_{one}"))
        .collect();
    let known = seccomp::capabilities().iter();
    let granted = known.filter(|name| bounding.iter().any(|one| one == **name));
    let filter = Filter {
        profile,
        floor: floor.is_enforced(),
        granted: granted.map(|name| (*name).to_owned()).collect(),
    };
    (filter, [default, floor])
}
