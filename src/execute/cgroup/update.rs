//! Changing the limits of a cgroup in which processes are: all of them, or none.

use std::path::Path;

use nix::errno::Errno;
use syscalls::Sysno;

use super::Cgroup;
use super::limits::{holds_without_file, refuse_above_parents, refuse_below_usage, set};
use super::make::{available, enable, lacking, missing, open_level, open_mount};
use crate::error::{Error, Result};
use crate::plan::cgroup::{CgroupPlan, Limit, line_of};

/// A limit that is to be written, and what brings back the value before it.
#[derive(Debug)]
struct Change {
    limit: Limit,
    /// What the file showed; `None` for one that can only be written.
    old: Option<String>,
}

/// Files that systemd writes for a unit when one of its properties changes: also
/// those of other properties, with what it believes of them. `cpu.idle` comes
/// first, for it decides what `cpu.weight` shows.
const WRITTEN_BY_SYSTEMD: [&str; 15] = [
    "cpu.idle",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "memory.oom.group",
    "pids.max",
    "io.bfq.weight",
    "io.weight",
    "cpuset.cpus",
    "cpuset.mems",
];

/// Gives an existing cgroup the limits of a plan; its other limits stay.
///
/// Everything that can be checked is checked before the first write. When one is
/// refused, those before it get their old values again. The device filter is left alone.
/// `tell` tells the cgroup's manager of the limits, if it has one.
///
/// # Errors
/// [`Error::Missing`], which says what was refused and whether the old values
/// are in force; [`Error::System`] when the cgroup cannot be read.
pub fn update(plan: &CgroupPlan, tell: Option<&mut dyn FnMut() -> Result<()>>) -> Result<()> {
    let mount = open_mount(plan)?;
    let below = plan.path.strip_prefix(&plan.mount).unwrap_or(&plan.path);
    let cgroup = open_level(&mount, below, plan)?;
    for limit in &plan.limits {
        refuse_above_parents(&mount, plan, below, limit)?;
        refuse_below_usage(&cgroup, limit)?;
    }
    let wanted = missing(&plan.controllers(true), &available(&cgroup)?);
    if !wanted.is_empty() {
        enable(&mount, plan, below, &wanted)?;
    }
    let present = available(&cgroup)?;
    if let Some(controller) = missing(&plan.controllers(true), &present).first() {
        return Err(lacking(plan, &mount, below, controller));
    }
    let mut changes = Vec::new();
    for limit in &plan.limits {
        // What is left are limits of `max`, which hold without the controller too.
        let here = |controller: &String| present.contains(controller);
        if limit.controller.as_ref().is_none_or(here) {
            changes.extend(change(&cgroup, limit)?);
        }
    }
    order(&mut changes);
    write(&cgroup, &changes)?;
    match tell {
        Some(tell) => agree(&cgroup, tell)
            .map_err(|error| undone(&cgroup, &restore(&cgroup, &changes), &error)),
        None => Ok(()),
    }
}

/// Has the manager take note, and whatever it then wrote put right: it rounds
/// what it is told, and knows no name for some limits.
fn agree(cgroup: &Cgroup, tell: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let read = |file: &'static str| Some((file, cgroup.read(file).ok()?));
    let held: Vec<_> = WRITTEN_BY_SYSTEMD.into_iter().filter_map(read).collect();
    tell()?;
    for (file, value) in held {
        if cgroup.read(file).is_ok_and(|now| now == value) {
            continue;
        }
        // An empty list of CPUs is an empty line: a write of nothing is no write.
        for line in value.split_inclusive('\n') {
            cgroup
                .write(file, line)
                .map_err(|errno| cgroup.failed("write again to", file, Sysno::write, errno))?;
        }
    }
    Ok(())
}

/// Reads what the file shows now; `None` where there is nothing to write.
fn change(cgroup: &Cgroup, limit: &Limit) -> Result<Option<Change>> {
    let failed = |sysno, errno| cgroup.failed("read", &limit.file, sysno, errno);
    let old = match cgroup.read(&limit.file) {
        Ok(old) => Some(old),
        Err(Errno::ENOENT) => match &limit.instead {
            Some(instead) => return change(cgroup, instead),
            None if holds_without_file(limit) => return Ok(None),
            None => return Err(failed(Sysno::openat2, Errno::ENOENT)),
        },
        // A file that can only be written.
        Err(Errno::EINVAL | Errno::EACCES) => None,
        Err(errno) => return Err(failed(Sysno::read, errno)),
    };
    Ok(Some(Change {
        limit: limit.clone(),
        old,
    }))
}

/// Puts pairs of limits in an order in which no state in between is invalid, or
/// tighter than the old and the new one.
///
/// Of memory and swap the one that rises comes first: while both are low the
/// kernel would kill. A burst may not exceed the quota: a quota that rises comes
/// before it, one that falls after it.
fn order(changes: &mut Vec<Change>) {
    if rises(changes, "memory.max") {
        put_before(changes, "memory.max", "memory.swap.max");
    } else {
        put_before(changes, "memory.swap.max", "memory.max");
    }
    if rises(changes, "cpu.max") {
        put_before(changes, "cpu.max", "cpu.max.burst");
    } else {
        put_before(changes, "cpu.max.burst", "cpu.max");
    }
}

fn rises(changes: &[Change], file: &str) -> bool {
    let number = |value: &str| {
        let first = value.split_ascii_whitespace().next().unwrap_or_default();
        match first {
            "max" => u64::MAX,
            digits => digits.parse().unwrap_or(0),
        }
    };
    changes.iter().any(|change| {
        let old = change.old.as_deref().unwrap_or_default();
        change.limit.file == file && number(&change.limit.value) > number(old)
    })
}

fn put_before(changes: &mut Vec<Change>, first: &str, second: &str) {
    let at = |file: &str| changes.iter().position(|change| change.limit.file == file);
    if let (Some(from), Some(to)) = (at(first), at(second))
        && from > to
    {
        let change = changes.remove(from);
        changes.insert(to, change);
    }
}

fn write(cgroup: &Cgroup, changes: &[Change]) -> Result<()> {
    for (index, change) in changes.iter().enumerate() {
        let Err(error) = set(cgroup, &change.limit) else {
            continue;
        };
        // This one too: the kernel may have taken another value than was asked for.
        let failed = restore(cgroup, changes.get(..=index).unwrap_or(changes));
        return Err(undone(cgroup, &failed, &error));
    }
    Ok(())
}

/// The error of an update, after the old values were written again.
fn undone(cgroup: &Cgroup, failed: &[String], error: &Error) -> Error {
    let repair = if failed.is_empty() {
        "all limits are as they were before".to_owned()
    } else {
        format!(
            "and not all limits are as they were before: {}",
            failed.join("; ")
        )
    };
    Error::Missing {
        doing: format!("update the limits of {}", cgroup.path().display()),
        missing: error.to_string(),
        repair,
    }
}

/// Writes the old values, the last change first; what could not be restored, in words.
fn restore(cgroup: &Cgroup, changes: &[Change]) -> Vec<String> {
    let mut failed = Vec::new();
    for change in changes.iter().rev() {
        let file = Path::new(&change.limit.file);
        let Some(old) = &change.old else {
            failed.push(format!("{} can only be written", file.display()));
            continue;
        };
        if cgroup.read(file).is_ok_and(|now| now == *old) {
            continue;
        }
        let value = before(&change.limit, old);
        if let Err(errno) = cgroup.write(file, &value) {
            let doing = format!("write {} to", value.trim());
            failed.push(cgroup.failed(&doing, file, Sysno::write, errno).to_string());
        }
    }
    failed
}

/// What to write so that the file shows what it showed before the change.
fn before(limit: &Limit, old: &str) -> String {
    let Some(key) = limit.entry() else {
        // An empty list of CPUs is an empty line: a write of nothing is no write.
        return match old.trim() {
            "" => "\n".to_owned(),
            old => old.to_owned(),
        };
    };
    if let Some(line) = line_of(old, key) {
        return format!("{key} {line}");
    }
    // There was no line for it: it was not limited.
    match limit.file.as_str() {
        "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
        "rdma.max" => format!("{key} hca_handle=max hca_object=max"),
        "misc.max" => format!("{key} max"),
        _ => format!("{key} default"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(list: &[(&str, &str, &str)]) -> Vec<String> {
        let mut changes: Vec<Change> = list
            .iter()
            .map(|(file, old, new)| Change {
                limit: Limit::new(file, *new, true),
                old: Some((*old).to_owned()),
            })
            .collect();
        order(&mut changes);
        changes.into_iter().map(|c| c.limit.file).collect()
    }

    #[test]
    fn what_rises_comes_before_what_falls() {
        let (memory, swap) = ("memory.max", "memory.swap.max");
        assert_eq!(
            ordered(&[(swap, "max\n", "0"), (memory, "100\n", "200")]),
            [memory, swap]
        );
        assert_eq!(
            ordered(&[(swap, "0\n", "100"), (memory, "200\n", "100")]),
            [swap, memory]
        );
        assert_eq!(
            ordered(&[(swap, "5\n", "5"), (memory, "200\n", "max")]),
            [memory, swap]
        );
        let (quota, burst) = ("cpu.max", "cpu.max.burst");
        assert_eq!(
            ordered(&[(quota, "100 1000\n", "200 1000"), (burst, "0\n", "150")]),
            [quota, burst]
        );
        assert_eq!(
            ordered(&[(quota, "100 1000\n", "50 1000"), (burst, "80\n", "40")]),
            [burst, quota]
        );
        assert_eq!(
            ordered(&[(quota, "max 1000\n", "50 1000"), (burst, "80\n", "40")]),
            [burst, quota]
        );
    }

    #[test]
    fn the_old_value_is_written_as_the_kernel_takes_it() {
        let old =
            |file: &str, value: &str, shown: &str| before(&Limit::new(file, value, true), shown);
        assert_eq!(old("pids.max", "5", "max\n"), "max");
        assert_eq!(old("cpuset.cpus", "0", "\n"), "\n");
        let lines = "8:0 rbps=1 wbps=max riops=max wiops=max\n";
        assert_eq!(old("io.max", "8:0 rbps=5", lines), lines.trim());
        assert_eq!(
            old("io.max", "8:1 rbps=5", lines),
            "8:1 rbps=max wbps=max riops=max wiops=max"
        );
        assert_eq!(old("io.weight", "5", "default 100\n"), "default 100");
        assert_eq!(old("io.weight", "8:0 5", "default 100\n"), "8:0 default");
        assert_eq!(old("misc.max", "sev 5", ""), "sev max");
    }
}
