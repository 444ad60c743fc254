//! `/proc/self/mountinfo`: which mount is where.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use syscalls::Sysno;

use crate::error::{Error, Result};

/// One mount of the runtime's own mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, as fdinfo of an open file shows it.
    pub id: u32,
    /// Which part of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Options of the mount itself, with commas.
    pub flags: String,
    /// The file system's type.
    pub kind: String,
    /// Options of the file system, with commas, as the kernel escapes them.
    pub options: Vec<u8>,
}

/// All mounts, in the order they were made.
///
/// # Errors
/// [`Error::System`] when procfs cannot be read.
pub fn read() -> Result<Vec<Mount>> {
    const PATH: &str = "/proc/self/mountinfo";
    let bytes = std::fs::read(PATH).map_err(|e| Error::io("read", PATH, Sysno::read, &e))?;
    Ok(parse(&bytes))
}

/// Lines `id parent dev root point options ... - type source options`.
pub fn parse(bytes: &[u8]) -> Vec<Mount> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let mut fields = fields.skip(2);
        let (root, point) = (path(fields.next()?), path(fields.next()?));
        let flags = text(fields.next()?);
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = text(fields.next()?);
        Some(Mount {
            id,
            root,
            point,
            flags,
            kind,
            options: fields.nth(1).unwrap_or_default().to_vec(),
        })
    };
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(line)
        .collect()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
pub fn path(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = digits.and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) if *first == b'\\' => {
                plain.push(code);
                rest = &after[3..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_with_blanks_and_any_number_of_tags_are_read() {
        let text = b"22 1 0:5 / /a\\040b\\134c rw,relatime shared:1 master:2 - proc proc rw\n\
                     23 22 8:1 /sub /plain rw - ext4 /dev/sda rw\nbroken\n";
        let mount = |id, root: &str, point: &str, flags: &str, kind: &str| Mount {
            id,
            root: root.into(),
            point: point.into(),
            flags: flags.into(),
            kind: kind.into(),
            options: b"rw".to_vec(),
        };
        assert_eq!(
            parse(text),
            [
                mount(22, "/", "/a b\\c", "rw,relatime", "proc"),
                mount(23, "/sub", "/plain", "rw", "ext4")
            ]
        );
    }
}
