//! systemd as the manager of containers' cgroups: the machine's for root, the
//! user's own for a user. What it made is asked of systemctl and of the cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::cases::cases;
use crate::controllers::{MIB, until};
use crate::roles::{Role, Test};
use crate::scopes::annotated;
use crate::units::{Unit, bundle, limited, log_in, log_in_with, memory, usual_slice};

cases! {
    RANGES [Systemd]: scope_around_the_container, limits_on_both_sides, a_life_in_a_scope, ends_by_itself,
        stopped_by_systemd, killed_between_scope_and_start, killed_at_any_time, delegated_to_the_container,
        refused_limits_leave_no_scope, no_bus;
    RANGED [Systemd]: a_scope_without_being_asked, delegated_needs_no_scope;
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
    let updates = [
        ("--pids-limit=40", "pids.max", "40", "TasksMax", "40"),
        (
            "--memory=33554432",
            "memory.max",
            "33554432",
            "MemoryMax",
            "33554432",
        ),
        ("--cpu-share=1024", "cpu.weight", "100", "CPUWeight", "100"),
        // systemd rounds to hundredths of a processor; the kernel's file does not.
        (
            "--cpu-quota=12345",
            "cpu.max",
            "12345 100000",
            "CPUQuotaPerSecUSec",
            "130ms",
        ),
    ];
    for (flag, file, value, property, told) in updates {
        bundle.on(&["update", flag]).ok();
        assert_eq!(unit.value(file), value, "{flag}");
        assert_eq!(unit.property(property), told, "{flag}");
    }
    let stats = bundle.on(&["events", "--stats"]).output().success().json();
    assert_eq!(stats["data"]["pids"]["limit"], 40);
    // The caller is outside of what systemd delegates to a user.
    container
        .exec_call(&["--detach"], &["/bin/probe", "sleep"])
        .ok();
    assert_eq!(unit.processes().len(), 2);
    let shown: Vec<i64> =
        serde_json::from_str(&plain(&["ps", "--format", "json"])).unwrap_or_default();
    assert_eq!(shown, unit.processes());
    plain(&["delete", "--force"]);
    bundle.assert_nothing_left();
    unit.assert_gone(&cgroup);
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
    // The first process of a pid namespace is not ended by SIGTERM: that takes
    // until systemd loses patience.
    let patience = json!({ "org.systemd.property.TimeoutStopUSec": "uint64 1000000" });
    let bundle = annotated(test, &patience).args(&["sleep"]);
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
    // The last one is killed when the container waits for its start: before that
    // the process ends with the runtime, and the scope with the process.
    for part in 1..=10 {
        let bundle = limited(test, memory(64 * MIB)).args(&["sleep"]);
        let mut creating = bundle.create_call(&[]).start();
        sleep(whole * part / 8);
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

/// The container's root may make cgroups below its own, and no other.
fn delegated_to_the_container(test: &Test) {
    log_in(test);
    let bundle = limited(test, memory(64 * MIB)).edit(|config| {
        config["mounts"][6]["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
    });
    let bundle = bundle.args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    let inside = |args: &[&str]| container.exec(&[], args);
    inside(&["mkdir", "/sys/fs/cgroup/inner"]).code(0);
    let made = unit.cgroup().join("inner");
    assert!(made.join("cgroup.procs").exists(), "{}", made.display());
    // The limits themselves are the host's, although the files are the user's.
    let raised = inside(&["write", "/sys/fs/cgroup/memory.max", "max"]);
    assert_eq!(raised.text(), "EPERM");
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

/// A user who may not write a cgroup gets one from systemd.
fn a_scope_without_being_asked(test: &Test) {
    log_in_with(test, &[]);
    let bundle = limited(test, memory(64 * MIB)).args(&["sleep"]);
    let container = bundle.ready();
    let unit = Unit::of(&bundle);
    assert_eq!(unit.property("Slice"), "user.slice");
    assert_eq!(unit.value("memory.max"), (64 * MIB).to_string());
    assert!(unit.processes().contains(&container.pid()));
    let plan = test.capsid(&["explain", &bundle.dir.to_string_lossy()]);
    let plan = plan.ok();
    assert!(plan.contains("a scope of the user's systemd"), "{plan}");
    let cgroup = unit.cgroup();
    container.end();
    unit.assert_gone(&cgroup);
    // A place in the hierarchy is not a name for systemd.
    let named = limited(test, memory(64 * MIB))
        .edit(|config| config["linux"]["cgroupsPath"] = json!("/capsid-test-elsewhere"));
    named.refused(&["/sys/fs/cgroup", "EACCES"]);
}

/// Where a cgroup is delegated to the caller, the container is put there.
fn delegated_needs_no_scope(test: &Test) {
    log_in_with(test, &[]);
    let bundle = limited(test, memory(64 * MIB)).args(&["sleep"]);
    let scope = [
        "systemd-run",
        "--user",
        "--quiet",
        "--scope",
        "--property=Delegate=yes",
    ];
    let mut creating = bundle.create_call(&[]).through(&scope).start();
    creating.finish_ok();
    assert!(!Unit::of(&bundle).is_known());
    let pid = bundle.on(&["state"]).output().success().json()["pid"].clone();
    let said = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = said.trim().trim_start_matches("0::");
    let cgroup = PathBuf::from(format!("/sys/fs/cgroup{path}"));
    let own = format!("user@{}.service", test.who().uid);
    assert!(cgroup.iter().any(|level| level == own.as_str()), "{path}");
    let limit = fs::read_to_string(cgroup.join("memory.max")).unwrap_or_default();
    assert_eq!(limit.trim(), (64 * MIB).to_string());
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
    assert!(!cgroup.exists(), "{path} was left behind");
}
