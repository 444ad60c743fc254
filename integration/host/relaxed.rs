//! Bundles that give up rules about system calls: by a capability, by an
//! annotation. Each gives up what it names, and nothing else.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::{contains, push};
use crate::roles::Test;
use crate::seccomp::{
    ALLOWED, DEFAULT_DENIES, FLOOR_DENIES, Row, allow, check, expect_other, make,
};

cases! {
    ALL []: capabilities_open_rules, privileged_has_no_filter, relaxed_default, relaxed_floor,
        relaxed_both, relaxed_with_a_profile, relaxing_what_is_no_rule;
}

fn relaxing<'t>(test: &'t Test, rules: &str) -> Bundle<'t> {
    Bundle::new(test).edit(|config| config["annotations"] = json!({ "dev.capsid.relax": rules }))
}

fn granted<'t>(test: &'t Test, capabilities: &[&str]) -> Bundle<'t> {
    Bundle::new(test).edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            for name in capabilities {
                push(&mut config["process"]["capabilities"][set], json!(name));
            }
        }
    })
}

/// Rules tied to a capability are open to who has it: then the kernel answers,
/// as it does without any filter.
fn capabilities_open_rules(test: &Test) {
    let rows: &[(&[&str], &[Row])] = &[
        (
            &["CAP_NET_ADMIN", "CAP_NET_RAW"],
            &[
                ("socket 17 3 0", "EAFNOSUPPORT"),
                ("socket 2 10 0", "ESOCKTNOSUPPORT"),
                ("socket 16 3 12", "EPROTONOSUPPORT"),
                ("socket 16 3 6", "EPROTONOSUPPORT"),
            ],
        ),
        (&["CAP_BPF"], &[("bpf 99 buf:64 64", "EPERM")]),
        (&["CAP_PERFMON"], &[("perf_event_open 0 0 0 0 0", "EPERM")]),
        (&["CAP_SYS_PTRACE"], &[("pidfd_getfd -1 0 0", "EPERM")]),
    ];
    for (capabilities, rows) in rows {
        for profile in [Value::Null, allow()] {
            let open = granted(test, capabilities).edit(|config| {
                if !profile.is_null() {
                    config["linux"]["seccomp"] = profile.clone();
                }
            });
            let bare = granted(test, capabilities).edit(|config| {
                let both = "seccomp-default,seccomp-floor";
                config["annotations"] = json!({ "dev.capsid.relax": both });
            });
            let found = make(open, rows);
            assert_eq!(found, make(bare, rows), "{capabilities:?} {profile}");
        }
        check(Bundle::new(test), rows);
    }
    let open = granted(test, &["CAP_NET_ADMIN", "CAP_NET_RAW"]);
    check(open, &[("socket 17 3 0", "ok"), ("socket 2 10 0", "ok")]);
    // CAP_NET_RAW alone is what engines grant to everybody.
    let raw = granted(test, &["CAP_NET_RAW"]);
    check(
        raw,
        &[
            ("socket 17 3 0", "EAFNOSUPPORT"),
            ("socket 2 10 0", "ESOCKTNOSUPPORT"),
        ],
    );
    // Others stay shut, whatever is granted.
    let open = granted(
        test,
        &["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"],
    );
    check(
        open,
        &[
            ("setns -1 0", "EPERM"),
            ("socket 38 5 0", "EAFNOSUPPORT"),
            ("socket 16 3 8", "EPROTONOSUPPORT"),
        ],
    );
}

fn privileged_has_no_filter(test: &Test) {
    let report = granted(test, &["CAP_SYS_ADMIN"]).report();
    report.expect("/seccomp", json!(0));
    assert!(contains(report.at("/capabilities/bnd"), "CAP_SYS_ADMIN"));
    for rows in [DEFAULT_DENIES, FLOOR_DENIES] {
        expect_other(&make(granted(test, &["CAP_SYS_ADMIN"]), rows), rows);
    }
    // Its own profile it keeps, without the floor.
    let bundle = granted(test, &["CAP_SYS_ADMIN"]).edit(|config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }
        ]});
    });
    check(
        bundle,
        &[("getpriority 0 0", "EOPNOTSUPP"), ("setns -1 0", "EBADF")],
    );
}

fn relaxed_default(test: &Test) {
    let bundle = || relaxing(test, "seccomp-default");
    bundle().report().expect("/seccomp", json!(2));
    check(bundle(), FLOOR_DENIES);
    check(
        bundle(),
        &[("mount 0 0 0 0 0", "EFAULT"), ("chroot 0", "EFAULT")],
    );
}

fn relaxed_floor(test: &Test) {
    let bundle = || relaxing(test, " seccomp-floor ,");
    bundle().report().expect("/seccomp", json!(2));
    check(bundle(), DEFAULT_DENIES);
    let permissive = bundle().edit(|config| config["linux"]["seccomp"] = allow());
    expect_other(&make(permissive, FLOOR_DENIES), FLOOR_DENIES);
}

fn relaxed_both(test: &Test) {
    let bundle = || relaxing(test, "seccomp-default,seccomp-floor");
    bundle().report().expect("/seccomp", json!(0));
    for rows in [DEFAULT_DENIES, FLOOR_DENIES] {
        expect_other(&make(bundle(), rows), rows);
    }
    check(bundle(), ALLOWED);
}

/// Giving up the default profile is not giving up one's own.
fn relaxed_with_a_profile(test: &Test) {
    let bundle = relaxing(test, "seccomp-default,seccomp-floor").edit(|config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }
        ]});
    });
    check(
        bundle,
        &[("getpriority 0 0", "EOPNOTSUPP"), ("setns -1 0", "EBADF")],
    );
}

fn relaxing_what_is_no_rule(test: &Test) {
    for rules in [
        "seccomp-flor",
        "seccomp-default,all",
        "no-new-privileges",
        "SECCOMP-FLOOR",
    ] {
        let bundle = relaxing(test, rules);
        bundle.refused(&["/annotations/dev.capsid.relax", "seccomp-floor"]);
        bundle
            .run()
            .code(1)
            .says(&["/annotations/dev.capsid.relax"]);
        bundle.assert_nothing_left();
    }
    let report = relaxing(test, "").report();
    report.expect("/seccomp", json!(2));
}
