//! What can be asked of a container after its creation.
//!
//! Plain arguments in, plain text out: the command line is read elsewhere.

use std::io;
use std::path::Path;

use syscalls::Sysno;

use crate::error::{Error, Life, Result};
use crate::execute::overlay;
use crate::log;
use crate::state::{Container, Record, Root, check_id};

pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod freeze;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod ps;
pub(crate) mod scope;
pub(crate) mod state;
pub(crate) mod update;
mod users;

mod signals;

#[cfg(test)]
mod tests;

/// Opens a container's directory; a root that was never made has no containers.
pub(super) fn find(root: &Path, id: &str) -> Result<Container> {
    check_id(id)?;
    Root::open_if_any(root)?.ok_or(Life::DoesNotExist)?.find(id)
}

/// Opens a container and reads its record.
fn load(root: &Path, id: &str) -> Result<(Container, Record)> {
    let container = find(root, id)?;
    let record = container.load()?;
    Ok((container, record))
}

/// Shows an engine, which may look now, what the container has written to an
/// overlay of both.
pub(super) fn show_engine(record: &Record) {
    if let Err(error) = overlay::flush(record) {
        log::warning(error);
    }
}

/// The error of a write to standard output.
fn output(outcome: io::Result<()>) -> Result<()> {
    outcome.map_err(|e| Error::io("write to", "standard output", Sysno::write, &e))
}
