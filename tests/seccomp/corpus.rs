//! The corpora of the fuzz targets, and inputs too large to be kept as files.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::fuzzed;

/// Runs every file of a corpus. Names say what becomes of them.
fn run(target: &str, check: fn(&[u8]) -> bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut seen = [0, 0];
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let good = match name.split('-').next() {
            Some("good") => true,
            Some("bad") => false,
            _ => panic!("{name}: names start with good- or bad-"),
        };
        assert_eq!(check(&fs::read(&path).unwrap()), good, "{target}/{name}");
        seen[usize::from(good)] += 1;
    }
    assert!(seen[0] >= 8 && seen[1] >= 5, "{target}: {seen:?}");
}

#[test]
fn the_corpus_of_profiles_holds() {
    run("profile", fuzzed::profile);
}

#[test]
fn the_corpus_of_files_holds() {
    run("file", fuzzed::file);
}

#[test]
fn a_megabyte_and_ten_thousand_rules_come_to_an_end() {
    let names: Vec<String> = (0..60_000).map(|n| format!("no_such_call_{n}")).collect();
    let rule = json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
    let long = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] }).to_string();
    assert!(long.len() > 1 << 20);
    let rules = |different: bool| {
        let rules: Vec<_> = (0..10_000_u64)
            .map(|n| {
                // Neighbours would make one range.
                let value = if different { 2 * n } else { 7 };
                let args = json!([{ "index": 1, "value": value, "op": "SCMP_CMP_EQ" }]);
                json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args })
            })
            .collect();
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }).to_string()
    };
    for check in [fuzzed::profile, fuzzed::file] {
        assert!(check(long.as_bytes()));
        assert!(check(r#"{"defaultAction":"SCMP_ACT_LOG"}"#.as_bytes()));
        assert!(
            !check(rules(true).as_bytes()),
            "more than 4096 instructions"
        );
        assert!(!check("[".repeat(1 << 20).as_bytes()));
    }
    // Not judged: whether the same rule 10 000 times is one rule or too many.
    fuzzed::profile(rules(false).as_bytes());
}
