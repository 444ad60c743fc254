//! What every rule comes to: at each level, for each caller, for a bundle that
//! says nothing, one that asks for less, one that asks to be privileged, and with
//! the rule given up by name.
//!
//! `tests/policy/table.txt` has a line for each; `UPDATE=1 cargo test --test
//! policy` writes it anew, and its diff is the diff of the policy.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its material is not there"
)]

use std::fmt::Write;
use std::path::Path;

use capsid::error::Problem;
use capsid::host::{Facts, OfferedIds, Subordinate};
use capsid::policy::{self, By, HardenedSpec, Hardening, Level, Rule, Wish};
use capsid::spec::bundle::{self, Bundle};
use capsid::spec::validate::{Caller, validate};
use serde_json::{Value, json};

/// Who runs capsid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    /// Root of a user namespace, as rootless podman runs capsid.
    Nested,
    /// An ordinary user with subordinate ids.
    User,
}

impl Who {
    const ALL: [Who; 3] = [Who::Root, Who::Nested, Who::User];

    fn name(self) -> &'static str {
        match self {
            Who::Root => "root",
            Who::Nested => "nested",
            Who::User => "user",
        }
    }

    fn facts(self) -> Facts {
        let id = if self == Who::User { 1000 } else { 0 };
        let ranges = vec![(100_000, 65_536)];
        Facts {
            uid: id,
            gid: id,
            privileged: self != Who::User,
            in_user_namespace: self == Who::Nested,
            may_set_groups: true,
            read_only_sysctls: false,
            landlock: Some(7),
            capabilities: u64::MAX,
            subordinate: Subordinate {
                users: ranges.clone(),
                groups: ranges,
                helpers: true,
            },
            offered: (self == Who::Root).then(|| {
                Ok(OfferedIds {
                    first: 0x7800_0000,
                    devices: Vec::new(),
                })
            }),
        }
    }
}

/// A bundle that asks for nothing.
fn silent() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": { "cwd": "/", "args": ["/x"], "user": { "uid": 0, "gid": 0 } },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/data", "type": "bind", "source": "/srv", "options": ["bind"] },
        ],
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }] },
    })
}

/// With a user namespace that maps ids from `first` on.
fn with_user_namespace(config: &mut Value, first: u32) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": first, "size": 1000 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

/// Makes a bundle ask for less than a rule wants; false where there are no words for it.
fn ask(rule: Rule, config: &mut Value) -> bool {
    let linux = &mut config["linux"];
    match rule {
        Rule::HostRootMap => with_user_namespace(config, 0),
        Rule::NestedUserns => {
            linux["sysctl"] = json!({ "user.max_user_namespaces": "100" });
            with_user_namespace(config, 100_000);
        }
        Rule::SeccompDefault => linux["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" }),
        Rule::NoNewPrivs => config["process"]["noNewPrivileges"] = json!(false),
        Rule::MaskedPaths => linux["maskedPaths"] = json!([]),
        Rule::ReadonlyPaths => linux["readonlyPaths"] = json!([]),
        Rule::Pids => linux["resources"] = json!({ "pids": { "limit": -1 } }),
        Rule::Memory => {
            linux["resources"] = json!({ "memory": { "limit": 1 << 30 },
                "unified": { "memory.oom.group": "0" } });
        }
        Rule::CoreDumps => {
            let limit = json!({ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 });
            config["process"]["rlimits"] = json!([limit]);
        }
        Rule::Volumes => config["mounts"][1]["options"] = json!(["bind", "dev"]),
        _ => return false,
    }
    true
}

/// Lets a rule have something to decide about.
fn prepare(rule: Rule, who: Who, config: &mut Value) {
    match rule {
        Rule::HostRootMap | Rule::NestedUserns if who == Who::Root => {
            with_user_namespace(config, 100_000);
        }
        Rule::Memory => config["linux"]["resources"] = json!({ "memory": { "limit": 1 << 30 } }),
        _ => {}
    }
}

fn apply(config: &Value, who: Who, hardening: Hardening) -> Result<HardenedSpec, Vec<Problem>> {
    let text = serde_json::to_vec(config).unwrap();
    let (spec, warnings) = bundle::parse(&text, Path::new("/b/config.json")).unwrap();
    let bundle = Bundle {
        dir: "/b".into(),
        spec,
        warnings,
    };
    let facts = who.facts();
    let privileged = facts.privileged;
    let valid = validate(bundle, Caller { privileged }).unwrap();
    policy::apply(valid, &facts, hardening)
}

/// A level with some rules given up.
fn hardening(level: Level, relaxed: &[Rule]) -> Hardening {
    let wish = Wish {
        level: None,
        relaxed: relaxed.iter().map(|rule| (*rule, By::Option)).collect(),
    };
    Hardening::at(level).asked(&wish, None).unwrap()
}

/// What a rule comes to, in words.
fn outcome(rule: Rule, answer: &Result<HardenedSpec, Vec<Problem>>) -> String {
    match answer {
        Err(problems) => {
            let places: Vec<_> = problems.iter().map(|one| one.at.as_str()).collect();
            format!("refused at {}", places.join(", "))
        }
        Ok(hardened) => {
            let mut found = hardened.outcomes.iter().filter(|one| one.rule == rule);
            let text = found.next().map(ToString::to_string).unwrap_or_default();
            assert!(found.next().is_none(), "{rule} twice");
            let text = text.strip_prefix(&format!("{rule}: ")).unwrap_or("-");
            text.to_owned()
        }
    }
}

fn table() -> String {
    let mut table = String::new();
    for rule in Rule::ALL {
        for who in Who::ALL {
            for level in Level::ALL {
                for bundle in ["silent", "asking", "privileged", "relaxed"] {
                    let mut config = silent();
                    // Strict wants a user namespace of root before all else.
                    let mut relaxed = Vec::new();
                    if rule != Rule::Userns && who == Who::Root {
                        relaxed.push(Rule::Userns);
                    }
                    if bundle == "asking" {
                        if !ask(rule, &mut config) {
                            continue;
                        }
                    } else {
                        prepare(rule, who, &mut config);
                    }
                    match bundle {
                        "privileged" => {
                            config["process"]["capabilities"] =
                                json!({ "bounding": ["CAP_SYS_ADMIN"] });
                        }
                        "relaxed" if !rule.can_be_relaxed() => continue,
                        "relaxed" => relaxed.push(rule),
                        _ => {}
                    }
                    let answer = apply(&config, who, hardening(level, &relaxed));
                    let (who, outcome) = (who.name(), outcome(rule, &answer));
                    let level = level.name();
                    let rule = rule.id();
                    writeln!(table, "{rule:15} {who:6} {level:8} {bundle:10} {outcome}").unwrap();
                }
            }
        }
    }
    table
}

#[test]
fn rules_come_to_what_they_came_to() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/table.txt");
    let found = table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let mut lines = expected.lines().zip(found.lines());
    let difference = lines.find(|(expected, found)| expected != found);
    assert!(
        expected == found,
        "look at each; if all are meant: UPDATE=1 cargo test --test policy\n{difference:?}"
    );
}

/// No table can show what is not in it.
#[test]
fn every_rule_is_reported_once() {
    for who in Who::ALL {
        let hardened = apply(&silent(), who, Hardening::default()).unwrap();
        let found: Vec<_> = hardened.outcomes.iter().map(|one| one.rule).collect();
        assert_eq!(found, Rule::ALL, "{who:?}");
    }
}

#[test]
fn what_the_rules_do_is_in_the_configuration() {
    let hardened = apply(&silent(), Who::User, Hardening::default()).unwrap();
    let linux = hardened.spec.linux().as_ref().unwrap();
    assert_eq!(
        linux.sysctl().as_ref().unwrap()["user.max_user_namespaces"],
        "0"
    );
    assert_eq!(linux.masked_paths().as_ref().unwrap().len(), 12);
    let process = hardened.spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(process.rlimits().as_ref().unwrap().len(), 1);
    assert!(hardened.filter.floor);
    assert_eq!(hardened.limits.len(), 1);

    // compat adds nothing but what the kernel wants of a caller like that.
    let hardened = apply(&silent(), Who::User, Hardening::at(Level::Compat)).unwrap();
    let linux = hardened.spec.linux().as_ref().unwrap();
    assert!(linux.sysctl().is_none() && linux.masked_paths().is_none());
    assert!(linux.readonly_paths().is_none());
    let process = hardened.spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(false));
    assert!(process.rlimits().is_none() && !hardened.filter.floor);
    assert!(hardened.limits.is_empty());
}

/// Whoever has CAP_SYS_RESOURCE in the user namespace could write the limit back.
#[test]
fn the_limit_of_nested_namespaces_is_read_only() {
    for (list, expected) in [
        (json!(null), true),
        (json!([]), false),
        (json!(["/proc/sys/"]), true),
        (json!(["/proc/bus"]), false),
    ] {
        let mut config = silent();
        config["linux"]["readonlyPaths"] = list.clone();
        if list.is_null() {
            config["linux"]
                .as_object_mut()
                .unwrap()
                .remove("readonlyPaths");
        }
        let hardened = apply(&config, Who::User, Hardening::default()).unwrap();
        let linux = hardened.spec.linux().as_ref().unwrap();
        let paths = linux.readonly_paths().clone().unwrap();
        let own = paths.iter().any(|path| path == "/proc/sys/user");
        assert_eq!(own, !expected, "{list}: {paths:?}");
    }
}
