//! Hooks outside of the start, and the state document that they are told.

use crate::error::Result;
use crate::execute::hooks;
use crate::log;
use crate::plan::hooks as hook_plan;
use crate::state::Record;

/// Runs the poststop hooks; a failure is a warning and the others still run.
pub(super) fn run_poststop(record: &Record) {
    let poststop = record
        .hooks
        .as_ref()
        .and_then(|hooks| hooks.poststop().as_ref());
    let state = state_of(record, "stopped", 0);
    for (index, hook) in poststop.into_iter().flatten().enumerate() {
        if let Err(error) = hooks::run(hook, &format!("poststop hook {index}"), &state) {
            log::warning(error);
        }
    }
}

/// Runs the poststart hooks; a failure ends the container (runtime specification 1.3).
pub(super) fn run_poststart(record: &Record) -> Result<()> {
    let poststart = record
        .hooks
        .as_ref()
        .and_then(|hooks| hooks.poststart().as_ref());
    hooks::run_all(
        poststart,
        "poststart",
        &state_of(record, "running", record.pid),
    )
}

/// The state document for a hook, from the record.
pub(super) fn state_of(record: &Record, status: &str, pid: i32) -> Vec<u8> {
    let annotations = record
        .annotations
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()));
    let parts = hook_plan::document(
        &record.oci_version,
        annotations,
        &record.id,
        status,
        &record.bundle,
    );
    hooks::document(&parts, pid)
}
