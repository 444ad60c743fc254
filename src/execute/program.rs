//! The working directory and the program, found and executed inside.

use std::ffi::CStr;
use std::os::fd::AsFd;

use crate::error::{Call, Check, Failure};
use crate::plan::Program;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::{Result, process};

use super::handles::Handles;

/// Changes to a directory of the container.
///
/// No link of /proc may lead there, and the kernel must know a path to it from
/// the root: a descriptor left open by accident leads nowhere (CVE-2024-21626).
pub fn enter_directory(path: &CStr) -> Result<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory = fd::open(At::Cwd, path, flags, Resolve::NO_MAGICLINKS)?;
    fd::change_directory(directory.as_fd())?;
    let mut buffer = [0u8; 4096];
    match fd::working_directory(&mut buffer) {
        Ok(_) if buffer[0] == b'/' => Ok(()),
        Ok(_) => Err(Failure::check(Check::CwdOutsideRoot)),
        // A path too long to name is still one from the root.
        Err(failure) if failure.is(libc::ERANGE) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Looks for the program as execvp(3) does, so that `create` fails when it is missing.
pub fn find(program: &Program, own: (u64, u64)) -> Result<()> {
    let mut best = Failure::check(missing(program));
    for candidate in &program.candidates {
        match look_at(candidate, own) {
            Ok(()) => return Ok(()),
            Err(failure) if matches!(failure.errno, libc::ENOENT | libc::ENOTDIR) => {}
            Err(failure) => best = failure,
        }
    }
    Err(best)
}

fn missing(program: &Program) -> Check {
    let by_path =
        matches!(program.arguments.first(), Some(name) if name.to_bytes().contains(&b'/'));
    if by_path {
        Check::ProgramMissing
    } else {
        Check::ProgramNotInPath
    }
}

fn look_at(candidate: &CStr, own: (u64, u64)) -> Result<()> {
    let denied = |failure: Failure| match failure.errno {
        libc::EACCES => Failure::check(Check::ProgramNotExecutable),
        _ => failure,
    };
    let file = fd::open(At::Cwd, candidate, libc::O_PATH, Resolve::ANY).map_err(denied)?;
    let stat = fd::stat(file.as_fd())?;
    if stat.is(libc::S_IFDIR) {
        return Err(Failure::check(Check::ProgramIsDirectory));
    }
    if (stat.dev, stat.ino) == own {
        return Err(Failure::check(Check::ProgramIsRuntime));
    }
    if !stat.is(libc::S_IFREG) {
        return Err(Failure::check(Check::ProgramNotExecutable));
    }
    fd::is_executable(At::Cwd, candidate).map_err(denied)
}

/// Becomes the program; comes back only with the reason why not.
pub fn execute(program: &Program, handles: &Handles) -> Failure {
    let mut best = Failure::check(missing(program));
    for candidate in &program.candidates {
        let failure = process::execute(candidate, &handles.arguments, &handles.environment);
        let reason = explain(candidate, failure);
        match reason.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            _ => best = reason,
        }
        if !matches!(failure.errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES) {
            break;
        }
    }
    best
}

/// Why a file that exists cannot be executed: execve(2) says ENOENT for a
/// missing interpreter, and ENOEXEC for everything it does not know.
fn explain(candidate: &CStr, failure: Failure) -> Failure {
    if failure.is(libc::EACCES) {
        return Failure::check(Check::ProgramNotExecutable);
    }
    if !matches!(failure.errno, libc::ENOENT | libc::ENOEXEC) {
        return failure;
    }
    let mut head = [0u8; 256];
    let file = fd::open(
        At::Cwd,
        candidate,
        libc::O_RDONLY | libc::O_NONBLOCK,
        Resolve::ANY,
    );
    let length = file.and_then(|file| fd::read(file.as_fd(), &mut head));
    let Ok(length) = length else {
        return failure;
    };
    classify(&head[..length], failure)
}

fn classify(head: &[u8], failure: Failure) -> Failure {
    let missing = failure.is(libc::ENOENT);
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let check = if line.starts_with(b"#!") {
        match (line.ends_with(b"\r"), missing) {
            (true, _) => Check::CarriageReturn,
            (false, true) => Check::InterpreterMissing,
            (false, false) => Check::NotAProgram,
        }
    } else if head.starts_with(b"\x7fELF") {
        let machine = head
            .get(18..20)
            .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        match (machine == OWN_MACHINE, missing) {
            (true, true) => Check::LoaderMissing,
            (false, false) => Check::WrongArchitecture,
            _ => {
                return Failure {
                    call: Call::of(syscalls::Sysno::execve),
                    ..failure
                };
            }
        }
    } else if missing {
        return failure;
    } else {
        Check::NotAProgram
    };
    Failure::check(check)
}

/// `e_machine` of programs for this machine.
#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u16 = 62;
/// `e_machine` of programs for this machine.
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: u16 = 183;

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

    use super::*;

    fn said(head: &[u8], errno: i32) -> &'static str {
        classify(head, Failure::of(Sysno::execve, errno))
            .call
            .name()
    }

    #[test]
    fn the_reason_is_found_in_the_file() {
        assert_eq!(
            said(b"#!/bin/sh\r\necho\r\n", libc::ENOENT),
            Check::CarriageReturn.sentence()
        );
        assert_eq!(
            said(b"#!/no/such\n", libc::ENOENT),
            Check::InterpreterMissing.sentence()
        );
        assert_eq!(
            said(b"just text", libc::ENOEXEC),
            Check::NotAProgram.sentence()
        );
        assert_eq!(said(b"", libc::ENOEXEC), Check::NotAProgram.sentence());
        let mut elf = *b"\x7fELF................\0\0";
        elf[18..20].copy_from_slice(&0xffffu16.to_le_bytes());
        assert_eq!(
            said(&elf, libc::ENOEXEC),
            Check::WrongArchitecture.sentence()
        );
        elf[18..20].copy_from_slice(&OWN_MACHINE.to_le_bytes());
        assert_eq!(said(&elf, libc::ENOENT), Check::LoaderMissing.sentence());
    }
}
