//! What engines parse: list, ps, features, version, logs, the flag syntax.

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: list_empty, list_formats, list_skips_broken, truncated_state, ps_formats,
        features_document, version_lines, log_json, log_text, go_flags, wrong_argument_count,
        state_is_private;
}

fn list_empty(test: &Test) {
    let root = test.path("empty");
    test.make_dir(&root);
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    let list = |words: &[&str]| {
        let mut all = vec![
            runtime.clone(),
            "--root".into(),
            root.to_string_lossy().into_owned(),
            "list".into(),
        ];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        test.command(&all).ok()
    };
    assert_eq!(list(&["-f", "json"]), "null\n");
    assert_eq!(list(&["-q"]), "");
    assert_eq!(
        list(&[]).split_whitespace().collect::<Vec<_>>(),
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let gone = test.path("gone").to_string_lossy().into_owned();
    test.command(&[runtime.as_str(), "--root", &gone, "list"])
        .output()
        .code(1);
}

fn list_formats(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let text = test.capsid(&["list", "--format", "json"]).ok();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    let all: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let all = all.as_array().cloned().unwrap_or_default();
    let ours = all.iter().find(|entry| entry["id"] == json!(bundle.id));
    let ours = ours.unwrap_or_else(|| panic!("{} is not in {text}", bundle.id));
    assert_eq!(ours["status"], "running");
    assert_eq!(ours["pid"], json!(container.pid()));
    assert!(
        ours["owner"]
            .as_str()
            .is_some_and(|owner| !owner.is_empty()),
        "{ours}"
    );
    let quiet = test.capsid(&["list", "-q"]).ok();
    assert!(quiet.lines().any(|line| line == bundle.id));
    let table = test.capsid(&["list"]).ok();
    let line = table
        .lines()
        .find(|line| line.starts_with(&bundle.id))
        .unwrap_or_default();
    let fields: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        fields.get(1..3),
        Some(&[container.pid().to_string().as_str(), "running"][..]),
        "{table}"
    );
    container.end();
}

/// A state directory of its own: other tests list theirs at the same time.
fn own_root(test: &Test) -> String {
    let root = test.path("own-root");
    test.make_dir(&root);
    root.to_string_lossy().into_owned()
}

fn list_skips_broken(test: &Test) {
    let root = own_root(test);
    let broken = test.path("own-root").join("broken");
    test.make_dir(&broken);
    test.make_file(&broken.join("state.json"), "{\"id\": \"bro");
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    let output = test
        .command(&[runtime.as_str(), "--root", &root, "list", "-f", "json"])
        .output();
    let output = output.success().says(&["broken"]);
    assert_eq!(output.stdout, "null\n");
}

fn truncated_state(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    let pid = container.pid();
    let file = test.state_root().join(&bundle.id).join("state.json");
    let whole = std::fs::read(&file).unwrap_or_default();
    test.make_file(&file, &whole[..whole.len() / 2]);
    let commands = ["state", "start", "kill"];
    let outputs = commands.map(|command| bundle.on(&[command]).output());
    // Put back first: only the runtime may end the process it made.
    test.make_file(&file, &whole);
    for output in outputs {
        output.code(1).says(&["state.json"]);
    }
    container.end();
    assert!(!std::path::Path::new(&format!("/proc/{pid}/ns/mnt")).exists());
}

fn ps_formats(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    if test.rootless() {
        // Without a cgroup of its own there is no list of processes: say so, or show the first one.
        let output = test
            .capsid(&["ps", "--format", "json", &bundle.id])
            .output();
        assert!(output.code == 0 || !output.stderr.is_empty(), "{output:?}");
        container.end();
        return;
    }
    let output = test
        .capsid(&["ps", "--format", "json", &bundle.id])
        .output()
        .success();
    assert_eq!(output.json(), json!([container.pid()]));
    assert_eq!(output.stderr, "");
    if crate::machine::in_path("ps").is_some() {
        let table = test.capsid(&["ps", &bundle.id]).ok();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert!(
            lines[0].contains("PID") && lines[1].contains(&container.pid().to_string()),
            "{table}"
        );
        let table = test.capsid(&["ps", &bundle.id, "-o", "pid,comm"]).ok();
        assert!(table.contains("probe"), "{table}");
    }
    container.end();
}

fn features_document(test: &Test) {
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    let output = test
        .command(&[runtime.as_str(), "features"])
        .output()
        .success();
    assert_eq!(output.stderr, "", "CRI-O reads both streams as one");
    let features = output.json();
    for pointer in ["/ociVersionMin", "/ociVersionMax"] {
        assert!(
            features
                .pointer(pointer)
                .is_some_and(serde_json::Value::is_string),
            "{pointer}: {features}"
        );
    }
    for (list, word) in [
        ("/hooks", "startContainer"),
        ("/mountOptions", "rro"),
        ("/linux/namespaces", "user"),
        ("/linux/capabilities", "CAP_CHOWN"),
        ("/linux/seccomp/actions", "SCMP_ACT_ERRNO"),
    ] {
        let found = features
            .pointer(list)
            .is_some_and(|all| crate::container::contains(all, word));
        assert!(found, "{word} is not in {list}: {features}");
    }
}

fn version_lines(test: &Test) {
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    for flag in ["--version", "-v"] {
        let text = test.command(&[runtime.as_str(), flag]).ok();
        let mut lines = text.lines();
        let first: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
        assert_eq!(
            (first.len(), first.get(1).copied()),
            (3, Some("version")),
            "{text}"
        );
        assert!(
            text.lines().any(|line| line.starts_with("commit: ")),
            "{text}"
        );
        assert!(
            text.lines().any(|line| line.starts_with("spec: 1.")),
            "{text}"
        );
    }
}

fn log_json(test: &Test) {
    let log = test.path("log.json");
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    let words = [
        &runtime,
        "--root",
        &own_root(test),
        "--log",
        &log.to_string_lossy(),
        "--log-format",
        "json",
        "state",
        "nobody",
    ];
    test.command(&words)
        .output()
        .code(1)
        .says(&["container does not exist"]);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    assert_eq!(text.lines().count(), 1, "exactly one line: {text:?}");
    let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(record["level"], "error");
    assert!(
        record["msg"]
            .as_str()
            .is_some_and(|message| message.contains("container does not exist"))
    );
    let time = record["time"].as_str().unwrap_or_default();
    assert!(
        time.len() >= 20 && time.as_bytes().get(10) == Some(&b'T'),
        "{time} is not RFC 3339"
    );
}

fn log_text(test: &Test) {
    let log = test.path("log");
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    let words = [
        &runtime,
        "--root",
        &own_root(test),
        "--log",
        &log.to_string_lossy(),
        "state",
        "nobody",
    ];
    test.command(&words)
        .output()
        .code(1)
        .says(&["container does not exist"]);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(
        text.contains("level=error") && text.contains("msg="),
        "{text}"
    );
    let words = [&runtime, "--log-format", "yaml", "list"];
    test.command(&words).output().failure().says(&["yaml"]);
}

fn go_flags(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    bundle.save();
    let dir = bundle.dir.to_string_lossy();
    bundle.on(&["run", "-bundle", &dir]).output().success();
    bundle
        .on(&[
            "run",
            &format!("--bundle={dir}"),
            "--keep=false",
            "-no-pivot=false",
        ])
        .output()
        .success();
    bundle
        .on(&["run", "-b", &dir, "--no-new-keyring=true"])
        .output()
        .success();
    bundle.assert_nothing_left();
}

fn wrong_argument_count(test: &Test) {
    for words in [
        &["state"][..],
        &["state", "a", "b"],
        &["start"],
        &["create"],
        &["delete"],
    ] {
        test.capsid(words).output().failure();
    }
    test.capsid(&["state"])
        .output()
        .code(1)
        .says(&["\"state\" requires exactly 1 argument"]);
    test.capsid(&["no-such-command"]).output().failure();
}

fn state_is_private(test: &Test) {
    use std::os::unix::fs::PermissionsExt;
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    let dir = test.state_root().join(&bundle.id);
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).map_or(0o777, |meta| meta.permissions().mode() & 0o7777)
    };
    assert_eq!(
        mode(&dir) & 0o066,
        0,
        "{} may be listed or written by others",
        dir.display()
    );
    let file = dir.join("state.json");
    assert_eq!(
        mode(&file) & 0o077,
        0,
        "{} is open to others",
        file.display()
    );
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let abstracted = sockets
        .lines()
        .find(|line| line.contains(" @") && line.contains(&bundle.id));
    assert_eq!(
        abstracted, None,
        "an abstract socket is reachable from every container with this network"
    );
    container.end();
}
