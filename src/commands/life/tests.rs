//! The commands on records that stand for real processes.

use super::list::Whose;
use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::*;
use crate::execute::alive::Stat;
use crate::state::{CgroupRecord, Driver, FORMAT, START_SOCKET};

/// A state root of its own, with processes that end with it.
struct Scratch {
    root: PathBuf,
    children: RefCell<Vec<Child>>,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("capsid-life-{}-{name}", std::process::id()));
        Self {
            root,
            children: Vec::new().into(),
        }
    }

    /// A process that sleeps.
    fn sleeper(&self) -> i32 {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.borrow_mut().push(child);
        pid
    }

    /// A container whose first process is `pid`; 0 for one without.
    fn container(&self, id: &str, pid: i32, cgroup: Option<PathBuf>) -> Record {
        let start_time = if pid == 0 {
            0
        } else {
            Stat::of(pid).unwrap().unwrap().start_time
        };
        let record: Record = serde_json::from_value(serde_json::json!({
            "format": FORMAT, "oci_version": "1.3.0", "id": id,
            "bundle": "/b", "rootfs": "/b/rootfs", "created": "2026-01-01T00:00:00.000000001Z",
            "owner": 0, "annotations": { "a.b": "<c>" }, "pid": pid, "start_time": start_time,
            "cgroup": cgroup.map(|path| CgroupRecord { path, driver: Driver::Cgroupfs }),
            "namespaces": 0, "private_pid": true, "filter": { "profile": "none", "floor": false },
            "hardening": { "level": "strict" },
            "outcomes": [{ "rule": "self", "outcome": "enforced", "detail": "so" }],
            "late_steps": { "first": 1, "of": 1, "steps": [], "program": "" },
        }))
        .unwrap();
        let root = Root::open_or_create(&self.root).unwrap();
        let slot = root.reserve(id).unwrap();
        slot.container().save(&record).unwrap();
        drop(slot.keep());
        record
    }

    fn running(&self, id: &str) -> i32 {
        let pid = self.sleeper();
        self.container(id, pid, None);
        pid
    }

    fn state(&self, id: &str) -> serde_json::Value {
        let mut out = Vec::new();
        state::state(&self.root, id, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    fn kill(&self, id: &str, signal: &str) -> Result<()> {
        kill::kill(&self.root, id, signal, false)
    }

    fn delete(&self, id: &str, force: bool) -> Result<()> {
        delete::delete(&self.root, id, force, &|_| {})
    }

    fn list(&self, form: list::Form) -> (String, Vec<String>) {
        let (mut out, mut broken) = (Vec::new(), Vec::new());
        list::list(
            &self.root,
            false,
            Whose::Callers,
            form,
            &mut out,
            &mut |id, error| {
                broken.push(format!("{id}: {error}"));
            },
        )
        .unwrap();
        (String::from_utf8(out).unwrap(), broken)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for child in self.children.borrow_mut().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Waits for a process to end, as a zombie of this one.
fn ended(pid: i32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Stat::of(pid).unwrap().unwrap().lives() {
        assert!(Instant::now() < deadline, "process {pid} did not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The words of a failure.
fn words(outcome: Result<()>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn state_is_runcs_to_the_byte_and_a_key_of_our_own() {
    let scratch = Scratch::new("state");
    let pid = scratch.running("a");
    let mut out = Vec::new();
    state::state(&scratch.root, "a", &mut out).unwrap();
    let expected = format!(
        "{{\n  \"ociVersion\": \"1.3.0\",\n  \"id\": \"a\",\n  \"pid\": {pid},\n  \
         \"status\": \"running\",\n  \"bundle\": \"/b\",\n  \"rootfs\": \"/b/rootfs\",\n  \
         \"created\": \"2026-01-01T00:00:00.000000001Z\",\n  \"annotations\": {{\n    \
         \"a.b\": \"<c>\"\n  }},\n  \"owner\": \"\",\n  \
         \"capsid\": {{\n    \"hardening\": \"strict\",\n    \"rules\": [\n      {{\n        \
         \"rule\": \"self\",\n        \"outcome\": \"enforced\",\n        \
         \"detail\": \"so\"\n      }}\n    ]\n  }}\n}}"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn the_status_is_what_is_there() {
    let scratch = Scratch::new("status");
    let pid = scratch.running("a");
    assert_eq!(scratch.state("a")["status"], "running");
    let socket = scratch.root.join("a").join(START_SOCKET);
    std::fs::write(&socket, "").unwrap();
    assert_eq!(scratch.state("a")["status"], "created");
    std::fs::remove_file(&socket).unwrap();
    scratch.kill("a", "KILL").unwrap();
    // Not waited for: a zombie is a stopped container.
    ended(pid);
    assert_eq!(scratch.state("a")["status"], "stopped");
    assert_eq!(scratch.state("a")["pid"], 0);
    // No process yet: in progress as long as somebody works on it.
    scratch.container("b", 0, None);
    assert_eq!(scratch.state("b")["status"], "stopped");
    let (container, _) = load(&scratch.root, "b").unwrap();
    let _lock = container.try_lock().unwrap().unwrap();
    assert_eq!(scratch.state("b")["status"], "creating");
}

#[test]
fn another_process_with_the_same_number_is_left_alone() {
    let scratch = Scratch::new("reuse");
    let pid = scratch.running("a");
    let (container, mut record) = load(&scratch.root, "a").unwrap();
    record.start_time += 1;
    container.save(&record).unwrap();
    assert_eq!(scratch.state("a")["status"], "stopped");
    assert_eq!(words(scratch.kill("a", "KILL")), "container not running");
    scratch.delete("a", true).unwrap();
    assert!(Stat::of(pid).unwrap().unwrap().lives());
}

#[test]
fn kill_says_what_engines_look_for() {
    let scratch = Scratch::new("kill");
    assert_eq!(words(scratch.kill("none", "9")), "container does not exist");
    assert_eq!(
        words(scratch.kill("../a", "9")),
        "invalid container ID format"
    );
    let pid = scratch.running("a");
    assert_eq!(words(scratch.kill("a", "NOPE")), "unknown signal \"NOPE\"");
    scratch.kill("a", "0").unwrap();
    scratch.kill("a", "sigterm").unwrap();
    ended(pid);
    assert_eq!(words(scratch.kill("a", "15")), "container not running");
    kill::kill(&scratch.root, "a", "KILL", true).unwrap();
}

#[test]
fn delete_takes_only_what_has_ended() {
    let scratch = Scratch::new("delete");
    let pid = scratch.running("a");
    assert_eq!(
        words(scratch.delete("a", false)),
        "cannot delete container a that is not stopped: running"
    );
    assert!(Stat::of(pid).unwrap().unwrap().lives());
    // Created: never started, so nothing of the user's is lost.
    std::fs::write(scratch.root.join("a").join(START_SOCKET), "").unwrap();
    let seen = RefCell::new(Vec::new());
    delete::delete(&scratch.root, "a", false, &|record| {
        seen.borrow_mut().push(record.id.clone())
    })
    .unwrap();
    assert_eq!(*seen.borrow(), ["a"]);
    assert!(!Stat::of(pid).unwrap().unwrap().lives());
    assert!(!scratch.root.join("a").exists());
    assert_eq!(
        words(scratch.delete("a", false)),
        "container does not exist"
    );
}

#[test]
fn forced_delete_always_ends_with_nothing() {
    let scratch = Scratch::new("force");
    scratch.delete("none", true).unwrap();
    assert_eq!(
        words(scratch.delete("..", true)),
        "invalid container ID format"
    );
    let pid = scratch.running("a");
    scratch.delete("a", true).unwrap();
    assert!(!Stat::of(pid).unwrap().unwrap().lives());
    scratch.delete("a", true).unwrap();
    // A directory without a record goes either way; only the answer differs.
    for force in [false, true] {
        std::fs::create_dir(scratch.root.join("b")).unwrap();
        assert_eq!(scratch.delete("b", force).is_ok(), force);
        assert!(!scratch.root.join("b").exists());
    }
}

/// A container whose `start` hangs is held locked, and must be removable.
#[test]
fn forced_delete_kills_before_it_waits() {
    let scratch = Scratch::new("locked");
    scratch.container("a", 0, None);
    // flock(1) becomes sleep, which then is both the first process and the holder.
    let mut flock = Command::new("flock");
    flock
        .arg("--no-fork")
        .arg(scratch.root.join("a"))
        .args(["sleep", "600"]);
    let child = flock.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    scratch.children.borrow_mut().push(child);
    let (container, mut record) = load(&scratch.root, "a").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !container.is_locked() {
        assert!(Instant::now() < deadline, "flock did not lock");
        std::thread::sleep(Duration::from_millis(1));
    }
    record.pid = pid;
    record.start_time = Stat::of(pid).unwrap().unwrap().start_time;
    container.save(&record).unwrap();
    scratch.delete("a", true).unwrap();
    assert!(!scratch.root.join("a").exists());
}

#[test]
fn forced_delete_salvages_a_record_of_another_version() {
    let scratch = Scratch::new("salvage");
    let pid = scratch.running("a");
    let file = scratch.root.join("a/state.json");
    let other = std::fs::read_to_string(&file)
        .unwrap()
        .replace(&format!("\"format\":{FORMAT}"), "\"format\":99");
    std::fs::write(&file, other).unwrap();
    assert!(words(scratch.delete("a", false)).contains("capsid delete --force a"));
    assert!(Stat::of(pid).unwrap().unwrap().lives());
    scratch.delete("a", true).unwrap();
    assert!(!Stat::of(pid).unwrap().unwrap().lives());
    scratch.container("b", 0, None);
    std::fs::write(scratch.root.join("b/state.json"), "{\"pid\": ").unwrap();
    scratch.delete("b", true).unwrap();
    assert!(!scratch.root.join("b").exists());
}

#[test]
fn list_shows_the_good_and_reports_the_bad() {
    let scratch = Scratch::new("list");
    assert_eq!(
        scratch.list(list::Form::Json),
        ("null\n".into(), Vec::new())
    );
    assert!(
        list::list(
            &scratch.root,
            true,
            Whose::Callers,
            list::Form::Json,
            &mut Vec::new(),
            &mut |_, _| {}
        )
        .is_err()
    );
    let pid = scratch.running("a-rather-long-name");
    scratch.container("b", 0, None);
    scratch.container("c", 0, None);
    std::fs::write(scratch.root.join("c/state.json"), "").unwrap();
    std::fs::create_dir(scratch.root.join("d")).unwrap();
    let (table, broken) = scratch.list(list::Form::Table);
    let created = "2026-01-01T00:00:00.000000001Z";
    assert_eq!(
        table,
        format!(
            "{:21}{:12}{:12}{:12}{:33}OWNER\n{:21}{pid:<12}{:12}{:12}{created:33}root\n\
             {:21}{:12}{:12}{:12}{created:33}root\n",
            "ID",
            "PID",
            "STATUS",
            "BUNDLE",
            "CREATED",
            "a-rather-long-name",
            "running",
            "/b",
            "b",
            "0",
            "stopped",
            "/b"
        )
    );
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(
        broken[0].starts_with("c: ") && broken[1].starts_with("d: "),
        "{broken:?}"
    );
    assert_eq!(scratch.list(list::Form::Ids).0, "a-rather-long-name\nb\n");
    let (json, _) = scratch.list(list::Form::Json);
    assert!(
        json.starts_with("[{\"ociVersion\":\"1.3.0\",\"id\":\"a-rather-long-name\""),
        "{json}"
    );
    assert!(json.ends_with("\"owner\":\"root\"}]\n"), "{json}");
}

#[test]
fn without_a_cgroup_there_is_no_pause() {
    let scratch = Scratch::new("nopause");
    scratch.running("a");
    assert!(words(freeze::pause(&scratch.root, "a")).contains("no cgroup of its own"));
    assert_eq!(
        words(freeze::resume(&scratch.root, "a")),
        "container not paused"
    );
    scratch.container("b", 0, None);
    assert_eq!(
        words(freeze::pause(&scratch.root, "b")),
        "container not running"
    );
}

/// With a cgroup; only where `CAPSID_TEST_CGROUP` names a writable cgroup2 directory.
#[test]
fn a_cgroup_is_paused_listed_killed_and_removed() {
    let Some(base) = std::env::var_os("CAPSID_TEST_CGROUP") else {
        return;
    };
    let scratch = Scratch::new("cgroup");
    let path = PathBuf::from(base).join(format!("capsid-life-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let (init, other) = (scratch.sleeper(), scratch.sleeper());
    let enter = |pid: i32| std::fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
    enter(init);
    enter(other);
    let mut record = scratch.container("a", init, Some(path.clone()));

    freeze::pause(&scratch.root, "a").unwrap();
    assert_eq!(scratch.state("a")["status"], "paused");
    assert_eq!(words(freeze::pause(&scratch.root, "a")), "container paused");
    assert!(words(scratch.delete("a", false)).ends_with("that is not stopped: paused"));
    freeze::resume(&scratch.root, "a").unwrap();
    assert_eq!(scratch.state("a")["status"], "running");

    let mut out = Vec::new();
    ps::ids(&scratch.root, "a", Whose::Callers, &mut out).unwrap();
    let (first, second) = (init.min(other), init.max(other));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("[{first},{second}]\n")
    );

    // No pid namespace: SIGKILL reaches everyone, and again after the first has ended.
    record.private_pid = false;
    let (container, _) = load(&scratch.root, "a").unwrap();
    container.save(&record).unwrap();
    scratch.kill("a", "KILL").unwrap();
    ended(init);
    ended(other);
    assert_eq!(words(scratch.kill("a", "KILL")), "container not running");
    let straggler = scratch.sleeper();
    enter(straggler);
    scratch.kill("a", "KILL").unwrap();
    ended(straggler);
    // The first process counts even where it was moved out of its cgroup.
    let moved = scratch.sleeper();
    record.pid = moved;
    record.start_time = Stat::of(moved).unwrap().unwrap().start_time;
    container.save(&record).unwrap();
    scratch.kill("a", "KILL").unwrap();
    ended(moved);

    std::fs::create_dir_all(path.join("inner.slice/most")).unwrap();
    scratch.delete("a", false).unwrap();
    assert!(!path.exists() && !scratch.root.join("a").exists());
}
