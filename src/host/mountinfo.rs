//! `/proc/self/mountinfo`: which mount is where.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use syscalls::Sysno;

use crate::error::{Error, Result};

/// One mount of the runtime's own mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which part of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The file system's type.
    pub kind: String,
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
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (root, point) = (path(fields.next()?), path(fields.next()?));
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount {
            root,
            point,
            kind: String::from_utf8_lossy(kind).into_owned(),
        })
    };
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(line)
        .collect()
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn path(field: &[u8]) -> PathBuf {
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
        let mount = |root: &str, point: &str, kind: &str| Mount {
            root: root.into(),
            point: point.into(),
            kind: kind.into(),
        };
        assert_eq!(
            parse(text),
            [
                mount("/", "/a b\\c", "proc"),
                mount("/sub", "/plain", "ext4")
            ]
        );
    }
}
