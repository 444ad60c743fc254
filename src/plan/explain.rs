//! A plan in words: what `capsid explain` prints and golden tests compare.

use std::fmt;

use super::Plan;
use super::steps::Text;
use crate::spec::namespaces;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host:")?;
        match &self.cgroup {
            Some(cgroup) => {
                writeln!(f, "  {cgroup}")?;
                for limit in &cgroup.limits {
                    writeln!(f, "  {limit}")?;
                }
            }
            None => writeln!(f, "  no cgroup of its own")?,
        }
        if let Some(ids) = &self.ids {
            writeln!(f, "  map {ids}")?;
        }
        for limit in &self.limits {
            writeln!(f, "  {limit}")?;
        }
        let new = self.new_namespaces();
        writeln!(f, "  clone into new namespaces: {}", namespaces::names(new))?;
        for (kind, path) in &self.enter.paths {
            writeln!(f, "  open the {} namespace {}", kind.name(), path.display())?;
        }
        let mut number = 0;
        let mut phase = |f: &mut fmt::Formatter<'_>, name: &str, steps: Vec<String>| {
            if steps.is_empty() {
                return Ok(());
            }
            writeln!(f, "{name}:")?;
            for step in steps {
                number += 1;
                writeln!(f, "{number:>4}  {step}")?;
            }
            Ok(())
        };
        phase(
            f,
            "joiner",
            self.enter.joiner.iter().map(ToString::to_string).collect(),
        )?;
        phase(
            f,
            "enter",
            self.enter.first.iter().map(ToString::to_string).collect(),
        )?;
        phase(
            f,
            "root",
            self.root
                .iter()
                .map(|step| step.describe(&self.sources))
                .collect(),
        )?;
        phase(
            f,
            "process",
            self.process.iter().map(ToString::to_string).collect(),
        )?;
        phase(
            f,
            "exec",
            self.exec.iter().map(ToString::to_string).collect(),
        )?;
        writeln!(f, "program:")?;
        for argument in &self.program.arguments {
            writeln!(f, "      argument {}", Text(argument))?;
        }
        for variable in &self.program.environment {
            // A value may be a secret; a plan may end in a bug report.
            let name = variable
                .to_bytes()
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default();
            writeln!(f, "      variable {}", String::from_utf8_lossy(name))?;
        }
        Ok(())
    }
}

impl Plan {
    /// Every namespace that is made rather than joined, whoever makes it.
    fn new_namespaces(&self) -> u64 {
        let joined = self
            .enter
            .paths
            .iter()
            .fold(0, |flags, (kind, _)| flags | kind.flag());
        if self.root.is_empty() || self.enter.new == 0 {
            self.enter.new
        } else {
            self.enter.differing & !joined
        }
    }
}
