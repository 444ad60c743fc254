//! Every rule, failing once on what it must catch and silent on what is right.

use super::rust::{code, imports};
use super::*;

fn complaints(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source {
        path: path.into(),
        text: text.into(),
    })
    .len()
}

#[test]
fn literals_and_comments_are_not_code() {
    let text =
        "a /* { /* } */ */ b // {\nc(\"}\\\"\", '{', '\\'', r#\"\"}\"#, b\"{\", b'}') <'x> r#type";
    let code = code(text);
    assert!(!code.contains(['{', '}', '"']), "{code}");
    assert!(
        code.contains("<'x> r#type") && code.matches('\n').count() == 1,
        "{code}"
    );
}

#[test]
fn imports_are_found_in_groups() {
    let found = imports(
        "use crate::{error::{Error, Result}, sys::fd}; fn f() { crate::plan::Plan::new(); }",
    );
    assert_eq!(
        found,
        [
            "error::Error",
            "error::Result",
            "sys::fd",
            "plan::Plan::new"
        ]
    );
}

#[test]
fn import_directions() {
    let rule = wrong_imports;
    assert_eq!(
        complaints(rule, "src/plan/rootfs.rs", "use crate::sys::mount;"),
        1
    );
    assert_eq!(
        complaints(
            rule,
            "src/plan/rootfs.rs",
            "use crate::{error::Result, execute::parent};"
        ),
        1
    );
    assert_eq!(
        complaints(
            rule,
            "src/plan/ids.rs",
            "use crate::host::Facts;\nuse crate::plan::Plan;"
        ),
        0
    );
    assert_eq!(
        complaints(rule, "src/plan/ids.rs", "use crate::host::{self, Facts};"),
        1
    );
    let nested = "use crate::host::cgroup::CgroupFacts;";
    assert_eq!(complaints(rule, "src/plan/cgroup.rs", nested), 0);
    let asking = "let facts = crate::host::Facts::read();";
    assert_eq!(complaints(rule, "src/plan/cgroup.rs", asking), 1);
    let testing = "use crate::sys::fd;";
    assert_eq!(complaints(rule, "src/plan/cgroup/tests.rs", testing), 0);
    assert_eq!(
        complaints(rule, "src/spec/bundle.rs", "use crate::host::Facts;"),
        1
    );
    assert_eq!(
        complaints(rule, "src/sys/fd.rs", "use crate::error::Result;"),
        0
    );
    assert_eq!(
        complaints(rule, "src/sys/fd.rs", "fn f() { crate::state::load() }"),
        1
    );
    assert_eq!(
        complaints(rule, "src/state.rs", "use crate::commands::run;"),
        1
    );
    assert_eq!(
        complaints(rule, "src/commands/run.rs", "use crate::commands::exit;"),
        0
    );
    assert_eq!(
        complaints(
            rule,
            "src/plan/ids.rs",
            "// use crate::sys;\n#[cfg(test)]\nmod tests { use crate::sys; }"
        ),
        0
    );
}

#[test]
fn unsafe_rules() {
    let good = "// SAFETY: the descriptor is owned here.\nlet x = unsafe { f() };";
    assert_eq!(complaints(unsafe_outside_sys, "src/host.rs", good), 1);
    assert_eq!(
        complaints(
            unsafe_outside_sys,
            "src/host.rs",
            "// unsafe\nlet a = \"unsafe\"; unsafely();"
        ),
        0
    );
    assert_eq!(complaints(unsafe_outside_sys, "src/sys/fd.rs", good), 0);
    assert_eq!(complaints(unsafe_without_reason, "src/sys/fd.rs", good), 0);
    assert_eq!(
        complaints(
            unsafe_without_reason,
            "src/sys/fd.rs",
            "let x = unsafe { f() };"
        ),
        1
    );
    let lazy = "// SAFETY: parameters are valid.\nunsafe { f() }";
    assert_eq!(complaints(unsafe_without_reason, "src/sys/fd.rs", lazy), 1);
}

#[test]
fn length_rules() {
    let lines =
        |count: usize| format!("fn f(a: [u8; 2]) {{\n{}}}\n", "  x(\"}\");\n".repeat(count));
    assert_eq!(complaints(too_long, "src/a.rs", &lines(58)), 0);
    assert_eq!(complaints(too_long, "src/a.rs", &lines(59)), 1);
    assert_eq!(complaints(too_long, "src/a.rs", &"\n".repeat(501)), 1);
    assert_eq!(
        complaints(
            too_long,
            "src/a.rs",
            "trait T { fn declared(&self) -> [u8; 3]; }"
        ),
        0
    );
}

#[test]
fn naming_and_path_rules() {
    assert_eq!(complaints(vague_name, "src/execute/utils.rs", ""), 1);
    assert_eq!(complaints(vague_name, "src/common/mod.rs", ""), 1);
    assert_eq!(
        complaints(opened_by_path, "src/execute/child.rs", "use std::fs;"),
        1
    );
    assert_eq!(
        complaints(
            opened_by_path,
            "src/execute/child.rs",
            "let f = File::open(path);"
        ),
        1
    );
    assert_eq!(
        complaints(
            opened_by_path,
            "src/sys/fd.rs",
            "use std::fs::{self, File};"
        ),
        1
    );
    assert_eq!(
        complaints(
            opened_by_path,
            "src/sys/fd.rs",
            "use std::fs::File;\nuse std::fs::FileType;"
        ),
        1
    );
    assert_eq!(
        complaints(opened_by_path, "src/state.rs", "use std::fs;"),
        0
    );
}

#[test]
fn unfinished_and_private() {
    for text in [
        ["// TO", "DO: later"],
        ["to", "do!()"],
        ["#[ig", "nore]"],
        ["FIX", "ME"],
    ] {
        assert_eq!(
            complaints(unfinished, "src/a.rs", &text.concat()),
            1,
            "{text:?}"
        );
    }
    assert_eq!(
        complaints(unfinished, "src/a.rs", "fn todos() {} // XXXL"),
        0
    );
    assert_eq!(
        complaints(private_path, "a.md", &["see /wo", "rk/notes"].concat()),
        1
    );
    assert_eq!(
        complaints(private_path, "a.md", &["/ro", "ot/.cargo"].concat()),
        1
    );
    assert_eq!(
        complaints(private_path, "a.md", "HOME=/root, $CGROUP/root/x, a/work/b"),
        0
    );
}
