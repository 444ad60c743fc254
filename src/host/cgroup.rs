//! Where cgroup v2 is on this machine, and what of it may be changed.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, faccessat};
use syscalls::Sysno;

use super::mountinfo::{self, Mount};
use crate::error::{Error, Result};

/// Where cgroup v2 is mounted on nearly every machine.
const USUAL_MOUNT: &str = "/sys/fs/cgroup";

/// The cgroup facts of this machine and of the runtime's own process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupFacts {
    /// Where the cgroup2 file system is mounted; `None` on a machine without.
    pub mount: Option<PathBuf>,
    /// The runtime's own cgroup, below that mount; absolute, `/` for its root.
    pub own: PathBuf,
}

/// Whether a cgroup can be made, and a process be put into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can.
    Writable,
    /// There is no cgroup2 file system.
    NoMount,
    /// This file or directory cannot be written, with the error number.
    Denied(PathBuf, i32),
    /// Nobody tried: `--cgroup-manager disabled`.
    Unwanted,
}

impl CgroupFacts {
    /// Reads them: one statfs and one file where the mount is in its usual place.
    ///
    /// # Errors
    /// [`Error::System`] when procfs cannot be read.
    pub fn read() -> Result<Self> {
        Self::of_process("self")
    }

    /// The same with another process's cgroup as the own one.
    ///
    /// # Errors
    /// [`Error::System`] when procfs cannot be read.
    pub fn of(pid: i32) -> Result<Self> {
        Self::of_process(&pid.to_string())
    }

    fn of_process(process: &str) -> Result<Self> {
        let own = read(&format!("/proc/{process}/cgroup"), Sysno::read)?;
        let own = own_cgroup(&own).unwrap_or(Path::new("/")).to_owned();
        // A bind mount of a part of the hierarchy looks the same to statfs, but
        // is used only where the namespace begins there as well, or by mistake.
        if statfs(USUAL_MOUNT).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Ok(Self {
                mount: Some(USUAL_MOUNT.into()),
                own,
            });
        }
        Ok(match find_mount(&mountinfo::read()?) {
            None => Self { mount: None, own },
            Some((mount, root)) => {
                let below = own.strip_prefix(&root).unwrap_or(Path::new(""));
                Self {
                    mount: Some(mount),
                    own: Path::new("/").join(below),
                }
            }
        })
    }

    /// The directory of the own cgroup, for a cgroup2 file system that is mounted there.
    pub fn own_directory(&self, mount: &Path) -> PathBuf {
        mount.join(self.own.strip_prefix("/").unwrap_or(&self.own))
    }

    /// Whether the cgroup at the absolute `path` can be made and entered from the own one.
    ///
    /// Entering needs write access to `cgroup.procs` of the nearest ancestor that
    /// the old and the new cgroup share; the directory's owner alone is not enough.
    pub fn access(&self, path: &Path) -> Access {
        let Some(mount) = &self.mount else {
            return Access::NoMount;
        };
        let mut existing = path;
        loop {
            match writable(existing) {
                Ok(()) => break,
                Err(Errno::ENOENT) => match existing.parent() {
                    Some(parent) if parent.starts_with(mount) => existing = parent,
                    _ => return Access::NoMount,
                },
                Err(errno) => return Access::Denied(existing.to_owned(), errno as i32),
            }
        }
        let below = path.strip_prefix(mount).unwrap_or(Path::new(""));
        let procs = mount.join(shared(&self.own, below)).join("cgroup.procs");
        match writable(&procs) {
            // The root of the hierarchy as a cgroup namespace shows it has the file too.
            Ok(()) | Err(Errno::ENOENT) => Access::Writable,
            Err(errno) => Access::Denied(procs, errno as i32),
        }
    }
}

pub(super) fn writable(path: &Path) -> Result<(), Errno> {
    faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS)
}

/// The nearest common ancestor of the absolute `own` and the relative `other`, relative.
fn shared(own: &Path, other: &Path) -> PathBuf {
    let own = own.strip_prefix("/").unwrap_or(own);
    own.iter()
        .zip(other.iter())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect()
}

fn read(path: &str, sysno: Sysno) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, sysno, &e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The v2 line of `/proc/PID/cgroup`: `0::/path`.
///
/// `None` for a process outside the reader's cgroup namespace (`/../...`).
fn own_cgroup(content: &str) -> Option<&Path> {
    let path = content.lines().find_map(|line| line.strip_prefix("0::"))?;
    // The kernel adds this to the name of a cgroup that was removed meanwhile.
    let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
    let inside = path.is_absolute() && path.iter().all(|part| part != "..");
    inside.then_some(path)
}

/// The mount point of cgroup2 in `/proc/self/mountinfo`, and which part of the
/// hierarchy is mounted there. The usual place wins, then the whole hierarchy,
/// then the last one, which hides the earlier.
fn find_mount(mounts: &[Mount]) -> Option<(PathBuf, PathBuf)> {
    let rank = |mount: &Mount| match mount.point == Path::new(USUAL_MOUNT) {
        true => 2,
        false => u8::from(mount.root == Path::new("/")),
    };
    // Of equals the last is taken.
    let best = mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup2")
        .max_by_key(|mount| rank(mount));
    best.map(|mount| (mount.point.clone(), mount.root.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_the_v2_line() {
        let hybrid = "9:name=systemd:/x\n4:memory:/y\n0::/user.slice/a b.scope\n";
        assert_eq!(own_cgroup(hybrid), Some(Path::new("/user.slice/a b.scope")));
        assert_eq!(own_cgroup("0::/gone (deleted)\n"), Some(Path::new("/gone")));
        for outside in [
            "",
            "1:name=systemd:/x\n",
            "0::/../outside\n",
            "0::relative\n",
        ] {
            assert_eq!(own_cgroup(outside), None, "{outside:?}");
        }
    }

    #[test]
    fn the_usual_mount_wins() {
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let part = "50 31 0:38 /a\\040b /mnt/my\\040groups rw master:1 - cgroup2 none rw\n";
        let found =
            |text: &str| find_mount(&mountinfo::parse(text.as_bytes())).map(|(mount, _)| mount);
        assert_eq!(found(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(found(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            found(&format!("{unified}{hybrid}{part}")),
            Some("/sys/fs/cgroup".into())
        );
        assert_eq!(
            found(&format!("{hybrid}{part}")),
            Some("/sys/fs/cgroup/unified".into())
        );
        assert_eq!(
            find_mount(&mountinfo::parse(part.as_bytes())),
            Some(("/mnt/my groups".into(), "/a b".into()))
        );
        // Mounted over one another: the later one is what the path leads to.
        let over = unified.replace(" / /sys", " /part /sys");
        let (_, root) =
            find_mount(&mountinfo::parse(format!("{unified}{over}").as_bytes())).unwrap();
        assert_eq!(root, Path::new("/part"));
        assert_eq!(
            found("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\nnonsense\n"),
            None
        );
    }

    #[test]
    fn the_shared_ancestor_decides_who_may_enter() {
        let cases = [
            ("/", "a/b", ""),
            ("/a/x", "a/b", "a"),
            ("/a/b", "a/b/c", "a/b"),
            ("/ab", "a", ""),
        ];
        for (own, other, expected) in cases {
            assert_eq!(
                shared(Path::new(own), Path::new(other)),
                Path::new(expected)
            );
        }
    }

    #[test]
    fn without_a_mount_there_is_nothing_to_write() {
        let facts = CgroupFacts {
            mount: None,
            own: "/".into(),
        };
        assert_eq!(facts.access(Path::new("/sys/fs/cgroup/x")), Access::NoMount);
    }
}
