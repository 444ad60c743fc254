//! Bundles and containers: `Bundle::new(test).edit(|config| ...).report()`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::container::{Container, Report, push};
use crate::roles::{Role, Test};
use crate::runtime::{Call, Output};

/// A bundle directory with a configuration that can still be changed.
pub(crate) struct Bundle<'t> {
    pub(crate) test: &'t Test,
    pub(crate) dir: PathBuf,
    pub(crate) id: String,
    pub(crate) config: Value,
}

impl<'t> Bundle<'t> {
    /// The shape of `runc spec` (for a single id: of `runc spec --rootless`).
    pub(crate) fn new(test: &'t Test) -> Self {
        let number = test.next();
        let dir = test.dir.join(format!("bundle-{number}"));
        let place = test
            .dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let id = format!(
            "{}-{}-{place}-{number}",
            test.role.name(),
            std::process::id()
        );
        test.make_dir(&dir);
        let bundle = Self {
            test,
            dir,
            config: base_config(test, &id),
            id,
        };
        bundle.make_rootfs();
        bundle
    }

    fn make_rootfs(&self) {
        let rootfs = self.rootfs();
        for name in [
            "", "bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var",
        ] {
            self.test.make_dir(&rootfs.join(name));
        }
        let mode = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(rootfs.join("tmp"), mode)
            .unwrap_or_else(|error| panic!("chmod: {error}"));
        let probe = self.test.machine.role_dir(self.test.role).join("probe");
        fs::hard_link(probe, rootfs.join("bin/probe"))
            .unwrap_or_else(|error| panic!("link: {error}"));
        self.file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
        );
        self.file("etc/group", "root:x:0:\nuser:x:1000:\n");
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A file in the root file system.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let full = self.rootfs().join(path);
        self.test.make_file(&full, content);
        full
    }

    /// An executable file in the root file system.
    pub(crate) fn program(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let full = self.file(path, content);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&full, mode).unwrap_or_else(|error| panic!("chmod: {error}"));
        full
    }

    /// A symbolic link in the root file system, replacing an empty directory.
    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        let full = self.rootfs().join(path);
        // Present or not: what matters is what stands there afterwards.
        let _ = fs::remove_dir(&full).or_else(|_| fs::remove_file(&full));
        std::os::unix::fs::symlink(target, &full)
            .unwrap_or_else(|error| panic!("symlink: {error}"));
        self.test.give(&full);
    }

    /// Changes the configuration.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// The root file system becomes writable.
    pub(crate) fn writable(self) -> Self {
        self.edit(|config| config["root"]["readonly"] = json!(false))
    }

    /// Adds a mount at the end of the list.
    pub(crate) fn mount(self, mount: Value) -> Self {
        self.edit(|config| push(&mut config["mounts"], mount))
    }

    /// Adds a namespace.
    pub(crate) fn namespace(self, namespace: Value) -> Self {
        self.edit(|config| push(&mut config["linux"]["namespaces"], namespace))
    }

    /// Removes a namespace type.
    pub(crate) fn without_namespace(self, kind: &str) -> Self {
        self.edit(|config| {
            retain(&mut config["linux"]["namespaces"], |entry| {
                entry["type"] != kind
            })
        })
    }

    /// Removes the mount at a destination.
    pub(crate) fn without_mount(self, destination: &str) -> Self {
        self.edit(|config| {
            retain(&mut config["mounts"], |entry| {
                entry["destination"] != destination
            })
        })
    }

    /// Gives hardening rules up, by the bundle's annotation.
    pub(crate) fn relax(self, rules: &str) -> Self {
        self.edit(|config| config["annotations"]["dev.capsid.relax"] = json!(rules))
    }

    /// The arguments become the probe's.
    pub(crate) fn args(self, args: &[&str]) -> Self {
        let mut words = vec!["/bin/probe"];
        words.extend_from_slice(args);
        self.raw_args(&words)
    }

    /// The arguments, as they are.
    pub(crate) fn raw_args(self, words: &[&str]) -> Self {
        self.edit(|config| config["process"]["args"] = json!(words))
    }

    /// Writes config.json.
    pub(crate) fn save(&self) {
        self.save_text(&format!("{:#}\n", self.config));
    }

    /// Writes this text as config.json.
    pub(crate) fn save_text(&self, text: &str) {
        self.test.make_file(&self.dir.join("config.json"), text);
    }

    /// A command of the runtime that takes flags and then the id.
    pub(crate) fn on<S: AsRef<str>>(&self, words: &[S]) -> Call<'t> {
        let mut all: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        all.push(&self.id);
        self.test.capsid(&all)
    }

    /// `run` with flags, configuration saved.
    pub(crate) fn run_call(&self, flags: &[&str]) -> Call<'t> {
        self.save();
        let dir = self.dir.to_string_lossy();
        let mut words = vec!["run", "--bundle", &dir];
        words.extend_from_slice(flags);
        self.on(&words)
    }

    /// `create` with flags, configuration saved.
    pub(crate) fn create_call(&self, flags: &[&str]) -> Call<'t> {
        self.save();
        let dir = self.dir.to_string_lossy();
        let mut words = vec!["create", "--bundle", &dir];
        words.extend_from_slice(flags);
        self.on(&words)
    }

    /// A foreground run as configured.
    pub(crate) fn run(&self) -> Output {
        self.run_call(&[]).output()
    }

    /// A foreground run of the probe.
    pub(crate) fn run_probe(self, args: &[&str]) -> Output {
        self.args(args).run()
    }

    /// What `probe report` prints in a container of this bundle.
    #[track_caller]
    pub(crate) fn report(self) -> Report {
        self.report_with(&[])
    }

    /// The same with options of `probe report`.
    #[track_caller]
    pub(crate) fn report_with(self, options: &[&str]) -> Report {
        let mut words = vec!["report"];
        words.extend_from_slice(options);
        Report(self.args(&words).run().success().json())
    }

    /// Creates a container; the bundle's arguments are what it will run.
    #[track_caller]
    pub(crate) fn create<'b>(&'b self) -> Container<'b, 't> {
        self.create_with(&[])
    }

    /// The same with flags of `create`.
    #[track_caller]
    pub(crate) fn create_with<'b>(&'b self, flags: &[&str]) -> Container<'b, 't> {
        let mut creator = self.create_call(flags).start();
        creator.finish_ok();
        Container {
            bundle: self,
            creator,
        }
    }

    /// Creates and starts a container and waits until the probe says READY.
    #[track_caller]
    pub(crate) fn ready<'b>(&'b self) -> Container<'b, 't> {
        let mut container = self.create();
        container.start();
        container.wait_for("READY");
        container
    }

    /// The directory of its cgroup, where the harness chose one; `slice:prefix:name`
    /// is for systemd to place.
    pub(crate) fn cgroup(&self) -> Option<PathBuf> {
        let path = self.config.pointer("/linux/cgroupsPath")?.as_str()?;
        path.starts_with('/').then_some(())?;
        Some(PathBuf::from(format!("/sys/fs/cgroup{path}")))
    }

    /// Insists that the runtime left nothing of this container.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let state = self.test.state_root().join(&self.id);
        assert!(!state.exists(), "{} was left behind", state.display());
        if let Some(cgroup) = self.cgroup() {
            assert!(!cgroup.exists(), "{} was left behind", cgroup.display());
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir.to_string_lossy();
        let left = table.lines().find(|line| line.contains(&*dir));
        assert!(left.is_none(), "a mount was left behind: {left:?}");
    }

    /// Insists that creating fails with these words, in exit code 1, and leaves nothing.
    #[track_caller]
    pub(crate) fn refused(&self, texts: &[&str]) -> Output {
        let output = self.create_call(&[]).output().code(1).says(texts);
        self.assert_nothing_left();
        output
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if !self.test.dir.exists() {
            // A runtime that removed what it was not asked to; the test has said so.
            return;
        }
        // Most tests end with nothing left; a failed one may leave anything.
        if self.test.state_root().join(&self.id).exists() || std::thread::panicking() {
            let words = ["delete", "--force", self.id.as_str()];
            let mut deleting = self.test.capsid(&words).start();
            let end = Instant::now() + Duration::from_secs(15);
            while !deleting.ended() && Instant::now() < end {
                sleep(Duration::from_millis(5));
            }
        }
    }
}

fn retain(array: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Value::Array(all) = array {
        all.retain(keep);
    }
}

fn base_config(test: &Test, id: &str) -> Value {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/probe", "report"],
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "capsid-test",
        "mounts": base_mounts(),
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    match test.role {
        Role::Root => {
            let parent = test.machine.cgroup.as_deref().unwrap_or("/capsid-test");
            config["linux"]["cgroupsPath"] = json!(format!("{parent}/{id}"));
        }
        Role::Rootless => {}
        Role::Single => {
            let who = test.who();
            push(
                &mut config["linux"]["namespaces"],
                json!({ "type": "user" }),
            );
            config["linux"]["uidMappings"] =
                json!([{ "containerID": 0, "hostID": who.uid, "size": 1 }]);
            config["linux"]["gidMappings"] =
                json!([{ "containerID": 0, "hostID": who.gid, "size": 1 }]);
            // Group 5 has no mapping.
            config["mounts"][2]["options"] = json!([
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620"
            ]);
        }
    }
    config
}

fn base_mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs",
          "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
    ])
}
