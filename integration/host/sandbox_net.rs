//! What a sandbox reaches, and what it does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::cases::cases;
use crate::network::{ELSEWHERE, ELSEWHERE_TOO};
use crate::roles::Test;
use crate::sandboxed::Sandbox;

cases! {
    ALL [Pasta]: loopback_of_the_host, only_what_is_named, everything_but_the_host,
        from_the_host, names_are_looked_up_outside;
    ALL [Pasta, Curl]: a_web_server;
    ALL [Pasta]: pasta_ends_with_the_sandbox;
    ALL []: nothing_by_default, ways_that_are_none;
}

/// A server that answers each connection with its own address.
fn server(address: &str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap_or_else(|e| panic!("{address}: {e}"));
    let own = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
    #[allow(
        clippy::disallowed_methods,
        reason = "it is the runtime that has one thread, and not its tests"
    )]
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            answer(connection, own);
        }
    });
    own
}

fn answer(mut connection: TcpStream, own: SocketAddr) {
    let _ = connection.set_read_timeout(Some(Duration::from_millis(200)));
    // A request, if there is one: bash sends none, curl does.
    let _ = connection.read(&mut [0; 1024]);
    let body = format!("hello from {own}\n");
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = connection.write_all((head + &body).as_bytes());
}

/// A line of bash that says what a server answers, or that it is not reached.
fn ask(address: impl std::fmt::Display, port: u16) -> String {
    format!(
        "if exec 3<>/dev/tcp/{address}/{port}; then tail -n 1 <&3; else echo refused {address} {port}; fi 2>&1"
    )
}

fn lines(sandbox: &Sandbox<'_>, script: &[String]) -> String {
    let script = script.join("\n");
    sandbox.run(&["bash", "-c", &script]).success().stdout
}

fn nothing_by_default(test: &Test) {
    let server = server("127.0.0.1");
    let said = lines(&Sandbox::new(test), &[ask("127.0.0.1", server.port())]);
    assert!(said.contains("refused 127.0.0.1"), "{said}");
    let report = Sandbox::new(test).sh("cat /proc/net/dev | grep -c :");
    assert_eq!(report.success().stdout.trim(), "1", "loopback only");
}

fn loopback_of_the_host(test: &Test) {
    let (named, other) = (server("127.0.0.1"), server("127.0.0.1"));
    let sandbox = Sandbox::new(test).with(&[
        "--net",
        "pasta",
        "--connect",
        &format!("127.0.0.1:{}", named.port()),
    ]);
    let said = lines(
        &sandbox,
        &[
            ask("127.0.0.1", named.port()),
            ask("127.0.0.1", other.port()),
            // The gateway is no other name for the host.
            ask("192.0.2.1", named.port()),
            ask("192.0.2.1", other.port()),
        ],
    );
    assert!(said.contains(&format!("hello from {named}")), "{said}");
    assert!(!said.contains(&other.to_string()), "{said}");
    assert_eq!(said.matches("hello").count(), 1, "{said}");
}

fn only_what_is_named(test: &Test) {
    let named = server(ELSEWHERE);
    let other_port = server(ELSEWHERE);
    let other_host = TcpListener::bind((ELSEWHERE_TOO, named.port()));
    let other_host = other_host.unwrap_or_else(|e| panic!("{e}"));
    let datagrams = UdpSocket::bind((ELSEWHERE, named.port())).unwrap_or_else(|e| panic!("{e}"));
    let sandbox = Sandbox::new(test).with(&["--net", "pasta", "--connect", &named.to_string()]);
    let said = lines(
        &sandbox,
        &[
            ask(ELSEWHERE, named.port()),
            ask(ELSEWHERE, other_port.port()),
            ask(ELSEWHERE_TOO, named.port()),
            format!(
                "echo x >/dev/udp/{ELSEWHERE}/{} || echo no datagrams",
                named.port()
            ),
        ],
    );
    assert!(said.contains(&format!("hello from {named}")), "{said}");
    for refused in [
        format!("refused {ELSEWHERE} {}", other_port.port()),
        format!("refused {ELSEWHERE_TOO} {}", named.port()),
        "no datagrams".to_owned(),
    ] {
        assert!(said.contains(&refused), "no {refused:?}: {said}");
    }
    // The kernel refuses it at once, with an error that says so.
    assert!(said.contains("Permission denied"), "{said}");
    for quiet in [
        other_host.set_nonblocking(true),
        datagrams.set_nonblocking(true),
    ] {
        quiet.unwrap_or_else(|e| panic!("{e}"));
    }
    assert!(other_host.accept().is_err(), "a connection arrived");
    assert!(datagrams.recv(&mut [0; 8]).is_err(), "a datagram arrived");
    let explained = sandbox.explained(&["true"]);
    for line in [
        format!("let TCP to {named} out"),
        "refuse everything else that would go out over IPv4".into(),
    ] {
        assert!(explained.contains(&line), "no {line:?}: {explained}");
    }
}

fn everything_but_the_host(test: &Test) {
    let (elsewhere, here) = (server(ELSEWHERE), server("127.0.0.1"));
    let sandbox = Sandbox::new(test).with(&["--net", "pasta", "--connect", "any"]);
    let said = lines(
        &sandbox,
        &[
            ask(ELSEWHERE, elsewhere.port()),
            ask("127.0.0.1", here.port()),
            "cat /etc/resolv.conf".into(),
        ],
    );
    assert!(said.contains(&format!("hello from {elsewhere}")), "{said}");
    assert!(!said.contains(&here.to_string()), "{said}");
    assert!(said.contains("nameserver 169.254.1.1"), "{said}");
}

fn from_the_host(test: &Test) {
    // A free port; whoever takes it meanwhile makes the test fail, not pass.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.unwrap_or_else(|e| panic!("{e}")).port();
    let listen = port.to_string();
    let mut running = Sandbox::new(test)
        .with(&["--net", "pasta", "--listen", &listen])
        .with_probe()
        .call(&["/probe", "serve", &listen, "from inside"])
        .start();
    running.wait_for("LISTENING");
    let mut said = String::new();
    TcpStream::connect(("127.0.0.1", port))
        .and_then(|mut connection| connection.read_to_string(&mut said))
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(said, "from inside");
    running.wait().success();
    assert!(TcpStream::connect((ELSEWHERE, port)).is_err());
}

fn names_are_looked_up_outside(test: &Test) {
    let server = server("127.0.0.1");
    let there = format!("localhost:{}", server.port());
    let sandbox = Sandbox::new(test).with(&["--net", "pasta", "--connect", &there]);
    let said = lines(&sandbox, &[ask("localhost", server.port())]);
    assert!(said.contains(&format!("hello from {server}")), "{said}");
    let unknown = Sandbox::new(test).with(&["--net", "pasta", "--connect", "no-such.invalid:1"]);
    // One question is enough.
    let output = unknown
        .call(&["true"])
        .env("RES_OPTIONS", "timeout:1 attempts:1")
        .output()
        .code(125);
    output.says(&["no-such.invalid", "give an address"]);
}

fn a_web_server(test: &Test) {
    let server = server("127.0.0.1");
    let sandbox = Sandbox::new(test).with(&["--net", "pasta", "--connect", &server.to_string()]);
    let url = format!("http://{server}/");
    let said = sandbox.run(&["curl", "-sS", &url]).success().stdout;
    assert_eq!(said, format!("hello from {server}\n"));
}

/// Neither after the sandbox's end nor after that of capsid is a pasta left.
fn pasta_ends_with_the_sandbox(test: &Test) {
    let sandbox = Sandbox::new(test)
        .with(&["--net", "pasta", "--connect", "any"])
        .with_probe();
    let mut running = sandbox.call(&["/probe", "sleep"]).start();
    running.wait_for("READY");
    assert_eq!(pastas(running.pid()).len(), 1);
    let pid = running.pid();
    let found = pastas(pid);
    running.stop();
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while found.iter().any(|pid| alive(*pid)) {
        assert!(std::time::Instant::now() < end, "pasta goes on");
        thread::sleep(Duration::from_millis(10));
    }
    // The next one removes what the killed one left.
    sandbox.run(&["/probe", "exit", "0"]).success();
}

/// The pastas that a process has started.
fn pastas(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = tasks.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // It gives itself a name after the processor's features.
        status.contains(&format!("PPid:\t{parent}\n")) && status.starts_with("Name:\tpass")
    };
    numbers.filter(is_one).collect()
}

fn alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("Name:\tpass") && !status.contains("State:\tZ")
}

fn ways_that_are_none(test: &Test) {
    for (options, said) in [
        (&["--connect", "192.0.2.1:1"][..], "--net pasta"),
        (&["--net", "pasta"], "--connect HOST:PORT"),
        (&["--net", "bridge"], "none, host or pasta"),
        (&["--net", "host", "--listen", "1"], "--net host"),
    ] {
        let output = Sandbox::new(test).with(options).sh("true").code(125);
        output.says(&[said]);
    }
}
