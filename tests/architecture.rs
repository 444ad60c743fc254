//! The rules of the design that a compiler does not keep: who imports whom,
//! where `unsafe` may stand, how long things get, what may be opened by path.
//!
//! Each rule is a function from source text to complaints, so that each can be
//! seen failing on a snippet (`mod snippets`) before it is trusted on the tree.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/rust.rs"]
mod rust;
#[path = "architecture/snippets.rs"]
mod snippets;

use rust::{block_length, code, imports, line_of, shipped, words};

/// A file of the tree: its path from the root of the crate, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every text file of the tree that belongs to the project.
fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)
            .expect("the tree can be listed")
            .flatten()
        {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // A directory, or in a linked worktree a file.
            if name == ".git" {
                continue;
            }
            if path.is_dir() {
                if name != "target" {
                    open.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                let relative = path.strip_prefix(root).unwrap_or(&path);
                found.push(Source {
                    path: relative.to_string_lossy().into_owned(),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The Rust files of the runtime itself.
fn sources() -> Vec<Source> {
    let all = tree()
        .into_iter()
        .filter(|file| file.path.starts_with("src/") && file.path.ends_with(".rs"));
    let all: Vec<_> = all.collect();
    assert!(all.len() > 5, "the sources were not found");
    all
}

/// Applies a rule to every file and fails with all complaints at once.
fn check(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|file| {
            rule(file)
                .into_iter()
                .map(|text| format!("{}: {text}", file.path))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

/// What each module may take from the crate besides itself; `host` in
/// capitals: only its types, which are facts without a way to ask the kernel.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sys", &["error"]),
    ("spec", &["error"]),
    ("seccomp", &["error", "spec"]),
    ("policy", &["error", "spec", "seccomp", "HOST"]),
    ("plan", &["error", "spec", "seccomp", "policy", "HOST"]),
    ("sandbox", &["error", "spec", "policy", "HOST"]),
    ("audit", &["error", "policy"]),
    ("host", &["error", "sys"]),
    (
        "state",
        &["error", "sys", "spec", "seccomp", "policy", "host"],
    ),
    (
        "execute",
        &[
            "error", "sys", "spec", "seccomp", "policy", "plan", "host", "state", "sandbox",
            "audit",
        ],
    ),
    // Of `execute` only the lookup of paths below a root.
    ("image", &["error", "sys", "state", "execute"]),
];

/// `src/plan/rootfs.rs` and `src/plan.rs` are both of `plan`.
fn module(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner
        .split('/')
        .next()
        .unwrap_or(inner)
        .trim_end_matches(".rs")
}

/// A module of its own file below `#[cfg(test)] mod tests;`.
fn is_test(file: &Source) -> bool {
    file.path.ends_with("/tests.rs") || file.path.contains("/tests/")
}

fn wrong_imports(file: &Source) -> Vec<String> {
    let own = module(&file.path);
    let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == own) else {
        // The top: commands, main, lib.
        return Vec::new();
    };
    let wrong = |path: &String| {
        let mut parts = path.split("::");
        let first = parts.next().unwrap_or_default();
        let fact = first == "host"
            && parts
                .last()
                .is_some_and(|name| name.starts_with(char::is_uppercase));
        let known = first == "commands" || DIRECTIONS.iter().any(|(name, _)| *name == first);
        known && first != own && !allowed.contains(&first) && !(fact && allowed.contains(&"HOST"))
    };
    if is_test(file) {
        return Vec::new();
    }
    let taken = imports(&shipped(&file.text));
    taken
        .iter()
        .filter(|path| wrong(path))
        .map(|path| format!("{own} must not import crate::{path}"))
        .collect()
}

fn unsafe_outside_sys(file: &Source) -> Vec<String> {
    if module(&file.path) == "sys" {
        return Vec::new();
    }
    let code = code(&file.text);
    words(&code, "unsafe")
        .map(|at| format!("line {}: unsafe outside src/sys", line_of(&code, at)))
        .collect()
}

fn unsafe_without_reason(file: &Source) -> Vec<String> {
    let code = code(&file.text);
    let lines: Vec<&str> = file.text.lines().collect();
    let mut complaints = Vec::new();
    for at in words(&code, "unsafe") {
        let rest = code[at + "unsafe".len()..].trim_start();
        if !rest.starts_with('{') && !rest.starts_with("impl") {
            continue;
        }
        let line = line_of(&code, at);
        let before = &lines[line.saturating_sub(12)..line];
        let reason = before.iter().rev().find(|text| text.contains("SAFETY:"));
        match reason {
            None => complaints.push(format!("line {line}: unsafe without a SAFETY comment")),
            Some(text) if text.contains("arameters are valid") => {
                complaints.push(format!(
                    "line {line}: the SAFETY comment names no invariant"
                ));
            }
            Some(_) => {}
        }
    }
    complaints
}

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 60;

fn too_long(file: &Source) -> Vec<String> {
    let count = file.text.lines().count();
    let mut complaints = Vec::new();
    if count > LONGEST_FILE {
        complaints.push(format!("{count} lines, {LONGEST_FILE} at most"));
    }
    let code = code(&file.text);
    for at in words(&code, "fn") {
        let rest = &code[at..];
        let name: String = rest[2..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        // A body comes before the semicolon that ends a declaration; `[u8; 4]` is no end.
        let mut depth = 0i32;
        let body = rest.char_indices().find_map(|(at, c)| {
            depth += match c {
                '(' | '[' => 1,
                ')' | ']' => -1,
                _ => 0,
            };
            match c {
                '{' if depth == 0 => Some(Some(at)),
                ';' if depth == 0 => Some(None),
                _ => None,
            }
        });
        if let (false, Some(Some(brace))) = (name.is_empty(), body) {
            let length = rest[..brace + block_length(&rest[brace..])]
                .matches('\n')
                .count()
                + 1;
            if length > LONGEST_FUNCTION {
                complaints.push(format!(
                    "fn {name} has {length} lines, {LONGEST_FUNCTION} at most"
                ));
            }
        }
    }
    complaints
}

fn vague_name(file: &Source) -> Vec<String> {
    let stems = file
        .path
        .split('/')
        .map(|part| part.trim_end_matches(".rs"));
    let vague = [
        "utils", "util", "helpers", "helper", "common", "manager", "misc",
    ];
    stems
        .filter(|stem| vague.contains(stem))
        .map(|stem| format!("{stem} says nothing about what is inside"))
        .collect()
}

/// Below a rootfs a path is the attacker's: these modules work on descriptors.
fn opened_by_path(file: &Source) -> Vec<String> {
    let careful = ["execute", "image", "plan", "policy", "sys"].contains(&module(&file.path));
    if !careful || is_test(file) {
        return Vec::new();
    }
    let code = shipped(&file.text);
    let mut complaints = Vec::new();
    for call in [
        "File::open",
        "File::create",
        "File::create_new",
        "File::options",
        "OpenOptions",
    ] {
        complaints
            .extend(words(&code, call).map(|at| format!("line {}: {call}", line_of(&code, at))));
    }
    for (at, _) in code.match_indices("std::fs") {
        // The type alone, as an owner of a descriptor, opens nothing.
        let rest = &code[at + "std::fs".len()..];
        if words(rest, "::File").next() != Some(0) {
            complaints.push(format!("line {}: std::fs by path", line_of(&code, at)));
        }
    }
    complaints
}

/// The words are put together here so that this file does not complain about itself.
fn unfinished(file: &Source) -> Vec<String> {
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["to", "do!("],
        ["unimpl", "emented!("],
        ["#[ig", "nore"],
    ];
    let marks = marks.map(|halves| halves.concat());
    let hit = |line: &str| {
        marks
            .iter()
            .find(|mark| {
                line.match_indices(mark.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(char::is_alphanumeric)
                        && !line[at + mark.len()..].starts_with(char::is_alphanumeric)
                })
            })
            .cloned()
    };
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(number, line)| hit(line).map(|mark| format!("line {}: {mark}", number + 1)))
        .collect()
}

/// Absolute paths of one developer's machine. `/root/path` and
/// `/root/readonly` are JSON pointers into a configuration.
fn private_path(file: &Source) -> Vec<String> {
    let roots = [["/wo", "rk"], ["/ro", "ot"]].map(|halves| halves.concat());
    let inside = |c: char| c.is_alphanumeric() || "._-}/)>*$".contains(c);
    let hit = |line: &str| {
        roots.iter().any(|root| {
            line.match_indices(root.as_str()).any(|(at, _)| {
                let rest = line[at + root.len()..].strip_prefix('/');
                let pointer = rest
                    .is_some_and(|rest| rest.starts_with("path") || rest.starts_with("readonly"));
                !line[..at].ends_with(inside)
                    && rest.is_some_and(|rest| rest.starts_with(inside))
                    && !pointer
            })
        })
    };
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| hit(line))
        .map(|(number, _)| format!("line {}: a path of one machine", number + 1))
        .collect()
}

#[test]
fn imports_go_one_way() {
    check(&sources(), wrong_imports);
}

#[test]
fn unsafe_is_only_in_sys() {
    check(&sources(), unsafe_outside_sys);
}

#[test]
fn every_unsafe_says_why() {
    check(&sources(), unsafe_without_reason);
}

#[test]
fn files_and_functions_are_short() {
    check(&sources(), too_long);
}

#[test]
fn names_say_what_is_inside() {
    check(&tree(), vague_name);
}

#[test]
fn nothing_is_opened_by_path_below_a_root() {
    check(&sources(), opened_by_path);
}

#[test]
fn nothing_is_left_unfinished() {
    let files: Vec<_> = tree()
        .into_iter()
        .filter(|file| file.path != "Cargo.lock")
        .collect();
    check(&files, unfinished);
}

#[test]
fn no_path_of_one_machine() {
    check(&tree(), private_path);
}
