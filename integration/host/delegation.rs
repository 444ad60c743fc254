//! Which cgroup a role may use: given to it, not given, given without a
//! controller, with a limit above; and what a killed runtime leaves in it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::controllers::{MIB, value};
use crate::roles::{Role, Test};

cases! {
    RANGES [Controllers]: limit_above_the_parents, controller_not_enabled, killed_in_a_hook,
        killed_at_any_time;
    USERS [Controllers]: limits_without_delegation, no_limits_without_delegation;
    USERS [Controllers]: beside_the_caller;
}

const MOUNT: &str = "/sys/fs/cgroup";

/// Everything that can be handed down.
const EVERY: &[&str] = &["cpu", "io", "memory", "pids"];

/// A cgroup for the containers of one test. Root simply uses it. To an ordinary
/// user it is handed over as systemd does: the directory and three of its files,
/// and the user's commands begin in a cgroup below it.
pub(crate) struct Place<'t> {
    test: &'t Test,
    /// The cgroup above, which is nobody's but root's.
    outer: PathBuf,
    /// The cgroup in which containers are made.
    pub(crate) own: PathBuf,
}

impl<'t> Place<'t> {
    /// One that has all controllers.
    pub(crate) fn new(test: &'t Test) -> Self {
        Self::with(test, EVERY)
    }

    /// One that has these controllers.
    pub(crate) fn with(test: &'t Test, controllers: &[&str]) -> Self {
        let run = test.machine.cgroup.as_deref().unwrap_or_default();
        let run = PathBuf::from(format!("{MOUNT}{run}"));
        let name = test.dir.file_name().unwrap_or_default();
        let outer = run.join(format!("{}-{}", test.role.name(), name.to_string_lossy()));
        let own = outer.join("own");
        make(&outer);
        for above in [Path::new(MOUNT), &run] {
            hand_down(above, EVERY);
            hand_down(above, controllers);
        }
        hand_down(&outer, controllers);
        make(&own);
        if test.rootless() {
            let callers = own.join("callers");
            make(&callers);
            for cgroup in [&own, &callers] {
                for file in [
                    "",
                    "cgroup.procs",
                    "cgroup.subtree_control",
                    "cgroup.threads",
                ] {
                    let path = cgroup.join(file);
                    let who = test.who();
                    chown(&path, Some(who.uid), Some(who.gid))
                        .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
                }
            }
            let given = test.caller_cgroup.set(callers);
            assert!(given.is_ok(), "a test has one place");
        }
        Self { test, outer, own }
    }

    /// A bundle whose container is made here.
    pub(crate) fn bundle(&self) -> Bundle<'t> {
        let below = self.own.strip_prefix(MOUNT).unwrap_or(&self.own);
        let bundle = Bundle::new(self.test);
        let path = Path::new("/").join(below).join(&bundle.id);
        bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path))
    }

    /// The same with `linux.resources`.
    pub(crate) fn limited(&self, resources: Value) -> Bundle<'t> {
        self.bundle()
            .edit(|config| config["linux"]["resources"] = resources)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // What cannot be removed is reported at the end of the run.
        for cgroup in [&self.own.join("callers"), &self.own, &self.outer] {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

fn make(cgroup: &Path) {
    fs::create_dir(cgroup).unwrap_or_else(|error| panic!("mkdir {}: {error}", cgroup.display()));
}

fn hand_down(cgroup: &Path, controllers: &[&str]) {
    for controller in controllers {
        let file = cgroup.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}"))
            .unwrap_or_else(|error| panic!("+{controller} to {}: {error}", file.display()));
    }
}

/// Of memory, and nothing of swap.
fn memory(bytes: u64) -> Value {
    json!({ "memory": { "limit": bytes, "swap": bytes } })
}

/// The kernel takes it and enforces the smaller of both: capsid refuses it.
fn limit_above_the_parents(test: &Test) {
    let place = Place::new(test);
    let parent = place.own.join("memory.max");
    let lower = || {
        fs::write(&parent, (32 * MIB).to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
    };
    // Lowered only when the container is there already.
    let bytes = (48 * MIB).to_string();
    let bundle = place.limited(memory(64 * MIB)).args(&["eat", &bytes]);
    let container = bundle.create();
    lower();
    container.start();
    container.wait_status("stopped");
    assert_eq!(value(&bundle, "memory.max"), (64 * MIB).to_string());
    let printed = container.printed();
    assert!(!printed.contains("ATE"), "{printed}");
    container.end();
    let bundle = place.limited(memory(64 * MIB));
    let limit = (32 * MIB).to_string();
    bundle.refused(&[
        "67108864",
        &parent.to_string_lossy(),
        &limit,
        "raise the limit there",
    ]);
    // As much as there is can be had.
    let bundle = place.limited(memory(32 * MIB));
    bundle.run_probe(&["exit", "7"]).code(7);
}

/// The message names the file and the repair, and nothing is left.
fn controller_not_enabled(test: &Test) {
    if test.role == Role::Root {
        // Root hands controllers down itself, but not past processes.
        let run = test.machine.cgroup.as_deref().unwrap_or_default();
        let path = format!("{run}/callers/inner");
        let bundle = Bundle::new(test).edit(|config| {
            config["linux"]["cgroupsPath"] = json!(path);
            config["linux"]["resources"] = memory(64 * MIB);
        });
        let file = format!("{MOUNT}{run}/callers/cgroup.subtree_control");
        bundle.refused(&["+memory", &file, "EBUSY", "linux.cgroupsPath"]);
        return;
    }
    let place = Place::with(test, &["cpu", "pids"]);
    let bundle = place.limited(memory(64 * MIB));
    let file = place.outer.join("cgroup.subtree_control");
    bundle.refused(&["+memory", &file.to_string_lossy(), "Delegate=", "memory"]);
    // What is there can be limited.
    let other = place.limited(json!({ "pids": { "limit": 20 } }));
    other.run_probe(&["exit", "7"]).code(7);
}

fn limits_without_delegation(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| config["linux"]["resources"] = memory(64 * MIB));
    bundle.refused(&["no write access", "the user's systemd", "Delegate=yes"]);
}

fn no_limits_without_delegation(test: &Test) {
    let bundle = Bundle::new(test);
    bundle.run_probe(&["exit", "7"]).code(7);
}

/// A bundle that names no cgroup gets one next to the caller's own.
fn beside_the_caller(test: &Test) {
    let place = Place::new(test);
    let bundle = Bundle::new(test)
        .edit(|config| config["linux"]["resources"] = memory(64 * MIB))
        .args(&["sleep"]);
    let container = bundle.ready();
    let cgroup = place.own.join(&bundle.id);
    let limit = fs::read_to_string(cgroup.join("memory.max")).unwrap_or_default();
    assert_eq!(limit.trim(), (64 * MIB).to_string());
    let inside = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    assert!(
        inside.lines().any(|pid| pid == container.pid().to_string()),
        "{inside:?}"
    );
    container.end();
    assert!(!cgroup.exists(), "{} was left behind", cgroup.display());
}

/// The runtime is killed while the container is half made.
fn killed_in_a_hook(test: &Test) {
    let place = Place::new(test);
    let file = test.path("hook");
    let probe = test.machine.probe.to_string_lossy().into_owned();
    let bundle = place.limited(memory(64 * MIB)).edit(|config| {
        let words = json!(["probe", "hook", file, "0", "60"]);
        config["hooks"] = json!({ "createRuntime": [{ "path": probe, "args": words }] });
    });
    let mut creating = bundle.create_call(&[]).start();
    let end = Instant::now() + Duration::from_secs(15);
    while !fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < end, "the hook never ran");
        sleep(Duration::from_millis(5));
    }
    let cgroup = bundle.cgroup().unwrap_or_default();
    let inside = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    creating.signal(Signal::SIGKILL);
    creating.stop();
    end_hook(&file);
    assert!(
        !inside.trim().is_empty(),
        "nothing was in {}",
        cgroup.display()
    );
    assert!(cgroup.exists(), "there is nothing to clean up");
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
}

/// Ends a hook whose runtime was killed, by what it left in its file: it has no
/// part in the test any more, and would outlive it.
#[track_caller]
pub(crate) fn end_hook(file: &Path) {
    let said = fs::read_to_string(file).unwrap_or_default();
    let said: Value = serde_json::from_str(&said).unwrap_or_default();
    let hook = said["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let hook = hook.unwrap_or_else(|| panic!("the hook left no number: {said}"));
    assert!(kill(Pid::from_raw(hook), Signal::SIGKILL).is_ok());
}

/// At whatever moment the runtime is killed, `delete --force` finds all of it.
fn killed_at_any_time(test: &Test) {
    let place = Place::new(test);
    let mut met = 0;
    let begin = Instant::now();
    let whole = place.limited(memory(64 * MIB)).args(&["sleep"]);
    whole.create().end();
    // What creating and deleting take together, here and now.
    let whole = begin.elapsed();
    for part in 1..=12 {
        let bundle = place.limited(memory(64 * MIB)).args(&["sleep"]);
        let mut creating = bundle.create_call(&[]).start();
        sleep(whole * part / 16);
        creating.stop();
        met += u32::from(bundle.cgroup().is_some_and(|cgroup| cgroup.exists()));
        bundle.on(&["delete", "--force"]).ok();
        bundle.assert_nothing_left();
    }
    assert!(met > 0, "no cgroup was there when the runtime was killed");
}
