//! Ending with the caller: `run --die-with-parent`.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;
use crate::runtime::Running;

cases! {
    ALL []: the_end_of_the_caller, the_end_of_the_runtime, an_init_ends_too, joined_namespaces_end_too,
        another_user_ends_too, without_the_option_it_goes_on, it_needs_the_foreground;
}

/// The runtime, below a shell that waits for it.
fn start<'t>(bundle: &'t Bundle<'t>, flags: &[&str]) -> Running {
    let mut running = bundle
        .run_call(flags)
        .through(&["/bin/sh", "-c", "\"$@\"; exit $?", "sh"])
        .start();
    running.wait_for("READY");
    running
}

fn first_process(bundle: &Bundle<'_>) -> i64 {
    let state: Value = serde_json::from_str(&bundle.on(&["state"]).ok()).unwrap_or_default();
    let pid = state["pid"].as_i64().unwrap_or(0);
    assert!(pid > 0, "{state}");
    pid
}

fn children(pid: i64) -> Vec<i64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn end(pid: i64) {
    let killed = kill(
        Pid::from_raw(i32::try_from(pid).unwrap_or(0)),
        Signal::SIGKILL,
    );
    assert!(killed.is_ok(), "{killed:?}");
}

/// Neither running nor waiting to be reaped by somebody of this test's.
fn is_gone(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !Path::new(&format!("/proc/{pid}")).exists() || stat.contains(") Z ")
}

#[track_caller]
fn expect_gone(pids: &[i64]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(pid) = pids.iter().find(|pid| !is_gone(**pid)) {
        assert!(
            Instant::now() < deadline,
            "process {pid} of {pids:?} lives on"
        );
        sleep(Duration::from_millis(5));
    }
}

/// What a killed runtime cannot remove itself.
#[track_caller]
fn clean_up(bundle: &Bundle<'_>) {
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
}

#[track_caller]
fn ends_with(bundle: &Bundle<'_>, killed: impl Fn(i64, i64) -> i64) {
    let running = start(bundle, &["--die-with-parent"]);
    let shell = i64::from(running.pid());
    let runtime = children(shell);
    let first = first_process(bundle);
    let mut all = runtime.clone();
    all.push(first);
    all.extend(children(first));
    assert!(!runtime.is_empty(), "the runtime is below the shell");
    end(killed(shell, runtime[0]));
    expect_gone(&all);
    drop(running);
    clean_up(bundle);
}

fn the_end_of_the_caller(test: &Test) {
    ends_with(&Bundle::new(test).args(&["sleep"]), |shell, _| shell);
}

fn the_end_of_the_runtime(test: &Test) {
    ends_with(&Bundle::new(test).args(&["sleep"]), |_, runtime| runtime);
}

fn an_init_ends_too(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.init": "true" });
    });
    ends_with(&bundle, |shell, _| shell);
}

/// Where a joiner comes between, the first process is the runtime's child all the same.
fn joined_namespaces_end_too(test: &Test) {
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .namespace(json!({ "type": "time" }))
        .edit(|config| {
            config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 100 } });
        });
    ends_with(&bundle, |_, runtime| runtime);
}

/// A change of user takes the kernel's promise back, unless it was made after it.
fn another_user_ends_too(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        if test.role != crate::roles::Role::Single {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        }
        config["process"]["capabilities"] = json!({});
    });
    ends_with(&bundle, |_, runtime| runtime);
}

fn without_the_option_it_goes_on(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let running = start(&bundle, &[]);
    let runtime = children(i64::from(running.pid()));
    let first = first_process(&bundle);
    end(runtime[0]);
    expect_gone(&runtime);
    sleep(Duration::from_millis(200));
    assert!(!is_gone(first));
    drop(running);
    clean_up(&bundle);
}

fn it_needs_the_foreground(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle
        .run_call(&["--die-with-parent", "--detach"])
        .output()
        .code(1)
        .says(&["--die-with-parent", "--detach"]);
    bundle.assert_nothing_left();
}
