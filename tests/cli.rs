//! The command line as engines see it: the real binary, its streams and exit codes.

#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot do without must be there"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

const COMMANDS: &[&str] = &[
    "sandbox", "create", "start", "run", "exec", "state", "list", "ps", "kill", "pause", "resume",
    "update", "events", "delete", "spec", "explain", "doctor", "features", "seccomp", "audit",
    "digest",
];

/// How an invocation ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The binary in an empty environment, as podman runs it.
fn capsid() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capsid"));
    command.env_clear();
    command
}

fn run(args: &[&str]) -> Ended {
    ended(capsid().args(args))
}

/// A directory of one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("capsid-cli-{test}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn version_lines_are_what_engines_take_apart() {
    for option in ["--version", "-version", "-v"] {
        let version = run(&[option]);
        let lines: Vec<_> = version.stdout.lines().collect();
        assert_eq!(
            lines[0],
            concat!("capsid version ", env!("CARGO_PKG_VERSION"))
        );
        assert!(lines[1].len() > "commit: ".len() && lines[1].starts_with("commit: "));
        assert_eq!(lines[2], "spec: 1.3.0");
        assert_eq!((version.code, version.stderr.as_str()), (0, ""));
    }
}

#[test]
fn called_as_runc_it_answers_to_that_name() {
    let version = ended(capsid().arg0("/usr/bin/runc").arg("--version"));
    assert!(version.stdout.starts_with("runc version "), "{version:?}");
    let wrong = ended(capsid().arg0("runc").arg("state"));
    assert_eq!(
        wrong.stderr,
        "runc: \"state\" requires exactly 1 argument(s)\n"
    );
    assert!(
        wrong.stdout.contains("Usage: runc state <CONTAINER>"),
        "{wrong:?}"
    );
}

#[test]
fn every_command_explains_itself() {
    let top = run(&["--help"]);
    assert_eq!((top.code, top.stderr.as_str()), (0, ""));
    assert_eq!(run(&[]).stdout, top.stdout);
    assert_eq!(run(&["help"]).stdout, top.stdout);
    for command in COMMANDS {
        assert!(
            top.stdout.contains(&format!("\n  {command} ")),
            "{command} is not listed"
        );
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{command}");
        for part in [
            &format!("Usage: capsid {command}"),
            "Options:",
            "\nExample",
            "-h, --help",
        ] {
            assert!(
                help.stdout.contains(part),
                "{command} --help lacks {part:?}"
            );
        }
        assert!(
            help.stdout.lines().all(|line| line.len() <= 100),
            "{command} has long lines"
        );
        for same in [[command, "-h"], [command, "-help"], ["help", command]] {
            assert_eq!(run(&same).stdout, help.stdout, "{same:?}");
        }
    }
}

#[test]
fn an_unknown_command_fails_even_if_asked_for_help() {
    // podman and CRI-O take exit code 0 for "checkpoints are supported".
    let probe = run(&["checkpoint", "--help"]);
    assert_eq!((probe.code, probe.stdout.as_str()), (1, ""));
    assert!(
        probe.stderr.contains("unknown command \"checkpoint\""),
        "{probe:?}"
    );
}

#[test]
fn a_wrong_number_of_arguments_is_runcs_usage_error() {
    for (args, code, complaint) in [
        (
            ["state"].as_slice(),
            1,
            "capsid: \"state\" requires exactly 1 argument(s)\n",
        ),
        (
            &["state", "a", "b"],
            1,
            "capsid: \"state\" requires exactly 1 argument(s)\n",
        ),
        (
            &["list", "a"],
            1,
            "capsid: \"list\" requires exactly 0 argument(s)\n",
        ),
        (
            &["kill"],
            1,
            "capsid: \"kill\" requires a minimum of 1 argument(s)\n",
        ),
        (
            &["kill", "a", "9", "b"],
            1,
            "capsid: \"kill\" requires a maximum of 2 argument(s)\n",
        ),
        (
            &["ps"],
            1,
            "capsid: \"ps\" requires a minimum of 1 argument(s)\n",
        ),
        (
            &["exec"],
            255,
            "capsid: \"exec\" requires a minimum of 1 argument(s)\n",
        ),
    ] {
        let wrong = run(args);
        assert_eq!(
            (wrong.code, wrong.stderr.as_str()),
            (code, complaint),
            "{args:?}"
        );
        assert!(
            wrong.stdout.starts_with("Incorrect Usage.\n\n"),
            "{wrong:?}"
        );
        assert!(
            wrong.stdout.contains(&format!("Usage: capsid {}", args[0])),
            "{wrong:?}"
        );
    }
}

#[test]
fn wrong_options_are_named_and_exec_fails_with_255() {
    for (args, code, complaint) in [
        (
            ["create", "--nope", "a"].as_slice(),
            1,
            "unknown option --nope",
        ),
        (&["exec", "--nope", "a", "ls"], 255, "unknown option --nope"),
        (
            &["exec", "--preserve-fds=x", "a", "ls"],
            255,
            "--preserve-fds",
        ),
        (
            &["exec", "--tty=maybe", "a", "ls"],
            255,
            "invalid boolean value \"maybe\" for --tty",
        ),
        (
            &["list", "--format=xml"],
            1,
            "[possible values: table, json]",
        ),
        (&["list", "--format"], 1, "flag needs an argument: --format"),
        (
            &["list", "--root=/x"],
            1,
            "stands before the command, capsid --root=/x list",
        ),
        (&["--nope", "list"], 1, "capsid: unknown option --nope"),
        (&["--log-format=xml", "list"], 1, "invalid log-format: xml"),
        (&["--rootless=maybe", "list"], 1, "\"maybe\" for --rootless"),
        (&["--cgroups=maybe", "list"], 1, "'maybe' for '--cgroups"),
        (
            &["--root", "/", "list"],
            1,
            "Option --root argument should not be set to /",
        ),
        (
            &["--root", "/..", "list"],
            1,
            "Option --root argument should not be set to /",
        ),
    ] {
        let wrong = run(args);
        assert_eq!(
            (wrong.code, wrong.stdout.as_str()),
            (code, ""),
            "{args:?}: {wrong:?}"
        );
        assert!(wrong.stderr.contains(complaint), "{args:?}: {wrong:?}");
        assert_eq!(wrong.stderr.lines().count(), 1, "{wrong:?}");
    }
}

#[test]
fn a_json_log_has_one_line_and_stderr_the_same_in_words() {
    let scratch = Scratch::new("json");
    let log = scratch.path("log.json");
    let failed = run(&["-log", &log, "--log-format=json", "state"]);
    let text = fs::read_to_string(&log).unwrap();
    let record: Value = serde_json::from_str(&text).expect("the whole file is one object");
    assert_eq!(text.lines().count(), 1);
    assert_eq!(record["level"], "error");
    assert_eq!(
        record["msg"],
        "capsid: \"state\" requires exactly 1 argument(s)"
    );
    let time = record["time"].as_str().unwrap();
    assert!(
        time.len() == 20 && time.ends_with('Z') && &time[10..11] == "T",
        "{time}"
    );
    assert_eq!(
        failed.stderr,
        "capsid: \"state\" requires exactly 1 argument(s)\n"
    );

    // Appended, never truncated: containerd reads the last of several.
    run(&["--log", &log, "--log-format", "json", "nope"]);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(
        mode & 0o133,
        0,
        "nobody else writes the log, nobody executes it"
    );
}

#[test]
fn a_text_log_is_logrus_text() {
    let scratch = Scratch::new("text");
    let log = scratch.path("log");
    let failed = run(&["--log", &log, "nope"]);
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.starts_with("time=\"2") && text.ends_with("\"\n"),
        "{text}"
    );
    assert!(
        text.contains(" level=error msg=\"capsid: unknown command \\\"nope\\\""),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
    assert!(
        failed
            .stderr
            .starts_with("capsid: unknown command \"nope\""),
        "{failed:?}"
    );

    let json = run(&["--log-format", "json", "nope"]);
    let record: Value = serde_json::from_str(&json.stderr).expect("only JSON without --log");
    assert_eq!(record["level"], "error");

    let nowhere = run(&["--log", &scratch.path("no/such/log"), "features"]);
    assert_eq!((nowhere.code, nowhere.stdout.as_str()), (1, ""));
    assert!(
        nowhere.stderr.starts_with("open the log file"),
        "{nowhere:?}"
    );
}

#[test]
fn features_is_json_and_nothing_else() {
    let features = ended(capsid().env("XDG_RUNTIME_DIR", "/nowhere").arg("features"));
    assert_eq!((features.code, features.stderr.as_str()), (0, ""));
    assert!(
        features.stdout.contains("\n    \"linux\": {\n        \""),
        "{}",
        features.stdout
    );
    let document: Value = serde_json::from_str(&features.stdout).unwrap();
    assert_eq!(document["ociVersionMin"], "1.0.0");
    assert_eq!(document["ociVersionMax"], "1.3.0");
    assert_eq!(document["hooks"].as_array().unwrap().len(), 6);
    let has = |pointer: &str, word: &str| {
        document
            .pointer(pointer)
            .and_then(Value::as_array)
            .unwrap()
            .contains(&word.into())
    };
    assert!(
        has("/mountOptions", "rro"),
        "engines offer recursive read-only mounts for it"
    );
    assert!(
        has("/linux/namespaces", "user"),
        "Kubernetes offers user namespaces for it"
    );
    assert!(has("/linux/capabilities", "CAP_NET_BIND_SERVICE"));
    assert!(has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"));
    assert!(has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ"));
    assert!(has("/linux/seccomp/knownFlags", "SECCOMP_FILTER_FLAG_LOG"));
    assert_eq!(
        document.pointer("/linux/mountExtensions/idmap/enabled"),
        Some(&true.into())
    );
    assert_eq!(document.pointer("/linux/cgroup/v1"), Some(&false.into()));
    assert_eq!(document.pointer("/linux/cgroup/v2"), Some(&true.into()));
    for key in [
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/intelRdt/enabled",
    ] {
        assert!(
            document.pointer(key).is_some_and(Value::is_boolean),
            "{key}"
        );
    }
    assert!(document["potentiallyUnsafeConfigAnnotations"].is_array());
}

#[test]
fn spec_writes_a_configuration_once() {
    let scratch = Scratch::new("spec");
    let file = scratch.path("config.json");
    let written = ended(capsid().current_dir(&scratch.0).arg("spec"));
    assert_eq!(
        (
            written.code,
            written.stdout.as_str(),
            written.stderr.as_str()
        ),
        (0, "", "")
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("{\n\t\""), "indented by tabs: {text}");
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["ociVersion"], "1.3.0");
    assert_eq!(
        config.pointer("/process/noNewPrivileges"),
        Some(&true.into())
    );
    assert_eq!(config.pointer("/root/readonly"), Some(&true.into()));

    fs::write(&file, "mine").unwrap();
    let refused = run(&["spec", "-b", &scratch.path("")]);
    assert_eq!(refused.code, 1);
    assert_eq!(refused.stderr, "File config.json exists. Remove it first\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn spec_for_a_rootless_caller_maps_only_the_caller() {
    let scratch = Scratch::new("rootless");
    assert_eq!(
        run(&["spec", "-rootless", "--bundle", &scratch.path("")]).code,
        0
    );
    let text = fs::read_to_string(scratch.path("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let mapping = &config["linux"]["uidMappings"][0];
    let uid = nix::unistd::geteuid().as_raw();
    assert_eq!(
        (&mapping["containerID"], &mapping["size"]),
        (&0.into(), &1.into())
    );
    assert_eq!(mapping["hostID"], uid);
    let types: Vec<_> = config["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert!(types.iter().any(|ns| ns["type"] == "user"), "{types:?}");
    assert!(!types.iter().any(|ns| ns["type"] == "network"), "{types:?}");
}
