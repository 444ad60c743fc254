//! The driver on a real bus, with a systemd that does what it is told.
//!
//! Skipped, and said so, where dbus-daemon is not installed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::wire::{Field, Kind, Message};
use super::*;
use crate::plan::cgroup::systemd::{Request, Value, changed, in_scope};
use crate::plan::cgroup::{CgroupPlan, Limit};

/// A message bus of its own, with its directory.
struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    fn start(name: &str) -> Option<Self> {
        let directory =
            std::env::temp_dir().join(format!("capsid-bus-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("bus");
        let started = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .arg(format!("--address=unix:path={}", socket.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            std::fs::remove_dir_all(&directory).unwrap();
            if std::env::var_os("CAPSID_TEST_NO_SKIP").is_some() {
                panic!("dbus-daemon is not installed");
            }
            eprintln!("skipped: dbus-daemon is not installed");
            return None;
        };
        // It listens once it has said where.
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        Some(Self { child, directory })
    }

    fn environment(&self) -> Environment {
        Environment {
            runtime: Some(self.directory.clone().into()),
            ..Environment::default()
        }
    }

    fn connect(&self) -> Bus {
        Bus::connect(&Address::Path(self.directory.join("bus")), ANSWER_PATIENCE).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What the other side does about a call.
enum Say {
    /// Answers with a path.
    Job(&'static str),
    /// Answers with nothing.
    Nothing,
    /// Answers with the value of a property.
    Value(&'static str),
    /// Refuses, with the last part of the error's name.
    Refuse(&'static str),
    /// Reports the end of a job: path and result.
    Removed(&'static str, &'static str),
    /// The same, by another program of the user, to the caller alone.
    Forged(&'static str, &'static str),
    /// Takes its time.
    Wait,
}

const UNIT: &str = "capsid-box.scope";

fn removed(serial: u32, to: Option<&str>, job: &str, result: &str) -> Vec<u8> {
    let mut fields = vec![
        Field::Path(1, PATH),
        Field::Text(2, MANAGER),
        Field::Text(3, "JobRemoved"),
    ];
    fields.extend(to.map(|to| Field::Text(6, to)));
    let mut body = Writer::default();
    body.u32(1);
    body.text(job);
    body.text(UNIT);
    body.text(result);
    wire::message(4, serial, &fields, "uoss", body)
}

/// A systemd on the bus, and another program that would like to be one.
struct Fake {
    bus: Bus,
    forger: Bus,
    serial: u32,
}

impl Fake {
    fn new(daemon: &Daemon) -> Self {
        let mut bus = daemon.connect();
        let mut body = Writer::default();
        body.text(NAME);
        body.u32(0);
        bus.ask("RequestName", "su", body).unwrap();
        Self {
            bus,
            forger: daemon.connect(),
            serial: 100,
        }
    }

    fn say(&mut self, call: &Message, words: Say) {
        self.serial += 1;
        let serial = self.serial;
        let to = call.sender.as_deref().unwrap();
        let fields = [Field::Text(6, to), Field::Number(5, call.serial)];
        let bytes = match words {
            Say::Job(path) => {
                let mut body = Writer::default();
                body.text(path);
                wire::message(2, serial, &fields, "o", body)
            }
            Say::Nothing => wire::message(2, serial, &fields, "", Writer::default()),
            Say::Value(text) => {
                let mut body = Writer::default();
                body.variant(&Value::Text(text.into()));
                wire::message(2, serial, &fields, "v", body)
            }
            Say::Refuse(name) => {
                let name = format!("org.freedesktop.systemd1.{name}");
                let fields = [fields[0], fields[1], Field::Text(4, &name)];
                let mut body = Writer::default();
                body.text("its own words");
                wire::message(3, serial, &fields, "s", body)
            }
            Say::Removed(job, result) => removed(serial, None, job, result),
            Say::Forged(job, result) => {
                let bytes = removed(serial, Some(to), job, result);
                return self.forger.send(&bytes).unwrap();
            }
            Say::Wait => return std::thread::sleep(Duration::from_millis(100)),
        };
        self.bus.send(&bytes).unwrap();
    }

    /// Serves until told to stop; gives the calls that came.
    fn serve(
        mut self,
        stop: &AtomicBool,
        answers: impl Fn(usize, &str) -> Vec<Say>,
    ) -> Vec<String> {
        let mut calls: Vec<String> = Vec::new();
        loop {
            self.bus.be_patient(Duration::from_millis(50));
            let call = match self.bus.receive() {
                Err(Fault::Timeout) if stop.load(Ordering::SeqCst) => return calls,
                Err(Fault::Timeout) => continue,
                other => other.unwrap(),
            };
            if call.kind != Kind::Call {
                continue;
            }
            let member = call.member.clone().unwrap();
            let before = calls.iter().filter(|one| one.starts_with(&member)).count();
            calls.push(format!("{member} {}", call.signature));
            self.bus.be_patient(ANSWER_PATIENCE);
            self.forger.be_patient(ANSWER_PATIENCE);
            for words in answers(before, &member) {
                self.say(&call, words);
            }
        }
    }
}

/// Runs `client` against a systemd that answers so; its calls come back with
/// what the client gave. `None` where there is no bus.
fn against<T>(
    name: &str,
    answers: impl Fn(usize, &str) -> Vec<Say> + Send,
    client: impl FnOnce(Manager) -> T,
) -> Option<(T, Vec<String>)> {
    let daemon = Daemon::start(name)?;
    let fake = Fake::new(&daemon);
    let stop = AtomicBool::new(false);
    Some(std::thread::scope(|scope| {
        let server = scope.spawn(|| fake.serve(&stop, answers));
        let mut manager = Manager::connect(Instance::User, &daemon.environment()).unwrap();
        manager.answer = Duration::from_millis(500);
        manager.job = Duration::from_millis(500);
        let given = client(manager);
        stop.store(true, Ordering::SeqCst);
        (given, server.join().unwrap())
    }))
}

fn scope() -> Scope {
    let plan = CgroupPlan {
        mount: "/sys/fs/cgroup".into(),
        path: PathBuf::new(),
        limits: Vec::new(),
        devices: None,
        notes: Vec::new(),
        scope: None,
        owner: None,
    };
    let request = Request {
        id: "box",
        path: None,
        instance: Instance::User,
        control_group: "",
        asked: true,
    };
    in_scope(plan, &request, std::iter::empty())
        .unwrap()
        .scope
        .unwrap()
}

fn start(mut manager: Manager) -> (Result<()>, bool) {
    let limits = [
        Limit::new("pids.max", "5", true),
        Limit::new("cpuset.cpus", "0", true),
    ];
    let outcome = manager.start(&scope(), 42, &limits);
    (outcome, manager.has_started())
}

fn message((outcome, _): (Result<()>, bool)) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn a_scope_is_there_when_its_job_is_done() {
    let answers = |_, member: &str| match member {
        "Subscribe" => vec![Say::Refuse("AlreadySubscribed")],
        // The end may be reported before the answer; other jobs end too.
        _ => vec![
            Say::Removed("/job/1", "failed"),
            Say::Removed("/job/7", "done"),
            Say::Job("/job/7"),
        ],
    };
    let Some(((outcome, started), calls)) = against("made", answers, start) else {
        return;
    };
    outcome.unwrap();
    assert!(started);
    assert_eq!(calls, ["Subscribe ", "StartTransientUnit ssa(sv)a(sa(sv))"]);
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().unwrap().into()
}

#[test]
fn a_scope_costs_little_time_of_our_own() {
    // The budget is that of a release build.
    let most = Duration::from_micros(if cfg!(debug_assertions) { 900 } else { 300 });
    let answers = |_, member: &str| match member {
        "Get" => vec![Say::Value("")],
        "StartTransientUnit" => vec![Say::Job("/job/1"), Say::Removed("/job/1", "done")],
        _ => vec![Say::Nothing],
    };
    let mut least = Duration::MAX;
    for round in 0..20 {
        // The connection is made before the closure: it is made once more.
        let Some(daemon) = Daemon::start(&format!("time-{round}")) else {
            return;
        };
        let fake = Fake::new(&daemon);
        let stop = AtomicBool::new(false);
        least = least.min(std::thread::scope(|scope| {
            let server = scope.spawn(|| fake.serve(&stop, answers));
            let begin = thread_time();
            let environment = daemon.environment();
            let mut manager = Manager::connect(Instance::User, &environment).unwrap();
            manager.control_group().unwrap();
            let (outcome, _) = start(manager);
            let took = thread_time() - begin;
            outcome.unwrap();
            stop.store(true, Ordering::SeqCst);
            server.join().unwrap();
            took
        }));
    }
    eprintln!("{least:?} of CPU time");
    assert!(least < most, "{least:?}");
}

#[test]
fn a_property_is_in_force_when_systemd_answers_again() {
    let answers = |_, member: &str| match member {
        "Get" => vec![Say::Value("/user.slice")],
        _ => vec![Say::Nothing],
    };
    let set = |mut manager: Manager| {
        let limits = [Limit::new("pids.max", "5", true)];
        manager.set(UNIT, &changed(&limits))
    };
    let Some((outcome, calls)) = against("set", answers, set) else {
        return;
    };
    outcome.unwrap();
    // It writes to the cgroup between two messages.
    assert_eq!(calls, ["SetUnitProperties sba(sv)", "Get ss"]);
    let answers = |_, _: &str| vec![Say::Refuse("PropertyReadOnly")];
    let Some((outcome, calls)) = against("set-refused", answers, set) else {
        return;
    };
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.contains("its own words") && text.contains(UNIT),
        "{text}"
    );
    assert_eq!(calls.len(), 1);
}

#[test]
fn systemd_moves_a_process_that_its_user_may_not_move() {
    let attach = |mut manager: Manager| manager.attach(UNIT, "/init", 42);
    let answers = |_, _: &str| vec![Say::Nothing];
    let Some((outcome, calls)) = against("attach", answers, attach) else {
        return;
    };
    outcome.unwrap();
    assert_eq!(calls, ["AttachProcessesToUnit ssau"]);
    let answers = |_, _: &str| vec![Say::Refuse("NoSuchUnit")];
    let Some((outcome, _)) = against("attach-refused", answers, attach) else {
        return;
    };
    assert!(outcome.unwrap_err().to_string().contains("its own words"));
}

#[test]
fn what_a_failed_unit_left_behind_is_reset_once() {
    let answers = |before, member: &str| match (member, before) {
        ("StartTransientUnit", 0) => vec![Say::Refuse("UnitExists")],
        ("StartTransientUnit", _) => vec![Say::Job("/job/8"), Say::Removed("/job/8", "done")],
        _ => vec![Say::Nothing],
    };
    let Some(((outcome, _), calls)) = against("reset", answers, start) else {
        return;
    };
    outcome.unwrap();
    assert_eq!(calls[2], "ResetFailedUnit s");
    assert_eq!(calls.len(), 4);
    let answers = |_, member: &str| match member {
        "StartTransientUnit" => vec![Say::Refuse("UnitExists")],
        _ => vec![Say::Nothing],
    };
    let Some((given, calls)) = against("exists", answers, start) else {
        return;
    };
    assert!(!given.1, "a unit of somebody else must not be stopped");
    let text = message(given);
    assert!(
        text.contains("its own words") && text.contains("systemctl --user stop"),
        "{text}"
    );
    assert_eq!(calls.len(), 4);
}

#[test]
fn failures_name_what_to_do() {
    let subscribed = |words: fn() -> Vec<Say>| {
        move |_: usize, member: &str| match member {
            "StartTransientUnit" => words(),
            _ => vec![Say::Nothing],
        }
    };
    type Case = (&'static str, fn() -> Vec<Say>, &'static str, bool);
    let cases: [Case; 5] = [
        (
            "failed",
            || vec![Say::Job("/job/1"), Say::Removed("/job/1", "failed")],
            "ended with \"failed\"; journalctl --user --unit capsid-box.scope",
            true,
        ),
        (
            "denied",
            || vec![Say::Refuse("AccessDenied")],
            "leave DBUS_SESSION_BUS_ADDRESS unset",
            false,
        ),
        (
            "other",
            || vec![Say::Refuse("PropertyReadOnly")],
            "its own words",
            false,
        ),
        ("silent", Vec::new, "no answer in time", true),
        ("stuck", || vec![Say::Job("/job/1")], "list-jobs", true),
    ];
    for (name, words, expected, started) in cases {
        let Some((given, _)) = against(name, subscribed(words), start) else {
            return;
        };
        assert_eq!(given.1, started, "{name}");
        let text = message(given);
        for part in expected.split("; ") {
            assert!(text.contains(part), "{name}: {text}");
        }
    }
}

#[test]
fn nobody_else_can_say_that_a_job_is_done() {
    let answers = |_, member: &str| match member {
        "StartTransientUnit" => vec![
            Say::Job("/job/1"),
            Say::Forged("/job/1", "done"),
            Say::Wait,
            Say::Removed("/job/1", "dependency"),
        ],
        _ => vec![Say::Nothing],
    };
    let Some((given, _)) = against("forged", answers, start) else {
        return;
    };
    let text = message(given);
    assert!(text.contains("ended with \"dependency\""), "{text}");
}

#[test]
fn a_scope_that_is_gone_is_stopped() {
    let stop = |mut manager: Manager| manager.stop(UNIT);
    let gone = |_, member: &str| match member {
        "Subscribe" => vec![Say::Nothing],
        _ => vec![Say::Refuse("NoSuchUnit")],
    };
    let Some((outcome, calls)) = against("gone", gone, stop) else {
        return;
    };
    outcome.unwrap();
    assert_eq!(calls, ["Subscribe ", "StopUnit ss", "ResetFailedUnit s"]);
    let there = |_, member: &str| match member {
        "StopUnit" => vec![Say::Job("/job/1"), Say::Removed("/job/1", "done")],
        _ => vec![Say::Nothing],
    };
    let (outcome, calls) = against("there", there, stop).unwrap();
    outcome.unwrap();
    assert_eq!(calls.len(), 3);
}

#[test]
fn without_a_bus_or_a_systemd_on_it_the_message_says_so() {
    let nowhere = Environment::default();
    let text = Manager::connect(Instance::User, &nowhere)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR"),
        "{text}"
    );
    let missing = Environment {
        session: Some("unix:path=/nonexistent/bus".into()),
        system: Some("unix:path=/nonexistent/bus".into()),
        ..Environment::default()
    };
    for (instance, repair) in [
        (Instance::User, "dbus-user-session"),
        (Instance::System, "cgroupfs"),
    ] {
        let text = Manager::connect(instance, &missing)
            .unwrap_err()
            .to_string();
        assert!(text.contains("ENOENT") && text.contains(repair), "{text}");
    }
    let Some(daemon) = Daemon::start("empty") else {
        return;
    };
    let error = Manager::connect(Instance::User, &daemon.environment()).unwrap_err();
    assert!(error.to_string().contains("NameHasNoOwner"), "{error}");
}
