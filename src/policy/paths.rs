//! The rules about what can be seen and brought in: masks and volumes.

use std::path::Path;

use oci_spec::runtime::Spec;

use super::Rule;
use super::judgement::Judgement;
use super::process::{PRIVILEGED, is_privileged};
use crate::spec::mount_options;
pub use crate::spec::template::{MASKED_PATHS, READONLY_PATHS};

/// Applies them.
pub(super) fn apply(spec: &mut Spec, judgement: &mut Judgement<'_>) {
    let privileged = is_privileged(spec);
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    let masked = Rule::MaskedPaths;
    hide(
        masked,
        linux.masked_paths_mut(),
        &MASKED_PATHS,
        privileged,
        judgement,
    );
    let read_only = Rule::ReadonlyPaths;
    hide(
        read_only,
        linux.readonly_paths_mut(),
        &READONLY_PATHS,
        privileged,
        judgement,
    );
    volumes(spec, judgement);
}

/// A list that a bundle leaves out is capsid's own. The bundle's own list, be it
/// empty, is its word; strict adds what is missing.
fn hide(
    rule: Rule,
    list: &mut Option<Vec<String>>,
    own: &[&str],
    privileged: bool,
    judgement: &mut Judgement<'_>,
) {
    let missing = |list: &Vec<String>| -> Vec<String> {
        let absent = own
            .iter()
            .filter(|path| !list.iter().any(|one| one == *path));
        absent.map(ToString::to_string).collect()
    };
    match list {
        Some(list) if judgement.is_strict() && judgement.hardening.wants(rule) => {
            list.extend(missing(list));
            judgement.enforced(rule, "the bundle's own list and the default one");
        }
        Some(list) if list.is_empty() => {
            if !judgement.gives_up(rule) {
                judgement.relaxed(rule, "the bundle, whose list is empty");
            }
        }
        Some(_) => judgement.enforced(rule, "the bundle's own list"),
        None if judgement.gives_up(rule) => {}
        None if privileged => judgement.relaxed(rule, PRIVILEGED),
        None => {
            *list = Some(missing(&Vec::new()));
            judgement.enforced(rule, "the default list: the bundle has none");
        }
    }
}

/// A shared directory must bring neither setuid programs nor device nodes, unless
/// the bundle says so for that mount. The plan adds the attributes.
fn volumes(spec: &Spec, judgement: &mut Judgement<'_>) {
    let rule = Rule::Volumes;
    if judgement.gives_up(rule) {
        return;
    }
    let mounts = spec.mounts().iter().flatten().enumerate();
    let open = mounts.filter(|(_, mount)| {
        // What is bound below /dev is devices by intent.
        let outside = !Path::new("/").join(mount.destination()).starts_with("/dev");
        let words = mount.options().iter().flatten();
        let mut words =
            words.filter(|word| matches!(word.as_str(), "suid" | "dev" | "rsuid" | "rdev"));
        outside && mount_options::of(mount).bind && words.next().is_some()
    });
    let open: Vec<_> = open
        .map(|(index, mount)| (index, mount.destination().display().to_string()))
        .collect();
    let Some((index, _)) = open.first() else {
        return judgement.enforced(rule, "nosuid and nodev on binds");
    };
    let names: Vec<_> = open.iter().map(|(_, name)| name.as_str()).collect();
    let by = format!("it allows suid or dev on {}", names.join(", "));
    judgement.asks_for_less(rule, &format!("/mounts/{index}/options"), &by);
}
