//! Secrets: only the program can read them, and nothing else ever has them.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Report;
use crate::roles::{Role, Test};

cases! {
    ALL []: file_and_its_mount, from_standard_input, several_secrets, nothing_else_has_it,
        no_descriptor_has_it, names_and_sizes, hooks_do_not_see_it, read_only_run, strict_secret;
    RANGES []: other_users_cannot_read_it;
}

const SECRET: &str = "hunter2-3d1c5e7b";

fn run(bundle: &Bundle<'_>, flags: &[&str]) -> crate::runtime::Output {
    let output = bundle.run_call(flags).output();
    bundle.assert_nothing_left();
    output
}

fn secret_file(test: &Test) -> String {
    let file = test.path("token.txt");
    test.make_file(&file, SECRET);
    format!("token={}", file.display())
}

fn file_and_its_mount(test: &Test) {
    let word = secret_file(test);
    let flags = ["--secret", &word];
    let output = run(
        &Bundle::new(test).args(&["cat", "/run/secrets/token"]),
        &flags,
    );
    assert_eq!(output.success().stdout, SECRET);
    let output = run(
        &Bundle::new(test).args(&["stat", "/run/secrets/token"]),
        &flags,
    );
    let stat = output.success().json();
    assert_eq!(stat["mode"], "0400", "{stat}");
    assert_eq!(
        (&stat["uid"], &stat["gid"]),
        (&json!(0), &json!(0)),
        "{stat}"
    );
    let report = Report(
        run(&Bundle::new(test).args(&["report"]), &flags)
            .success()
            .json(),
    );
    assert_eq!(report.mount("/run/secrets")["fstype"], "ramfs");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(report.has_option("/run/secrets", option), "{option}");
    }
    for args in [
        ["write", "/run/secrets/new", "x"],
        ["write", "/run/secrets/token", "x"],
    ] {
        let output = run(&Bundle::new(test).args(&args), &flags).code(1);
        assert!(["EROFS", "EACCES"].contains(&output.text()), "{output:?}");
    }
}

fn from_standard_input(test: &Test) {
    let bundle = Bundle::new(test).args(&["cat", "/run/secrets/token"]);
    let call = bundle.run_call(&["--secret", "token=-"]);
    let output = call.stdin(SECRET).output().success();
    assert_eq!(output.stdout, SECRET);
    // From a pipe, where what was read is not there for the program.
    let bundle = Bundle::new(test).args(&["cat", "/dev/stdin"]);
    let call = bundle.run_call(&["--secret", "token=-"]);
    let script = format!("printf %s {SECRET} | \"$@\"");
    let output = call.through(&["/bin/sh", "-c", &script, "sh"]).output();
    assert_eq!(output.success().stdout, "");
}

fn several_secrets(test: &Test) {
    let word = secret_file(test);
    let large = test.path("large");
    test.make_file(&large, vec![7u8; 1 << 20]);
    let large = format!("large={}", large.display());
    let flags = [
        "--secret",
        &word,
        "--secret",
        &large,
        "--secret",
        "empty=/dev/null",
    ];
    let output = run(&Bundle::new(test).args(&["ls", "/run/secrets"]), &flags).success();
    for name in ["token", "large", "empty"] {
        assert!(output.stdout.contains(name), "{output:?}");
    }
    let output = run(
        &Bundle::new(test).args(&["cat", "/run/secrets/large"]),
        &flags,
    );
    assert_eq!(output.success().stdout.len(), 1 << 20);
}

/// Every file below a directory, and what it has.
fn all_below(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all_below(&path, found),
            Ok(kind) if kind.is_file() => {
                let content = fs::read(&path).unwrap_or_default();
                found.push((path.display().to_string(), content));
            }
            _ => {}
        }
    }
}

fn nothing_else_has_it(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.init": "true" });
    });
    bundle.save();
    let log = test.path("log").to_string_lossy().into_owned();
    let dir = bundle.dir.to_string_lossy();
    let words = [
        "--debug", "--log", &log, "run", "--bundle", &dir, "--secret", "token=-",
    ];
    let mut running = bundle.on(&words).stdin(SECRET).start();
    running.wait_for("READY");
    let pid = bundle.on(&["state"]).ok();
    let state: serde_json::Value = serde_json::from_str(&pid).unwrap_or_default();
    let first = state["pid"].as_i64().unwrap_or(0);
    assert!(first > 0, "{state}");
    let mut seen = Vec::new();
    all_below(&test.state_root(), &mut seen);
    assert!(
        seen.iter().any(|(path, _)| path.ends_with("state.json")),
        "{seen:?}"
    );
    for file in [&log, &format!("{log}.none")] {
        seen.push((file.clone(), fs::read(file).unwrap_or_default()));
    }
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
    let program = children.unwrap_or_default();
    let program = program
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned();
    for pid in [running.pid().to_string(), first.to_string(), program] {
        for file in ["environ", "cmdline", "mountinfo"] {
            let path = format!("/proc/{pid}/{file}");
            seen.push((path.clone(), fs::read(&path).unwrap_or_default()));
        }
    }
    for (path, content) in &seen {
        let has = |text: &str| {
            content
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(!has(SECRET), "{path} has the secret");
    }
    // What is told is told without names.
    let log = fs::read_to_string(&log).unwrap_or_default();
    assert!(!log.contains("token"), "{log}");
    bundle.on(&["kill", "--all"]).output();
    bundle.on(&["delete", "--force"]).output();
}

fn no_descriptor_has_it(test: &Test) {
    let word = secret_file(test);
    let output = run(&Bundle::new(test).args(&["report"]), &["--secret", &word]);
    let report = output.success().json();
    assert_eq!(
        report["fds"].as_array().map(Vec::len),
        Some(3),
        "{}",
        report["fds"]
    );
}

fn names_and_sizes(test: &Test) {
    let word = secret_file(test);
    let file = test.path("large");
    test.make_file(&file, vec![0u8; (1 << 20) + 1]);
    let large = format!("large={}", file.display());
    let run = |flags: &[&str], words: &[&str]| {
        let bundle = Bundle::new(test).args(&["exit", "0"]);
        bundle.run_call(flags).output().code(1).says(words);
        bundle.assert_nothing_left();
    };
    run(&["--secret", "token"], &["NAME=FILE"]);
    run(&["--secret", "token="], &["NAME=FILE"]);
    for name in ["", ".", "..", ".x", "a/b", "../x", "a b"] {
        run(
            &["--secret", &format!("{name}=/dev/null")],
            &["no name for a secret"],
        );
    }
    run(&["--secret", "t=/no/such/file"], &["/no/such/file"]);
    run(&["--secret", &large], &["large", "1048576"]);
    run(&["--secret", &word, "--secret", &word], &["given twice"]);
    run(
        &["--secret", "a=-", "--secret", "b=-"],
        &["b", "standard input"],
    );
}

fn hooks_do_not_see_it(test: &Test) {
    let word = secret_file(test);
    let file = test.path("hook").to_string_lossy().into_owned();
    let bundle = Bundle::new(test).args(&["exit", "0"]).edit(|config| {
        config["hooks"] = json!({ "createContainer": [{
            "path": test.machine.probe, "args": ["probe", "hook", file]
        }] });
    });
    run(&bundle, &["--secret", &word]).success();
    let text = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        text.contains("\"mounts\"") && !text.contains("/run/secrets"),
        "{text}"
    );
}

/// A /run of the bundle's own that is read-only in the end.
fn read_only_run(test: &Test) {
    let word = secret_file(test);
    let bundle = Bundle::new(test)
        .mount(json!({ "destination": "/run", "type": "tmpfs", "options": ["ro", "nosuid"] }))
        .args(&["cat", "/run/secrets/token"]);
    let output = run(&bundle, &["--secret", &word]);
    assert_eq!(output.success().stdout, SECRET);
}

fn strict_secret(test: &Test) {
    let word = secret_file(test);
    let bundle = Bundle::new(test).args(&["cat", "/run/secrets/token"]);
    bundle.save();
    let dir = bundle.dir.to_string_lossy();
    let mut words = vec!["--hardening", "strict"];
    if test.role == Role::Root {
        words.extend(["--relax", "userns"]);
    }
    words.extend(["run", "--bundle", &dir, "--secret", &word]);
    assert_eq!(bundle.on(&words).output().success().stdout, SECRET);
}

fn other_users_cannot_read_it(test: &Test) {
    let word = secret_file(test);
    let as_user = |args: &[&str]| {
        Bundle::new(test).args(args).edit(|config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        })
    };
    let output = run(
        &as_user(&["cat", "/run/secrets/token"]),
        &["--secret", &word],
    );
    assert_eq!(output.success().stdout, SECRET);
    let bundle = as_user(&["sleep"]);
    let mut running = bundle.run_call(&["--secret", &word]).start();
    running.wait_for("READY");
    let exec = |user: &str| {
        let words = [
            "exec",
            "--user",
            user,
            &bundle.id,
            "/bin/probe",
            "cat",
            "/run/secrets/token",
        ];
        test.capsid(&words).output()
    };
    assert_eq!(exec("1000:1000").success().stdout, SECRET);
    assert_eq!(exec("1001:1000").code(1).text(), "EACCES");
    // Root without the capability to read everything.
    assert_eq!(exec("0:0").code(1).text(), "EACCES");
    bundle.on(&["kill", "KILL"]).output();
    drop(running);
    bundle.on(&["delete", "--force"]).output();
}
