//! Where container state is kept: `--root`, or a directory only the caller can write.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use syscalls::Sysno;

use crate::error::{Error, Result};

/// The state root of a caller who did not name one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Candidate {
    /// `/run/capsid`, made by the first `create`.
    System(PathBuf),
    /// Below `$XDG_RUNTIME_DIR`; missing parents are made.
    Xdg(PathBuf),
    /// In a directory that must exist already, and may be everyone's (`/tmp`).
    Within(PathBuf),
}

impl Candidate {
    fn path(&self) -> &Path {
        match self {
            Candidate::System(path) | Candidate::Xdg(path) | Candidate::Within(path) => path,
        }
    }
}

/// What decides where the state of a caller is.
struct Caller {
    euid: u32,
    /// `$XDG_RUNTIME_DIR`, if absolute.
    runtime_dir: Option<PathBuf>,
    /// Root of the machine, or of a user namespace who calls himself root:
    /// podman's rootless helpers are uid 0 with `$USER` unset or not `root`.
    system: bool,
}

impl Caller {
    fn of_this_process() -> Self {
        let euid = nix::unistd::geteuid().as_raw();
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute());
        let called_root = std::env::var_os("USER").is_some_and(|user| user == "root");
        let system = euid == 0 && (runtime_dir.is_none() || called_root || in_initial_userns());
        Self {
            euid,
            runtime_dir,
            system,
        }
    }

    /// Directories to try, the best first.
    fn candidates(&self) -> Vec<Candidate> {
        let system = Candidate::System("/run/capsid".into());
        if self.system {
            return vec![system];
        }
        let mut candidates = Vec::with_capacity(3);
        if let Some(dir) = &self.runtime_dir {
            candidates.push(Candidate::Xdg(dir.join("capsid")));
        }
        if self.euid == 0 {
            candidates.push(system);
        } else {
            // The same directory, for callers whose environment was cleaned (cron, sudo -u).
            candidates.push(Candidate::Within(
                format!("/run/user/{}/capsid", self.euid).into(),
            ));
            candidates.push(Candidate::Within(
                format!("/tmp/capsid-{}", self.euid).into(),
            ));
        }
        candidates
    }
}

/// The whole id space mapped onto itself is what only the first user namespace has.
fn in_initial_userns() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| {
        map.split_whitespace().eq(["0", "0", "4294967295"])
    })
}

/// The state root given by `--root`: absolute, without `.` and `..`, and not `/`.
pub(super) fn explicit(option: &OsStr) -> Result<PathBuf> {
    let root = clean(&absolute(option)?);
    if root == Path::new("/") {
        return Err(Error::Usage(
            "Option --root argument should not be set to /".into(),
        ));
    }
    Ok(root)
}

/// The state root of a caller who gave none, not made and not looked at.
pub(super) fn default_path() -> PathBuf {
    let candidates = Caller::of_this_process().candidates();
    candidates
        .first()
        .map_or_else(|| "/run/capsid".into(), |c| c.path().to_owned())
}

/// The state root of a caller who gave none, ready for use.
///
/// A directory below `$XDG_RUNTIME_DIR` gets the sticky bit, which keeps
/// programs that tidy up there from removing the state of running containers.
pub(super) fn default_prepared() -> Result<PathBuf> {
    let caller = Caller::of_this_process();
    let mut problems = Vec::new();
    for candidate in caller.candidates() {
        match prepare(&candidate, caller.euid) {
            Ok(()) => return Ok(candidate.path().to_owned()),
            Err(error) => problems.push(error),
        }
    }
    Err(none_usable(&problems))
}

/// The state root that would be used: the given one, or the first default that
/// is usable as it is or could be made. Nothing is made.
///
/// # Errors
/// Why none can be used, and the repair.
pub(super) fn usable(explicit: Option<&Path>) -> Result<PathBuf> {
    let caller = Caller::of_this_process();
    let candidates = match explicit {
        Some(path) => vec![Candidate::System(path.to_owned())],
        None => caller.candidates(),
    };
    let mut problems = Vec::new();
    for candidate in candidates {
        match look(&candidate, caller.euid) {
            Ok(()) => return Ok(candidate.path().to_owned()),
            Err(error) => problems.push(error),
        }
    }
    Err(none_usable(&problems))
}

fn none_usable(problems: &[Error]) -> Error {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Error::Missing {
        doing: "find a directory for the state of containers".into(),
        missing: problems.join("; "),
        repair: "set XDG_RUNTIME_DIR to a directory of your own, or give one with --root".into(),
    }
}

/// Whether a candidate could be used, without making it.
fn look(candidate: &Candidate, euid: u32) -> Result<()> {
    let path = candidate.path();
    let (parents, private) = match candidate {
        Candidate::System(_) => (true, false),
        Candidate::Xdg(_) => (true, true),
        Candidate::Within(_) => (false, true),
    };
    if private && path.symlink_metadata().is_ok() {
        return owned_privately(path, euid, candidate).map(drop);
    }
    let levels = if parents { usize::MAX } else { 2 };
    let existing = path.ancestors().take(levels).find(|level| level.exists());
    let writable = |level: &Path| {
        let flags = AccessFlags::W_OK | AccessFlags::X_OK;
        faccessat(AT_FDCWD, level, flags, AtFlags::AT_EACCESS)
    };
    let outcome = existing.map_or(Err(Errno::ENOENT), writable);
    outcome.map_err(|errno| Error::nix("create", path.display(), Sysno::mkdirat, errno))
}

fn prepare(candidate: &Candidate, euid: u32) -> Result<()> {
    let (path, parents) = match candidate {
        Candidate::System(_) => return Ok(()),
        Candidate::Xdg(path) => (path, true),
        Candidate::Within(path) => (path, false),
    };
    match DirBuilder::new()
        .mode(0o700)
        .recursive(parents)
        .create(path)
    {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", path.display(), Sysno::mkdirat, &e));
        }
        _ => {}
    }
    let (dir, mode) = owned_privately(path, euid, candidate)?;
    if mode != 0o1700 {
        dir.set_permissions(PermissionsExt::from_mode(0o1700))
            .map_err(|e| Error::io("use as state directory", path.display(), Sysno::fchmod, &e))?;
    }
    Ok(())
}

/// Checks the directory through a descriptor, so that what was checked is what
/// is used: in `/tmp` anyone could have made it first, or a link in its place,
/// and would own the records that `delete` and `kill` believe.
fn owned_privately(path: &Path, euid: u32, candidate: &Candidate) -> Result<(File, u32)> {
    let system =
        |sysno, e: &std::io::Error| Error::io("use as state directory", path.display(), sysno, e);
    let dir = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| system(Sysno::openat, &e))?;
    let metadata = dir.metadata().map_err(|e| system(Sysno::fstat, &e))?;
    let refuse = |problem: String| {
        Err(Error::State {
            file: path.to_owned(),
            problem,
        })
    };
    if metadata.uid() != euid {
        return refuse(format!(
            "belongs to user {} and not to you, user {euid}",
            metadata.uid()
        ));
    }
    let mode = metadata.mode() & 0o7777;
    if matches!(candidate, Candidate::Within(_)) && mode & 0o077 != 0 {
        return refuse(format!(
            "others may use it (mode {mode:04o}): remove it, or chmod 0700 it"
        ));
    }
    Ok((dir, mode))
}

/// `path` from the root directory on; to be called before any change of directory.
///
/// Components `..` stay, for only the kernel knows where they lead when links
/// are involved. Fails when the path is relative and the working directory is gone.
pub(super) fn absolute(path: &OsStr) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| {
        Error::io(
            "make an absolute path of",
            path.display(),
            Sysno::getcwd,
            &e,
        )
    })
}

/// An absolute path without `.` and `..`, by its text alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(euid: u32, runtime_dir: Option<&str>, system: bool) -> Vec<String> {
        Caller {
            euid,
            runtime_dir: runtime_dir.map(PathBuf::from),
            system,
        }
        .candidates()
        .iter()
        .map(|c| c.path().display().to_string())
        .collect()
    }

    #[test]
    fn each_caller_has_a_root() {
        assert_eq!(caller(0, Some("/run/user/0"), true), ["/run/capsid"]);
        assert_eq!(
            caller(0, Some("/run/user/7"), false),
            ["/run/user/7/capsid", "/run/capsid"]
        );
        assert_eq!(
            caller(7, Some("/x"), false),
            ["/x/capsid", "/run/user/7/capsid", "/tmp/capsid-7"]
        );
        assert_eq!(
            caller(7, None, false),
            ["/run/user/7/capsid", "/tmp/capsid-7"]
        );
    }

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, expected) in [("/a/../b/./c/", "/b/c"), ("/a//b", "/a/b"), ("/../a", "/a")] {
            assert_eq!(
                explicit(OsStr::new(path)).unwrap(),
                Path::new(expected),
                "{path}"
            );
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(explicit(OsStr::new("x/../y")).unwrap(), here.join("y"));
        assert_eq!(absolute(OsStr::new("x/../y")).unwrap(), here.join("x/../y"));
        assert!(
            explicit(OsStr::new("/x/.."))
                .unwrap_err()
                .to_string()
                .contains("should not be set to /")
        );
    }

    #[test]
    fn a_directory_prepared_by_someone_else_is_refused() {
        let base = std::env::temp_dir().join(format!("capsid-root-test-{}", std::process::id()));
        let euid = nix::unistd::geteuid().as_raw();
        let made = Candidate::Xdg(base.join("deep/capsid"));
        prepare(&made, euid).unwrap();
        assert_eq!(
            std::fs::metadata(made.path()).unwrap().mode() & 0o7777,
            0o1700
        );
        prepare(&made, euid).unwrap();

        let foreign = prepare(&made, euid + 1).unwrap_err().to_string();
        assert!(foreign.contains("belongs to user"), "{foreign}");

        let open = base.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
        let loose = prepare(&Candidate::Within(open.clone()), euid)
            .unwrap_err()
            .to_string();
        assert!(loose.contains("others may use it (mode 0755)"), "{loose}");

        let link = base.join("link");
        std::os::unix::fs::symlink(made.path(), &link).unwrap();
        assert!(prepare(&Candidate::Within(link), euid).is_err());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
