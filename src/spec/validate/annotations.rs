//! Annotations: those that capsid reads mean exactly what they say, or are refused.

use oci_spec::runtime::Spec;

use super::findings::Findings;
use crate::spec::annotations::{self, INIT, TCP_BIND, TCP_CONNECT};
use crate::spec::namespaces::{Kind, Namespaces};

pub(super) fn check(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    let keys = spec.annotations().iter().flatten().map(|(key, _)| key);
    for key in keys.filter(|key| key.is_empty()) {
        findings.problem(
            format_args!("/annotations/{key}"),
            "an annotation needs a name",
        );
    }
    check_init(spec, namespaces, findings);
    for name in [TCP_BIND, TCP_CONNECT] {
        if let Some(Err(problem)) = annotations::ports(spec, name) {
            findings.problem(format_args!("/annotations/{name}"), problem);
        }
    }
}

/// An init that is not process 1 would neither get the orphans nor take the rest
/// with it when it ends.
fn check_init(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    let at = format_args!("/annotations/{INIT}");
    match annotations::value(spec, INIT) {
        None | Some("false") => {}
        Some("true") if namespaces.makes(Kind::Pid) => {}
        Some("true") => findings.problem(
            at,
            "an init needs a pid namespace of its own: list one without a path",
        ),
        Some(other) => findings.problem(at, format!("{other:?} is neither true nor false")),
    }
}
