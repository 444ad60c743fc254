//! `capsid seccomp check`: mistakes, counts, and what to think about.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use oci_spec::runtime::LinuxSeccompFilterFlag;

use super::{Loaded, SeccompArgs, escaped, kernel, printable, wrapped};
use crate::commands::cli::print;
use crate::error::{Error, Problem, Result};
use crate::seccomp::abi::{self, Abi, Answer};
use crate::seccomp::review;
use crate::seccomp::walk::{self, Verdict};

/// A number that no kernel has given away yet.
const UNUSED_NUMBER: u32 = 100_000;
/// x32 numbers have this bit.
const X32_BIT: u32 = 0x4000_0000;

/// Prints the report; exit code 1 and a list when there are mistakes.
pub(super) fn run(args: &SeccompArgs) -> Result<u8> {
    let (json, place) = super::read(&args.file)?;
    let compiled = super::compile(&json, place, &|name| args.grants(name));
    let (loaded, found) = match compiled {
        Ok(loaded) => (Some(loaded), Vec::new()),
        Err(found) => (None, found),
    };
    // Rules that these capabilities leave out can have mistakes as well.
    let others = [true, false].map(|all| super::compile(&json, place, &|_| all));
    let others = others.into_iter().filter_map(Result::err).flatten();
    let mut told = HashSet::new();
    let mut text = String::new();
    for Problem { at, problem } in found.into_iter().chain(others).map(printable) {
        let line = match at.as_str() {
            "" => format!("{problem}\n"),
            _ => format!("{at}: {problem}\n"),
        };
        if told.insert(line.clone()) {
            text += &line;
        }
    }
    match loaded {
        Some(loaded) if told.is_empty() => print(&report(args, &loaded)),
        _ => {
            print(&text)?;
            let count = counted(told.len(), "mistake");
            let file = args.file.display();
            Err(Error::Usage(format!("{file}: {count} in this profile")))
        }
    }
}

fn report(args: &SeccompArgs, loaded: &Loaded) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = counts(&mut text, args, loaded);
    text += &section("this kernel", kernel_report(loaded));
    text += &section("attention", gaps(loaded));
    text += &section("redundant", redundant(loaded));
    text += &section(
        "without effect",
        loaded
            .resolved
            .notes
            .iter()
            .map(|note| printable(loaded.place.below(note.clone())))
            .map(|note| format!("{}: {}", note.at, note.problem))
            .collect(),
    );
    text += &unknown_names(loaded);
    text += &missing_names(loaded);
    text
}

fn section(title: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines = lines.iter().map(|line| format!("  {line}\n"));
    format!("{title}:\n{}", lines.collect::<String>())
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn counts(text: &mut String, args: &SeccompArgs, loaded: &Loaded) -> std::fmt::Result {
    let rules = loaded.profile().syscalls().as_deref().unwrap_or_default();
    let names: usize = rules.iter().map(|rule| rule.names().len()).sum();
    let program = &loaded.program;
    writeln!(
        text,
        "{}: {} with {}, default {}",
        args.file.display(),
        counted(rules.len(), "rule"),
        counted(names, "name"),
        Answer(program.default),
    )?;
    let verdicts = abi::all()
        .iter()
        .filter(|abi| abi.is_covered(loaded.profile()));
    let verdicts: Vec<Verdict> = verdicts
        .flat_map(|abi| abi.calls().map(|(number, _)| of(loaded, abi, number)))
        .collect();
    let steps: usize = verdicts.iter().map(|verdict| verdict.steps).sum();
    let longest = verdicts.iter().map(|verdict| verdict.longest).max();
    writeln!(
        text,
        "filter: {}; {}.{} run for a call on average with arguments of zero, {} at most",
        counted(program.instructions.len(), "instruction"),
        steps / verdicts.len().max(1),
        steps * 10 / verdicts.len().max(1) % 10,
        longest.unwrap_or(0),
    )?;
    for abi in abi::all() {
        writeln!(
            text,
            "{:<8}{}",
            format!("{}:", abi.name),
            covers(loaded, abi)
        )?;
    }
    writeln!(
        text,
        "        (of all numbers up to Linux 7.0, also those this kernel does not have)"
    )
}

fn of(loaded: &Loaded, abi: &Abi, number: u32) -> Verdict {
    walk::verdict(&loaded.program, abi.audit, number)
}

/// What the filter does with the calls of one ABI.
fn covers(loaded: &Loaded, abi: &Abi) -> String {
    let is_x32 = abi.name == "x32";
    let other = of(
        loaded,
        abi,
        UNUSED_NUMBER | if is_x32 { X32_BIT } else { 0 },
    );
    let other = other
        .only()
        .map_or(String::new(), |answer| answer.to_string());
    if !abi.is_covered(loaded.profile()) {
        return format!("not covered: every call gets {other}");
    }
    let (mut allowed, mut conditional, mut denied) = (0, 0, 0);
    for (number, _) in abi.calls() {
        let verdict = of(loaded, abi, number);
        if verdict.always_passes() {
            allowed += 1;
        } else if verdict.can_pass() {
            conditional += 1;
        } else {
            denied += 1;
        }
    }
    format!(
        "{allowed} allowed, {conditional} conditional, {denied} denied; any other number gets {other}"
    )
}

/// Actions and flags that this kernel lacks.
fn kernel_report(loaded: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    let used = walk::answers(&loaded.program).into_iter();
    let used: BTreeSet<String> = used.map(Answer::kernel_word).collect();
    match kernel::actions() {
        Some(known) => {
            let lacking = used.iter().filter(|word| !known.contains(word));
            lines.extend(
                lacking
                    .map(|word| format!("lacks the action {word}: the process is killed instead")),
            );
        }
        None => lines.push("its actions cannot be read: /proc/sys is not there".to_owned()),
    }
    let flags = loaded.profile().flags().iter().flatten();
    let flags: Vec<String> = flags.map(LinuxSeccompFilterFlag::to_string).collect();
    let version = kernel::running();
    for flag in &flags {
        if let Some(since) = kernel::flag_since(flag)
            && version
                .as_ref()
                .is_some_and(|(version, _)| *version < since)
        {
            lines.push(format!(
                "lacks {flag}, which came with Linux {}.{}",
                since.0, since.1
            ));
        }
    }
    if lines.is_empty() {
        let release = version.map_or(String::new(), |(_, release)| format!(" ({release})"));
        lines.push(format!(
            "has all actions and flags that the profile uses{release}"
        ));
    }
    lines
}

/// Weak places of a profile that its author may not have meant.
fn gaps(loaded: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    let default = Answer(loaded.program.default);
    if default.lets_through() {
        lines.push(format!(
            "the default action is {default}: what no rule denies is allowed, and so is every \
             call that later kernels add"
        ));
    }
    let native = abi::native();
    let named = |wanted: &str| {
        let number = native.calls().find(|(_, name)| *name == wanted)?.0;
        Some(of(loaded, native, number))
    };
    if let (Some(clone), Some(clone3)) = (named("clone"), named("clone3"))
        && !clone.always_passes()
        && clone3.always_passes()
    {
        lines.push(
            "clone3 is allowed and clone is not always: no filter can see the flags of clone3; \
             let it fail with ENOSYS (errnoRet 38), and libraries use clone"
                .to_owned(),
        );
    }
    if !default.lets_through() && named("io_uring_setup").is_some_and(|ring| ring.can_pass()) {
        lines.push(
            "io_uring_setup is allowed: what a program does through a ring passes no filter"
                .to_owned(),
        );
    }
    let flags = loaded.profile().flags().as_deref().unwrap_or_default();
    if flags.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow) {
        lines.push(
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW gives up the kernel's protection against speculative \
             store bypass"
                .to_owned(),
        );
    }
    if loaded.program.notify && loaded.profile().listener_path().is_none() {
        lines.push("rules ask a supervisor, and listenerPath names none".to_owned());
    }
    lines
}

fn redundant(loaded: &Loaded) -> Vec<String> {
    let found = review::redundant(loaded.profile());
    let place = |rule| loaded.rule(rule);
    found
        .iter()
        .map(|one| one.problem(loaded.profile(), &place))
        .map(|problem| format!("{}: {}", problem.at, problem.problem))
        .collect()
}

/// Names of the profile that have no number here.
fn unknown_names(loaded: &Loaded) -> String {
    let mut names: Vec<&str> = loaded.program.skipped.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let (elsewhere, nowhere): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| abi::is_known(name));
    let list = |title: &str, names: Vec<&str>| {
        let names: Vec<String> = names.into_iter().map(escaped).collect();
        if names.is_empty() {
            return String::new();
        }
        let lines = wrapped(names.iter().map(String::as_str), 2);
        format!("{title}:\n{lines}")
    };
    let unknown = "names that neither x86 nor ARM has (mistyped, or newer than Linux 7.0)";
    list(unknown, nowhere)
        + &list(
            "names of other architectures, without a number here",
            elsewhere,
        )
}

/// System calls of this kernel that the profile has no rule for.
fn missing_names(loaded: &Loaded) -> String {
    let Some((version, release)) = kernel::running() else {
        return String::new();
    };
    let rules = loaded.profile().syscalls().iter().flatten();
    let named: HashSet<&str> = rules
        .flat_map(|rule| rule.names())
        .map(String::as_str)
        .collect();
    let native = abi::native();
    let mut by_answer: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (number, name) in native.calls() {
        if !named.contains(name)
            && kernel::has(version, number)
            && let Some(answer) = of(loaded, native, number).only()
        {
            by_answer.entry(answer.0).or_default().push(name);
        }
    }
    let lists = by_answer.into_iter().map(|(answer, mut names)| {
        names.sort_unstable();
        let answer = Answer(answer);
        // A list of what is denied leaves most names out on purpose.
        let (end, lines) = match answer.lets_through() {
            true => (";", "  `show --calls` lists them\n".to_owned()),
            false => (":", wrapped(names.iter().copied(), 2)),
        };
        let calls = counted(names.len(), "call");
        format!("{calls} of Linux {release} without a rule, which get {answer}{end}\n{lines}")
    });
    lists.collect()
}
