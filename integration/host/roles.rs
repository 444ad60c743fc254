//! Who runs the runtime, and one test's place in the file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machine::Machine;

/// Who runs the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Real root.
    Root,
    /// A user with a range of subordinate ids; the bundle names no user namespace.
    Rootless,
    /// A user without; the bundle maps its one id, as `runc spec --rootless` does.
    Single,
}

/// All of them.
pub(crate) const ROLES: [Role; 3] = [Role::Root, Role::Rootless, Role::Single];

impl Role {
    /// Its word in test names and paths.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Rootless => "rootless",
            Role::Single => "single",
        }
    }
}

/// A user and group number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// One test under one role.
pub(crate) struct Test {
    pub(crate) machine: &'static Machine,
    pub(crate) role: Role,
    /// A directory of its own, owned by the role.
    pub(crate) dir: PathBuf,
    /// The cgroup in which commands of an ordinary role begin, once a test gave it one.
    pub(crate) caller_cgroup: OnceLock<PathBuf>,
    /// Once the role has logged in: commands find its systemd, and the runtime
    /// gets these flags before its command.
    pub(crate) session: OnceLock<&'static [&'static str]>,
    /// A call, the place of an argument, its value and an errno: as on a kernel that
    /// lacks it, this call fails so for every command.
    pub(crate) lacking: OnceLock<[&'static str; 4]>,
    counter: AtomicU32,
}

static TESTS: AtomicU32 = AtomicU32::new(1);

impl Test {
    /// A place for one test.
    pub(crate) fn new(machine: &'static Machine, role: Role, name: &str) -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let word = name.split("::").nth(2).unwrap_or("test");
        let short: String = word.chars().take(24).collect();
        let dir = machine
            .role_dir(role)
            .join("tmp")
            .join(format!("{number}-{short}"));
        let test = Self {
            machine,
            role,
            dir,
            caller_cgroup: OnceLock::new(),
            session: OnceLock::new(),
            lacking: OnceLock::new(),
            counter: AtomicU32::new(1),
        };
        test.make_dir(&test.dir);
        test
    }

    /// Who runs the runtime.
    pub(crate) fn who(&self) -> Identity {
        self.machine.identity(self.role)
    }

    /// Whether the caller is an ordinary user.
    pub(crate) fn rootless(&self) -> bool {
        self.role != Role::Root
    }

    /// A number that no other call of this test got.
    pub(crate) fn next(&self) -> u32 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A directory owned by the role.
    pub(crate) fn make_dir(&self, path: &Path) {
        fs::create_dir_all(path)
            .unwrap_or_else(|error| panic!("mkdir {}: {error}", path.display()));
        self.give(path);
    }

    /// A file with this content, owned by the role.
    pub(crate) fn make_file(&self, path: &Path, content: impl AsRef<[u8]>) {
        fs::write(path, content)
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        self.give(path);
    }

    /// Hands a file to the role.
    pub(crate) fn give(&self, path: &Path) {
        let who = self.who();
        std::os::unix::fs::lchown(path, Some(who.uid), Some(who.gid))
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }

    /// The state directory of the role's containers.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.machine.role_dir(self.role).join("state")
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let keep = std::env::var("CAPSID_TEST_KEEP").is_ok_and(|value| value == "1");
        if !(keep && std::thread::panicking()) {
            // What cannot be removed now is reported at the end of the run.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
