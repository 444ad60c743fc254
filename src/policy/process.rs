//! The rules about the process itself; `exec` applies them too.

use oci_spec::runtime::{
    Capabilities, Capability, PosixRlimitBuilder, PosixRlimitType, Process, Spec,
};

use super::judgement::Judgement;
use super::{Hardening, Rule};
use crate::error::Problem;

/// Whoever may mount can undo most of what else is done, and asks to.
pub(super) const PRIVILEGED: &str = "the bundle, which grants CAP_SYS_ADMIN";

/// Whether the bundle grants CAP_SYS_ADMIN in so many words: it asks to be privileged.
pub(super) fn is_privileged(spec: &Spec) -> bool {
    bounding(spec.process().as_ref()).contains(&Capability::SysAdmin)
}

/// Whether a process may ever have a capability.
pub fn grants(process: &Process, capability: Capability) -> bool {
    bounding(Some(process)).contains(&capability)
}

/// The capabilities that are granted: those of the bounding set.
pub(super) fn bounding(process: Option<&Process>) -> Capabilities {
    let listed = process.and_then(|process| process.capabilities().as_ref());
    let bounding = listed.and_then(|sets| sets.bounding().clone());
    bounding.unwrap_or_default()
}

/// Applies them to one more process of a container.
///
/// # Errors
/// What the process asks for and level strict refuses.
pub fn harden(process: &mut Process, hardening: &Hardening) -> Result<(), Vec<Problem>> {
    let mut judgement = Judgement::new(hardening);
    apply(process, &mut judgement);
    judgement.into_result().map(drop)
}

/// Applies them.
pub(super) fn apply(process: &mut Process, judgement: &mut Judgement<'_>) {
    capabilities(process, judgement);
    no_new_privileges(process, judgement);
    core_dumps(process, judgement);
    if !judgement.gives_up(Rule::Keyring) {
        judgement.enforced(Rule::Keyring, "a new session keyring");
    }
    let terminal = process.terminal().unwrap_or(false);
    let tty = match terminal {
        true => "a session and a terminal of its own",
        false => "a session of its own, no terminal",
    };
    judgement.enforced(Rule::Tty, tty);
}

fn capabilities(process: &Process, judgement: &mut Judgement<'_>) {
    let rule = Rule::Capabilities;
    let granted = bounding(Some(process)).contains(&Capability::SysAdmin);
    if granted && judgement.is_strict() {
        let at = "/process/capabilities/bounding";
        return judgement.asks_for_less(rule, at, "it grants CAP_SYS_ADMIN");
    }
    let how = match process.capabilities() {
        Some(_) => "exactly those the bundle lists",
        None => "none: the bundle lists none",
    };
    judgement.enforced(rule, how);
}

/// The specification's default is off.
fn no_new_privileges(process: &mut Process, judgement: &mut Judgement<'_>) {
    let rule = Rule::NoNewPrivs;
    match process.no_new_privileges() {
        Some(true) => judgement.enforced(rule, "set"),
        _ if judgement.gives_up(rule) => {
            process.set_no_new_privileges(Some(false));
        }
        Some(false) => {
            let at = "/process/noNewPrivileges";
            judgement.asks_for_less(rule, at, "noNewPrivileges is false");
        }
        None => {
            process.set_no_new_privileges(Some(true));
            judgement.enforced(rule, "set");
        }
    }
}

/// A core file holds every secret of its process, and a host's core_pattern
/// may hand it to a program outside: none, unless the bundle sets a limit.
fn core_dumps(process: &mut Process, judgement: &mut Judgement<'_>) {
    let rule = Rule::CoreDumps;
    let mut limits = process.rlimits().clone().unwrap_or_default();
    let own = |limit: &oci_spec::runtime::PosixRlimit| limit.typ() == PosixRlimitType::RlimitCore;
    if let Some(index) = limits.iter().position(own) {
        if limits[index].hard() == 0 {
            return judgement.enforced(rule, "RLIMIT_CORE 0, as the bundle says");
        }
        if judgement.gives_up(rule) {
            return;
        }
        let at = format!("/process/rlimits/{index}");
        return judgement.asks_for_less(rule, &at, "it sets RLIMIT_CORE");
    }
    if judgement.gives_up(rule) {
        return;
    }
    let none = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitCore)
        .soft(0u64)
        .hard(0u64);
    // Every field is set, so there is nothing the builder could miss.
    limits.extend(none.build().ok());
    process.set_rlimits(Some(limits));
    judgement.enforced(rule, "RLIMIT_CORE 0");
}
