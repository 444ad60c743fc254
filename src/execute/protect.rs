//! The runtime's own program file, out of the container's reach.
//!
//! A container whose root is the host's root can open the runtime through
//! /proc/PID/exe, or have it executed as its own program, and overwrite it on
//! the host (CVE-2019-5736). So the runtime runs from an image of itself that
//! nobody can write: a detached read-only copy of its mount where it has the
//! privilege to make one, else a sealed copy in memory. The kernel itself says
//! whether that is so already; there is no flag or variable to forge.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use crate::error::{Error, Failure, Result};
use crate::host;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};
use crate::sys::process::{self, Pointers};

const SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Which ids of the host's a process in the container may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ids {
    /// The caller's, or where root of the machine calls those of no user: never root's.
    NotRoot,
    /// Root's too.
    Any,
}

/// Executes the runtime anew from an unwritable image of itself, unless it runs
/// from one, or no id that a container could have may write its file.
pub fn ensure(args: &[OsString], ids: Ids) -> Result<()> {
    // The kernel names a process after the descriptor it was executed from.
    let _ = process::set_name(c"capsid");
    let failed = |failure| Error::system("protect", "the runtime's own program file", failure);
    let exe = open_exe(libc::O_RDONLY).map_err(failed)?;
    let root = nix::unistd::geteuid().is_root();
    if !exposed(exe.as_fd(), root, ids).map_err(failed)? {
        return Ok(());
    }
    let image = match read_only_mount(root) {
        Some(image) => image,
        None => sealed_copy(exe.as_fd()).map_err(failed)?,
    };
    let arguments = args.iter().map(|arg| c_string(arg.clone()));
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        c_string(name)
    });
    let (arguments, environment) = (arguments.collect(), environment.collect());
    Err(failed(process::execute_file(
        image.as_fd(),
        &Pointers::new(arguments),
        &Pointers::new(environment),
    )))
}

/// An argument or variable of this process; the kernel let no NUL byte into it.
fn c_string(text: OsString) -> CString {
    let bytes: Vec<u8> = text
        .into_vec()
        .into_iter()
        .take_while(|byte| *byte != 0)
        .collect();
    CString::new(bytes).unwrap_or_default()
}

fn open_exe(flags: i32) -> Result<OwnedFd, Failure> {
    // A magic link: it leads to the file this very process runs, whatever its path is now.
    fd::open(At::Cwd, c"/proc/self/exe", flags, Resolve::ANY)
}

/// Device and inode number of the program file.
pub fn own_program() -> Result<(u64, u64), Failure> {
    let exe = open_exe(libc::O_PATH)?;
    let stat = fd::stat(exe.as_fd())?;
    Ok((stat.dev, stat.ino))
}

fn exposed(exe: BorrowedFd<'_>, root: bool, ids: Ids) -> Result<bool, Failure> {
    const ST_RDONLY: i64 = 1;
    let (_, flags) = fd::file_system(exe)?;
    let sealed = fd::seals(exe).is_ok_and(|seals| seals & SEALS == SEALS);
    if flags & ST_RDONLY != 0 || sealed {
        return Ok(false);
    }
    let stat = fd::stat(exe)?;
    // Where an access list lets others write, the group's bits say so.
    if root && ids == Ids::NotRoot && !host::in_user_namespace() {
        return Ok(stat.uid != 0 || stat.mode & 0o022 != 0);
    }
    let own = stat.uid == nix::unistd::geteuid().as_raw();
    Ok(root || own || stat.mode & 0o022 != 0)
}

/// A detached copy of the mount the program is on, read-only for good: it is in
/// no mount namespace, so nobody can remount it.
fn read_only_mount(root: bool) -> Option<OwnedFd> {
    if !root {
        return None;
    }
    let exe = open_exe(libc::O_PATH).ok()?;
    let tree = mount::clone_tree_of(exe.as_fd(), false).ok()?;
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), &attributes, false).ok()?;
    Some(tree)
}

/// How [`ensure`] would protect the program, in words; nothing is executed.
///
/// # Errors
/// Why it cannot.
pub fn possible() -> Result<&'static str, Failure> {
    let exe = open_exe(libc::O_RDONLY)?;
    let root = nix::unistd::geteuid().is_root();
    if !exposed(exe.as_fd(), root, Ids::Any)? {
        return Ok("nobody in a container could write the program's file");
    }
    if read_only_mount(root).is_some() {
        return Ok("by a read-only copy of the mount that the program is on");
    }
    fd::seal(memory_file()?.as_fd(), SEALS)?;
    Ok("by a sealed copy of the program in memory")
}

fn memory_file() -> Result<OwnedFd, Failure> {
    // MFD_EXEC is asked for where the kernel knows it (6.3), for a machine may
    // make memory files unexecutable by default.
    let flags = libc::MFD_ALLOW_SEALING;
    fd::memory_file(c"capsid", flags | libc::MFD_EXEC)
        .or_else(|_| fd::memory_file(c"capsid", flags))
}

fn sealed_copy(exe: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let copy = memory_file()?;
    while fd::copy(exe, copy.as_fd(), 1 << 24)? > 0 {}
    fd::seal(copy.as_fd(), SEALS)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    use super::*;

    /// A page that is in a pipe can still change. On a busy machine the kernel holds
    /// some itself for a while.
    #[test]
    fn a_copy_is_sealed_once_nothing_holds_its_pages() {
        let copy = memory_file().unwrap();
        let mut file = File::from(copy.try_clone().unwrap());
        file.write_all(&[7; 4096]).unwrap();
        let again = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd())).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let sent = fd::copy(again.as_fd(), writer.as_fd(), 4096);
        assert_eq!(sent, Ok(4096));
        drop(writer);
        let mut holder = Command::new("sh")
            .args(["-c", "sleep 0.5; exec cat"])
            .stdin(reader)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert_eq!(fd::seal(copy.as_fd(), SEALS), Ok(()));
        holder.wait().unwrap();
    }
}
