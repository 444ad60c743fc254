//! Writing id maps: directly, or through newuidmap and newgidmap.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::plan::ids::{self, IdMaps, Writer};
use crate::spec::ids::IdRange;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::process::{self, Cloned};

/// Writes the maps of the user namespace that a process is in.
pub fn write(procfs: BorrowedFd<'_>, pid: i32, maps: &IdMaps) -> Result<()> {
    match maps.writer {
        Writer::Helpers => {
            help("newuidmap", pid, &maps.users, "subuids")?;
            help("newgidmap", pid, &maps.groups, "subgids")
        }
        Writer::Runtime => write_both(procfs, pid, maps),
        Writer::RuntimeOwnIdOnly => {
            // The kernel takes a group map from an unprivileged writer only
            // once setgroups(2) is denied for good.
            write_file(procfs, pid, "setgroups", "deny")?;
            write_both(procfs, pid, maps)
        }
    }
}

fn write_both(procfs: BorrowedFd<'_>, pid: i32, maps: &IdMaps) -> Result<()> {
    write_file(procfs, pid, "gid_map", &ids::lines(&maps.groups))?;
    write_file(procfs, pid, "uid_map", &ids::lines(&maps.users))
}

/// Writes a file of a process, through the host's procfs.
pub fn write_file(procfs: BorrowedFd<'_>, pid: i32, name: &str, text: &str) -> Result<()> {
    let path = format!("{pid}/{name}");
    let failed = |failure: Failure| {
        Error::system(
            format!("write {:?} to", text.trim_end()),
            format!("/proc/{path}"),
            failure,
        )
    };
    let file = open(procfs, &path, libc::O_WRONLY).map_err(failed)?;
    fd::write(file.as_fd(), text.as_bytes())
        .map(drop)
        .map_err(failed)
}

/// Opens a file of the host's procfs.
pub fn open(procfs: BorrowedFd<'_>, path: &str, flags: i32) -> Result<OwnedFd, Failure> {
    let path = CString::new(path).map_err(|_| Failure::of(Sysno::openat2, libc::EINVAL))?;
    fd::open(At::Dir(procfs), &path, flags, Resolve::BENEATH_SAME_MOUNT)
}

/// Runs newuidmap or newgidmap: they are setuid, and check /etc/subuid and /etc/subgid.
fn help(program: &str, pid: i32, ranges: &[IdRange], kind: &str) -> Result<()> {
    let doing = format!("map ids with {program}");
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for range in ranges {
        command.args([range.container, range.host, range.size].map(|number| number.to_string()));
    }
    // A caller's PATH may be empty; the helpers are in one of these on every distribution.
    command.env("PATH", "/usr/bin:/bin:/usr/local/bin:/usr/sbin");
    let output =
        command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT) => Error::Missing {
                    doing: doing.clone(),
                    missing: format!("{program} is not installed"),
                    repair: "as root: apt install uidmap (or shadow-utils)".into(),
                },
                _ => Error::io(&*doing, program, Sysno::execve, &error),
            })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Missing {
        doing,
        missing: format!("it refused ({said})"),
        repair: format!(
            "the ranges must be the caller's in /etc/{}; as root: usermod --add-{kind} FIRST-LAST USER",
            if kind == "subuids" {
                "subuid"
            } else {
                "subgid"
            }
        ),
    })
}

/// The user namespace of a process.
pub fn user_namespace(procfs: BorrowedFd<'_>, pid: i32) -> Result<OwnedFd> {
    let path = format!("{pid}/ns/user");
    let text = CString::new(path.as_str())
        .map_err(|_| Error::system("open", &path, Failure::of(Sysno::openat2, libc::EINVAL)))?;
    // A namespace file is a magic link, so it cannot be opened with the usual care.
    fd::open(At::Dir(procfs), &text, libc::O_RDONLY, Resolve::ANY)
        .map_err(|failure| Error::system("open", format!("/proc/{path}"), failure))
}

/// A user namespace that exists only to describe an id mapping to mount_setattr(2).
pub fn describing_namespace(procfs: BorrowedFd<'_>, maps: &IdMaps) -> Result<OwnedFd> {
    let new_user = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let failed = |failure| Error::system("make a user namespace for", "an idmapped mount", failure);
    let (reader, writer) = fd::pipe().map_err(failed)?;
    let (pid, pidfd) = match process::clone(new_user, None).map_err(failed)? {
        Cloned::Child => {
            drop(writer);
            // Ends when the parent has what it needs, or dies.
            let _ = fd::read(reader.as_fd(), &mut [0]);
            process::exit(0)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let namespace = write(procfs, pid, maps).and_then(|()| user_namespace(procfs, pid));
    drop(writer);
    let _ = process::wait_readable(pidfd.as_fd(), None);
    let _ = process::wait(pid, 0);
    namespace
}
