//! Writing limits, each read back, and what is looked at before.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use syscalls::Sysno;

use super::{Cgroup, read_all};
use crate::error::{Check, Error, Failure, Result};
use crate::plan::cgroup::{CgroupPlan, Limit, Shown};

/// Writes one limit and reads it back: a value that the kernel changed or
/// dropped is not the limit that was asked for.
pub(super) fn set(cgroup: &Cgroup, limit: &Limit) -> Result<()> {
    let file = limit.file.as_str();
    match cgroup.write(file, &limit.value) {
        Ok(()) => {}
        Err(Errno::ENOENT) if limit.instead.is_some() => {
            return limit.instead.iter().try_for_each(|l| set(cgroup, l));
        }
        Err(Errno::ENOENT) if holds_without_file(limit) => return Ok(()),
        Err(errno) => {
            let doing = format!("write {} to", limit.value);
            return Err(cgroup.failed(&doing, file, Sysno::write, errno));
        }
    }
    let read = cgroup
        .read(file)
        .map_err(|e| cgroup.failed("read back", file, Sysno::read, e));
    // Some files can only be written.
    match read {
        Err(_) if limit.shown == Shown::Otherwise => Ok(()),
        Err(error) => Err(error),
        Ok(read) if limit.is_shown_as(&read) => Ok(()),
        Ok(read) => Err(Error::system(
            format!("write {} to", limit.value),
            format!(
                "{} (which then reads {:?})",
                cgroup.path().join(file).display(),
                read.trim()
            ),
            Failure::check(Check::ReadBackDiffers),
        )),
    }
}

/// Without swap accounting in the kernel, "none" and "as much as there is" are
/// what the container gets anyway.
pub(super) fn holds_without_file(limit: &Limit) -> bool {
    limit.file == "memory.swap.max" && matches!(limit.value.as_str(), "0" | "max")
}

/// `memory.checkBeforeUpdate`: the kernel would take a limit below what is in
/// use, and kill processes until it holds.
pub(super) fn refuse_below_usage(cgroup: &Cgroup, limit: &Limit) -> Result<()> {
    let Some(file) = limit.usage else {
        return Ok(());
    };
    let used = match cgroup.read(file) {
        Ok(used) => used,
        // Where nothing is counted nothing is limited either; writing tells.
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(cgroup.failed("read", file, Sysno::read, errno)),
    };
    match (limit.value.parse::<u64>(), used.trim().parse::<u64>()) {
        (Ok(limited), Ok(used)) if limited < used => Err(Error::Missing {
            doing: format!(
                "write {limited} to {}",
                cgroup.path().join(&limit.file).display()
            ),
            missing: format!("rejecting memory limit {limited} < usage {used} ({file})"),
            repair: "ask for more, or set memory.checkBeforeUpdate to false to have the kernel \
                     reclaim and kill until the limit holds"
                .into(),
        }),
        _ => Ok(()),
    }
}

/// Refuses a limit above that of a level above.
///
/// The kernel takes it, and then the lower one holds: what was asked for would
/// not be what is in force.
pub(super) fn refuse_above_parents(
    mount: &OwnedFd,
    plan: &CgroupPlan,
    below: &Path,
    limit: &Limit,
) -> Result<()> {
    let Some(ceiling) = ceiling(&limit.file).filter(|_| limit.required) else {
        return Ok(());
    };
    for level in below.ancestors().skip(1) {
        let file = level.join(&ceiling);
        // The root has no limits, and a level without the controller has none either.
        let Ok(parent) = read_below(mount, &file) else {
            continue;
        };
        if is_above(limit, parent.trim()) {
            return Err(Error::Missing {
                doing: format!(
                    "write {} to {}",
                    limit.value,
                    plan.path.join(&limit.file).display()
                ),
                missing: format!(
                    "it could not come into force: {} is {}",
                    plan.mount.join(&file).display(),
                    parent.trim()
                ),
                repair: "ask for at most that, or raise the limit there".into(),
            });
        }
    }
    Ok(())
}

/// The file of a level above whose value holds for all levels below as well.
fn ceiling(file: &str) -> Option<String> {
    match file {
        "memory.max" | "pids.max" | "cpu.max" => Some(file.to_owned()),
        // With none of those that were asked for, the kernel gives all of these.
        "cpuset.cpus" | "cpuset.mems" => Some(format!("{file}.effective")),
        _ => file.starts_with("hugetlb.").then(|| file.to_owned()),
    }
}

fn is_above(limit: &Limit, parent: &str) -> bool {
    if limit.file == "cpu.max" {
        return match (share(&limit.value), share(parent)) {
            // Quota by period, compared without dividing.
            (Some((quota, period)), Some((most, of))) => quota * of > most * period,
            _ => false,
        };
    }
    if limit.shown == Shown::List {
        return !limit.is_part_of(parent);
    }
    match (limit.value.parse::<u64>(), parent.parse::<u64>()) {
        // What was rounded down above is the same limit there and here.
        (Ok(asked), Ok(most)) => match limit.shown {
            Shown::Bytes(page) => asked > most && asked - most >= page,
            _ => asked > most,
        },
        _ => false,
    }
}

/// Quota and period; `None` without a quota.
fn share(cpu_max: &str) -> Option<(u128, u128)> {
    let (quota, period) = cpu_max.split_once(' ')?;
    Some((
        quota.parse::<u64>().ok()?.into(),
        period.parse::<u64>().ok()?.into(),
    ))
}

fn read_below(mount: &OwnedFd, file: &Path) -> Result<String, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    read_all(&mut openat2(mount, file, how)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_level_above_forbids_is_above_it() {
        let above = |file: &str, value: &str, parent: &str| {
            is_above(&Limit::new(file, value, true), parent)
        };
        assert!(above("pids.max", "11", "10"));
        assert!(!above("pids.max", "10", "10"));
        assert!(!above("pids.max", "10", "max"));
        assert!(above("memory.max", "2000000", "1000000"));
        // Rounded to pages above, from the very same number.
        assert!(!above("memory.max", "1000001", "999424"));
        assert!(above("cpu.max", "60000 100000", "50000 100000"));
        assert!(!above("cpu.max", "5000 10000", "50000 100000"));
        assert!(!above("cpu.max", "60000 100000", "max 100000"));
        assert!(!above("cpu.max", "max 100000", "50000 100000"));
        assert!(above("hugetlb.2MB.max", "4194304", "2097152"));
        assert!(above("cpuset.cpus", "1", "0"));
        assert!(above("cpuset.cpus", "0-2", "0-1,3"));
        assert!(!above("cpuset.cpus", "1,3", "0-1,3"));
        assert!(ceiling("cpu.weight").is_none() && ceiling("memory.low").is_none());
    }
}
