//! What is told at the end about the system calls of a program in the foreground:
//! which were denied, or the profile that covers them.

use std::path::Path;

use syscalls::Sysno;

use super::audited;
use super::creation::Created;
use crate::error::{Error, Result};
use crate::execute::foreground::Ended;
use crate::execute::supervisor::Purpose;
use crate::log;
use crate::seccomp::{Advice, Denials, Filter, Recording};

/// How a program ends that a filter kills.
pub(super) const KILLED: Ended = Ended::Signal(31);

const _: () = assert!(libc::SIGSYS == 31);

/// Says or writes down what was asked about the program's system calls.
pub(super) fn tell(
    created: &Created,
    root: &Path,
    ended: Ended,
    record_profile: Option<&Path>,
) -> Result<()> {
    let filter = &created.record.filter;
    let Some(supervisor) = &created.supervisor else {
        if ended == KILLED && !filter.is_empty() {
            log::tell(
                "the program was ended by SIGSYS: it made a system call which its seccomp filter \
                 answers with that. capsid run --report-denials names the call, unless a rule \
                 with SCMP_ACT_TRAP did it",
            );
        }
        return Ok(());
    };
    match (&supervisor.purpose, record_profile) {
        (Purpose::Record(recording), Some(file)) => write_profile(file, recording),
        (Purpose::Record(_), None) => Ok(()),
        (Purpose::Report(denials), _) => {
            let trapped = ended == KILLED && !supervisor.has_killed(created.launched.pid);
            if trapped {
                log::tell(
                    "the program was ended by SIGSYS, which a rule with SCMP_ACT_TRAP sends to \
                     the program itself: no report can name the call",
                );
            } else if denials.is_empty() {
                log::tell("the seccomp filter denied nothing");
            }
            audited::denials(Some(root), &created.record, denials);
            tell_denials(denials, filter, Advice::Bundle);
            Ok(())
        }
    }
}

/// One line for each call that was denied, also of a program that could not even
/// be executed.
pub(super) fn tell_denials(denials: &Denials, filter: &Filter, advice: Advice) {
    for line in denials.lines(filter, advice) {
        log::tell(format!("denied: {line}"));
    }
}

/// Fails when the profile could not be written: nobody is to learn that only
/// after a long run.
pub(super) fn make_writable(file: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.create(true).truncate(false).write(true).open(file);
    let failed = |error| Error::io("write the profile", file.display(), Sysno::openat, &error);
    opened.map(drop).map_err(failed)
}

/// Writes the profile that covers what was recorded.
fn write_profile(file: &Path, recording: &Recording) -> Result<()> {
    let text = format!("{:#}\n", recording.profile());
    std::fs::write(file, text)
        .map_err(|error| Error::io("write the profile", file.display(), Sysno::openat, &error))?;
    log::tell(format!(
        "{} has the {} system calls of this run",
        file.display(),
        recording.len()
    ));
    for number in recording.unknown() {
        log::tell(format!(
            "system call {number} has no name here: the profile cannot allow it"
        ));
    }
    Ok(())
}
