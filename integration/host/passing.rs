//! Descriptors and sockets that are passed on purpose.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: preserve_fds, preserved_fd_must_exist, exec_preserve_fds, listen_fds_of_another,
        notify_socket, pidfd_socket, standard_output_closed;
    ALL [SocketActivate]: socket_activation;
}

fn numbers(report: &Value) -> Vec<u64> {
    let all = report["fds"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|fd| fd["fd"].as_u64()).collect()
}

fn preserve_fds(test: &Test) {
    test.make_file(&test.path("three"), "3");
    test.make_file(&test.path("four"), "4");
    let bundle = Bundle::new(test).args(&["report"]);
    let script = "exec 3<three 4<four 5</ 6</tmp";
    let output = bundle
        .run_call(&["--preserve-fds", "2"])
        .through_shell(script)
        .output()
        .success();
    let report = output.json();
    assert_eq!(numbers(&report), [0, 1, 2, 3, 4], "{}", report["fds"]);
    assert!(
        report["fds"][3]["target"].to_string().contains("three"),
        "{}",
        report["fds"]
    );
}

fn preserved_fd_must_exist(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let call = bundle
        .create_call(&["--preserve-fds", "3"])
        .through_shell("exec 3</dev/null 5</dev/null");
    call.output().code(1).says(&["4"]);
    bundle.assert_nothing_left();
    bundle
        .create_call(&["--preserve-fds", "-1"])
        .output()
        .failure();
}

fn exec_preserve_fds(test: &Test) {
    test.make_file(&test.path("three"), "3");
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let call = container.exec_call(&["--preserve-fds", "1"], &["/bin/probe", "report"]);
    let report = call
        .through_shell("exec 3<three 4</")
        .output()
        .success()
        .json();
    assert_eq!(numbers(&report), [0, 1, 2, 3], "{}", report["fds"]);
    container.end();
}

fn socket_activation(test: &Test) {
    let socket = test.path("l.sock");
    let bundle = Bundle::new(test).args(&["listen"]);
    // The tool listens, and starts the runtime at the first connection.
    let tool = [
        "systemd-socket-activate",
        "-l",
        &socket.to_string_lossy(),
        "--fdname=web",
    ]
    .map(str::to_owned);
    let mut running = bundle.run_call(&[]).through(&tool).start();
    let end = Instant::now() + Duration::from_secs(10);
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{}: {error}", socket.display()),
        }
    };
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    assert_eq!(text, "hello from the container\n", "{read:?}");
    running.wait_for("LISTEN_FDS");
    let seen: Value = serde_json::from_str(running.so_far().trim()).unwrap_or_default();
    assert_eq!(seen["LISTEN_FDS"], "1");
    assert_eq!(seen["LISTEN_PID"], "1", "the pid as the container knows it");
    assert_eq!(seen["passed"][0]["type"], "socket");
    assert_eq!(numbers(&seen), [0, 1, 2, 3]);
    running.wait().success();
}

fn listen_fds_of_another(test: &Test) {
    // LISTEN_PID names another process: nothing is ours.
    let bundle = Bundle::new(test).args(&["report"]);
    let call = bundle
        .run_call(&[])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1");
    let report = call.through_shell("exec 3</etc").output().success().json();
    assert_eq!(numbers(&report), [0, 1, 2], "{}", report["fds"]);
    assert!(
        !report["env"].to_string().contains("LISTEN_"),
        "{}",
        report["env"]
    );
}

fn notify_socket(test: &Test) {
    let socket = test.path("n.sock").to_string_lossy().into_owned();
    let mut manager = test.probe(&["notify-listen", &socket]).start();
    manager.wait_for("READY");
    let bundle = Bundle::new(test).args(&["notify", "READY=1\nSTATUS=up"]);
    bundle.create_call(&[]).env("NOTIFY_SOCKET", &socket).ok();
    bundle.on(&["start"]).env("NOTIFY_SOCKET", &socket).ok();
    manager.wait_for("READY=1");
    let state = bundle.on(&["state"]).output().success().json();
    let expected = format!("MAINPID={}", state["pid"]);
    manager.wait_for(&expected);
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
}

fn pidfd_socket(test: &Test) {
    let socket = test.path("p.sock").to_string_lossy().into_owned();
    let mut receiver = test.probe(&["receive", &socket]).start();
    receiver.wait_for("READY");
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create_with(&["--pidfd-socket", &socket]);
    let output = receiver.wait().success();
    let line = output.stdout.lines().last().unwrap_or_default();
    let got: Value = serde_json::from_str(line).unwrap_or_default();
    assert_eq!(got["descriptors"], 1, "{got}");
    let info = got["fdinfo"].as_str().unwrap_or_default();
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .map(str::trim);
    assert_eq!(pid, Some(container.pid().to_string().as_str()), "{info}");
    assert_eq!(got["payload"], json!("standard"));
    container.end();
}

fn standard_output_closed(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "6"]);
    for script in ["exec 0<&-", "exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"] {
        let output = bundle.run_call(&[]).through_shell(script).output();
        assert_eq!(output.code, 6, "{script}: {output:?}");
        bundle.assert_nothing_left();
    }
}
