//! The table of known ways out (`integration/escapes`) says what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{files, quoted, read};

/// One row of the table, without the blanks around its cells.
struct Row {
    ids: Vec<String>,
    tests: Vec<String>,
    proofs: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = read("integration/escapes/README.md");
    let (_, tables) = text.split_once("\n## Runtimes\n").unwrap();
    let words = |cell: &str| {
        let all = cell.split('`').skip(1).step_by(2);
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    tables
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ids "))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 5, "{line}");
            Row {
                ids: cells[0].split(", ").map(str::to_owned).collect(),
                tests: words(cells[3]),
                proofs: words(cells[4]),
            }
        })
        .collect()
}

/// All that tests are made of.
fn sources() -> String {
    let below = ["src", "tests", "integration"];
    let all = below.iter().flat_map(|dir| files(dir, ".rs"));
    all.map(|file| fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn every_known_way_out_has_a_row() {
    let list = read("integration/escapes/classes.txt");
    let wanted: Vec<&str> = list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut there = BTreeMap::new();
    for row in rows() {
        for id in row.ids {
            *there.entry(id).or_insert(0) += 1;
        }
    }
    for id in &wanted {
        let count = there.remove(*id);
        assert_eq!(count, Some(1), "rows for {id}");
    }
    assert!(there.is_empty(), "not in classes.txt: {there:?}");
}

#[test]
fn every_row_of_a_way_out_names_tests_that_exist() {
    let sources = sources();
    for row in rows() {
        assert!(!row.tests.is_empty(), "no test: {:?}", row.ids);
        for name in row.tests {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "{:?}: no test {name}",
                row.ids
            );
        }
    }
}

/// Names of patches, from both sides.
#[test]
fn every_proof_of_a_way_out_is_there() {
    let patches: BTreeSet<String> = files("integration/escapes/without", ".patch")
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    let rules = quoted(&read("docs/hardening.md"));
    let sources = sources();
    let mut used = BTreeSet::new();
    let proven = rows().iter().filter(|row| !row.proofs.is_empty()).count();
    assert!(proven >= 20, "only {proven} rows were seen failing");
    for row in rows() {
        for proof in row.proofs {
            match proof.split_once(' ') {
                Some(("without", name)) => {
                    assert!(patches.contains(name), "{:?}: no patch {name}", row.ids);
                    used.insert(name.to_owned());
                }
                Some(("relaxed", rule)) => {
                    let given_up = sources.contains(&format!("\"{rule}\""));
                    assert!(rules.contains(rule) && given_up, "{:?}: {rule}", row.ids);
                }
                Some(("granted", capability)) => {
                    let given = sources.contains(&format!("\"{capability}\""));
                    assert!(given, "{:?}: {capability}", row.ids);
                }
                None if ["runc", "crun"].contains(&proof.as_str()) => {}
                _ => panic!("{:?}: no such proof: {proof}", row.ids),
            }
        }
    }
    let idle: Vec<_> = patches.difference(&used).collect();
    assert!(idle.is_empty(), "patches of no row: {idle:?}");
}

/// What a patch takes away is still there, and only once.
#[test]
fn every_patch_of_a_defence_fits() {
    for patch in files("integration/escapes/without", ".patch") {
        let name = patch.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&patch).unwrap();
        let (head, _) = text.split_once("\n--- ").unwrap();
        assert!(head.contains("\nTests: "), "{name}: names no tests");
        assert!(
            text.contains(&format!("without(\"{name}\")")),
            "{name}: the patch asks for another name"
        );
        let mut source = String::new();
        let mut hunk = String::new();
        // The end of the last hunk is the end of the file.
        for line in text.lines().chain(["@@"]) {
            if let Some(path) = line.strip_prefix("+++ b/") {
                source = read(path);
            } else if line.starts_with("@@") || line.starts_with("--- ") {
                let found = source.matches(&hunk).count();
                assert!(
                    hunk.is_empty() || found == 1,
                    "{name}: found {found} times:\n{hunk}"
                );
                hunk.clear();
            } else if let (false, Some(old)) = (source.is_empty(), line.strip_prefix([' ', '-'])) {
                hunk += old;
                hunk.push('\n');
            }
        }
    }
}

/// Defences are left out of copies only: what is shipped has no switch for it.
#[test]
fn no_source_can_leave_a_defence_out() {
    for file in files("src", ".rs") {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("::without("), "{}", file.display());
    }
}
