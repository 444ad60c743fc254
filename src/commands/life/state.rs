//! The state of a container as JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::alive;
use crate::policy::{Level, Outcome};
use crate::state::{Container, Record, Status};

/// The state object of the runtime specification, with the fields that runc
/// adds, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State<'r> {
    oci_version: &'r str,
    pub(super) id: &'r str,
    /// 0 for a container without a live process.
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: &'r Path,
    rootfs: &'r Path,
    pub(super) created: &'r str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'r BTreeMap<String, String>,
    pub(super) owner: &'r str,
    /// A name that no engine looks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    capsid: Option<Protection<'r>>,
}

/// What protects the host from the container.
#[derive(Debug, Serialize)]
struct Protection<'r> {
    hardening: Level,
    rules: &'r [Outcome],
}

impl<'r> State<'r> {
    /// The state of a container now.
    pub(super) fn of(container: &Container, record: &'r Record, owner: &'r str) -> Result<Self> {
        let status = alive::status(container, record)?;
        Ok(Self::with(record, owner, status))
    }

    /// The same with a status that is known.
    pub(super) fn with(record: &'r Record, owner: &'r str, status: Status) -> Self {
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if status == Status::Stopped {
                0
            } else {
                record.pid
            },
            status: status.as_str(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner,
            capsid: None,
        }
    }
}

/// Prints the state of a container: indented, without a newline at the end, as
/// engines have it from runc.
///
/// # Errors
/// `container does not exist`; an unusable record; a failed write.
pub(crate) fn state(root: &Path, id: &str, out: &mut dyn Write) -> Result<()> {
    let (container, record) = super::load(root, id)?;
    let mut state = State::of(&container, &record, "")?;
    state.capsid = Some(Protection {
        hardening: record.hardening.level,
        rules: &record.outcomes,
    });
    let json = serde_json::to_string_pretty(&state).map_err(|e| Error::State {
        file: container.path().to_owned(),
        problem: format!("the state cannot be written as JSON: {e}"),
    })?;
    super::output(out.write_all(json.as_bytes()).and_then(|()| out.flush()))
}
