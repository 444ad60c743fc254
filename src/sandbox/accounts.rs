//! Who the program is: inside, on the host, and in the files that say so.

use std::path::PathBuf;

use super::Request;
use crate::error::{Error, Result};
use crate::host::Facts;
use crate::host::userland::Userland;

/// The user of the sandbox of someone who is root: root inside without any
/// capability is root in name only, and programs that look at the number fail.
const OF_ROOT: (u32, u32) = (1000, 1000);

/// How many ids a sandbox of root has.
const RANGE: u32 = 65_536;

/// Ids that no user and no container manager is given: above what systemd
/// assigns to containers, below its range for foreign images.
const FIRST: u32 = 0x7000_0000;
const SLOTS: u32 = 0xffd;

/// Who the program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// The name of both.
    pub name: String,
    /// The home directory.
    pub home: PathBuf,
    /// User ids: inside, outside, how many.
    pub uid_maps: Vec<(u32, u32, u32)>,
    /// Group ids.
    pub gid_maps: Vec<(u32, u32, u32)>,
    /// User and group outside of `uid` and `gid`.
    pub outside: (u32, u32),
    /// Files of others can be shown as the program's own.
    pub idmaps: bool,
}

impl Account {
    pub(super) fn of(request: &Request, userland: &Userland, facts: &Facts) -> Result<Self> {
        let range = facts.is_real_root();
        // Root of a user namespace is an ordinary user outside.
        let (own_uid, own_gid) = match facts.privileged {
            true => OF_ROOT,
            false => (facts.uid, facts.gid),
        };
        let (uid, gid) = match request.user {
            Some((uid, gid)) => (
                uid,
                gid.unwrap_or(if uid == own_uid { own_gid } else { uid }),
            ),
            None => (own_uid, own_gid),
        };
        let most = if range { RANGE - 1 } else { u32::MAX - 1 };
        if uid > most || gid > most {
            return Err(Error::Usage(format!(
                "--user {uid}:{gid}: the largest number is {most}"
            )));
        }
        let name = match (uid, &userland.user_name) {
            (0, _) => "root".to_owned(),
            (_, Some(name)) if !facts.privileged && uid == own_uid && is_plain(name) => {
                name.clone()
            }
            _ => "sandbox".to_owned(),
        };
        let home = match uid {
            0 => "/root".into(),
            _ => PathBuf::from("/home").join(&name),
        };
        let base = FIRST + (userland.process % SLOTS) * RANGE;
        let (uid_maps, gid_maps, outside) = match range {
            true => (
                vec![(0, base, RANGE)],
                vec![(0, base, RANGE)],
                (base + uid, base + gid),
            ),
            false => (
                vec![(uid, facts.uid, 1)],
                vec![(gid, facts.gid, 1)],
                (facts.uid, facts.gid),
            ),
        };
        Ok(Self {
            uid,
            gid,
            name,
            home,
            uid_maps,
            gid_maps,
            outside,
            idmaps: range,
        })
    }

    /// `/etc/passwd`.
    pub(super) fn passwd(&self) -> String {
        let (uid, gid, name) = (self.uid, self.gid, &self.name);
        let home = self.home.display();
        let mut text = format!("{name}:x:{uid}:{gid}::{home}:/bin/sh\n");
        if uid != 0 {
            text += "root:x:0:0::/:/usr/sbin/nologin\n";
        }
        text + "nobody:x:65534:65534::/:/usr/sbin/nologin\n"
    }

    /// `/etc/group`.
    pub(super) fn group(&self) -> String {
        let mut text = format!("{}:x:{}:\n", self.name, self.gid);
        if self.gid != 0 {
            text += "root:x:0:\n";
        }
        text + "nogroup:x:65534:\n"
    }
}

/// Whether a name can stand in a line of passwd and in a path.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let reserved = ["root", "nobody", "nogroup", ".", ".."];
    (1..=32).contains(&name.len()) && name.bytes().all(allowed) && !reserved.contains(&name)
}
