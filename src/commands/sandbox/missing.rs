//! A program that could not be executed: what is missing inside, and the option
//! that brings it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Check, Failure};
use crate::sandbox::{Bind, Request};

/// What a shell returns for a program that is not there.
const NOT_FOUND: u8 = 127;
/// And for one that is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// The exit code for a program that could not be executed.
pub(super) fn code(failure: &Failure) -> u8 {
    match failure.call.as_check() {
        Some(Check::ProgramMissing | Check::ProgramNotInPath) => NOT_FOUND,
        Some(_) => NOT_EXECUTABLE,
        None if failure.is(libc::ENOENT) => NOT_FOUND,
        None => NOT_EXECUTABLE,
    }
}

/// What to do about it, where the file is on the host and not in the sandbox.
pub(super) fn advice(program: &str, failure: &Failure, request: &Request) -> Option<String> {
    match failure.call.as_check()? {
        Check::ProgramNotInPath => {
            let found = in_path(program)?;
            Some(format!(
                "{} is on this host and not in the sandbox: capsid sandbox --ro {} -- {} ... \
                 (or --ro of a directory above it)",
                found.display(),
                found.display(),
                found.display()
            ))
        }
        Check::ProgramMissing => missing(Path::new(program), request),
        Check::InterpreterMissing => needs(
            "its interpreter",
            &script_interpreter(&outside(program, request)?)?,
        ),
        Check::LoaderMissing => needs("its dynamic loader", &loader(&outside(program, request)?)?),
        _ => None,
    }
}

fn needs(what: &str, path: &Path) -> Option<String> {
    let there = if path.exists() {
        format!(
            "on this host and not in the sandbox: --ro {}",
            path.display()
        )
    } else {
        "not on this host either".to_owned()
    };
    Some(format!("{what} {} is {there}", path.display()))
}

fn missing(program: &Path, request: &Request) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let path = here.join(program);
    let shown = path.display();
    if !path.exists() {
        return None;
    }
    let below = path.starts_with(&here);
    let cwd = request.binds.iter().any(|bind| bind.destination == here);
    if program.is_relative() && below && !cwd {
        return Some(format!(
            "{shown} is on this host, but the current directory is not in the sandbox: --cwd"
        ));
    }
    Some(format!(
        "{shown} is on this host and not in the sandbox: --ro {shown}"
    ))
}

/// Where the caller's own shell would find it.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|directory| directory.join(program));
    files.find(|file| file.is_absolute() && file.is_file())
}

/// The host's file that the program is inside.
fn outside(program: &str, request: &Request) -> Option<PathBuf> {
    let names = match program.contains('/') {
        true => vec![PathBuf::from(program)],
        false => crate::sandbox::PATH
            .split(':')
            .map(|directory| Path::new(directory).join(program))
            .collect(),
    };
    names
        .iter()
        .map(|name| on_host(name, &request.binds))
        .find(|file| file.is_file())
}

fn on_host(path: &Path, binds: &[Bind]) -> PathBuf {
    let shown = binds.iter().filter_map(|bind| {
        let below = path.strip_prefix(&bind.destination).ok()?;
        let whole = if below.as_os_str().is_empty() {
            bind.source.clone()
        } else {
            bind.source.join(below)
        };
        Some((bind.destination.components().count(), whole))
    });
    let nearest = shown.max_by_key(|(depth, _)| *depth);
    nearest.map_or_else(|| path.to_owned(), |(_, whole)| whole)
}

/// The path after `#!`.
fn script_interpreter(file: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(file)
        .ok()?
        .take(256)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| b" \t".contains(byte))
        .filter(|word| !word.is_empty());
    Some(PathBuf::from(OsString::from_vec(words.next()?.to_vec())))
}

/// The program header `PT_INTERP` of a 64-bit ELF file.
fn loader(file: &Path) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    let mut file = File::open(file).ok()?;
    let mut read = |at: u64, length: usize| -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let head = read(0, 64)?;
    let number = |bytes: &[u8], at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    let start = number(&head, 32)?;
    let size = u16::from_le_bytes([head[54], head[55]]);
    let count = u16::from_le_bytes([head[56], head[57]]);
    (0..u64::from(count)).find_map(|index| {
        let header = read(start.checked_add(index * u64::from(size))?, 56)?;
        let kind = u32::from_le_bytes(header[..4].try_into().ok()?);
        let length = usize::try_from(number(&header, 32)?).ok()?;
        if kind != INTERPRETER || length > 4096 {
            return None;
        }
        let mut path = read(number(&header, 8)?, length)?;
        path.retain(|byte| *byte != 0);
        Some(PathBuf::from(OsString::from_vec(path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_in_the_file() {
        // The test itself is such a program, wherever it is linked dynamically.
        let own = std::env::current_exe().unwrap();
        if let Some(found) = loader(&own) {
            assert!(found.is_absolute() && found.exists(), "{}", found.display());
        }
        assert_eq!(
            loader(Path::new("/bin/sh")),
            Some(PathBuf::from(expected()))
        );
        let script = std::env::temp_dir().join(format!("capsid-script-{}", std::process::id()));
        std::fs::write(&script, "#! /no/such  -x\n").unwrap();
        assert_eq!(script_interpreter(&script), Some("/no/such".into()));
        assert_eq!(loader(&script), None);
        std::fs::remove_file(&script).unwrap();
    }

    fn expected() -> &'static str {
        if cfg!(target_arch = "x86_64") {
            "/lib64/ld-linux-x86-64.so.2"
        } else {
            "/lib/ld-linux-aarch64.so.1"
        }
    }
}
