//! Profile files: `linux.seccomp` of the runtime specification, and the richer
//! form of Docker's, podman's and this project's own profiles.
//!
//! There a rule can have a comment and conditions on the container
//! (`includes`, `excludes`), and `archMap` gives architectures with those that
//! run on them. `build.rs` compiles this file too, so it imports nothing of
//! the crate but the type of its errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::error::{Problem, escape};

/// A profile file with its conditions on the container decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What is left of it, as in a configuration.
    pub profile: LinuxSeccomp,
    /// Where each rule of `profile.syscalls()` comes from, in the same order.
    pub rules: Vec<Origin>,
    /// What has no effect here and may not have been meant so: unknown keys,
    /// conditions on the kernel's version.
    pub notes: Vec<Problem>,
}

/// Where a rule stands in its file, and why it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its place in `syscalls`, from 0.
    pub index: usize,
    /// Its comment; empty when it has none.
    pub comment: String,
}

/// Reads a profile file for this machine's architecture.
///
/// `granted` says whether the container has a capability, by the name that the
/// file uses (`CAP_SYS_ADMIN`).
///
/// # Errors
///
/// Everything that is wrong with the file, with JSON pointers into it: not
/// JSON, unknown words, wrong types, keys that contradict each other. What the
/// numbers mean is judged by [`compile`](super::compile).
pub fn resolve(json: &[u8], granted: &dyn Fn(&str) -> bool) -> Result<Resolved, Vec<Problem>> {
    resolve_for(std::env::consts::ARCH, json, granted)
}

/// The same for another architecture, in the words of `std::env::consts::ARCH`.
///
/// # Errors
///
/// As for [`resolve`].
pub fn resolve_for(
    machine: &str,
    json: &[u8],
    granted: &dyn Fn(&str) -> bool,
) -> Result<Resolved, Vec<Problem>> {
    let file = parse(json)?;
    let mut problems = Vec::new();
    let mut notes = unknown_keys("", &file.other);
    let architectures = file.architectures(machine, &mut problems);
    let default_errno = number("", &file.errno_keys(), &mut problems);
    let mut rules = Vec::new();
    let mut origins = Vec::new();
    for (index, rule) in file.syscalls.into_iter().flatten().enumerate() {
        let at = format!("/syscalls/{index}");
        let applies = rule.applies(&at, machine, granted, &mut problems, &mut notes);
        let comment = rule.comment.clone().unwrap_or_default();
        let rule = rule.finish(&at, &mut problems, &mut notes);
        if applies {
            rules.push(rule);
            origins.push(Origin { index, comment });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(file.default_action)
        .set_default_errno_ret(default_errno)
        .set_architectures(architectures)
        .set_flags(file.flags)
        .set_listener_path(file.listener_path)
        .set_listener_metadata(file.listener_metadata)
        .set_syscalls(Some(rules));
    Ok(Resolved {
        profile,
        rules: origins,
        notes,
    })
}

/// Keys that this reader does not know. Go's encoders write `null` for what is
/// absent, so every key but the necessary ones may be that.
type Other = BTreeMap<String, IgnoredAny>;

/// A profile file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchEntry>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<RuleEntry>>,
    /// For people.
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    #[serde(flatten)]
    other: Other,
}

/// An architecture, and those whose programs its kernels run as well.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleEntry {
    names: Option<Vec<String>>,
    /// Docker's first profiles had one rule for each name.
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<ArgEntry>>,
    comment: Option<String>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
    #[serde(flatten)]
    other: Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArgEntry {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
    #[serde(flatten)]
    other: Other,
}

/// A condition on the container or the machine.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
    #[serde(flatten)]
    other: Other,
}

/// An error number and its name, of which podman's profiles have both.
struct Errno<'a> {
    number: (&'static str, Option<u32>),
    name: (&'static str, Option<&'a str>),
}

impl File {
    fn errno_keys(&self) -> Errno<'_> {
        Errno {
            number: ("defaultErrnoRet", self.default_errno_ret),
            name: ("defaultErrno", self.default_errno.as_deref()),
        }
    }

    /// `archMap` gives the architectures of the entry for this machine, if it has one.
    fn architectures(&self, machine: &str, problems: &mut Vec<Problem>) -> Option<Vec<Arch>> {
        let map = self.arch_map.as_deref().unwrap_or_default();
        if map.is_empty() {
            return self.architectures.clone();
        }
        if self.architectures.as_ref().is_some_and(|a| !a.is_empty()) {
            problems.push(Problem::new(
                "/archMap",
                "architectures is there as well: keep one of the two",
            ));
        }
        let native = match machine {
            "x86_64" => Arch::ScmpArchX86_64,
            "aarch64" => Arch::ScmpArchAarch64,
            _ => Arch::ScmpArchNative,
        };
        let entry = map.iter().find(|entry| entry.architecture == native)?;
        let others = entry.sub_architectures.iter().flatten().copied();
        Some(std::iter::once(native).chain(others).collect())
    }
}

impl RuleEntry {
    /// Whether the rule is there on this machine and for this container.
    ///
    /// `arches` is compared with the machine's own architecture only, as Docker
    /// and podman do: a rule has no way to speak of the 32-bit programs alone.
    fn applies(
        &self,
        at: &str,
        machine: &str,
        granted: &dyn Fn(&str) -> bool,
        problems: &mut Vec<Problem>,
        notes: &mut Vec<Problem>,
    ) -> bool {
        let go_name = match machine {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let names_machine = |arches: &[String]| arches.iter().any(|arch| arch == go_name);
        let none = Filter::default();
        let includes = self.includes.as_ref().unwrap_or(&none);
        let excludes = self.excludes.as_ref().unwrap_or(&none);
        includes.check(&format!("{at}/includes"), problems, notes);
        excludes.check(&format!("{at}/excludes"), problems, notes);
        let arches = includes.arches.as_deref().unwrap_or_default();
        includes.caps.iter().flatten().all(|name| granted(name))
            && (arches.is_empty() || names_machine(arches))
            && !excludes.caps.iter().flatten().any(|name| granted(name))
            && !names_machine(excludes.arches.as_deref().unwrap_or_default())
            && excludes.min_kernel.is_none()
    }

    fn finish(
        self,
        at: &str,
        problems: &mut Vec<Problem>,
        notes: &mut Vec<Problem>,
    ) -> LinuxSyscall {
        notes.extend(unknown_keys(at, &self.other));
        let errno = Errno {
            number: ("errnoRet", self.errno_ret),
            name: ("errno", self.errno.as_deref()),
        };
        let errno_ret = number(at, &errno, problems);
        let names = match (self.names, self.name) {
            (Some(names), None) => names,
            (None, Some(name)) => vec![name],
            (None, None) => {
                problems.push(Problem::new(at, "missing field `names`"));
                Vec::new()
            }
            (Some(_), Some(_)) => {
                problems.push(Problem::new(
                    format!("{at}/name"),
                    "names is there as well: keep one of the two",
                ));
                Vec::new()
            }
        };
        let mut args = Vec::new();
        for (place, arg) in self.args.into_iter().flatten().enumerate() {
            let at = format!("{at}/args/{place}");
            notes.extend(unknown_keys(&at, &arg.other));
            match arg.finish() {
                Ok(arg) => args.push(arg),
                Err(error) => problems.push(Problem::new(at, error.to_string())),
            }
        }
        let mut rule = LinuxSyscall::default();
        rule.set_names(names)
            .set_action(self.action)
            .set_errno_ret(errno_ret)
            .set_args(Some(args).filter(|args| !args.is_empty()));
        rule
    }
}

impl Filter {
    /// A condition on the kernel's version is taken as true.
    fn check(&self, at: &str, problems: &mut Vec<Problem>, notes: &mut Vec<Problem>) {
        notes.extend(unknown_keys(at, &self.other));
        let Some(version) = &self.min_kernel else {
            return;
        };
        let (list, text) = if is_version(version) {
            let text = "taken as true: capsid needs a newer kernel than profiles ask for";
            (notes, text)
        } else {
            (
                problems,
                "not a kernel version such as \"4.8\": two numbers and a point",
            )
        };
        list.push(Problem::new(format!("{at}/minKernel"), text));
    }
}

impl ArgEntry {
    fn finish(self) -> Result<LinuxSeccompArg, OciSpecError> {
        let mut arg = LinuxSeccompArgBuilder::default()
            .index(self.index)
            .value(self.value)
            .op(self.op);
        if let Some(value) = self.value_two {
            arg = arg.value_two(value);
        }
        arg.build()
    }
}

/// The error number of a rule. A name by itself is refused: which number it is
/// depends on the machine, and dropping it would answer EPERM instead.
fn number(at: &str, errno: &Errno<'_>, problems: &mut Vec<Problem>) -> Option<u32> {
    let (number_key, number) = errno.number;
    if let (name_key, Some(name)) = errno.name
        && number.is_none()
        && !name.is_empty()
    {
        problems.push(Problem::new(
            format!("{at}/{name_key}"),
            format!("a name without its number: write {number_key}"),
        ));
    }
    number
}

/// `4.8` or `5.10`.
fn is_version(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| {
        [major, minor]
            .iter()
            .all(|part| part.parse::<u16>().is_ok())
    })
}

fn unknown_keys(at: &str, other: &Other) -> Vec<Problem> {
    let note = |key: &String| {
        let at = format!("{at}/{}", escape(key));
        Problem::new(at, "an unknown key: it has no effect")
    };
    other.keys().map(note).collect()
}

/// The typed file, or all that keeps it from being one.
fn parse(json: &[u8]) -> Result<File, Vec<Problem>> {
    let first = match typed::<File>("", json) {
        Ok(file) => return Ok(file),
        Err(problem) => problem,
    };
    let Ok(mut document) = serde_json::from_slice::<Value>(json) else {
        return Err(vec![first]);
    };
    // One error ends a typed reading, so what can be read by itself is.
    let mut problems = Vec::new();
    if let Some(Value::Array(rules)) = document.get_mut("syscalls").map(Value::take) {
        for (index, rule) in rules.iter().enumerate() {
            // Written and read again, for only a text has places.
            let (at, text) = (format!("/syscalls/{index}"), rule.to_string());
            problems.extend(typed::<RuleEntry>(&at, text.as_bytes()).err());
        }
        let rest = document.to_string();
        problems.splice(0..0, typed::<File>("", rest.as_bytes()).err());
    }
    if problems.is_empty() {
        problems.push(first);
    }
    Err(problems)
}

/// Reads one type; `at` is where the text stands.
fn typed<T: DeserializeOwned>(at: &str, json: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        let problem = Problem::of_json(json, &error);
        Problem::new(format!("{at}{}", problem.at), problem.problem)
    })
}

#[cfg(test)]
mod tests;
