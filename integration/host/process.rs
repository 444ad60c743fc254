//! The process as configured: words, directory, limits, scheduling.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::{Report, push};
use crate::roles::Test;

cases! {
    ALL []: argv_and_env, empty_env, home_is_added, working_directory, rlimits, rlimits_left_alone,
        core_dumps_are_off, oom_score_unset, oom_score_raised, scheduler_batch, scheduler_needs_policy,
        io_priority, personality, memory_policy, no_descriptors_leak, first_process, umask_as_given, process_title,
        hostname_and_domainname;
    ROOT []: oom_score_lowered, oom_score_of_a_user_namespace, scheduler_fifo, deadline_scheduler_values;
}

fn process<'t>(test: &'t Test, key: &str, value: Value) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["process"][key] = value)
}

fn argv_and_env(test: &Test) {
    let env = json!([
        "PATH=/bin",
        "A=1=2",
        "EMPTY=",
        "B=two words",
        "Ü=ß",
        "HOME=/tmp"
    ]);
    let report = process(test, "env", env.clone()).report_with(&["", " ", "--sysctl"]);
    report.expect(
        "/argv",
        json!(["/bin/probe", "report", "", " ", "--sysctl"]),
    );
    report.expect("/env", env);
}

fn empty_env(test: &Test) {
    let report = process(test, "env", json!([])).report();
    let env = report.at("/env").as_array().cloned().unwrap_or_default();
    assert!(
        env.iter().all(|entry| entry
            .as_str()
            .is_some_and(|entry| entry.starts_with("HOME="))),
        "{env:?}"
    );
}

fn home_is_added(test: &Test) {
    let report = Bundle::new(test).report();
    assert!(
        crate::container::contains(report.at("/env"), "HOME=/root"),
        "{}",
        report.at("/env")
    );
}

fn working_directory(test: &Test) {
    process(test, "cwd", json!("/tmp"))
        .report()
        .expect("/cwd", json!("/tmp"));
    let bundle = process(test, "cwd", json!("/home/../var/."));
    bundle.report().expect("/cwd", json!("/var"));
}

const LIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// The limits this test process itself has.
fn own_limits(test: &Test) -> Value {
    test.probe(&["report"]).output().success().json()["rlimits"].clone()
}

fn rlimits(test: &Test) {
    let own = own_limits(test);
    let list: Vec<Value> = LIMITS
        .iter()
        .map(|name| {
            // Lowering is everyone's right; by one, so that nothing else breaks.
            let hard = own[*name][1].as_u64().unwrap_or(0).min(1 << 40);
            let soft = own[*name][0].as_u64().unwrap_or(0).min(hard);
            json!({ "type": name, "soft": soft.saturating_sub(u64::from(soft > 1024)), "hard": hard })
        })
        .collect();
    let report = process(test, "rlimits", json!(list)).report();
    for limit in &list {
        let name = limit["type"].as_str().unwrap_or_default();
        assert_eq!(
            report.at("/rlimits")[name],
            json!([limit["soft"], limit["hard"]]),
            "{name}"
        );
    }
    let unlimited = json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX }]);
    if own["RLIMIT_CORE"][1] == json!(u64::MAX) {
        let report = process(test, "rlimits", unlimited).report();
        assert_eq!(report.at("/rlimits")["RLIMIT_CORE"], json!([0, u64::MAX]));
    }
}

fn rlimits_left_alone(test: &Test) {
    let own = own_limits(test);
    let report = process(test, "rlimits", json!([])).report();
    for name in LIMITS.iter().filter(|name| **name != "RLIMIT_CORE") {
        assert_eq!(
            report.at("/rlimits")[*name],
            own[*name],
            "{name} changed unasked"
        );
    }
}

/// A core file of a container is written by the host's handler: off by default.
fn core_dumps_are_off(test: &Test) {
    let report = Bundle::new(test).report();
    assert_eq!(report.at("/rlimits")["RLIMIT_CORE"], json!([0, 0]));
}

fn oom_score_unset(test: &Test) {
    let own = test.probe(&["report"]).output().success().json()["oom_score_adj"].clone();
    Bundle::new(test).report().expect("/oom_score_adj", own);
}

fn oom_score_raised(test: &Test) {
    process(test, "oomScoreAdj", json!(777))
        .report()
        .expect("/oom_score_adj", json!("777"));
}

/// Written by the runtime, for the process itself may not lower it in there.
fn oom_score_of_a_user_namespace(test: &Test) {
    let map = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65536 }]);
    process(test, "oomScoreAdj", json!(432))
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        })
        .report()
        .expect("/oom_score_adj", json!("432"));
}

fn oom_score_lowered(test: &Test) {
    let privileged = test
        .probe(&["write", "/proc/self/oom_score_adj", "-10"])
        .output()
        .code
        == 0;
    let output = process(test, "oomScoreAdj", json!(-10)).run_probe(&["report"]);
    if privileged {
        assert_eq!(output.success().json()["oom_score_adj"], "-10");
    } else {
        // Without CAP_SYS_RESOURCE: an error, never silence.
        output.failure().says(&["oom_score_adj"]);
    }
}

fn scheduler_batch(test: &Test) {
    let wanted = json!({ "policy": "SCHED_BATCH", "nice": 5 });
    let report = process(test, "scheduler", wanted).report();
    report.expect("/scheduler/policy", json!(3));
    report.expect("/scheduler/nice", json!(5));
    let idle = process(test, "scheduler", json!({ "policy": "SCHED_IDLE" })).report();
    idle.expect("/scheduler/policy", json!(5));
}

fn scheduler_needs_policy(test: &Test) {
    for wrong in [
        json!({ "policy": "SCHED_NOPE" }),
        json!({ "policy": "SCHED_OTHER", "priority": 5 }),
        json!({ "policy": "SCHED_FIFO", "nice": 30 }),
        json!({ "policy": "SCHED_OTHER", "runtime": 1000 }),
    ] {
        process(test, "scheduler", wrong).refused(&["scheduler"]);
    }
}

fn scheduler_fifo(test: &Test) {
    let wanted =
        json!({ "policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    let report = process(test, "scheduler", wanted).report();
    report.expect("/scheduler/policy", json!(1));
    report.expect("/scheduler/priority", json!(3));
    report.expect("/scheduler/flags", json!(1));
}

fn deadline_scheduler_values(test: &Test) {
    let wanted = json!({ "policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 100_000_000, "period": 100_000_000 });
    let output = process(test, "scheduler", wanted).run_probe(&["report"]);
    // The kernel may have no bandwidth left or forbid it in this cpuset: then in words.
    if output.code == 0 {
        let report = Report(output.json());
        report.expect("/scheduler/policy", json!(6));
        report.expect("/scheduler/runtime", json!(10_000_000));
    } else {
        output.says(&["sched"]);
    }
}

fn io_priority(test: &Test) {
    let wanted = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    let report = process(test, "ioPriority", wanted).report();
    report.expect("/ioprio", json!({ "class": 2, "level": 6 }));
    let idle = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    process(test, "ioPriority", idle)
        .report()
        .expect("/ioprio/class", json!(3));
    let wrong = json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 });
    process(test, "ioPriority", wrong).refused(&["ioPriority"]);
}

fn personality(test: &Test) {
    let bundle = Bundle::new(test);
    bundle.report().expect("/personality", json!(0));
    let narrow = Bundle::new(test)
        .edit(|config| config["linux"]["personality"] = json!({ "domain": "LINUX32" }));
    narrow.report().expect("/personality", json!(8));
    let wrong = Bundle::new(test)
        .edit(|config| config["linux"]["personality"] = json!({ "domain": "BSD" }));
    wrong.refused(&["personality"]);
}

/// The first line of numa_maps says where pages come from, in the kernel's words.
fn memory_policy(test: &Test) {
    let policy = |policy: serde_json::Value| {
        Bundle::new(test).edit(|config| config["linux"]["memoryPolicy"] = policy)
    };
    let seen = |maps: &str| {
        let line = maps.lines().next().unwrap_or_default();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for (wanted, words) in [
        (json!({ "mode": "MPOL_DEFAULT" }), "default"),
        (json!({ "mode": "MPOL_LOCAL" }), "local"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind:0"),
        (
            json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }),
            "interleave=static:0",
        ),
        (
            json!({ "mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"] }),
            "prefer=relative:0",
        ),
    ] {
        let output = policy(wanted).run_probe(&["cat", "/proc/self/numa_maps"]);
        assert_eq!(seen(&output.success().stdout), words);
    }
    // No machine that tests run on has this node.
    let absent = policy(json!({ "mode": "MPOL_BIND", "nodes": "1023" }));
    absent.refused(&["MPOL_BIND on nodes 1023", "set_mempolicy", "cpuset.mems"]);
    let wrong = policy(json!({ "mode": "MPOL_BIND" }));
    wrong.refused(&["/linux/memoryPolicy/nodes"]);
    let bundle = policy(json!({ "mode": "MPOL_BIND", "nodes": "0" })).args(&["sleep"]);
    let container = bundle.ready();
    let output = container.exec(&[], &["cat", "/proc/self/numa_maps"]);
    assert_eq!(seen(&output.success().stdout), "bind:0");
    container.end();
}

/// CVE-2024-21626: one directory of the host among the descriptors is enough.
fn no_descriptors_leak(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let script = "exec 3</ 4</etc/passwd 6</proc 8</sys/fs/cgroup 9</tmp";
    let output = bundle
        .run_call(&[])
        .through_shell(script)
        .output()
        .success();
    let numbers = |report: &Value| -> Vec<u64> {
        let all = report["fds"].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|fd| fd["fd"].as_u64()).collect()
    };
    assert_eq!(
        numbers(&output.json()),
        [0, 1, 2],
        "{}",
        output.json()["fds"]
    );
    let sleeper = Bundle::new(test).args(&["sleep"]);
    let container = sleeper.ready();
    let call = container
        .exec_call(&[], &["/bin/probe", "report"])
        .through_shell(script);
    assert_eq!(numbers(&call.output().success().json()), [0, 1, 2], "exec");
    container.end();
}

fn first_process(test: &Test) {
    let report = Bundle::new(test).report();
    report.expect("/pid", json!(1));
    report.expect("/ppid", json!(0));
    report.expect("/sid", json!(1));
    report.expect("/pgid", json!(1));
    report.expect("/controlling_terminal", json!(0));
    report.expect("/threads", json!(1));
}

fn umask_as_given(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| config["process"]["user"]["umask"] = json!(0o27));
    bundle.report().expect("/umask", json!("0027"));
    let report = Bundle::new(test).report();
    report.expect("/umask", json!("0022"));
}

/// The container's first process must not show the runtime's binary as its own.
fn process_title(test: &Test) {
    Bundle::new(test)
        .report()
        .expect("/exe", json!("/bin/probe"));
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    let comm =
        std::fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap_or_default();
    assert!(
        !comm.is_empty(),
        "the created process is not visible on the host"
    );
    container.end();
}

fn hostname_and_domainname(test: &Test) {
    let report = Bundle::new(test)
        .edit(|config| config["domainname"] = json!("inside.example"))
        .report();
    report.expect("/hostname", json!("capsid-test"));
    report.expect("/domainname", json!("inside.example"));
    // Without a namespace of its own it would be the host's name that changes.
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Bundle::new(test)
        .without_namespace("uts")
        .refused(&["hostname"]);
    let long = "h".repeat(65);
    Bundle::new(test)
        .edit(|config| config["hostname"] = json!(long))
        .refused(&["hostname"]);
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        before
    );
    let bundle = Bundle::new(test).edit(|config| {
        push(
            &mut config["mounts"],
            json!({
                "destination": "/run", "type": "tmpfs", "source": "tmpfs"
            }),
        )
    });
    bundle.report().expect("/hostname", json!("capsid-test"));
}
