//! Terminals: the console socket, a terminal in the foreground, sizes, signals.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: console_socket, console_size, resize_reaches_the_program, foreground_terminal,
        foreground_exit_code, foreground_resize, terminal_rules, exec_with_terminal,
        exec_console_socket, console_file;
}

pub(crate) fn with_terminal<'t>(test: &'t Test) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["process"]["terminal"] = json!(true))
}

/// The JSON line of the receiver and what the terminal said after it.
fn first_json(text: &str) -> Value {
    let line = text
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_default();
    serde_json::from_str(line).unwrap_or_default()
}

/// The line the program itself printed through the terminal.
fn program_json(text: &str) -> Value {
    let line = text
        .lines()
        .rfind(|line| line.contains("\"isatty\""))
        .unwrap_or_default();
    serde_json::from_str(line.trim()).unwrap_or_default()
}

fn console_socket(test: &Test) {
    let socket = test.path("c.sock").to_string_lossy().into_owned();
    let mut receiver = test.probe(&["receive", &socket]).start();
    receiver.wait_for("READY");
    let bundle = with_terminal(test).args(&["console"]);
    let container = bundle.create_with(&["--console-socket", &socket]);
    receiver.wait_for("payload");
    let got = first_json(&receiver.so_far());
    assert_eq!(got["descriptors"], 1, "{got}");
    assert_eq!(
        (&got["major"], &got["minor"]),
        (&json!(5), &json!(2)),
        "a pty leader: {got}"
    );
    let name = got["payload"].as_str().unwrap_or_default();
    assert!(!name.is_empty() && name.len() < 4096, "{got}");
    container.start();
    receiver.wait_for("READY");
    receiver.wait_for("isatty");
    let seen = program_json(&receiver.so_far());
    assert_eq!(seen["isatty"], json!([true, true, true]));
    assert_eq!(seen["sid_is_own"], true);
    assert_eq!(seen["console"]["major"], 136, "{seen}");
    assert_eq!(
        seen["console"]["minor"], got["number"],
        "/dev/console is the received terminal"
    );
    assert_ne!(seen["controlling"], 0);
    container.kill("TERM");
    container.wait_status("stopped");
    container.end();
}

fn console_size(test: &Test) {
    let socket = test.path("c.sock").to_string_lossy().into_owned();
    let mut receiver = test.probe(&["receive", &socket]).start();
    receiver.wait_for("READY");
    let bundle = with_terminal(test).args(&["console"]).edit(|config| {
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 111 });
    });
    let container = bundle.create_with(&["--console-socket", &socket]);
    receiver.wait_for("payload");
    let got = first_json(&receiver.so_far());
    assert_eq!(
        (&got["rows"], &got["columns"]),
        (&json!(33), &json!(111)),
        "before start: {got}"
    );
    container.start();
    receiver.wait_for("isatty");
    let seen = program_json(&receiver.so_far());
    assert_eq!((&seen["rows"], &seen["columns"]), (&json!(33), &json!(111)));
    container.end();
    // Ignored without a terminal.
    let plain = Bundle::new(test).args(&["exit", "0"]).edit(|config| {
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 111 });
    });
    plain.run().success();
}

fn resize_reaches_the_program(test: &Test) {
    let socket = test.path("c.sock").to_string_lossy().into_owned();
    let mut receiver = test
        .probe(&["receive", &socket, "--resize", "44x99"])
        .start();
    receiver.wait_for("READY");
    let bundle = with_terminal(test).args(&["sleep-trap"]);
    let container = bundle.create_with(&["--console-socket", &socket]);
    container.start();
    receiver.wait_for("WINCH 44x99");
    container.end();
}

fn foreground_terminal(test: &Test) {
    let bundle = with_terminal(test).args(&["console"]);
    let mut running = bundle
        .run_call(&[])
        .through(&pty(test, "24x81", &[]))
        .start();
    running.wait_for("isatty");
    let seen = program_json(&running.so_far());
    assert_eq!(seen["isatty"], json!([true, true, true]));
    assert_eq!(
        (&seen["rows"], &seen["columns"]),
        (&json!(24), &json!(81)),
        "the size of the caller's terminal"
    );
    assert_eq!(seen["tty"]["name"], "/dev/pts/0", "a terminal of its own");
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
    bundle.assert_nothing_left();
}

pub(crate) fn pty<'a>(test: &Test, size: &'a str, options: &[&'a str]) -> Vec<String> {
    let mut words = vec![
        test.machine.probe.to_string_lossy().into_owned(),
        "pty".into(),
        size.into(),
    ];
    words.extend(options.iter().map(|word| (*word).to_owned()));
    words.push("--".into());
    words
}

fn foreground_exit_code(test: &Test) {
    let bundle = with_terminal(test).args(&["exit", "9"]);
    bundle
        .run_call(&[])
        .through(&pty(test, "24x80", &[]))
        .output()
        .code(9);
    // Input typed before the end arrives.
    let bundle = with_terminal(test).args(&["sleep-trap"]);
    let mut running = bundle
        .run_call(&[])
        .through(&pty(test, "24x80", &["--input", "\u{3}"]))
        .start();
    // Control-C is a signal of the inner terminal, taken by the program.
    running.wait_for("SIGNAL 2");
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
}

fn foreground_resize(test: &Test) {
    let bundle = with_terminal(test).args(&["sleep-trap"]);
    let words = pty(test, "24x80", &["--resize", "50x132"]);
    let mut running = bundle.run_call(&[]).through(&words).start();
    running.wait_for("WINCH 50x132");
    bundle.on(&["kill"]).ok();
    running.wait().code(42);
}

fn terminal_rules(test: &Test) {
    let socket = test.path("none.sock").to_string_lossy().into_owned();
    // Detached with a terminal needs a socket; without one it must not be given.
    with_terminal(test)
        .create_call(&[])
        .output()
        .code(1)
        .says(&["console"]);
    Bundle::new(test)
        .create_call(&["--console-socket", &socket])
        .output()
        .code(1)
        .says(&["console"]);
    let nobody = with_terminal(test);
    nobody
        .create_call(&["--console-socket", &socket])
        .output()
        .code(1)
        .says(&["none.sock"]);
    nobody.assert_nothing_left();
}

fn exec_with_terminal(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let call = container.exec_call(&["--tty"], &["/bin/probe", "console"]);
    let mut running = call.through(&pty(test, "31x90", &[])).start();
    running.wait_for("isatty");
    let seen = program_json(&running.so_far());
    assert_eq!(seen["isatty"], json!([true, true, true]));
    assert_eq!((&seen["rows"], &seen["columns"]), (&json!(31), &json!(90)));
    assert_ne!(seen["controlling"], 0);
    container.end();
}

fn exec_console_socket(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let socket = test.path("c.sock").to_string_lossy().into_owned();
    let mut receiver = test.probe(&["receive", &socket]).start();
    receiver.wait_for("READY");
    let call = container.exec_call(
        &["--tty", "--detach", "--console-socket", &socket],
        &["/bin/probe", "console"],
    );
    call.ok();
    receiver.wait_for("isatty");
    assert_eq!(first_json(&receiver.so_far())["descriptors"], 1);
    container
        .exec_call(&["--tty", "--detach"], &["/bin/probe", "exit", "0"])
        .output()
        .code(255);
    container.end();
}

fn console_file(test: &Test) {
    // Without a terminal there is no console to write to.
    let report = Bundle::new(test).report();
    let console = report.member("dev", "/dev/console");
    assert!(
        console.is_null() || console["major"] != 5,
        "the host's console: {console}"
    );
}
