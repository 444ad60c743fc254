//! `list --all-users` and `ps --all-users`: root among directories of users who
//! mean it ill. Root has a view of /run/user of its own.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    USERS [RealRoot]: containers_of_users, for_root_only, hostile_directories, records_that_lie;
}

/// What is on /run/user, with a directory of the role's own user.
fn users(test: &Test) -> (PathBuf, PathBuf) {
    let users = test.path("user");
    let own = users.join(test.who().uid.to_string()).join("capsid");
    test.make_dir(&users);
    test.make_dir(own.parent().unwrap_or(Path::new("/")));
    test.make_dir(&own);
    (users, own)
}

/// capsid as root, where `users` is /run/user; it must not take long.
fn as_root(test: &Test, users: &Path, words: &[&str]) -> Output {
    let begun = Instant::now();
    let script = format!(
        "mount -t tmpfs tmpfs /run; mkdir /run/user; mount --bind {} /run/user; exec \"$@\"",
        users.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "/bin/sh", "-ec", &script, "sh", "timeout", "15"])
        .arg(&test.machine.runtime)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .output()
        .unwrap_or_else(|error| panic!("unshare: {error}"));
    assert!(begun.elapsed() < Duration::from_secs(15), "{words:?}");
    output
}

#[track_caller]
fn list(test: &Test, users: &Path) -> (Vec<Value>, String) {
    let output = as_root(test, users, &["list", "--all-users", "--format", "json"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    (found.as_array().cloned().unwrap_or_default(), said)
}

/// A container of the user in the user's own state root.
fn run_in(bundle: &Bundle<'_>, root: &Path) {
    bundle.save();
    let runtime = bundle.test.machine.runtime.to_string_lossy().into_owned();
    let (root, dir) = (root.to_string_lossy(), bundle.dir.to_string_lossy());
    let words = [
        &*runtime, "--root", &root, "run", "--detach", "--bundle", &dir, &bundle.id,
    ];
    bundle.test.command(&words).output().success();
}

fn end_in(bundle: &Bundle<'_>, root: &Path) {
    let runtime = bundle.test.machine.runtime.to_string_lossy().into_owned();
    let words = [
        &*runtime,
        "--root",
        &root.to_string_lossy(),
        "delete",
        "--force",
        &bundle.id,
    ];
    bundle.test.command(&words).output().success();
}

fn containers_of_users(test: &Test) {
    let (users, own) = users(test);
    let bundle = Bundle::new(test).args(&["sleep"]);
    run_in(&bundle, &own);
    let (found, said) = list(test, &users);
    let record = fs::read_to_string(own.join(&bundle.id).join("state.json"));
    let record: Value = serde_json::from_str(&record.unwrap_or_default()).unwrap_or_default();
    assert_eq!((found.len(), said.as_str()), (1, ""), "{found:?}");
    assert_eq!(found[0]["id"], json!(bundle.id));
    assert_eq!(found[0]["status"], "running");
    assert_eq!(found[0]["pid"], record["pid"]);
    let owner = found[0]["owner"].as_str().unwrap_or_default();
    assert!(owner.starts_with("capsid-"), "{owner}");
    let output = as_root(
        test,
        &users,
        &["ps", "--all-users", "--format", "json", &bundle.id],
    );
    let pids: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let pids = pids.as_array().cloned().unwrap_or_default();
    assert!(pids.contains(&record["pid"]), "{output:?}");
    for pid in &pids {
        // What root is told is processes of this user's ids.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(!status.contains("Uid:\t0\t"), "{status}");
    }
    let output = as_root(test, &users, &["ps", "--all-users", "nobodys"]);
    assert_eq!(output.status.code(), Some(1));
    // Without the option it is nobody's.
    let output = as_root(test, &users, &["list", "--quiet"]);
    assert_eq!(output.stdout, b"");
    end_in(&bundle, &own);
    let (found, _) = list(test, &users);
    assert_eq!(found, Vec::<Value>::new());
}

fn for_root_only(test: &Test) {
    for words in [&["list", "--all-users"][..], &["ps", "--all-users", "x"]] {
        test.capsid(words)
            .output()
            .code(1)
            .says(&["--all-users", "root"]);
        let call = test.capsid(words);
        let call = call.through(&["unshare", "--user", "--map-root-user"]);
        call.output().code(1).says(&["--all-users", "root"]);
    }
}

/// None of these is followed, waited for or believed, and none hides the others.
fn hostile_directories(test: &Test) {
    let (users, own) = users(test);
    let bundle = Bundle::new(test).args(&["sleep"]);
    run_in(&bundle, &own);
    let record = own.join(&bundle.id).join("state.json");
    let place = |name: &str| {
        let place = own.join(name);
        test.make_dir(&place);
        place.join("state.json")
    };
    let fifo = place("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    test.give(&fifo);
    symlink(&record, place("link")).unwrap_or_else(|error| panic!("{error}"));
    symlink(own.join(&bundle.id), own.join("linked")).unwrap_or_else(|error| panic!("{error}"));
    let giant = place("giant");
    test.make_file(&giant, "");
    let file = fs::File::options().write(true).open(&giant);
    let grown = file.and_then(|file| file.set_len(1 << 40));
    grown.unwrap_or_else(|error| panic!("{error}"));
    test.make_file(&place("nonsense"), "\u{1b}[2J{");
    let copy = fs::read(&record).unwrap_or_default();
    test.make_file(&place("another"), &copy);
    // Of root, in the user's directory: what a user could not have put there.
    let mut roots: Value = serde_json::from_slice(&copy).unwrap_or_default();
    roots["id"] = json!("roots");
    fs::write(place("roots"), roots.to_string()).unwrap_or_else(|error| panic!("{error}"));
    test.make_file(&own.join("file"), "");
    // Others' runtime directories: a link, one that belongs to somebody else, no number.
    symlink(own.parent().unwrap_or(&own), users.join("4242")).unwrap_or_else(|e| panic!("{e}"));
    let theirs = users.join("4243/capsid");
    test.make_dir(&theirs);
    chown(users.join("4243"), Some(4243), None).unwrap_or_else(|error| panic!("{error}"));
    test.make_dir(&users.join("name/capsid"));
    let (found, said) = list(test, &users);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["id"], json!(bundle.id));
    for (name, why) in [
        ("fifo", "is no regular file"),
        ("link", "ELOOP"),
        ("giant", "has more than"),
        ("nonsense", "is no record of this capsid"),
        ("another", "is of another version or container"),
        ("roots", "belongs to user 0"),
        ("4242", "ENOTDIR"),
        ("4243", "and not to 4243"),
    ] {
        let told = |line: &&str| line.contains(&format!("/{name}: "));
        let line = said.lines().find(told).unwrap_or_default();
        assert!(line.contains(why), "{name}: {said}");
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
    for id in ["fifo", "giant", "link", "linked"] {
        let output = as_root(test, &users, &["ps", "--all-users", "--format", "json", id]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    end_in(&bundle, &own);
}

/// A record names another user's process, and what a terminal acts on.
fn records_that_lie(test: &Test) {
    let (users, own) = users(test);
    let bundle = Bundle::new(test).args(&["sleep"]);
    run_in(&bundle, &own);
    let file = own.join(&bundle.id).join("state.json");
    let honest = fs::read_to_string(&file).unwrap_or_default();
    let mut record: Value = serde_json::from_str(&honest).unwrap_or_default();
    // This test's own process: root's.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let started = after.split_whitespace().nth(19).unwrap_or_default();
    record["pid"] = json!(std::process::id());
    record["start_time"] = json!(started.parse::<u64>().unwrap_or(0));
    record["owner"] = json!(0);
    record["bundle"] = json!("/b\u{1b}[2J\u{9b}1m\u{202e}x\ny");
    record["created"] = json!("now\u{1b}[2J\n");
    test.make_file(&file, record.to_string());
    let (found, _) = list(test, &users);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["status"], &found[0]["pid"]),
        (&json!("stopped"), &json!(0))
    );
    assert!(
        found[0]["owner"]
            .as_str()
            .is_some_and(|owner| owner != "root")
    );
    let output = as_root(
        test,
        &users,
        &["ps", "--all-users", "--format", "json", &bundle.id],
    );
    assert_eq!(output.stdout, b"[]\n");
    for form in ["table", "json"] {
        let output = as_root(test, &users, &["list", "--all-users", "--format", form]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&bundle.id), "{text}");
        let acts = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(acts), "{text:?}");
        assert_eq!(
            text.lines().count(),
            if form == "table" { 2 } else { 1 },
            "{text:?}"
        );
    }
    test.make_file(&file, honest);
    end_in(&bundle, &own);
}
