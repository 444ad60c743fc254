//! systemd as the manager of containers' cgroups: the machine's for root, the
//! user's own for a user. What it made is asked of systemctl and of the cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::controllers::MIB;
use crate::roles::{Role, Test};
use crate::runtime::Call;

cases! {
    RANGES [Systemd]: scope_around_the_container, limits_on_both_sides, a_life_in_a_scope, slices_and_names,
        names_are_taken_once, a_failed_unit_is_no_obstacle, ends_by_itself, stopped_by_systemd,
        killed_between_scope_and_start, killed_at_any_time, annotations, annotations_refused,
        delegated_to_the_container, refused_limits_leave_no_scope, no_bus;
}

/// A container's unit.
struct Unit<'t> {
    test: &'t Test,
    name: String,
}

impl<'t> Unit<'t> {
    /// That of a bundle which does not name one.
    fn of(bundle: &Bundle<'t>) -> Self {
        Self::named(bundle.test, &format!("capsid-{}.scope", bundle.id))
    }

    fn named(test: &'t Test, name: &str) -> Self {
        Self {
            test,
            name: name.to_owned(),
        }
    }

    /// The role's systemd is asked.
    fn systemctl(&self, words: &[&str]) -> Call<'t> {
        let mut all = vec!["systemctl"];
        if self.test.rootless() {
            all.push("--user");
        }
        all.extend_from_slice(words);
        self.test.command(&all)
    }

    #[track_caller]
    fn property(&self, property: &str) -> String {
        let words = ["show", "--value", "--property", property, &self.name];
        self.systemctl(&words).ok().trim().to_owned()
    }

    #[track_caller]
    fn cgroup(&self) -> PathBuf {
        let group = self.property("ControlGroup");
        assert!(group.len() > 1, "{} has no cgroup: {group:?}", self.name);
        PathBuf::from(format!("/sys/fs/cgroup{group}"))
    }

    /// A file of the unit's cgroup.
    #[track_caller]
    fn value(&self, file: &str) -> String {
        let path = self.cgroup().join(file);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    #[track_caller]
    fn processes(&self) -> Vec<i64> {
        let text = self.value("cgroup.procs");
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    fn is_known(&self) -> bool {
        self.property("LoadState") != "not-found"
    }

    /// systemd has forgotten it, and its cgroup is gone.
    #[track_caller]
    fn assert_gone(&self, cgroup: &Path) {
        assert!(!cgroup.exists(), "{} was left behind", cgroup.display());
        let state = self.property("ActiveState");
        assert!(!self.is_known(), "{} is still {state}", self.name);
    }
}

/// The role logs in: from here on systemd makes its cgroups.
fn log_in(test: &Test) {
    let first = test.session.set(&["--systemd-cgroup"]);
    assert!(first.is_ok(), "once for each test");
}

/// A bundle that leaves the name of its unit to the runtime.
fn bundle(test: &Test) -> Bundle<'_> {
    Bundle::new(test).edit(|config| {
        config["linux"]
            .as_object_mut()
            .map(|linux| linux.remove("cgroupsPath"));
    })
}

fn limited(test: &Test, resources: Value) -> Bundle<'_> {
    bundle(test).edit(|config| config["linux"]["resources"] = resources)
}

fn memory(bytes: u64) -> Value {
    json!({ "memory": { "limit": bytes } })
}

/// The slice for containers whose bundle names none.
fn usual_slice(test: &Test) -> &'static str {
    match test.role {
        Role::Root => "system.slice",
        _ => "user.slice",
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn scope_around_the_container(test: &Test) {
    log_in(test);
    let bundle = bundle(test).args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    for (property, expected) in [
        ("LoadState", "loaded"),
        ("ActiveState", "active"),
        ("SubState", "running"),
        ("Transient", "yes"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryAccounting", "yes"),
        ("Slice", usual_slice(test)),
    ] {
        assert_eq!(unit.property(property), expected, "{property}");
    }
    let description = unit.property("Description");
    assert!(description.contains(&bundle.id), "{description}");
    let cgroup = unit.cgroup();
    assert!(cgroup.ends_with(Path::new(usual_slice(test)).join(&unit.name)));
    if test.rootless() {
        let own = format!("user@{}.service", test.who().uid);
        assert!(
            cgroup.iter().any(|level| level == own.as_str()),
            "{} is not the user's own",
            cgroup.display()
        );
    }
    assert!(unit.processes().contains(&container.pid()));
    let said = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()));
    let path = cgroup.strip_prefix("/sys/fs/cgroup").unwrap_or(&cgroup);
    assert_eq!(
        said.unwrap_or_default().trim(),
        format!("0::/{}", path.display())
    );
    container.end();
    unit.assert_gone(&cgroup);
}

/// What was asked for is in the kernel's files and in systemd's properties, and
/// stays there when systemd reads its configuration anew.
fn limits_on_both_sides(test: &Test) {
    log_in(test);
    let bundle = limited(
        test,
        json!({
            "memory": { "limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB },
            "cpu": { "shares": 512, "quota": 25_000, "period": 50_000 },
            "pids": { "limit": 77 },
            "unified": { "memory.high": (48 * MIB).to_string(), "cgroup.max.descendants": "3" }
        }),
    );
    let container = bundle.args(&["sleep"]);
    let container = container.ready();
    let unit = Unit::of(container.bundle);
    let check = |when: &str| {
        let bytes = |number: u64| (number * MIB).to_string();
        for (file, value, property, told) in [
            ("memory.max", bytes(64), "MemoryMax", bytes(64)),
            ("memory.low", bytes(32), "MemoryLow", bytes(32)),
            ("memory.high", bytes(48), "MemoryHigh", bytes(48)),
            ("memory.swap.max", bytes(32), "MemorySwapMax", bytes(32)),
            ("cpu.weight", "59".into(), "CPUWeight", "59".into()),
            (
                "cpu.max",
                "25000 50000".into(),
                "CPUQuotaPerSecUSec",
                "500ms".into(),
            ),
            ("pids.max", "77".into(), "TasksMax", "77".into()),
        ] {
            assert_eq!(unit.value(file), value, "{file} {when}");
            assert_eq!(unit.property(property), told, "{property} {when}");
        }
        // systemd has no word for it.
        assert_eq!(unit.value("cgroup.max.descendants"), "3", "{when}");
    };
    check("at first");
    unit.systemctl(&["daemon-reload"]).ok();
    check("after a reload");
    let cgroup = unit.cgroup();
    container.end();
    unit.assert_gone(&cgroup);
}

/// Only `create` is told who made the cgroup: the others know.
fn a_life_in_a_scope(test: &Test) {
    log_in(test);
    let bundle = limited(test, json!({ "pids": { "limit": 50 } })).args(&["sleep"]);
    let mut container = bundle.create();
    let unit = Unit::of(&bundle);
    let cgroup = unit.cgroup();
    assert_eq!(container.status(), "created");
    assert_eq!(unit.processes(), [container.pid()]);
    let plain = |words: &[&str]| {
        let mut all = words.to_vec();
        all.push(&bundle.id);
        test.capsid_with(&[], &all).ok()
    };
    plain(&["start"]);
    container.wait_for("READY");
    bundle.on(&["pause"]).ok();
    assert_eq!(container.status(), "paused");
    let frozen = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
    assert!(frozen.contains("frozen 1"), "{frozen}");
    plain(&["resume"]);
    assert_eq!(container.status(), "running");
    bundle.on(&["update", "--pids-limit", "40"]).ok();
    assert_eq!(unit.value("pids.max"), "40");
    let stats = bundle.on(&["events", "--stats"]).output().success().json();
    assert_eq!(stats["data"]["pids"]["limit"], 40);
    let shown: Vec<i64> =
        serde_json::from_str(&plain(&["ps", "--format", "json"])).unwrap_or_default();
    assert_eq!(shown, unit.processes());
    plain(&["delete", "--force"]);
    bundle.assert_nothing_left();
    unit.assert_gone(&cgroup);
}

/// `linux.cgroupsPath` is slice, prefix and name.
fn slices_and_names(test: &Test) {
    log_in(test);
    let named =
        |path: &str| bundle(test).edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    for (path, slice, below, name) in [
        (
            "capsidtest-inner.slice:box:one",
            "capsidtest-inner.slice",
            "capsidtest.slice/capsidtest-inner.slice",
            "box-one.scope",
        ),
        (
            ":box:two",
            usual_slice(test),
            usual_slice(test),
            "box-two.scope",
        ),
        (
            "capsidtest.slice::three",
            "capsidtest.slice",
            "capsidtest.slice",
            "three.scope",
        ),
    ] {
        let bundle = named(path).args(&["sleep"]);
        let container = bundle.ready();
        let unit = Unit::named(test, name);
        assert_eq!(unit.property("Slice"), slice, "{path}");
        let cgroup = unit.cgroup();
        let end = Path::new(below).join(name);
        assert!(cgroup.ends_with(end), "{path}: {}", cgroup.display());
        assert!(unit.processes().contains(&container.pid()), "{path}");
        container.end();
        unit.assert_gone(&cgroup);
    }
    for (path, word) in [
        ("/one/two", "slice:prefix:name"),
        ("one:two", "slice:prefix:name"),
        ("one:two:three", "\"one\" is not the name of a slice"),
        ("a--b.slice:box:name", "not the name of a slice"),
        ("system.slice:box:a/b", "may not be in the name of a unit"),
    ] {
        named(path).refused(&["/linux/cgroupsPath", word]);
    }
    // An empty slice stays with systemd.
    for slice in ["capsidtest-inner.slice", "capsidtest.slice"] {
        Unit::named(test, slice).systemctl(&["stop", slice]).ok();
    }
}

/// Whoever comes second is refused, and the first is left alone.
fn names_are_taken_once(test: &Test) {
    log_in(test);
    let named = || bundle(test).edit(|config| config["linux"]["cgroupsPath"] = json!(":box:taken"));
    let first = named().args(&["sleep"]);
    let running = first.ready();
    let unit = Unit::named(test, "box-taken.scope");
    let before = unit.processes();
    let second = named().args(&["sleep"]);
    second.refused(&["box-taken.scope", "another linux.cgroupsPath"]);
    assert_eq!(unit.processes(), before);
    assert_eq!(running.status(), "running");
    let cgroup = unit.cgroup();
    running.end();
    unit.assert_gone(&cgroup);
}

/// A unit that failed keeps its name until somebody resets it.
fn a_failed_unit_is_no_obstacle(test: &Test) {
    log_in(test);
    let bundle = bundle(test);
    let unit = Unit::of(&bundle);
    let name = format!("--unit={}", unit.name);
    let mut words = vec!["systemd-run", "--quiet", "--scope", &name];
    if test.rootless() {
        words.push("--user");
    }
    words.extend_from_slice(&["--property=RuntimeMaxSec=1", "sleep", "60"]);
    test.command(&words).output().failure();
    until("the unit fails", || {
        unit.property("ActiveState") == "failed"
    });
    bundle.run_probe(&["exit", "7"]).code(7);
    assert!(!unit.is_known(), "{}", unit.property("ActiveState"));
}

/// No command of the runtime is needed for systemd to forget a scope.
fn ends_by_itself(test: &Test) {
    log_in(test);
    let foreground = bundle(test).args(&["exit", "7"]);
    foreground.run().code(7);
    assert!(!Unit::of(&foreground).is_known());
    foreground.assert_nothing_left();
    let bundle = bundle(test).args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    let cgroup = unit.cgroup();
    container.kill("KILL");
    container.wait_status("stopped");
    until("the scope ends", || !unit.is_known());
    container.end();
    unit.assert_gone(&cgroup);
}

fn stopped_by_systemd(test: &Test) {
    log_in(test);
    let bundle = bundle(test).args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    let cgroup = unit.cgroup();
    unit.systemctl(&["stop", &unit.name]).ok();
    container.wait_status("stopped");
    container.end();
    unit.assert_gone(&cgroup);
}

/// The runtime ends in a hook, when the scope is there and nothing runs in it.
fn killed_between_scope_and_start(test: &Test) {
    log_in(test);
    let file = test.path("hook");
    let probe = test.machine.probe.to_string_lossy().into_owned();
    let bundle = limited(test, memory(64 * MIB)).edit(|config| {
        let words = json!(["probe", "hook", file, "0", "60"]);
        config["hooks"] = json!({ "createRuntime": [{ "path": probe, "args": words }] });
    });
    let unit = Unit::of(&bundle);
    let mut creating = bundle.create_call(&[]).start();
    until("the hook runs", || {
        fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    });
    assert_eq!(unit.property("ActiveState"), "active");
    let cgroup = unit.cgroup();
    creating.signal(Signal::SIGKILL);
    creating.stop();
    crate::delegation::end_hook(&file);
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
    unit.assert_gone(&cgroup);
}

/// At whatever moment the runtime is killed, `delete --force` finds all of it.
fn killed_at_any_time(test: &Test) {
    log_in(test);
    let begin = Instant::now();
    let whole = limited(test, memory(64 * MIB)).args(&["sleep"]);
    whole.create().end();
    let whole = begin.elapsed();
    let mut met = 0;
    for part in 1..=8 {
        let bundle = limited(test, memory(64 * MIB)).args(&["sleep"]);
        let mut creating = bundle.create_call(&[]).start();
        sleep(whole * part / 12);
        creating.stop();
        let unit = Unit::of(&bundle);
        met += u32::from(unit.is_known());
        bundle.on(&["delete", "--force"]).ok();
        bundle.assert_nothing_left();
        // A scope in the making ends when its process is gone.
        until("the scope ends", || !unit.is_known());
    }
    assert!(met > 0, "no scope was there when the runtime was killed");
}

fn annotated<'t>(test: &'t Test, annotations: &Value) -> Bundle<'t> {
    let annotations = annotations.clone();
    bundle(test).edit(|config| config["annotations"] = annotations)
}

fn annotations(test: &Test) {
    log_in(test);
    let bundle = annotated(
        test,
        &json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.After": "['capsid-test-none.target']",
            "org.example.other": "not for systemd"
        }),
    )
    .args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    assert_eq!(unit.property("TimeoutStopUSec"), "7s");
    assert_eq!(unit.property("CollectMode"), "inactive-or-failed");
    let after = unit.property("After");
    assert!(after.contains("capsid-test-none.target"), "{after}");
    let cgroup = unit.cgroup();
    container.end();
    unit.assert_gone(&cgroup);
}

/// CVE-2024-3154: properties name commands that systemd would run.
fn annotations_refused(test: &Test) {
    log_in(test);
    for (name, value) in [
        (
            "ExecStopPost",
            "[('/bin/sh', ['sh', '-c', 'id >/run/pwned'], false)]",
        ),
        ("Delegate", "false"),
        ("TimeoutStopUSec", "'soon'"),
    ] {
        let key = format!("org.systemd.property.{name}");
        let bundle = annotated(test, &json!({ key.as_str(): value }));
        bundle.refused(&["/annotations/org.systemd.property.", name]);
        assert!(!Unit::of(&bundle).is_known(), "{name}");
    }
}

/// The container's root may make cgroups below its own, and no other.
fn delegated_to_the_container(test: &Test) {
    log_in(test);
    let users = json!([{ "containerID": 0, "hostID": test.machine.range.0, "size": 65_536 }]);
    let bundle = limited(test, memory(64 * MIB)).edit(|config| {
        if test.role == Role::Root {
            crate::container::push(
                &mut config["linux"]["namespaces"],
                json!({ "type": "user" }),
            );
            config["linux"]["uidMappings"] = users.clone();
            config["linux"]["gidMappings"] = users;
        }
        config["mounts"][6]["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
    });
    let bundle = bundle.args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    let inside = |args: &[&str]| container.exec(&[], args);
    inside(&["mkdir", "/sys/fs/cgroup/inner"]).code(0);
    let made = unit.cgroup().join("inner");
    assert!(made.join("cgroup.procs").exists(), "{}", made.display());
    // The limits themselves are the host's.
    let raised = inside(&["write", "/sys/fs/cgroup/memory.max", "max"]).failure();
    assert_eq!(raised.text(), "EACCES");
    assert_eq!(unit.value("memory.max"), (64 * MIB).to_string());
    let cgroup = unit.cgroup();
    container.end();
    unit.assert_gone(&cgroup);
}

fn refused_limits_leave_no_scope(test: &Test) {
    log_in(test);
    let bundle = limited(test, json!({ "unified": { "memory.nothing": "1" } }));
    bundle.refused(&["memory.nothing"]);
    until("the scope ends", || !Unit::of(&bundle).is_known());
}

/// The message names what is not there and how to get it.
fn no_bus(test: &Test) {
    log_in(test);
    let bundle = bundle(test);
    let call = bundle.create_call(&[]);
    let (call, whose, repair) = match test.role {
        Role::Root => (
            call.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent"),
            "the machine's systemd",
            "systemctl start dbus.socket",
        ),
        _ => (
            call.env("XDG_RUNTIME_DIR", &test.dir),
            "the user's systemd",
            "loginctl enable-linger",
        ),
    };
    call.output().code(1).says(&[whose, "ENOENT", repair]);
    bundle.assert_nothing_left();
}
