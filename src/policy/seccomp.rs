//! The rules about system calls: a filter where the bundle has none, and a
//! floor under every filter.

use oci_spec::runtime::Spec;

use super::{Hardening, Outcome, Rule, bounding, enforced, is_privileged, relaxed};
use crate::seccomp::{self, Builtin, Filter, Profile};

/// A bundle without a profile gets the default one.
const DEFAULT: Rule = Rule::SeccompDefault;
/// Whatever the profile says, some calls are denied.
const FLOOR: Rule = Rule::SeccompFloor;

/// Whoever may mount can undo most of what a filter denies, and asks to.
const PRIVILEGED: &str = "the bundle, which grants CAP_SYS_ADMIN";

/// Takes the profile out of the configuration, and says what the container gets.
pub(super) fn filter(spec: &mut Spec, hardening: &Hardening) -> (Filter, [Outcome; 2]) {
    let privileged = is_privileged(spec);
    let bundle = spec
        .linux_mut()
        .as_mut()
        .and_then(|linux| linux.seccomp_mut().take());
    let (profile, default) = match (bundle, hardening.given_up(DEFAULT)) {
        (Some(profile), _) => (
            Profile::Bundle(Box::new(profile)),
            enforced(DEFAULT, "the bundle has a profile"),
        ),
        (None, Some(given_up)) => (Profile::None, given_up),
        (None, None) if privileged => (Profile::None, relaxed(DEFAULT, PRIVILEGED)),
        (None, None) => (
            Profile::Builtin(Builtin::Default),
            enforced(DEFAULT, "the default profile: the bundle has none"),
        ),
    };
    let floor = match hardening.given_up(FLOOR) {
        Some(given_up) => given_up,
        None if privileged => relaxed(FLOOR, PRIVILEGED),
        None => enforced(FLOOR, "under the profile"),
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
