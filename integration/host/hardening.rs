//! Levels, and rules that are given up: what the container then has, what is
//! refused, what `state` and `explain` say of it.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::{Report, contains, push};
use crate::roles::{Role, Test};

cases! {
    ALL []: nested_user_namespaces, nested_limit_is_kept, relaxed_by_option,
        compat_is_the_bundle, strict_refuses_less, exec_obeys_the_level, outcomes_are_told,
        no_such_rule;
    ROOT []: nested_in_words, keyring_of_the_caller, host_root_is_not_mapped, strict_wants_a_user_namespace;
}

/// Without the filters, which would answer first.
const UNFILTERED: &str = "seccomp-default,seccomp-floor";

/// A bundle with a user namespace in every role, without a filter.
fn unfiltered<'t>(test: &'t Test, relaxed: &str) -> Bundle<'t> {
    let rules = format!("{UNFILTERED},{relaxed}");
    let bundle = Bundle::new(test)
        .edit(|config| config["annotations"] = json!({ "dev.capsid.relax": rules }));
    match test.role {
        Role::Root => mapped(bundle, test.machine.range.0),
        _ => bundle,
    }
}

/// Maps ids from `first` on.
fn mapped(bundle: Bundle<'_>, first: u32) -> Bundle<'_> {
    let map = json!([{ "containerID": 0, "hostID": first, "size": 1000 }]);
    bundle.namespace(json!({ "type": "user" })).edit(|config| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    })
}

#[track_caller]
fn run_at(bundle: &Bundle<'_>, options: &[&str]) -> Report {
    let call = bundle.run_call(&[]).globally(options);
    Report(call.output().success().json())
}

const UNSHARE_USER: &[&str] = &["syscall", "unshare", "0x10000000"];
const SETTING: &str = "/proc/sys/user/max_user_namespaces";

/// The kernel itself refuses them, for every process of the container.
fn nested_user_namespaces(test: &Test) {
    let outside = std::fs::read_to_string(SETTING).unwrap_or_default();
    let output = unfiltered(test, "").run_probe(UNSHARE_USER);
    assert_eq!(output.text(), "ENOSPC");
    // Other namespaces are another matter; without a capability they are refused.
    let output = unfiltered(test, "").run_probe(&["syscall", "unshare", "0x20000"]);
    assert_eq!(output.text(), "EPERM");
    let bundle = unfiltered(test, "").args(&["sleep"]);
    let container = bundle.ready();
    assert_eq!(container.exec(&[], UNSHARE_USER).text(), "ENOSPC");
    container.end();
    let relaxed = unfiltered(test, "nested-userns");
    assert_eq!(relaxed.run_probe(UNSHARE_USER).success().text(), "ok 0");
    let now = std::fs::read_to_string(SETTING).unwrap_or_default();
    assert_eq!(now, outside, "the host's own setting");
}

/// The bundle may say another number.
fn nested_in_words(test: &Test) {
    let bundle = unfiltered(test, "").edit(|config| {
        config["linux"]["sysctl"] = json!({ "user/max_user_namespaces": "3" });
    });
    let output = bundle.args(UNSHARE_USER).run().success();
    assert_eq!(output.text(), "ok 0");
}

/// CAP_SYS_RESOURCE is what the kernel asks for to write it back.
fn nested_limit_is_kept(test: &Test) {
    for lists in [json!(["/proc/sys"]), json!([])] {
        let bundle = unfiltered(test, "").edit(|config| {
            config["linux"]["readonlyPaths"] = lists.clone();
            for set in ["bounding", "effective", "permitted"] {
                push(
                    &mut config["process"]["capabilities"][set],
                    json!("CAP_SYS_RESOURCE"),
                );
            }
        });
        let output = bundle.run_probe(&["write", SETTING, "100"]);
        assert_eq!(output.text(), "EROFS", "{lists}");
    }
    // The mount is what keeps it: without the rule nothing does.
    let bundle = unfiltered(test, "nested-userns").edit(|config| {
        config["linux"]["readonlyPaths"] = json!([]);
        for set in ["bounding", "effective", "permitted"] {
            push(
                &mut config["process"]["capabilities"][set],
                json!("CAP_SYS_RESOURCE"),
            );
        }
    });
    let output = bundle.run_probe(&["write", SETTING, "100"]).success();
    assert_eq!(output.text(), "ok");
}

/// Each gives up what it names, and nothing else.
fn relaxed_by_option(test: &Test) {
    let volume = test.path("volume");
    test.make_dir(&volume);
    let mount =
        json!({ "destination": "/var", "type": "none", "source": volume, "options": ["bind"] });
    let facts = |options: &[&str]| {
        let bundle = Bundle::new(test)
            .mount(mount.clone())
            .edit(|config| {
                let process = config["process"].as_object_mut();
                process.map(|process| process.remove("noNewPrivileges"));
                let linux = config["linux"].as_object_mut();
                linux.map(|linux| linux.remove("maskedPaths"));
            })
            .args(&["report", "--peek", "/proc/interrupts"]);
        let report = run_at(&bundle, options);
        let interrupts = report.member("peek", "/proc/interrupts").clone();
        let readable = interrupts["bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        [
            report.at("/no_new_privs") == &json!(0),
            report.has_option("/proc/sys", "ro"),
            !report.has_option("/var", "nodev"),
            report.at("/rlimits/RLIMIT_CORE") != &json!([0, 0]),
            readable,
            report.at("/seccomp") == &json!(0),
        ]
    };
    let baseline = facts(&[]);
    assert_eq!(baseline, [false, true, false, false, false, false]);
    // Who calls may have no core files either.
    let core = test.probe(&["report"]).output().success().json()["rlimits"]["RLIMIT_CORE"].clone();
    let core = core != json!([0, 0]);
    for (rules, expected) in [
        ("no-new-privs", [true, true, false, false, false, false]),
        ("volumes", [false, true, true, false, false, false]),
        ("core-dumps", [false, true, false, core, false, false]),
        ("masked-paths", [false, true, false, false, true, false]),
        (UNFILTERED, [false, true, false, false, false, true]),
    ] {
        let options: Vec<&str> = rules.split(',').flat_map(|one| ["--relax", one]).collect();
        assert_eq!(facts(&options), expected, "{rules}");
        assert_eq!(facts(&["--relax", rules]), expected, "{rules} as a list");
    }
}

/// What is not in the bundle is not done.
fn compat_is_the_bundle(test: &Test) {
    let bundle = Bundle::new(test)
        .edit(|config| {
            let process = config["process"].as_object_mut();
            process.map(|process| process.remove("noNewPrivileges"));
            let linux = config["linux"].as_object_mut();
            linux.map(|linux| (linux.remove("maskedPaths"), linux.remove("readonlyPaths")));
        })
        .args(&["report"]);
    let report = run_at(&bundle, &["--hardening", "compat"]);
    report.expect("/seccomp", json!(0));
    report.expect("/no_new_privs", json!(0));
    assert!(!report.is_mounted("/proc/sys") && !report.is_mounted("/proc/interrupts"));
    let report = run_at(&bundle, &["--hardening", "baseline"]);
    report.expect("/seccomp", json!(2));
    report.expect("/no_new_privs", json!(1));
    assert!(report.is_mounted("/proc/sys") && report.is_mounted("/proc/interrupts"));
}

/// A bundle that strict takes in every role.
fn strict(test: &Test) -> Bundle<'_> {
    match test.role {
        Role::Root => mapped(Bundle::new(test), test.machine.range.0),
        _ => Bundle::new(test),
    }
}

fn strict_refuses_less(test: &Test) {
    let strictly = ["--hardening", "strict"];
    // Paths of the default list that the bundle's own list lacks are hidden as well.
    let bundle = strict(test).args(&["report", "--peek", "/proc/interrupts"]);
    let report = run_at(&bundle, &strictly);
    report.expect("/no_new_privs", json!(1));
    let peek = report.member("peek", "/proc/interrupts");
    assert!(peek["bytes"] == 0 || peek == "EACCES", "{peek}");

    type Change = fn(&mut Value);
    let rows: [(Change, &str, &str); 5] = [
        (
            |config| config["process"]["noNewPrivileges"] = json!(false),
            "/process/noNewPrivileges",
            "no-new-privs",
        ),
        (
            |config| {
                let limit = json!({ "type": "RLIMIT_CORE", "soft": 9, "hard": 9 });
                push(&mut config["process"]["rlimits"], limit);
            },
            "/process/rlimits/1",
            "core-dumps",
        ),
        (
            |config| {
                let mount = json!({ "destination": "/var", "type": "none", "source": "/usr", "options": ["bind", "suid"] });
                push(&mut config["mounts"], mount);
            },
            "/mounts/7/options",
            "volumes",
        ),
        (
            |config| config["linux"]["resources"] = json!({ "pids": { "limit": -1 } }),
            "/linux/resources/pids/limit",
            "pids",
        ),
        (
            |config| {
                for set in ["bounding", "effective", "permitted"] {
                    let name = json!("CAP_SYS_ADMIN");
                    push(&mut config["process"]["capabilities"][set], name);
                }
            },
            "/process/capabilities/bounding",
            "capabilities",
        ),
    ];
    for (change, at, rule) in rows {
        let bundle = strict(test).edit(change);
        let call = bundle.create_call(&[]).globally(&strictly);
        call.output().code(1).says(&[at, "level strict", rule]);
        bundle.assert_nothing_left();
        if rule != "capabilities" {
            let mut relaxed = strictly.to_vec();
            relaxed.extend(["--relax", rule]);
            let call = bundle.run_call(&[]).globally(&relaxed);
            call.output().success();
        }
        bundle.run().success();
    }
}

fn strict_wants_a_user_namespace(test: &Test) {
    let strict = ["--hardening", "strict"];
    let report = run_at(&Bundle::new(test), &strict);
    assert!(report.at("/uid_map").to_string().contains("65536"));
    // Its processes would not be its own, so it can have none.
    let bundle = Bundle::new(test).without_namespace("ipc");
    let call = bundle.create_call(&[]).globally(&strict);
    call.output().code(1).says(&[
        "/linux/namespaces",
        "podman --userns=auto",
        "--relax userns",
    ]);
    bundle.assert_nothing_left();
    let options = ["--hardening", "strict", "--relax", "userns"];
    run_at(&bundle, &options).expect("/seccomp", json!(2));
}

/// Whoever is id 0 of the host can write what is root's, without any capability.
fn host_root_is_not_mapped(test: &Test) {
    for (list, other) in [
        ("uidMappings", "gidMappings"),
        ("gidMappings", "uidMappings"),
    ] {
        let bundle = mapped(Bundle::new(test), test.machine.range.0).edit(|config| {
            config["linux"][list] = json!([{ "containerID": 0, "hostID": 100_000, "size": 9 },
                { "containerID": 1000, "hostID": 0, "size": 1 }]);
        });
        let refused =
            bundle.refused(&[&format!("/linux/{list}/1/hostID"), "--relax host-root-map"]);
        refused.never_says(&[&format!("/linux/{other}")]);
        let report = run_at(&bundle, &["--relax", "host-root-map"]);
        let map = if list == "uidMappings" {
            "/uid_map"
        } else {
            "/gid_map"
        };
        let text = report.at(map).as_str().unwrap_or_default().to_owned();
        assert!(text.contains("1000          0          1"), "{text}");
        run_at(&bundle, &["--hardening", "compat"]);
    }
}

/// One more process gets what the first one got, also where that was less.
fn exec_obeys_the_level(test: &Test) {
    let bundle = strict(test)
        .edit(|config| {
            let process = config["process"].as_object_mut();
            process.map(|process| process.remove("noNewPrivileges"));
        })
        .args(&["sleep"]);
    for (level, privileges) in [("compat", 0), ("baseline", 1), ("strict", 1)] {
        let call = bundle.create_call(&[]).globally(&["--hardening", level]);
        call.output().success();
        bundle.on(&["start"]).ok();
        let words = ["exec", &bundle.id, "/bin/probe", "report"];
        let report = Report(test.capsid(&words).output().success().json());
        report.expect("/no_new_privs", json!(privileges));
        let words = [
            "exec",
            "--cap",
            "CAP_SYS_ADMIN",
            &bundle.id,
            "/bin/probe",
            "report",
        ];
        let output = test.capsid(&words).output();
        if level == "strict" {
            output
                .code(255)
                .says(&["/process/capabilities/bounding", "level strict"]);
        } else {
            let report = Report(output.success().json());
            assert!(contains(report.at("/capabilities/bnd"), "CAP_SYS_ADMIN"));
        }
        bundle.on(&["delete", "--force"]).ok();
    }
}

/// `state` keeps what `create` did; `explain` says it before.
fn outcomes_are_told(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let options = ["--relax", "core-dumps"];
    bundle
        .create_call(&[])
        .globally(&options)
        .output()
        .success();
    let state = bundle.on(&["state"]).output().success().json();
    assert_eq!(state["capsid"]["hardening"], "baseline");
    let rules = state["capsid"]["rules"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let rule = |id: &str| {
        let found = rules.iter().find(|one| one["rule"] == id).cloned();
        found.unwrap_or_else(|| panic!("no rule {id}: {rules:#?}"))
    };
    let all = capsid::policy::Rule::ALL.map(capsid::policy::Rule::id);
    let told: Vec<_> = rules.iter().map(|one| one["rule"].clone()).collect();
    assert_eq!(told, all, "every rule, once");
    assert_eq!(
        rule("core-dumps"),
        json!({ "rule": "core-dumps", "outcome": "relaxed", "detail": "--relax" })
    );
    assert_eq!(rule("self")["outcome"], "enforced");
    let listed = test.capsid(&["list", "--format", "json"]).output();
    listed.success().never_says(&["core-dumps"]);
    let dir = bundle.dir.to_string_lossy();
    let plan = test.capsid(&["explain", &dir]).globally(&options).ok();
    for one in &rules {
        let (id, detail) = (one["rule"].as_str(), one["detail"].as_str());
        let (id, detail) = (id.unwrap_or("?"), detail.unwrap_or("?"));
        // Which ids it gets shows when it is created.
        let detail = detail.split(" ids ").next().unwrap_or(detail);
        let told = plan
            .lines()
            .find(|line| line.trim().starts_with(&format!("{id}: ")));
        let told = told.unwrap_or_else(|| panic!("no {id} in {plan}"));
        assert!(told.contains(detail), "{told:?} and {one}");
    }
    bundle.on(&["delete", "--force"]).ok();
}

fn keyring_of_the_caller(test: &Test) {
    let own = test.probe(&["report"]).output().success().json()["session_keyring"].clone();
    if !own.is_number() {
        // Without keys there is none to be kept.
        assert!(own["error"].is_string(), "{own}");
        return;
    }
    // Floor and default profile deny the call that tells.
    let new = |options: &[&str], flags: &[&str]| {
        let bundle = Bundle::new(test)
            .edit(|config| {
                config["annotations"] =
                    json!({ "dev.capsid.relax": format!("{UNFILTERED},userns") })
            })
            .args(&["report"]);
        let call = bundle.run_call(flags).globally(options);
        let report = Report(call.output().success().json());
        report.at("/session_keyring") != &own
    };
    assert!(new(&[], &[]));
    assert!(!new(&["--relax", "keyring"], &[]));
    assert!(!new(&[], &["--no-new-keyring"]));
}

fn no_such_rule(test: &Test) {
    let bundle = Bundle::new(test);
    for (options, said) in [
        (["--relax", "seccomp"], "\"seccomp\" is no rule"),
        (["--relax", "self"], "\"self\" is no rule"),
        (["--hardening", "Strict"], "invalid value \"Strict\""),
    ] {
        let call = bundle.create_call(&[]).globally(&options);
        call.output().code(1).says(&[said]);
        bundle.assert_nothing_left();
    }
}
