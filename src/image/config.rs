//! What an image says of its program, and its user looked up in the image.

use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use syscalls::Sysno;

use super::refuse;
use crate::error::{Error, Result};
use crate::sys::fd::{self, At, Resolve};

/// What the image's author wants to run, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments after those, unless others are given.
    pub cmd: Vec<String>,
    /// `NAME=value`, as it stands there.
    pub env: Vec<String>,
    /// Empty: the root.
    pub working_dir: String,
    /// `USER[:GROUP]`, names or numbers. Empty: root. See [`Identity::find`].
    pub user: String,
    /// The signal that asks the program to end.
    pub stop_signal: Option<String>,
}

/// No honest passwd or group file comes near this.
const LARGEST_FILE: u64 = 4 << 20;

/// Who a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Groups of `/etc/group` that name the user, without `gid`.
    pub additional_gids: Vec<u32>,
    /// Its home in `/etc/passwd`.
    pub home: Option<String>,
}

impl Identity {
    /// Looks up `USER[:GROUP]` in the root's own `/etc/passwd` and `/etc/group`,
    /// as Docker does: a number need not be in them, a name must be; without a
    /// group it is the user's, or 0 for a number that is not there.
    ///
    /// # Errors
    /// [`Error::Image`] for a name that is not there, [`Error::System`] for
    /// files that cannot be read.
    pub fn find(rootfs: &Path, user: &str) -> Result<Self> {
        let root = super::open_host_directory(rootfs)?;
        let passwd = read(root.as_fd(), c"etc/passwd", rootfs)?;
        let group = read(root.as_fd(), c"etc/group", rootfs)?;
        look_up(user, &passwd, &group).map_err(|problem| refuse(rootfs.display(), problem))
    }
}

/// A small regular file below a root; empty where there is none.
fn read(root: BorrowedFd<'_>, path: &CStr, rootfs: &Path) -> Result<String> {
    let at = || rootfs.join(path.to_string_lossy().as_ref());
    // The image may have put a pipe there, on which an open waits.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let file: std::fs::File = match fd::open(At::Dir(root), path, flags, Resolve::IN_ROOT) {
        Ok(file) => file.into(),
        Err(failure) if failure.is(libc::ENOENT) => return Ok(String::new()),
        Err(failure) => return Err(Error::system("open", at().display(), failure)),
    };
    let failed = |error| Error::io("read", at().display(), Sysno::read, &error);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(refuse(
            at().display(),
            format!("this is no regular file of at most {LARGEST_FILE} bytes"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn look_up(user: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let lines = || passwd.lines().map(fields);
    // A name wins over a number, as a user may be called 1000.
    let line = lines().find(|line| line[0] == name).or_else(|| {
        lines().find(|line| number(line[2]).is_some() && number(line[2]) == number(name))
    });
    let mut identity = match &line {
        Some(line) => Identity {
            uid: number(line[2]).ok_or_else(|| format!("/etc/passwd: {name:?} has no number"))?,
            gid: number(line[3]).ok_or_else(|| format!("/etc/passwd: {name:?} has no group"))?,
            additional_gids: Vec::new(),
            home: Some(line[5].to_owned()).filter(|home| home.starts_with('/')),
        },
        None => Identity {
            uid: number(name).ok_or_else(|| {
                format!(
                    "the image's user {name:?} is not in its /etc/passwd; give another with --user"
                )
            })?,
            ..Identity::default()
        },
    };
    let groups = || group.lines().map(fields);
    if let Some(wanted) = group_name {
        let found = groups().find(|line| line[0] == wanted);
        let gid = found.and_then(|line| number(line[2]));
        identity.gid = gid.or_else(|| number(wanted)).ok_or_else(|| {
            format!(
                "the image's group {wanted:?} is not in its /etc/group; give another with --user"
            )
        })?;
    } else if let Some(line) = line {
        let member = |list: &str| list.split(',').any(|name| name == line[0]);
        let all = groups().filter(|group| member(group[3]));
        let mut gids: Vec<u32> = all.filter_map(|group| number(group[2])).collect();
        gids.sort_unstable();
        gids.dedup();
        gids.retain(|gid| *gid != identity.gid);
        identity.additional_gids = gids;
    }
    Ok(identity)
}

/// The first seven fields of a line; those that are not there are empty.
fn fields(line: &str) -> [&str; 7] {
    let mut fields = [""; 7];
    for (field, text) in fields.iter_mut().zip(line.split(':')) {
        *field = text.trim();
    }
    fields
}

/// Digits only, and not the number that means "leave as it is".
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok()?;
    (digits && number != u32::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        web:x:33:33::/srv:/bin/false\n1000:x:7:8::relative:\nbad:x:x:1::/:\n+::::::\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:web\nvideo:x:44:web,root\naudio:x:29:web\n";

    fn ids(user: &str) -> Result<(u32, u32, Vec<u32>), String> {
        let found = look_up(user, PASSWD, GROUP)?;
        Ok((found.uid, found.gid, found.additional_gids))
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids(""), Ok((0, 0, vec![44])));
        assert_eq!(ids("web"), Ok((33, 33, vec![29, 44])));
        assert_eq!(ids("33"), Ok((33, 33, vec![29, 44])));
        assert_eq!(ids("web:video"), Ok((33, 44, vec![])));
        assert_eq!(ids("web:9"), Ok((33, 9, vec![])));
        assert_eq!(ids("4711"), Ok((4711, 0, vec![])));
        assert_eq!(ids("1000"), Ok((7, 8, vec![])));
        for wrong in [
            "nobody",
            "web:nobody",
            "bad",
            "-1",
            "+1",
            "4294967295",
            "4294967296",
        ] {
            assert!(ids(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            look_up("web", PASSWD, "").unwrap().home.as_deref(),
            Some("/srv")
        );
        assert_eq!(look_up("1000", PASSWD, "").unwrap().home, None);
    }
}
