//! Hooks: programs the runtime runs with its own rights.

use oci_spec::runtime::{Hook, Spec};

use super::findings::Findings;

/// Checks all lists of hooks.
pub(super) fn check(spec: &Spec, findings: &mut Findings) {
    let Some(hooks) = spec.hooks() else { return };
    #[allow(
        deprecated,
        reason = "engines still write prestart hooks, and they must run"
    )]
    let prestart = hooks.prestart();
    let lists = [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in lists {
        for (index, hook) in list.iter().flatten().enumerate() {
            check_hook(hook, &format!("/hooks/{name}/{index}"), findings);
        }
    }
}

fn check_hook(hook: &Hook, at: &str, findings: &mut Findings) {
    findings.absolute(format_args!("{at}/path"), hook.path());
    for (index, arg) in hook.args().iter().flatten().enumerate() {
        findings.c_string(format_args!("{at}/args/{index}"), arg);
    }
    for (index, variable) in hook.env().iter().flatten().enumerate() {
        findings.c_string(format_args!("{at}/env/{index}"), variable);
    }
    if let Some(timeout) = hook.timeout()
        && timeout <= 0
    {
        findings.problem(
            format_args!("{at}/timeout"),
            format!("{timeout} s: must be above 0"),
        );
    }
}
