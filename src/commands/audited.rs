//! What commands tell the audit log, if root's policy file wants one.
//!
//! What begins something (`create`, `run`, `start`, `exec`) is told before it
//! begins, and does not begin when the event is required and cannot be written.
//! What ends something is told afterwards and never kept from happening.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use super::hardening;
use crate::audit::{self, Event, What};
use crate::error::{Error, Result};
use crate::execute::audit as log_file;
use crate::log;
use crate::policy::{Audit, PolicyFile, Sink};
use crate::seccomp::Denials;
use crate::state::{Container, Record};

/// Whether events are written at all.
pub(super) fn is_on() -> bool {
    settings().is_some()
}

/// What the policy file says, if events are written. A file that cannot be used
/// keeps containers from being created; those that are there can still be ended.
fn settings() -> Option<&'static Audit> {
    match hardening::file() {
        Ok(file) => file
            .map(|file| &file.audit)
            .filter(|audit| audit.sink != Sink::Off),
        Err(error) => {
            log::warning(error);
            None
        }
    }
}

/// Tells what is about to be done.
///
/// # Errors
/// It cannot be written, and must be.
pub(super) fn begin(container: &Container, record: &Record, whats: &[What<'_>]) -> Result<()> {
    let Some(audit) = settings() else {
        return Ok(());
    };
    match write_of(audit, container.path().parent(), record, whats) {
        Err(error) if audit.required => Err(Error::Missing {
            doing: "begin with a record of it".into(),
            missing: error.to_string(),
            repair: format!(
                "repair that, or have root set \"required\" to false in {}",
                PolicyFile::PATH
            ),
        }),
        Err(error) => {
            log::warning(error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Tells what was done.
pub(super) fn done(container: &Container, record: &Record, what: What<'_>) {
    let Some(audit) = settings() else { return };
    let outcome = write_of(audit, container.path().parent(), record, &[what]);
    outcome.unwrap_or_else(log::warning);
}

/// Tells that a request was refused, if that is what the error says.
pub(super) fn refused(
    command: &str,
    id: &str,
    root: &Path,
    annotations: &BTreeMap<String, String>,
    error: &Error,
) {
    let (Error::Refused(_), Some(audit)) = (error, settings()) else {
        return;
    };
    let why = error.to_string();
    let what = What::Refused { command, why: &why };
    let outcome = write(audit, id, Some(root), annotations, None, &[what]);
    outcome.unwrap_or_else(log::warning);
}

/// Tells which calls of a program were denied.
pub(super) fn denials(root: Option<&Path>, record: &Record, denials: &Denials) {
    let Some(audit) = settings() else { return };
    let told = denials.told();
    let whats: Vec<_> = told
        .iter()
        .map(|one| What::Denied {
            call: &one.call,
            program: one.program,
            count: one.count,
            answer: &one.answer,
        })
        .collect();
    write_of(audit, root, record, &whats).unwrap_or_else(log::warning);
}

/// Writes what concerns a container that has a record.
fn write_of(audit: &Audit, root: Option<&Path>, record: &Record, whats: &[What<'_>]) -> Result<()> {
    let config = record.config_digest.as_deref();
    write(audit, &record.id, root, &record.annotations, config, whats)
}

fn write(
    audit: &Audit,
    id: &str,
    root: Option<&Path>,
    annotations: &BTreeMap<String, String>,
    config: Option<&str>,
    whats: &[What<'_>],
) -> Result<()> {
    let names = audit::names(annotations);
    let events: Vec<_> = whats
        .iter()
        .map(|what| Event {
            id,
            root,
            names: &names,
            config,
            what: *what,
        })
        .collect();
    let origin = log_file::origin(log::rfc3339_nanos(SystemTime::now()));
    // An ordinary user cannot help it that root's file is closed to them.
    if log_file::write(&audit.sink, &origin, &events)? || !audit.required {
        return Ok(());
    }
    Err(Error::Missing {
        doing: "write events".into(),
        missing: "the file is closed to ordinary users".into(),
        repair: "journald takes events of everybody".into(),
    })
}
