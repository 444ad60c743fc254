//! What is written down of containers, read from outside of capsid.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;
use crate::runtime::Call;

cases! {
    ROOT [RealRoot]: life_is_written_down, no_secret_is_written_down, what_is_refused,
        rotation_needs_nothing, where_it_cannot_be_written, a_full_disk, a_hundred_at_once,
        whose_file_it_may_be, a_broken_policy_lets_containers_end;
    USERS [RealRoot]: the_file_is_roots;
    ALL [RealRoot]: the_journal_gets_fields, a_silent_journal_does_not_hang, denied_calls,
        hostile_names_are_shown_harmless;
}

/// A policy with this file, and what else belongs to it.
fn policy(file: &Path, more: Value) -> String {
    let mut policy = json!({ "audit": { "file": file } });
    for (key, value) in more.as_object().into_iter().flatten() {
        match key.as_str() {
            "required" => policy["audit"][key] = value.clone(),
            _ => policy[key] = value.clone(),
        }
    }
    policy.to_string()
}

fn log(test: &Test) -> PathBuf {
    test.path("audit.log")
}

#[track_caller]
fn events(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}"));
    assert!(text.ends_with('\n'), "{text:?}");
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(read).filter(of_this_test).collect()
}

/// What the bundle leaves out differs from role to role.
fn of_this_test(event: &Value) -> bool {
    let by = event["by"].as_str().unwrap_or_default();
    !by.starts_with("the bundle")
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["event"].as_str().unwrap_or_default())
        .collect()
}

/// A program of the host's own takes the digest.
fn sha256(file: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("sha256sum: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("sha256:{}", text.split(' ').next().unwrap_or_default())
}

fn life_is_written_down(test: &Test) {
    let file = log(test);
    let text = policy(&file, json!({}));
    let obeying = |call: Call<'_>| {
        call.obeying(test, &text, "").output().success();
    };
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["annotations"] = json!({ "nerdctl/name": "web", "other": "text" }));
    let call = bundle.create_call(&[]).globally(&["--relax", "core-dumps"]);
    obeying(call);
    let pid = bundle.on(&["state"]).ok();
    let pid: Value = serde_json::from_str(&pid).unwrap_or_default();
    obeying(bundle.on(&["start"]));
    obeying(test.capsid(&[
        "exec",
        "--user",
        "7:8",
        &bundle.id,
        "/bin/probe",
        "exit",
        "0",
    ]));
    obeying(test.capsid(&["kill", &bundle.id, "KILL"]));
    obeying(bundle.on(&["delete", "--force"]));
    let found = events(&file);
    let expected = ["create", "relax", "start", "exec", "kill", "delete"];
    assert_eq!(kinds(&found), expected, "{found:?}");
    let digest = sha256(&bundle.dir.join("config.json"));
    for event in &found {
        assert_eq!(event["id"], json!(bundle.id), "{event}");
        assert_eq!(event["uid"], json!(0), "{event}");
        assert_eq!(event["config"], json!(digest), "{event}");
        assert_eq!(event["names"], json!({ "nerdctl/name": "web" }), "{event}");
        assert_eq!(event["root"], json!(test.state_root()), "{event}");
        let time = event["time"].as_str().unwrap_or_default();
        assert!(time.len() == 30 && time.ends_with('Z'), "{event}");
        assert!(
            event["caller"].as_i64().is_some_and(|pid| pid > 1),
            "{event}"
        );
    }
    assert_eq!(found[0]["pid"], pid["pid"]);
    assert_eq!(found[0]["rules"]["core-dumps"], "relaxed by --relax");
    assert_eq!(found[0]["rules"]["no-new-privs"], "enforced");
    assert_eq!(
        found[0]["rules"].as_object().map(|rules| rules.len()),
        Some(18)
    );
    assert_eq!(found[0]["program"], "/bin/probe");
    assert_eq!(found[1]["rule"], "core-dumps");
    assert_eq!(found[1]["by"], "--relax");
    assert_eq!(found[3]["user"], "7:8");
    assert_eq!(found[4]["signal"], json!(9));
    assert_eq!(found[5]["force"], json!(true));
    let mode = fs::metadata(&file).map(|found| (found.uid(), found.mode() & 0o7777));
    assert_eq!(mode.ok(), Some((0, 0o600)));
    bundle.assert_nothing_left();
    // Another container, the whole life in one command.
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    obeying(bundle.run_call(&[]));
    let found = events(&file);
    assert_eq!(kinds(&found[6..]), ["create", "start", "delete"]);
    let shown = test.capsid(&["audit", "show", "--event", "exec", &file.to_string_lossy()]);
    let shown = shown.ok();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("user=7:8"), "{shown}");
    let call = test.capsid(&["audit", "show", "--format", "json", "--id", &bundle.id]);
    let shown = call.obeying(test, &text, "").ok();
    let lines = shown.lines().filter(|line| !line.contains("\"relax\""));
    assert_eq!(lines.count(), 3, "{shown}");
}

fn no_secret_is_written_down(test: &Test) {
    const MARK: &str = "m4rk3d-s3cr3t";
    let file = log(test);
    let text = policy(&file, json!({ "allowRelaxation": false }));
    let bundle = Bundle::new(test).args(&["exit", MARK]).edit(|config| {
        config["annotations"] = json!({ "token": MARK, MARK: "x" });
        config["process"]["env"] = json!([format!("TOKEN={MARK}"), "PATH=/bin"]);
        config["hostname"] = json!("host");
    });
    let secret = test.path("secret");
    test.make_file(&secret, MARK);
    let option = format!("token={}", secret.display());
    let call = bundle.run_call(&["--secret", &option]);
    call.obeying(test, &text, "").output().failure();
    let bundle = bundle.args(&["sleep"]);
    bundle
        .create_call(&[])
        .obeying(test, &text, "")
        .output()
        .success();
    bundle
        .on(&["start"])
        .obeying(test, &text, "")
        .output()
        .success();
    let env = format!("TOKEN={MARK}");
    let words = [
        "exec",
        "--env",
        &env,
        &bundle.id,
        "/bin/probe",
        "exit",
        MARK,
    ];
    test.capsid(&words)
        .obeying(test, &text, "")
        .output()
        .failure();
    let call = test.capsid(&words).globally(&["--hardening", "compat"]);
    call.obeying(test, &text, "").output().code(255);
    bundle
        .on(&["delete", "--force"])
        .obeying(test, &text, "")
        .output()
        .success();
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written.contains("\"refusal\"") && written.contains("\"exec\""),
        "{written}"
    );
    assert!(!written.contains(MARK), "{written}");
}

fn what_is_refused(test: &Test) {
    let file = log(test);
    let strict = policy(
        &file,
        json!({ "hardening": "strict", "allowRelaxation": false }),
    );
    let bundle = Bundle::new(test).edit(|config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["annotations"] = json!({ "nerdctl/name": "bad" });
    });
    let call = bundle.run_call(&[]).obeying(test, &strict, "");
    let output = call.output().code(1);
    let call = bundle.create_call(&[]).globally(&["--relax", "pids"]);
    call.obeying(test, &strict, "").output().code(1);
    let words = ["sandbox", "--relax", "seccomp-floor", "--", "true"];
    test.capsid(&words)
        .obeying(test, &strict, "")
        .output()
        .failure();
    bundle.assert_nothing_left();
    let found = events(&file);
    assert_eq!(kinds(&found), ["refusal"; 3], "{found:?}");
    let commands: Vec<_> = found.iter().map(|event| event["command"].clone()).collect();
    assert_eq!(commands, ["run", "create", "sandbox"]);
    let why = found[0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("/process/noNewPrivileges"), "{why}");
    assert!(
        output.stderr.contains("/process/noNewPrivileges"),
        "{output:?}"
    );
    assert_eq!(found[0]["names"]["nerdctl/name"], "bad");
    assert_eq!(found[0]["id"], json!(bundle.id));
    // What is wrong and not forbidden is no refusal.
    let wrong = Bundle::new(test).edit(|config| config["root"]["path"] = json!("nowhere"));
    let call = wrong
        .run_call(&[])
        .obeying(test, &policy(&file, json!({})), "");
    call.output().code(1);
    assert_eq!(events(&file).len(), 3);
}

fn rotation_needs_nothing(test: &Test) {
    let file = log(test);
    let text = policy(&file, json!({}));
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle
        .create_call(&[])
        .obeying(test, &text, "")
        .output()
        .success();
    let old = test.path("audit.log.1");
    fs::rename(&file, &old).unwrap_or_else(|error| panic!("{error}"));
    let call = bundle.on(&["delete", "--force"]);
    call.obeying(test, &text, "").output().success();
    assert_eq!(kinds(&events(&old))[0], "create");
    assert_eq!(kinds(&events(&file)), ["delete"]);
}

fn where_it_cannot_be_written(test: &Test) {
    let there = Bundle::new(test).args(&["sleep"]);
    let container = there.create();
    for required in [false, true] {
        let nowhere = test.path("nowhere/audit.log");
        let text = policy(&nowhere, json!({ "required": required }));
        let bundle = Bundle::new(test).args(&["exit", "7"]);
        let output = bundle.run_call(&[]).obeying(test, &text, "").output();
        match required {
            false => output.code(7),
            true => output
                .code(1)
                .says(&["nowhere/audit.log", "ENOENT", "required"]),
        };
        bundle.assert_nothing_left();
    }
    let text = policy(&test.path("nowhere/audit.log"), json!({ "required": true }));
    // Nothing begins, and everything can be ended.
    there
        .on(&["start"])
        .obeying(test, &text, "")
        .output()
        .code(1)
        .says(&["required"]);
    assert_eq!(container.status(), "created");
    container.start();
    let words = ["exec", &*there.id, "/bin/probe", "exit", "0"];
    let call = test.capsid(&words).obeying(test, &text, "");
    call.output().code(255).says(&["required"]);
    let call = test.capsid(&["kill", &there.id, "KILL"]);
    call.obeying(test, &text, "").output().success();
    container.wait_status("stopped");
    there
        .on(&["delete"])
        .obeying(test, &text, "")
        .output()
        .success();
    there.assert_nothing_left();
}

/// The beginning of a line that a full disk took hides no other event.
fn a_full_disk(test: &Test) {
    let disk = test.path("disk");
    test.make_dir(&disk);
    let file = disk.join("audit.log");
    let view = |fill: &str| {
        format!(
            "mount -t tmpfs -o size=8k tmpfs {0}; {fill}",
            disk.display()
        )
    };
    let text = policy(&file, json!({ "required": true }));
    let created = Bundle::new(test).args(&["sleep"]);
    let container = created.create();
    // Two pages are taken, and there is no room for the line or a hundred bytes.
    for (taken, begun) in [(8000, 0), (4096, 3996)] {
        let fill = format!(
            "head -c {taken} /dev/zero > {0}/fill\n\
             head -c {begun} /dev/zero | tr '\\0' x > {0}/audit.log",
            disk.display()
        );
        // It has one event.
        let call = created.on(&["start"]).obeying(test, &text, &view(&fill));
        call.output().code(1).says(&["ENOSPC", "required"]);
        assert_eq!(container.status(), "created");
    }
    container.end();
    // Half a line is there, and then the disk has room again.
    let start = "{\"time\":\"2026-11-25T21:50:00.000000000Z\",\"event\":\"sta";
    let file = log(test);
    test.make_file(&file, start);
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    let call = bundle.run_call(&[]);
    call.obeying(test, &policy(&file, json!({})), "")
        .output()
        .code(7);
    let shown = test.capsid(&["audit", "show", "--format", "json", &file.to_string_lossy()]);
    let output = shown.output().success().says(&["1 lines"]);
    let lines = output
        .stdout
        .lines()
        .filter(|line| !line.contains("\"relax\""));
    assert_eq!(lines.count(), 3, "{output:?}");
}

fn a_hundred_at_once(test: &Test) {
    let file = log(test);
    let text = policy(&file, json!({ "allowRelaxation": false }));
    let bundle = Bundle::new(test);
    let call = bundle.run_call(&[]).globally(&["--relax", "pids"]);
    let call = call.through(&[
        "/bin/sh",
        "-c",
        "n=0; while [ $n -lt 100 ]; do n=$((n+1)); \"$@\" 2>/dev/null & done; wait",
        "sh",
    ]);
    call.obeying(test, &text, "").output().success();
    let found = events(&file);
    assert_eq!(kinds(&found), ["refusal"; 100]);
    bundle.assert_nothing_left();
}

fn whose_file_it_may_be(test: &Test) {
    let file = log(test);
    let text = policy(&file, json!({ "required": true }));
    let path = file.display();
    let elsewhere = test.path("elsewhere");
    test.make_file(&elsewhere, "");
    for change in [
        format!("touch {path}; chown 7 {path}"),
        format!("touch {path}; chmod 0622 {path}"),
        format!("ln -s {} {path}", elsewhere.display()),
        format!("mkdir {path}"),
        format!("mkfifo {path}"),
        format!("mkfifo {path}; exec 9<> {path}"),
    ] {
        let bundle = Bundle::new(test).args(&["exit", "0"]);
        let call = bundle.run_call(&[]).obeying(test, &text, &change);
        call.output().code(1).says(&["audit.log"]);
        bundle.assert_nothing_left();
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
    }
    assert_eq!(fs::read(&elsewhere).ok(), Some(Vec::new()));
}

fn a_broken_policy_lets_containers_end(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for words in [
        &["kill", &bundle.id, "KILL"][..],
        &["delete", "--force", &bundle.id],
    ] {
        let call = test.capsid(words).obeying(test, "{\"audit\": 7}", "");
        call.output().success();
    }
    bundle.assert_nothing_left();
    drop(container);
}

/// A file is root's business: users are neither kept from working nor told, but for
/// `required`.
fn the_file_is_roots(test: &Test) {
    let place = test
        .machine
        .base
        .join(format!("audit-{}", test.role.name()));
    fs::create_dir(&place).unwrap_or_else(|error| panic!("{error}"));
    let file = place.join("audit.log");
    for required in [false, true] {
        let bundle = Bundle::new(test).args(&["exit", "7"]);
        let text = policy(&file, json!({ "required": required }));
        let output = bundle.run_call(&[]).obeying(test, &text, "").output();
        match required {
            false => assert_eq!(output.code(7).stderr, ""),
            true => drop(output.code(1).says(&["ordinary users", "journald"])),
        }
        bundle.assert_nothing_left();
    }
    assert!(!file.exists());
}

/// A journal of the test's own, where capsid looks for it, and the change to its view.
pub(crate) fn journal(test: &Test) -> (UnixDatagram, String) {
    let place = test.path("j");
    test.make_dir(&place);
    let socket = place.join("socket");
    let journal = UnixDatagram::bind(&socket).unwrap_or_else(|error| panic!("{error}"));
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(&socket, open).unwrap_or_else(|error| panic!("{error}"));
    let patience = Some(Duration::from_secs(5));
    journal
        .set_read_timeout(patience)
        .unwrap_or_else(|error| panic!("{error}"));
    let view = format!(
        "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal\n\
         mount --bind {} /run/systemd/journal",
        place.display()
    );
    (journal, view)
}

pub(crate) fn entry(journal: &UnixDatagram) -> Vec<(String, String)> {
    let mut buffer = vec![0; 1 << 16];
    let length = journal
        .recv(&mut buffer)
        .unwrap_or_else(|error| panic!("{error}"));
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    if text.contains("\"by\":\"the bundle") {
        return entry(journal);
    }
    let field = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?}"));
        (name.to_owned(), value.to_owned())
    };
    text.lines().map(field).collect()
}

fn the_journal_gets_fields(test: &Test) {
    let (socket, view) = journal(test);
    let bundle = Bundle::new(test).args(&["exit", "7"]).edit(|config| {
        config["annotations"] = json!({ "nerdctl/name": "a\nCAPSID_EVENT=delete\n" });
    });
    let text = json!({ "audit": { "journald": true, "required": true } }).to_string();
    let call = bundle.run_call(&[]).globally(&["--relax", "core-dumps"]);
    call.obeying(test, &text, &view).output().code(7);
    for kind in ["create", "relax", "start", "delete"] {
        let fields = entry(&socket);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "MESSAGE",
            "PRIORITY",
            "SYSLOG_IDENTIFIER",
            "CAPSID_EVENT",
            "CAPSID_ID",
            "CAPSID_JSON",
        ];
        assert_eq!(names, expected);
        assert_eq!(fields[3].1, kind);
        assert_eq!(fields[4].1, bundle.id);
        let event: Value = serde_json::from_str(&fields[5].1).unwrap_or_default();
        assert_eq!(event["event"], kind);
        assert_eq!(event["uid"], json!(test.who().uid));
        assert_eq!(event["names"]["nerdctl/name"], "a\nCAPSID_EVENT=delete\n");
    }
}

fn a_silent_journal_does_not_hang(test: &Test) {
    let (socket, view) = journal(test);
    // Nobody reads: its queue fills up.
    let filler = UnixDatagram::unbound().unwrap_or_else(|error| panic!("{error}"));
    filler
        .set_nonblocking(true)
        .unwrap_or_else(|error| panic!("{error}"));
    while filler.send_to(b"x", test.path("j/socket")).is_ok() {}
    let text =
        |required: bool| json!({ "audit": { "journald": true, "required": required } }).to_string();
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    let call = bundle.run_call(&[]).obeying(test, &text(false), &view);
    call.output().code(7);
    let call = bundle.run_call(&[]).obeying(test, &text(true), &view);
    call.output().code(1).says(&["journal", "EAGAIN"]);
    bundle.assert_nothing_left();
    drop(socket);
    let call = bundle.run_call(&[]).obeying(test, &text(true), &view);
    call.output().code(1).says(&["journal", "ECONNREFUSED"]);
}

fn denied_calls(test: &Test) {
    let (socket, view) = journal(test);
    let bundle = Bundle::new(test).args(&["calls", "keyctl 0 -3 0"]);
    let text = json!({ "audit": "journald" }).to_string();
    let call = bundle.run_call(&["--report-denials"]);
    call.obeying(test, &text, &view).output().success();
    let kinds = ["create", "start", "delete", "denial"].map(|kind| {
        let fields = entry(&socket);
        assert_eq!(fields[3].1, kind, "{fields:?}");
        fields[5].1.clone()
    });
    let event: Value = serde_json::from_str(&kinds[3]).unwrap_or_default();
    assert_eq!(event["call"], "keyctl");
    assert_eq!(event["program"], "probe");
    assert_eq!(event["count"], json!(1));
    assert!(
        event["answer"]
            .as_str()
            .is_some_and(|text| text.contains("EPERM"))
    );
}

fn hostile_names_are_shown_harmless(test: &Test) {
    let hostile = "x\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\"}\n{\"time\":\"";
    let (socket, view) = journal(test);
    let bundle = Bundle::new(test).args(&["exit", "7"]).edit(|config| {
        config["annotations"] = json!({ "io.kubernetes.pod.name": hostile });
    });
    let text = json!({ "audit": "journald" }).to_string();
    bundle
        .run_call(&[])
        .obeying(test, &text, &view)
        .output()
        .code(7);
    let line = entry(&socket).remove(5).1;
    let file = test.path("copy");
    // A line that capsid did not write is shown no worse.
    let raw = json!({ "time": "2026", "event": "create", "id": hostile, "uid": 0 }).to_string();
    test.make_file(&file, format!("{line}\n{raw}\nnonsense\n"));
    for form in ["table", "json"] {
        let words = ["audit", "show", "--format", form, &file.to_string_lossy()];
        let output = test.capsid(&words).output().success().says(&["1 lines"]);
        let text = output.stdout.as_str();
        let lines = if form == "table" { 3 } else { 2 };
        assert_eq!(text.lines().count(), lines, "{text}");
        let acts = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2028}".contains(c);
        assert!(!text.contains(acts), "{text:?}");
    }
}
