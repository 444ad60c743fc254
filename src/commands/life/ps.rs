//! The processes of a container.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use syscalls::Sysno;

use super::list::Whose;
use super::users;
use crate::error::{Error, Life, Result};
use crate::execute::alive::{Init, Stat};
use crate::execute::cgroup::Cgroup;
use crate::log;
use crate::state::{Record, check_id, of_users};

/// Prints the host's ids of a container's processes as a JSON array, one line.
///
/// # Errors
/// `container does not exist`; [`Error::System`].
pub(crate) fn ids(root: &Path, id: &str, whose: Whose, out: &mut dyn Write) -> Result<()> {
    let pids: Vec<String> = of_all(root, id, whose)?
        .iter()
        .map(i32::to_string)
        .collect();
    super::output(writeln!(out, "[{}]", pids.join(",")))
}

/// Prints the lines of ps(1) that are of the container's processes. `options`
/// go to ps; none means `-ef`.
///
/// # Errors
/// `container does not exist`, `couldn't find PID field in ps output`; what ps says.
pub(crate) fn table(
    root: &Path,
    id: &str,
    whose: Whose,
    options: &[String],
    out: &mut dyn Write,
) -> Result<()> {
    let pids = of_all(root, id, whose)?;
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef");
    }
    let list: Vec<_> = pids.iter().map(i32::to_string).collect();
    if !list.is_empty() {
        // Without this, and with options that choose none, it lists the caller's own.
        ps.args(["-p", &list.join(",")]);
    }
    let output = ps
        .args(options)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::Missing {
            doing: "list processes".into(),
            missing: format!("ps cannot be run ({})", e.kind()),
            repair: "install procps, or use --format json".into(),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Usage(format!(
            "ps: {}: {}",
            output.status,
            said.trim()
        )));
    }
    let text = select(&String::from_utf8_lossy(&output.stdout), &pids)?;
    super::output(out.write_all(text.as_bytes()))
}

/// The processes of the caller's container, or of all users' containers of that id.
fn of_all(root: &Path, id: &str, whose: Whose) -> Result<Vec<i32>> {
    if whose == Whose::Callers {
        return pids(&super::load(root, id)?.1);
    }
    users::for_root_only()?;
    check_id(id)?;
    let (mut all, mut exists) = match super::load(root, id) {
        Ok((_, record)) => (pids(&record)?, true),
        Err(Error::Life(Life::DoesNotExist)) => (Vec::new(), false),
        Err(error) => return Err(error),
    };
    let mut report = |path: &Path, problem: String| {
        log::warning(format!("{}: {problem}", path.display()));
    };
    for user in of_users(&mut report)? {
        match user.find(id) {
            Ok(Some((_, record))) => {
                exists = true;
                all.extend(of_other(&record, user.uid)?);
            }
            Ok(None) => {}
            Err(problem) => report(Path::new(id), problem),
        }
    }
    all.sort_unstable();
    if exists {
        Ok(all)
    } else {
        Err(Life::DoesNotExist.into())
    }
}

/// The processes of another user's container, by what the kernel says.
fn of_other(record: &Record, uid: u32) -> Result<Vec<i32>> {
    match users::init(record, uid) {
        None => Ok(Vec::new()),
        Some(_) if users::in_own_pid_namespace(record.pid) => descendants(record.pid),
        Some(_) => of_namespace(record.pid),
    }
}

/// The header and the lines whose PID is one of `pids`.
fn select(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::Usage("couldn't find PID field in ps output".into()))?;
    let mut selected = format!("{header}\n");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|field| field.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            selected.push_str(line);
            selected.push('\n');
        }
    }
    Ok(selected)
}

/// The processes of a container, sorted: those of its cgroup, or else of its
/// pid namespace, or else the first one's descendants.
///
/// The last is the best that can be told of a container that has neither: one
/// that left its parent is not found.
fn pids(record: &Record) -> Result<Vec<i32>> {
    if let Some(cgroup) = Cgroup::of(record)? {
        return cgroup.pids();
    }
    // Held by its pidfd, so that its number stays its own while /proc is read.
    let Some(_init) = Init::of(record)? else {
        return Ok(Vec::new());
    };
    if record.private_pid {
        of_namespace(record.pid)
    } else {
        descendants(record.pid)
    }
}

fn of_namespace(init: i32) -> Result<Vec<i32>> {
    // A process whose namespace may not be looked at is not the caller's container's.
    let namespace = |pid: i32| {
        let found = std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
        Some((found.dev(), found.ino()))
    };
    let Some(wanted) = namespace(init) else {
        return Ok(vec![init]);
    };
    Ok(all_pids()?
        .into_iter()
        .filter(|pid| namespace(*pid) == Some(wanted))
        .collect())
}

fn descendants(init: i32) -> Result<Vec<i32>> {
    let mut parents = Vec::new();
    for pid in all_pids()? {
        if let Some(stat) = Stat::of(pid)? {
            parents.push((pid, stat.parent));
        }
    }
    let mut family = vec![init];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        family.extend(
            parents
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(pid, _)| *pid),
        );
    }
    family.sort_unstable();
    Ok(family)
}

fn all_pids() -> Result<Vec<i32>> {
    let failed = |e| Error::io("list the processes in", "/proc", Sysno::getdents64, &e);
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    pids.sort_unstable();
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_pid_column() {
        let text = "UID   PID  PPID CMD\nroot    7     1 sh 9\nroot    9     7 sleep 7\nx\n";
        assert_eq!(
            select(text, &[9]).unwrap(),
            "UID   PID  PPID CMD\nroot    9     7 sleep 7\n"
        );
        assert_eq!(select(text, &[]).unwrap(), "UID   PID  PPID CMD\n");
        let error = select("CMD\nsh\n", &[1]).unwrap_err().to_string();
        assert_eq!(error, "couldn't find PID field in ps output");
    }

    #[test]
    fn a_child_is_a_descendant() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let own = crate::sys::process::id();
        let pid = i32::try_from(child.id()).unwrap();
        let family = descendants(own).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&own) && family.contains(&pid), "{family:?}");
        assert!(of_namespace(own).unwrap().contains(&own));
    }
}
