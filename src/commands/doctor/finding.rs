//! One thing that was looked at, and what is to be said of it.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Failure};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It is there.
    Ok,
    /// Some containers do without, or get less.
    Degraded,
    /// Containers with limits do not work.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The part of the machine.
    pub(super) group: &'static str,
    /// What was looked at.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) status: Status,
    /// What was found.
    pub(super) found: String,
    /// What that means for containers.
    pub(super) means: String,
    /// The command or setting that repairs it.
    pub(super) repair: Option<String>,
}

impl Finding {
    /// Something that is there.
    pub(super) fn ok(
        group: &'static str,
        name: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self {
            group,
            name,
            status: Status::Ok,
            found: found.into(),
            means: means.into(),
            repair: None,
        }
    }

    /// The same thing, not as it should be.
    pub(super) fn is(
        mut self,
        status: Status,
        found: impl Into<String>,
        means: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        self.status = status;
        self.found = found.into();
        self.means = means.into();
        self.repair = Some(repair.into());
        self
    }

    /// The same thing, as an error of `create` tells it; `repair` where the error has none.
    pub(super) fn fails(
        self,
        status: Status,
        error: Error,
        means: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        if let Error::Missing {
            doing,
            missing,
            repair,
        } = error
        {
            return self.is(status, format!("{doing}: {missing}"), means, repair);
        }
        let text = error.to_string();
        match text.split_once("\n  hint: ") {
            Some((found, hint)) => self.is(status, found, means, hint),
            None => self.is(status, text, means, repair),
        }
    }
}

/// What may be done about a call that is refused or not known.
pub(super) fn call_repair(failure: Failure, since: &str) -> String {
    let call = failure.call.name();
    let filter = format!("if this is a container itself, allow {call} in its seccomp filter");
    match failure.errno {
        libc::ENOSYS | libc::EINVAL => {
            format!("boot Linux {since} or newer, built with it; {filter}")
        }
        libc::ENOSPC => "raise the sysctls user.max_*_namespaces".into(),
        _ => format!("{filter}, and give it the capabilities it needs"),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Missing => "missing",
        };
        writeln!(f, "  {status:<9} {}: {}", self.name, self.found)?;
        if self.status != Status::Ok {
            writeln!(f, "            means: {}", self.means)?;
        }
        match &self.repair {
            Some(repair) => writeln!(f, "            repair: {repair}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syscalls::Sysno;

    #[test]
    fn hints_of_errors_become_repairs() {
        let line = Finding::ok("kernel", "procfs", "", "");
        let known = Error::system(
            "mount proc on",
            "/proc",
            Failure::of(Sysno::fsmount, libc::EPERM),
        );
        let line = line.fails(Status::Missing, known, "none", "other");
        assert!(
            line.found.starts_with("mount proc on /proc: fsmount: "),
            "{line:?}"
        );
        let repair = line.repair.clone().unwrap();
        assert!(repair.contains("procfs"), "{line:?}");
        let unknown = Error::system("call", "it", Failure::of(Sysno::openat2, libc::ENOSYS));
        let line = line.fails(Status::Missing, unknown, "none", "other");
        assert_eq!(line.repair.as_deref(), Some("other"));
    }
}
