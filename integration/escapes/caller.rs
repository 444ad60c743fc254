//! What belongs to whoever calls: the terminal, the keys.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;
use crate::runtime::Output;

cases! {
    ALL []: terminal_input, key_of_the_caller, hook_secrets;
}

const UNFILTERED: &str = "seccomp-default,seccomp-floor";

/// TIOCSTI, the same with bits above those that count, TIOCLINUX, TIOCSETD.
const TYPING: [&str; 5] = [
    "calls",
    "ioctl 0 0x5412 typed",
    "ioctl 0 0xffffffff00005412 typed",
    "ioctl 0 0x541c buf:8",
    "ioctl 0 0x5423 buf:8",
];

/// CVE-2017-5226, CVE-2019-10063, CVE-2023-28100: from the caller's terminal.
fn terminal_input(test: &Test) {
    let probe = test.machine.probe.display().to_string();
    let typed = |terminal: bool, options: &[&str]| {
        let bundle = Bundle::new(test)
            .args(&TYPING)
            .edit(|config| config["process"]["terminal"] = json!(terminal));
        let call = bundle.run_call(&[]).globally(options);
        let output = call.through(&[&probe, "pty", "24x80", "--"]).output();
        let lines = output.stdout.lines().map(|line| line.trim().to_owned());
        lines.collect::<Vec<_>>()
    };
    let refused = |line: &String| ["EPERM", "ENOTTY"].contains(&line.as_str());
    // Also without filters: the caller's terminal is not the program's own.
    let found = typed(false, &["--relax", UNFILTERED]);
    holds!(found.iter().take(2).all(refused), "{found:?}");
    for terminal in [false, true] {
        let found = typed(terminal, &[]);
        holds!(
            found.len() == 4 && found.iter().all(refused),
            "a terminal of its own is {terminal}: {found:?}"
        );
    }
    // On its own the kernel lets it type, or has that switched off for all.
    let found = typed(true, &["--relax", UNFILTERED]);
    assert!(!found.first().is_some_and(refused), "{found:?}");
}

/// Looks for the caller's key in the session keyring (KEYCTL_SEARCH).
fn search(test: &Test, options: &[&str]) -> Output {
    let words = ["syscall", "keyctl", "10", "-3", "user", "capsid-probe", "0"];
    let bundle = Bundle::new(test).args(&words);
    let call = bundle.run_call(&[]).globally(options);
    let probe = test.machine.probe.display().to_string();
    call.through(&[&probe, "keyed"]).output()
}

/// Keys are not of a namespace: who has the keyring has them.
fn key_of_the_caller(test: &Test) {
    let probe = test.machine.probe.display().to_string();
    if test.probe(&["keyed", &probe, "exit", "0"]).output().code != 0 {
        // This kernel has no keys.
        return;
    }
    let output = search(test, &[]);
    holds!(output.text() == "EPERM", "{}", output.text());
    let output = search(test, &["--relax", UNFILTERED]);
    holds!(output.text() == "ENOKEY", "{}", output.text());
    let output = search(test, &["--relax", UNFILTERED, "--relax", "keyring"]);
    assert!(output.text().starts_with("ok "), "{}", output.text());
}

/// A hook of a vendor is a program like others: what the caller has in its
/// environment and among its descriptors is not for it.
fn hook_secrets(test: &Test) {
    let record = test.path("record");
    let path = record.to_string_lossy().into_owned();
    let hook = json!({ "path": test.machine.probe, "args": ["bare", "hook", path] });
    let bundle = Bundle::new(test)
        .args(&["exit", "0"])
        .edit(|config| config["hooks"] = json!({ "createRuntime": [hook] }));
    let call = bundle.run_call(&[]).env("TOKEN", "secret of the caller");
    call.through_shell("exec 5</ 6</tmp").output().success();
    let text = fs::read_to_string(&record).unwrap_or_default();
    let seen: Value = serde_json::from_str(&text).unwrap_or_default();
    let env = seen["env"].to_string();
    holds!(!env.contains("secret of the caller"), "{env}");
    let all = seen["fds"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(all.len() > 2, "standard streams: {text}");
    let more = all.iter().find(|fd| fd["fd"].as_u64() > Some(2));
    holds!(more.is_none(), "{more:?}");
}
