//! What this machine can host, and the private view of it that tests get.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::cases::{Need, Skip};
use crate::network;
use crate::roles::{Identity, ROLES, Role};

/// User and group number of the test user with subordinate ids.
const RANGED: u32 = 61_841;
/// User and group number of the test user without.
const SINGLE: u32 = 61_842;
/// The group, below that of the run, in which this process and the runtime run.
const CALLERS: &str = "callers";
/// First subordinate id of the test user, and how many.
const SUBIDS: (u32, u32) = (1_000_000, 65_536);

/// Facts about the machine, and where tests work on it.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Directory of this run, removed at its end.
    pub(crate) base: PathBuf,
    /// The runtime under test, where every role can execute it.
    pub(crate) runtime: PathBuf,
    /// The probe, where every role can execute it.
    pub(crate) probe: PathBuf,
    /// This process is root.
    pub(crate) root: bool,
    /// The cgroup below which containers of root go, relative to the cgroup mount.
    pub(crate) cgroup: Option<String>,
    /// Why the tests have no network of their own.
    no_network: Option<String>,
    /// Subordinate ids of the user with a range: the first, and how many.
    pub(crate) range: (u32, u32),
    own: Identity,
    /// The user with a range that `CAPSID_TEST_USER` names, instead of one made up.
    user: Option<Identity>,
    home_cgroup: String,
    unprivileged_userns: bool,
    subids: bool,
}

impl Machine {
    /// Looks, and unless only a list of tests is wanted, makes the private view.
    pub(crate) fn prepare(full: bool) -> Result<Self, String> {
        let own = Identity {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        };
        let base = std::env::temp_dir().join(format!("capsid-test-{}", std::process::id()));
        let runtime = std::env::var_os("CAPSID_TEST_BIN").map_or_else(
            || PathBuf::from(env!("CARGO_BIN_EXE_capsid")),
            PathBuf::from,
        );
        let mut machine = Self {
            probe: base.join("probe"),
            runtime,
            root: own.uid == 0,
            cgroup: None,
            no_network: Some("the tests do not run as root".into()),
            unprivileged_userns: false,
            subids: false,
            range: SUBIDS,
            base,
            own,
            user: std::env::var("CAPSID_TEST_USER")
                .ok()
                .and_then(|name| account(&name)),
            home_cgroup: own_cgroup(),
        };
        if full {
            machine
                .make_view()
                .map_err(|error| format!("preparing: {error}"))?;
        }
        Ok(machine)
    }

    fn make_view(&mut self) -> io::Result<()> {
        fs::create_dir(&self.base)?;
        open_to_all(&self.base)?;
        fs::copy(built_probe()?, &self.probe)?;
        let runtime = self.base.join("runtime");
        fs::copy(&self.runtime, &runtime)?;
        // Under the name it has: a runtime may look at it.
        let named = self.base.join(self.runtime.file_name().unwrap_or_default());
        fs::rename(&runtime, &named)?;
        self.runtime = named;
        if self.root {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            self.cgroup = make_cgroup()?;
            self.no_network = network::enter()?;
            self.add_users()?;
        }
        self.subids = in_path("newuidmap").is_some()
            && in_path("newgidmap").is_some()
            && (self.root || subids(self.own.uid).is_some());
        self.range = subids(self.identity(Role::Rootless).uid).unwrap_or(SUBIDS);
        for role in ROLES {
            let who = self.identity(role);
            let dir = self.role_dir(role);
            for name in ["", "run", "state", "tmp"] {
                fs::create_dir(dir.join(name))?;
            }
            fs::copy(&self.probe, dir.join("probe"))?;
            for name in ["", "run", "state", "tmp", "probe"] {
                std::os::unix::fs::chown(dir.join(name), Some(who.uid), Some(who.gid))?;
            }
            fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o700))?;
        }
        self.unprivileged_userns = self.can_make_userns();
        Ok(())
    }

    /// Accounts for the ordinary roles, in files that only this process sees.
    fn add_users(&self) -> io::Result<()> {
        let (first, count) = SUBIDS;
        let range = format!("capsid-ranged:{first}:{count}\n");
        let account = |uid: u32, name: &str| format!("{name}:x:{uid}:{uid}::/:/bin/sh\n");
        let users = account(RANGED, "capsid-ranged") + &account(SINGLE, "capsid-single");
        let groups = format!("capsid-ranged:x:{RANGED}:\ncapsid-single:x:{SINGLE}:\n");
        for (file, lines, keep) in [
            ("passwd", users, true),
            ("group", groups, true),
            ("subuid", range.clone(), self.user.is_some()),
            ("subgid", range, self.user.is_some()),
        ] {
            let real = Path::new("/etc").join(file);
            let old = if keep {
                fs::read_to_string(&real)?
            } else {
                String::new()
            };
            let ours = self.base.join(file);
            fs::write(&ours, old + &lines)?;
            // An absent subuid file cannot be covered: then nobody gets ranges here.
            if real.exists() {
                mount(
                    Some(&ours),
                    &real,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )?;
            }
        }
        Ok(())
    }

    fn can_make_userns(&self) -> bool {
        let who = self.identity(Role::Single);
        let mut command = Command::new(&self.probe);
        command.args(["syscall", "unshare", "0x10000000"]);
        if self.root {
            std::os::unix::process::CommandExt::uid(&mut command, who.uid);
        }
        command.output().is_ok_and(|output| output.status.success())
    }

    /// Who a role is.
    pub(crate) fn identity(&self, role: Role) -> Identity {
        match role {
            Role::Root => self.own,
            _ if !self.root => self.own,
            Role::Rootless => self.user.unwrap_or(Identity {
                uid: RANGED,
                gid: RANGED,
            }),
            Role::Single => Identity {
                uid: SINGLE,
                gid: SINGLE,
            },
        }
    }

    /// Whether a role can ask a systemd for cgroups of this hierarchy.
    fn has_systemd(&self, role: Role) -> bool {
        let bus = match role {
            Role::Root => PathBuf::from("/run/dbus/system_bus_socket"),
            _ => self.session_dir(role).join("bus"),
        };
        Path::new("/sys/fs/cgroup/init.scope").exists() && bus.exists()
    }

    /// What XDG_RUNTIME_DIR is for a role that has logged in.
    pub(crate) fn session_dir(&self, role: Role) -> PathBuf {
        PathBuf::from(format!("/run/user/{}", self.identity(role).uid))
    }

    /// The directory of a role.
    pub(crate) fn role_dir(&self, role: Role) -> PathBuf {
        self.base.join(role.name())
    }

    /// Why a role with these needs cannot be tested here, if so.
    pub(crate) fn cannot(&self, role: Role, needs: &[Need]) -> Option<Skip> {
        let skip = |key, reason: &str| {
            Some(Skip {
                key,
                reason: reason.to_owned(),
            })
        };
        match role {
            Role::Root if !self.root => return skip("root", "the tests do not run as root"),
            Role::Root if self.cgroup.is_none() => {
                return skip("cgroup2", "cgroup2 cannot be mounted or written to");
            }
            Role::Rootless if !self.subids => {
                return skip(
                    "subids",
                    "newuidmap, newgidmap, or subordinate ids are missing",
                );
            }
            Role::Single if !self.root && subids(self.own.uid).is_some() => {
                return skip("single", "the user of the tests has subordinate ids");
            }
            Role::Rootless | Role::Single if !self.unprivileged_userns => {
                return skip("userns", "an ordinary user may not make user namespaces");
            }
            _ => {}
        }
        if needs.contains(&Need::Systemd) && !self.has_systemd(role) {
            return skip(
                "systemd",
                "no systemd manages this cgroup2 and has the role's bus; \
                 integration/machine/run --systemd has",
            );
        }
        if needs.contains(&Need::RealRoot) && !self.root {
            return skip("root", "the tests do not run as root");
        }
        if (needs.contains(&Need::Pasta) || needs.contains(&Need::Network))
            && let Some(reason) = &self.no_network
        {
            return skip("network", reason);
        }
        needs.iter().copied().find_map(crate::needs::missing)
    }

    /// Removes everything of this run; what could not be removed comes back in words.
    pub(crate) fn tear_down(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            let group = format!("/sys/fs/cgroup{cgroup}");
            let home = format!("/sys/fs/cgroup{}/cgroup.procs", self.home_cgroup);
            // Back to where this process came from, or its group cannot be removed.
            if let Err(error) =
                fs::write(&home, "0").and_then(|()| fs::remove_dir(format!("{group}/{CALLERS}")))
            {
                let who = processes(&format!("{group}/{CALLERS}"));
                problems.push(format!("cgroup {group}/{CALLERS}: {error} ({who})"));
            }
            for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    problems.push(format!("cgroup {}", entry.path().display()));
                    // Deepest first is not needed: containers make one level here.
                    let _ = fs::write(entry.path().join("cgroup.kill"), "1");
                    let _ = fs::remove_dir(entry.path());
                }
            }
            if let Err(error) = fs::remove_dir(&group) {
                problems.push(format!("cgroup {group}: {error}"));
            }
        }
        for file in ["passwd", "group", "subuid", "subgid"] {
            // Only where `add_users` covered it; the real files are not mount points.
            if self.root && self.base.join(file).exists() {
                let _ = umount2(&Path::new("/etc").join(file), MntFlags::MNT_DETACH);
            }
        }
        for role in ROLES {
            let state = self.role_dir(role).join("state");
            for entry in fs::read_dir(state).into_iter().flatten().flatten() {
                problems.push(format!("state {}", entry.path().display()));
            }
        }
        let keep = std::env::var("CAPSID_TEST_KEEP").is_ok_and(|value| value == "1");
        if !keep
            && self.base.exists()
            && let Err(error) = fs::remove_dir_all(&self.base)
        {
            problems.push(format!("{}: {error}", self.base.display()));
        }
        problems
    }
}

/// The processes in a cgroup, by number and command line.
fn processes(group: &str) -> String {
    let numbers = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap_or_default();
    let line = |number: &str| {
        let line = fs::read_to_string(format!("/proc/{number}/cmdline")).unwrap_or_default();
        format!("{number}: {}", line.replace('\0', " "))
    };
    let lines: Vec<_> = numbers.lines().map(line).collect();
    lines.join(", ")
}

fn open_to_all(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// A pure cgroup2 view on /sys/fs/cgroup, seen by this process only, and a
/// group of its own in it.
fn make_cgroup() -> io::Result<Option<String>> {
    const TOP: &str = "/sys/fs/cgroup";
    if !Path::new(TOP).join("cgroup.controllers").exists() {
        umount2(TOP, MntFlags::MNT_DETACH)?;
        let none = None::<&str>;
        if mount(
            Some("cgroup2"),
            TOP,
            Some("cgroup2"),
            MsFlags::empty(),
            none,
        )
        .is_err()
        {
            return Ok(None);
        }
    }
    let name = format!("/capsid-test-{}", std::process::id());
    if fs::create_dir(format!("{TOP}{name}")).is_err() {
        return Ok(None);
    }
    // The callers of ordinary users: what their containers see as the top.
    let callers = format!("{TOP}{name}/{CALLERS}");
    fs::create_dir(&callers)?;
    fs::write(format!("{callers}/cgroup.procs"), "0")?;
    Ok(Some(name))
}

/// This process's own place on the cgroup2 file system.
fn own_cgroup() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.unwrap_or("/").to_owned()
}

/// The numbers of a user.
fn account(name: &str) -> Option<Identity> {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = accounts.lines().map(|line| line.split(':').collect());
    fields
        .filter(|fields: &Vec<&str>| fields.first() == Some(&name))
        .find_map(|fields| {
            Some(Identity {
                uid: fields.get(2)?.parse().ok()?,
                gid: fields.get(3)?.parse().ok()?,
            })
        })
}

fn subids(uid: u32) -> Option<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid.to_string()))
        .and_then(|line| line.split(':').next())
        .unwrap_or_default();
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    ranges.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let own = owner == uid.to_string() || (!name.is_empty() && owner == name);
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        own.then_some(range)
    })
}

/// A program in the directories where system programs live.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
}

/// The example next to the program under test; `cargo test --test host` alone
/// does not build it, so cargo is asked to.
fn built_probe() -> io::Result<PathBuf> {
    let runtime = Path::new(env!("CARGO_BIN_EXE_capsid"));
    let dir = runtime.parent().unwrap_or(Path::new("."));
    let probe = dir.join("examples/probe");
    if let (Some(cargo), Some(target)) = (std::env::var_os("CARGO"), target_dir(dir)) {
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--example", "probe", "--target-dir"])
            .arg(target);
        if dir.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    }
    if probe.exists() {
        return Ok(probe);
    }
    let hint = "is not built: run `cargo build --example probe`";
    Err(io::Error::other(format!("{} {hint}", probe.display())))
}

/// TARGET of TARGET/TRIPLE/PROFILE.
fn target_dir(profile: &Path) -> Option<PathBuf> {
    Some(profile.parent()?.parent()?.to_path_buf())
}
