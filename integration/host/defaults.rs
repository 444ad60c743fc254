//! Limits that a bundle leaves out, where the kernel has the controllers for them.

use std::fs;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::controllers::{MIB, value};
use crate::delegation::Place;
use crate::roles::Test;

cases! {
    RANGES [Controllers]: processes_are_limited, all_end_together;
    ALL []: unsupported_without_a_controller;
}

fn rule(bundle: &Bundle<'_>, id: &str) -> (String, String) {
    let state = bundle.on(&["state"]).output().success().json();
    let rules = state["capsid"]["rules"].as_array().cloned();
    let rules = rules.unwrap_or_default();
    let found = rules.iter().find(|one| one["rule"] == id);
    let found = found.unwrap_or_else(|| panic!("no rule {id}: {state:#}"));
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (word("outcome"), word("detail"))
}

fn processes_are_limited(test: &Test) {
    let place = Place::new(test);
    let created = |resources: serde_json::Value, options: &[&str]| {
        let bundle = place.limited(resources).args(&["sleep"]);
        bundle.create_call(&[]).globally(options).output().success();
        let (most, outcome) = (value(&bundle, "pids.max"), rule(&bundle, "pids").0);
        bundle.on(&["delete", "--force"]).ok();
        (most, outcome)
    };
    let expect = |most: &str, outcome: &str| (most.to_owned(), outcome.to_owned());
    assert_eq!(created(json!({}), &[]), expect("4096", "enforced"));
    let asked = json!({ "pids": { "limit": 70 } });
    assert_eq!(created(asked, &[]), expect("70", "enforced"));
    let none = json!({ "pids": { "limit": -1 } });
    assert_eq!(created(none, &[]), expect("max", "relaxed"));
    for options in [["--relax", "pids"], ["--hardening", "compat"]] {
        let other = json!({ "memory": { "limit": 64 * MIB } });
        // The file is there although nothing asked for it: the level above has it.
        assert_eq!(created(other, &options), expect("max", "relaxed"));
    }
}

/// One process goes over the limit; what is left of the program would not know.
fn all_end_together(test: &Test) {
    let place = Place::new(test);
    let bytes = (128 * MIB).to_string();
    let run = |options: &[&str]| {
        let bundle = place
            .limited(json!({ "memory": { "limit": 32 * MIB } }))
            .args(&["spawn", "1", "/bin/probe", "eat", &bytes]);
        let output = bundle.run_call(&[]).globally(options).output();
        bundle.assert_nothing_left();
        (output.code, output.text().to_owned())
    };
    assert_eq!(run(&[]), (128 + 9, String::new()));
    assert_eq!(run(&["--relax", "memory"]), (0, "signal 9".into()));
}

/// No error, for nobody asked; and no silence either.
fn unsupported_without_a_controller(test: &Test) {
    let listed = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let bundle = Bundle::new(test).args(&["sleep"]);
    let created = bundle.create_call(&[]).output().success();
    created.never_says(&["pids"]);
    let (outcome, detail) = rule(&bundle, "pids");
    let dir = bundle.dir.to_string_lossy();
    let plan = test.capsid(&["explain", &dir]).ok();
    if listed.contains("pids") && !test.rootless() {
        assert_eq!(outcome, "enforced", "{detail}");
        assert!(plan.contains("pids: enforced"), "{plan}");
    } else {
        assert_eq!(outcome, "unsupported", "{detail}");
        assert!(
            plan.contains(&format!("pids: unsupported: {detail}")),
            "{plan}"
        );
    }
    bundle.on(&["delete", "--force"]).ok();
}
