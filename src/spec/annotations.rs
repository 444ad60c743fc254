//! Annotations of a bundle that capsid itself reads: what the specification has
//! no field for.

use oci_spec::runtime::Spec;

/// `true`: the container's first process stays as its init.
pub const INIT: &str = "dev.capsid.init";

/// The value of an annotation, if the bundle has it.
pub fn value<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    let all = spec.annotations().as_ref()?;
    all.get(name).map(String::as_str)
}

/// Whether the container's first process stays as its init.
pub fn has_init(spec: &Spec) -> bool {
    value(spec, INIT) == Some("true")
}
