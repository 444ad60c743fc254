//! The calls of a program as the smallest profile that covers them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::judge::Call;

/// Calls whose first argument says what they are for, so that allowing them
/// altogether would allow much more than was seen. It has 32 bits in all of them.
const BY_FIRST_ARGUMENT: [&str; 3] = ["personality", "socket", "socketpair"];
/// Namespace flags of clone(2).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// What the kernel and the end of a program need, in whichever run: a signal
/// may have come in this one and not in the next, or the other way round.
const ALWAYS: [&str; 4] = ["exit", "exit_group", "restart_syscall", "rt_sigreturn"];

/// The calls that were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    names: BTreeSet<&'static str>,
    first_arguments: BTreeMap<&'static str, BTreeSet<u64>>,
    makes_namespaces: bool,
    unknown: BTreeSet<u32>,
}

impl Recording {
    /// One that has some calls already: what an init may make in the next run.
    pub fn with(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            names: names.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds a call.
    pub fn add(&mut self, call: &Call) {
        let Some(name) = call.name() else {
            self.unknown.insert(call.nr);
            return;
        };
        let first = call.args[0];
        if BY_FIRST_ARGUMENT.contains(&name) {
            let values = self.first_arguments.entry(name).or_default();
            values.insert(first & 0xffff_ffff);
        } else if name == "clone" {
            self.makes_namespaces |= first & CLONE_NAMESPACES != 0;
            self.names.insert(name);
        } else {
            self.names.insert(name);
        }
    }

    /// Numbers of calls that have no name here, and so no place in a profile.
    pub fn unknown(&self) -> Vec<u32> {
        self.unknown.iter().copied().collect()
    }

    /// How many different calls were seen.
    pub fn len(&self) -> usize {
        self.names.len() + self.first_arguments.len() + self.unknown.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The profile, as `linux.seccomp` of the runtime specification.
    pub fn profile(&self) -> Value {
        let mut names = self.names.clone();
        names.extend(ALWAYS);
        let mut rules = Vec::new();
        if names.contains("clone") && !self.makes_namespaces {
            names.remove("clone");
            rules.push(rule(
                &["clone"],
                json!([{
                    "index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"
                }]),
            ));
        }
        for (name, values) in &self.first_arguments {
            rules.extend(values.iter().map(|value| {
                rule(
                    &[name],
                    json!([{
                        "index": 0, "value": 0xffff_ffff_u32, "valueTwo": value,
                        "op": "SCMP_CMP_MASKED_EQ"
                    }]),
                )
            }));
        }
        let names: Vec<&str> = names.into_iter().collect();
        rules.insert(0, rule(&names, Value::Null));
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
    }
}

fn rule(names: &[&str], args: Value) -> Value {
    let mut rule = json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
    if !args.is_null() {
        rule["args"] = args;
    }
    rule
}
