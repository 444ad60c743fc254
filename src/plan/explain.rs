//! A plan in words: what `capsid explain` prints and golden tests compare.

use std::fmt;

use super::Plan;
use super::steps::{EnterStep, Text};
use crate::spec::namespaces;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_host(f)?;
        let words = |steps: &[EnterStep]| {
            let words = steps.iter().map(|step| step.describe(&self.sources));
            words.collect()
        };
        let phases: [(&str, Vec<String>); 6] = [
            ("joiner", words(&self.enter.joiner)),
            ("enter", words(&self.enter.first)),
            ("mounter", words(&self.enter.mounter)),
            (
                "root",
                self.root
                    .iter()
                    .map(|step| step.describe(&self.sources))
                    .collect(),
            ),
            (
                "process",
                self.process.iter().map(ToString::to_string).collect(),
            ),
            ("exec", self.exec.iter().map(ToString::to_string).collect()),
        ];
        let mut number = 0;
        for (name, steps) in phases.iter().filter(|(_, steps)| !steps.is_empty()) {
            writeln!(f, "{name}:")?;
            for step in steps {
                number += 1;
                writeln!(f, "{number:>4}  {step}")?;
            }
        }
        self.write_program(f)
    }
}

impl Plan {
    /// What the runtime does itself.
    fn write_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host:")?;
        match &self.cgroup {
            Some(cgroup) => {
                writeln!(f, "  {cgroup}")?;
                cgroup
                    .limits
                    .iter()
                    .try_for_each(|limit| writeln!(f, "  {limit}"))?;
                if let Some(scope) = &cgroup.scope {
                    writeln!(f, "  tell systemd {}", scope.told(&cgroup.limits))?;
                }
                if let Some(devices) = &cgroup.devices {
                    writeln!(f, "  {devices}")?;
                }
            }
            None => writeln!(f, "  no cgroup of its own")?,
        }
        if let Some(ids) = &self.ids {
            writeln!(f, "  map {ids}")?;
        }
        self.limits
            .iter()
            .try_for_each(|limit| writeln!(f, "  {limit}"))?;
        if let Some(score) = &self.enter.oom_score_adj {
            writeln!(f, "  set oom_score_adj to {}", Text(score))?;
        }
        for (kind, path) in &self.enter.paths {
            writeln!(f, "  open the {} namespace {}", kind.name(), path.display())?;
        }
        let new = namespaces::names(self.enter.new);
        writeln!(f, "  clone into new namespaces: {new}")?;
        if let Some(rdt) = &self.rdt {
            writeln!(f, "  {rdt}")?;
        }
        let mut devices = self.net_devices.iter();
        devices.try_for_each(|device| writeln!(f, "  {device}"))
    }

    fn write_program(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program:")?;
        for argument in &self.program.arguments {
            writeln!(f, "      argument {}", Text(argument))?;
        }
        for variable in &self.program.environment {
            // A value may be a secret; a plan may end in a bug report.
            let name = variable.to_bytes().split(|byte| *byte == b'=').next();
            let name = String::from_utf8_lossy(name.unwrap_or_default());
            writeln!(f, "      variable {name}")?;
        }
        Ok(())
    }
}
