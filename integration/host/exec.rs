//! `exec`: a second process with the same protections as the first.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::{Role, Test};

cases! {
    ALL []: same_protections, exit_codes, words_are_not_options, environment, working_directory,
        process_file, process_file_wrong, detached_with_pid_file, capability_flag, no_new_privs_flag,
        exec_in_created, container_survives, standard_input, cwd_escapes, cpu_affinity,
        filter_is_that_of_create;
    RANGES []: users, additional_groups;
    ROOT []: lands_in_the_cgroup, ignore_paused, limits_across_a_user_namespace;
}

fn same_protections(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let first = {
        let fresh = Bundle::new(test).report();
        fresh.0
    };
    let report = container.exec_report(&[]);
    for pointer in [
        "/capabilities",
        "/no_new_privs",
        "/seccomp",
        "/seccomp_filters",
        "/rlimits",
        "/umask",
        "/uids",
        "/gids",
        "/groups",
        "/hostname",
        "/oom_score_adj",
        "/cwd",
        "/env",
        "/cgroup",
    ] {
        assert_eq!(
            report.at(pointer),
            &first.pointer(pointer).cloned().unwrap_or_default(),
            "{pointer}"
        );
    }
    for (kind, inode) in report
        .at("/namespaces")
        .as_object()
        .cloned()
        .unwrap_or_default()
    {
        let link =
            fs::read_link(format!("/proc/{}/ns/{kind}", container.pid())).unwrap_or_default();
        assert!(
            link.to_string_lossy().contains(&inode.to_string()),
            "{kind}: {inode} is not {}",
            link.display()
        );
    }
    assert_ne!(report.at("/pid"), &json!(1));
    report.expect("/controlling_terminal", json!(0));
    container.end();
}

fn exit_codes(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    for code in [0, 1, 42, 126, 127, 254] {
        container.exec(&[], &["exit", &code.to_string()]).code(code);
    }
    container.exec(&[], &["signal", "TERM"]).code(143);
    container.exec(&[], &["signal", "KILL"]).code(137);
    container.exec(&[], &["fault"]).code(139);
    container.end();
}

fn words_are_not_options(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let report = container
        .exec(&[], &["report", "--tty", "-d", "--help"])
        .success()
        .json();
    assert_eq!(
        report["argv"],
        json!(["/bin/probe", "report", "--tty", "-d", "--help"])
    );
    container.exec_call(&[], &[]).output().code(255);
    container.end();
}

fn environment(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let report = container.exec_report(&["-e", "A=1", "-e", "B=x=y", "-e", "TERM=dumb"]);
    let env: Vec<&str> = report
        .at("/env")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert!(env.contains(&"A=1") && env.contains(&"B=x=y"), "{env:?}");
    assert_eq!(
        env.iter()
            .filter(|entry| entry.starts_with("TERM="))
            .copied()
            .collect::<Vec<_>>()
            .last(),
        Some(&"TERM=dumb")
    );
    assert!(
        env.contains(&"PATH=/usr/local/bin:/usr/bin:/bin"),
        "{env:?}"
    );
    container.end();
}

fn working_directory(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    container
        .exec_report(&["--cwd", "/var"])
        .expect("/cwd", json!("/var"));
    container
        .exec(&["--cwd", "relative"], &["exit", "0"])
        .code(255);
    container.end();
}

fn users(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let report = container.exec_report(&["--user", "1000:1001"]);
    report.expect("/uids", json!([1000, 1000, 1000, 1000]));
    report.expect("/gids", json!([1001, 1001, 1001, 1001]));
    report.expect("/capabilities/eff", json!([]));
    let report = container.exec_report(&["-u", "1"]);
    report.expect("/uids/0", json!(1));
    report.expect("/gids/0", json!(0));
    container.end();
}

fn additional_groups(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let report = container.exec_report(&["-g", "33", "-g", "44"]);
    report.expect("/groups", json!([33, 44]));
    container.end();
}

fn process_file(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let file = test.path("process.json");
    let process = json!({
        "user": { "uid": 0, "gid": 0 },
        "args": ["/bin/probe", "report"], "env": ["PATH=/bin", "FROM=file"], "cwd": "/tmp",
        "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }],
        "noNewPrivileges": true, "oomScoreAdj": 500
    });
    test.make_file(&file, process.to_string());
    let call = container.exec_call(&["--process", &file.to_string_lossy()], &[]);
    let report = crate::container::Report(call.output().success().json());
    report.expect("/cwd", json!("/tmp"));
    report.expect("/capabilities/bnd", json!(["CAP_KILL"]));
    report.expect("/oom_score_adj", json!("500"));
    assert_eq!(report.at("/rlimits")["RLIMIT_NOFILE"], json!([100, 200]));
    assert!(crate::container::contains(report.at("/env"), "FROM=file"));
    container.end();
}

fn process_file_wrong(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let file = test.path("process.json");
    let path = file.to_string_lossy().into_owned();
    for text in [
        "",
        "{",
        "null",
        "{\"args\": []}",
        "{\"cwd\": \"/\", \"args\": \"x\"}",
    ] {
        test.make_file(&file, text);
        container
            .exec_call(&["--process", &path], &[])
            .output()
            .code(255)
            .says(&["process.json"]);
    }
    container
        .exec_call(&["--process", "/gone.json"], &[])
        .output()
        .code(255)
        .says(&["gone.json"]);
    container.end();
}

fn detached_with_pid_file(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let file = test.path("exec.pid");
    let call = container.exec_call(
        &["--detach", "--pid-file", &file.to_string_lossy()],
        &["/bin/probe", "sleep"],
    );
    let mut running = call.start();
    running.wait_for("READY");
    running.wait().success();
    let text = fs::read_to_string(&file).unwrap_or_default();
    let pid: u32 = text
        .parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert_eq!(name.trim(), "probe");
    container.end();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    // A zombie is its reaper's to collect.
    let alive = || fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok();
    while alive() {
        assert!(
            std::time::Instant::now() < end,
            "the detached process outlived its container"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn capability_flag(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let report = container.exec_report(&["--cap", "CAP_NET_RAW"]);
    for set in ["bnd", "eff", "prm"] {
        let all = report.at("/capabilities")[set].clone();
        assert!(
            crate::container::contains(&all, "CAP_NET_RAW"),
            "{set}: {all}"
        );
    }
    let unknown = container.exec(&["--cap", "CAP_NOPE"], &["exit", "0"]);
    assert!(unknown.code == 0 || unknown.code == 255, "{unknown:?}");
    unknown.says(&["CAP_NOPE"]);
    container.end();
}

fn no_new_privs_flag(test: &Test) {
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["process"]["noNewPrivileges"] = json!(false));
    let container = bundle.ready();
    container.exec_report(&[]).expect("/no_new_privs", json!(0));
    container
        .exec_report(&["--no-new-privs"])
        .expect("/no_new_privs", json!(1));
    container.end();
}

fn exec_in_created(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    // The waiting process is the runtime's own code, closed to all but root.
    match test.role {
        Role::Root => container.exec(&[], &["exit", "3"]).code(3),
        _ => container
            .exec(&[], &["exit", "3"])
            .code(255)
            .says(&["start it first"]),
    };
    assert_eq!(container.status(), "created");
    container.end();
}

fn container_survives(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let pid = container.pid();
    for round in 0..20 {
        container
            .exec(&[], &["exit", &round.to_string()])
            .code(round);
    }
    assert_eq!(
        (container.status().as_str(), container.pid()),
        ("running", pid)
    );
    container.end();
}

fn standard_input(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let call = container
        .exec_call(&[], &["/bin/probe", "cat", "/dev/stdin"])
        .stdin("typed");
    assert_eq!(call.output().success().stdout, "typed");
    container.end();
}

/// CVE-2024-21626 through exec, with descriptors of the host open in the caller.
fn cwd_escapes(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    for fd in 3..14 {
        bundle.link(&format!("var/fd{fd}"), format!("/proc/self/fd/{fd}"));
    }
    let container = bundle.ready();
    let script = "exec 3</ 4</ 5</ 6</ 7</ 8</ 9</";
    for fd in 3..14 {
        for cwd in [
            format!("/proc/self/fd/{fd}"),
            format!("/proc/self/fd/{fd}/../.."),
            format!("/var/fd{fd}"),
        ] {
            let call = container
                .exec_call(&["--cwd", &cwd], &["/bin/probe", "report"])
                .through_shell(script);
            call.output().failure();
        }
    }
    container.end();
}

fn cpu_affinity(test: &Test) {
    let own = test.probe(&["report"]).output().success().json()["affinity"].clone();
    let Some(last) = own
        .as_array()
        .and_then(|cpus| cpus.last())
        .and_then(Value::as_u64)
    else {
        return;
    };
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        config["process"]["execCPUAffinity"] =
            json!({ "initial": last.to_string(), "final": last.to_string() });
    });
    let container = bundle.ready();
    container
        .exec_report(&[])
        .expect("/affinity", json!([last]));
    container.end();
}

fn lands_in_the_cgroup(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let mut running = container.exec_call(&[], &["/bin/probe", "sleep"]).start();
    running.wait_for("READY");
    let group = bundle.cgroup().unwrap_or_default().join("cgroup.procs");
    let members = fs::read_to_string(&group).unwrap_or_default();
    assert_eq!(members.lines().count(), 2, "{members:?}");
    container.kill("KILL");
    assert_eq!(
        running.wait().code,
        137,
        "the end of the first process ends them all"
    );
    container.end();
}

fn ignore_paused(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    bundle.on(&["pause"]).ok();
    container.exec(&[], &["exit", "0"]).code(255);
    let waiting = container
        .exec_call(&["--ignore-paused"], &["/bin/probe", "exit", "8"])
        .start();
    std::thread::sleep(std::time::Duration::from_millis(50));
    bundle.on(&["resume"]).ok();
    waiting.wait().code(8);
    container.end();
}

/// Who may edit the bundle later must not be able to loosen the filter.
fn filter_is_that_of_create(test: &Test) {
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
    ]});
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["linux"]["seccomp"] = filter);
    let container = bundle.ready();
    let mut edited = bundle.config.clone();
    edited["linux"]["seccomp"] = Value::Null;
    bundle.save_text(&edited.to_string());
    let output = container.exec(&[], &["syscall", "getpriority", "0", "0"]);
    assert_eq!(output.text(), "EOPNOTSUPP");
    container.end();
}

/// A process in a user namespace may not raise limits, so they are set before
/// it enters one: also where it shares the pid namespace and needs no second clone.
fn limits_across_a_user_namespace(test: &Test) {
    let bundle = Bundle::new(test)
        .args(&["sleep"])
        .without_namespace("pid")
        // A procfs of its own is refused to who does not own the pid namespace.
        .without_mount("/proc")
        .mount(json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }))
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            let map = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65536 }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            config["process"]["rlimits"] =
                json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 78 }]);
        });
    let container = bundle.ready();
    let report = container.exec_report(&[]);
    assert_eq!(report.at("/rlimits")["RLIMIT_NOFILE"], json!([77, 78]));
    container.end();
}
