//! `capsid doctor`: whether containers with limits will work here, and what to do where they will not.
//!
//! Facts, decisions and repairs are those of `create`: what it would say when
//! it fails is said here before. Nothing on the machine is changed.

use std::fmt::Write;

use clap::{ArgMatches, Command};
use serde::Serialize;

use super::cli::{self, Global};
use super::options;
use crate::error::{Error, Result};
use crate::host::Facts;

mod cgroup;
mod finding;
mod ids;
mod kernel;
mod machine;

use finding::{Finding, Status};

pub(crate) fn command() -> Command {
    Command::new("doctor")
        .about("Say whether containers with limits will work here, and what to repair")
        .long_about(
            "Look at the kernel, namespaces, ids, cgroups, systemd and security modules as the\n\
             caller finds them. Each line is one finding:\n\n\
             ok        it is there\n\
             degraded  containers with limits work; something that some of them ask for does not\n\
             missing   containers with limits do not work for this caller\n\n\
             Lines that are not ok say what it means and how to repair it. What can be tried is\n\
             tried, in a process that ends at once. Nothing on the machine is changed.\n\n\
             The exit code is 0 when nothing is missing: then containers with limits for cpu,\n\
             memory and processes will work for this caller, root or not. Otherwise it is 1.",
        )
        .arg(options::switch("json", "Print the findings as JSON"))
        .after_help("Examples:\n  capsid doctor\n  capsid doctor --json | jq '.findings[] | select(.status != \"ok\")'")
}

/// Prints all findings; the exit code says whether something is missing.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let facts = Facts::read();
    let mut findings = Vec::new();
    kernel::examine(&facts, &mut findings);
    ids::examine(&facts, &mut findings);
    cgroup::examine(&facts, &mut findings);
    machine::examine(&facts, global, &mut findings);
    let report = Report {
        ready: findings.iter().all(|one| one.status != Status::Missing),
        uid: facts.uid,
        in_user_namespace: facts.in_user_namespace,
        findings,
    };
    let text = if options::is_on(matches, "json") {
        report.json()?
    } else {
        report.text()
    };
    cli::print(&text)?;
    Ok(u8::from(!report.ready))
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Containers with limits will work.
    ready: bool,
    /// Whom this holds for.
    uid: u32,
    /// Whether that user is one of a user namespace.
    in_user_namespace: bool,
    findings: Vec<Finding>,
}

impl Report {
    fn json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        let failed = |e| Error::Usage(format!("the findings cannot be written as JSON: {e}"));
        Ok(json.map_err(failed)? + "\n")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut group = "";
        for finding in &self.findings {
            if finding.group != group {
                group = finding.group;
                // Writing to a string does not fail.
                let _ = writeln!(text, "{group}");
            }
            let _ = write!(text, "{finding}");
        }
        let who = match self.in_user_namespace {
            true => format!("user {} of this user namespace", self.uid),
            false => format!("user {}", self.uid),
        };
        let missing = self
            .findings
            .iter()
            .filter(|one| one.status == Status::Missing);
        let names: Vec<&str> = missing.map(|one| one.name).collect();
        let _ = match self.ready {
            true => writeln!(text, "containers with limits will work for {who}"),
            false => writeln!(
                text,
                "containers with limits will not work for {who}; missing: {}",
                names.join(", ")
            ),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(statuses: &[Status]) -> Report {
        let finding = |status: &Status| Finding {
            group: "group",
            name: "thing",
            status: *status,
            found: "found".into(),
            means: "means".into(),
            repair: (*status != Status::Ok).then(|| "repair".into()),
        };
        Report {
            ready: statuses.iter().all(|status| *status != Status::Missing),
            uid: 7,
            in_user_namespace: false,
            findings: statuses.iter().map(finding).collect(),
        }
    }

    #[test]
    fn only_what_is_not_ok_is_explained() {
        let text = report(&[Status::Ok, Status::Degraded]).text();
        assert_eq!(text.matches("repair: repair").count(), 1, "{text}");
        assert!(
            text.ends_with("\ncontainers with limits will work for user 7\n"),
            "{text}"
        );
        let text = report(&[Status::Missing]).text();
        assert!(
            text.ends_with("will not work for user 7; missing: thing\n"),
            "{text}"
        );
    }

    #[test]
    fn the_json_has_every_field() {
        let json = report(&[Status::Degraded]).json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["ready"], true);
        assert_eq!(value["findings"][0]["status"], "degraded");
        for field in ["group", "name", "found", "means", "repair"] {
            assert!(value["findings"][0][field].is_string(), "{field}: {json}");
        }
    }
}
