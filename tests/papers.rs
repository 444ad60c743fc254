//! The papers say what the code does: system calls, dependencies and links.

#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot do without must be there"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "papers/escapes.rs"]
mod escapes;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a directory of the repository that ends so.
fn files(below: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top().join(below)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // A container's root may be full of links that lead nowhere here.
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && name != "target" && name != ".git" {
                open.push(path);
            } else if kind.is_file() && name.ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The names of system calls in a source text: `Sysno::name`.
fn calls(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .collect::<String>()
    };
    text.split("Sysno::")
        .skip(1)
        // `Sysno::new` and `Sysno::last` are functions of the type.
        .map(word)
        .filter(|name| !matches!(name.as_str(), "" | "new" | "last"))
        .collect()
}

/// The words in backquotes of a text, each up to its first blank.
fn quoted(text: &str) -> BTreeSet<String> {
    let first = |quoted: &str| quoted.split(' ').next().unwrap_or_default().to_owned();
    text.split('`').skip(1).step_by(2).map(first).collect()
}

/// The tables of `[dependencies]` and its relatives: the names in them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

/// Targets of links `[text](target)`, without code blocks.
fn links(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with("    "))
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()))
        .collect()
}

/// A heading as the part of an address after `#`.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line) == wanted)
}

#[test]
fn every_system_call_is_in_the_table_of_kernel_features() {
    let known = quoted(&read("docs/kernel-features.md"));
    let mut used = BTreeSet::new();
    for dir in ["src/sys", "src/execute", "src/image"] {
        for file in files(dir, ".rs") {
            used.extend(calls(&fs::read_to_string(file).unwrap()));
        }
    }
    assert!(used.len() > 50, "only {} calls were found", used.len());
    let missing: Vec<_> = used.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "not in docs/kernel-features.md: {missing:?}"
    );
}

#[test]
fn every_dependency_has_a_section() {
    let papers = read("docs/dependencies.md");
    let used = dependencies(&read("Cargo.toml"));
    assert!(used.contains("nix") && used.contains("seccompiler"));
    let headings: Vec<&str> = papers
        .lines()
        .filter(|line| line.starts_with("###"))
        .collect();
    let missing: Vec<_> = used
        .iter()
        .filter(|name| {
            let word = format!("`{name}`");
            !headings.iter().any(|heading| heading.contains(&word))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "no section in docs/dependencies.md: {missing:?}"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for file in files("", ".md") {
        let text = fs::read_to_string(&file).unwrap();
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (path, part) = target.split_once('#').unwrap_or((&target, ""));
            let found = match path {
                "" => file.clone(),
                _ => file.parent().unwrap().join(path),
            };
            let there = found.exists()
                && (part.is_empty()
                    || fs::read_to_string(&found).is_ok_and(|text| has_anchor(&text, part)));
            if !there {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(count > 10, "only {count} links were found");
    assert!(broken.is_empty(), "\n  {}\n", broken.join("\n  "));
}

/// Names of tests that documents and the table of invariants rely on.
#[test]
fn every_test_that_the_architecture_names_exists() {
    let mut sources = String::new();
    for dir in ["src", "tests", "integration"] {
        for file in files(dir, ".rs") {
            sources += &fs::read_to_string(file).unwrap();
        }
    }
    let text = read("docs/architecture.md");
    let table = text.split("## Invariants").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let named: Vec<String> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.rsplit('|').nth(1))
        .flat_map(quoted)
        .filter(|word| word.contains('_') && !word.contains(['.', '/', ':']))
        .collect();
    assert!(named.len() > 10, "only {named:?} were found");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}

/// Of each table of the threat model, the column that says what keeps a promise.
#[test]
fn every_promise_of_the_threat_model_has_a_test() {
    let mut sources = String::new();
    for file in files("integration", ".rs") {
        sources += &fs::read_to_string(file).unwrap();
    }
    let text = read("docs/threat-model.md");
    let mut kept = false;
    let mut count = 0;
    for line in text.lines() {
        if !line.starts_with('|') {
            kept = false;
        } else if line.ends_with("| kept by |") {
            kept = true;
        } else if kept && !line.starts_with("|---") {
            let cell = line.rsplit('|').nth(1).unwrap();
            let names = quoted(cell);
            assert!(!names.is_empty(), "nothing keeps this: {line}");
            for name in names {
                let there = sources.contains(&format!("fn {name}("));
                assert!(there, "no test {name}: {line}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "only {count} promises were found");
}

#[test]
fn every_variable_of_the_tests_is_explained() {
    let papers = read("docs/testing.md");
    let mut missing = BTreeSet::new();
    for dir in ["src", "integration"] {
        for file in files(dir, ".rs") {
            let text = fs::read_to_string(file).unwrap();
            for rest in text.split("CAPSID_TEST_").skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_');
                let name = format!("`CAPSID_TEST_{}=", &rest[..end.unwrap_or(rest.len())]);
                if !papers.contains(&name) {
                    missing.insert(name);
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/testing.md: {missing:?}");
}

/// Every rule that has an outcome, as `explain` shows it.
#[test]
fn every_rule_is_in_the_paper_on_hardening() {
    let papers = read("docs/hardening.md");
    let plan = capsid(&["explain", "examples/hello"]);
    let (_, rules) = plan.split_once("rules:\n").unwrap();
    let ids: Vec<&str> = rules
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(id, _)| id)
        .collect();
    assert!(ids.len() > 3, "{plan}");
    let (levels, _) = papers.split_once("### Giving a rule up").unwrap();
    for id in ids {
        let word = format!("`{id}`");
        assert!(levels.contains(&word), "no level for {id}");
        let entry = papers
            .split("\n### ")
            .find(|entry| entry.lines().next().unwrap().contains(&word));
        let entry = entry.unwrap_or_else(|| panic!("no entry for {id} in docs/hardening.md"));
        for part in ["What", "Attack", "Relax", "Breaks"] {
            let part = format!("* **{part}:**");
            assert!(entry.contains(&part), "{id}: no {part}");
        }
    }
}

/// Standard output of the real binary.
fn capsid(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capsid"));
    let output = command.args(args).current_dir(top()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "capsid {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readme_lists_the_commands_there_are() {
    let help = capsid(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap();
    let there: BTreeSet<String> = list
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    let text = read("README.md");
    let table = text.split("## Commands").nth(1).unwrap();
    let listed: BTreeSet<String> = table
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .flat_map(|(names, _)| quoted(names))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn the_first_container_can_be_planned() {
    let plan = capsid(&["explain", "examples/hello"]);
    assert!(plan.contains("bind recursively /usr on /usr"), "{plan}");
    assert!(plan.contains("execute /bin/sh"), "{plan}");
}

#[test]
fn what_is_looked_for_is_found() {
    assert_eq!(
        calls("a(Sysno::openat2, Sysno::wait4)"),
        BTreeSet::from(["openat2".into(), "wait4".into()])
    );
    assert!(quoted("| `ioctl` `A B` |").contains("A"));
    let manifest = "[package]\nname = 1\n[dependencies]\nnix = 1\n[lints]\nx = 1\n[dev-dependencies]\nmimic = 2\n";
    assert_eq!(
        dependencies(manifest),
        BTreeSet::from(["mimic".into(), "nix".into()])
    );
    assert_eq!(links("[a](b#c) and [d](e)"), ["b#c", "e"]);
    assert_eq!(
        anchor("### Ubuntu 24.04, and `more`"),
        "ubuntu-2404-and-more"
    );
}
