//! Whole configurations: what engines write is accepted, and what nobody would
//! write never makes the reader or the checks panic.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its material is not there"
)]

use std::fs;
use std::path::{Path, PathBuf};

use capsid::spec::bundle::{self, Bundle};
use capsid::spec::template;
use capsid::spec::validate::{Caller, ValidSpec, validate};
use serde_json::Value;

const CALLERS: [Caller; 2] = [Caller { privileged: true }, Caller { privileged: false }];

/// The name and text of each configuration in `tests/configs`.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

fn config(name: &str) -> Vec<u8> {
    corpus()
        .into_iter()
        .find(|(known, _)| known == name)
        .unwrap()
        .1
}

fn checked(bytes: &[u8], caller: Caller) -> capsid::error::Result<ValidSpec> {
    let (spec, warnings) = bundle::parse(bytes, Path::new("/b/config.json"))?;
    validate(
        Bundle {
            dir: "/b".into(),
            spec,
            warnings,
        },
        caller,
    )
}

#[test]
fn what_engines_write_is_accepted() {
    let expected = [
        ("default", 0),
        ("docker", 0),
        ("full", 0),
        // The user namespace is joined, and its mappings are given too.
        ("kubernetes", 1),
        ("rootless", 0),
    ];
    let corpus = corpus();
    assert_eq!(corpus.len(), expected.len());
    for ((name, bytes), (known, warnings)) in corpus.iter().zip(expected) {
        assert_eq!(name, known);
        let valid = checked(bytes, CALLERS[0]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            valid.warnings().len(),
            warnings,
            "{name}: {:?}",
            valid.warnings()
        );
    }
    checked(&config("rootless"), CALLERS[1]).unwrap();
}

#[test]
fn the_templates_are_as_printed() {
    for (name, rootless) in [("default", None), ("rootless", Some((1000, 1000)))] {
        let text = template::to_json(&template::default_spec(rootless, true));
        assert_eq!(
            text,
            String::from_utf8(config(name)).unwrap().trim_end(),
            "{name}"
        );
    }
}

/// Everything the types can hold survives: what a person writes in a field of
/// the specification is not lost on the way.
#[test]
fn nothing_of_the_full_configuration_is_lost() {
    let bytes = config("full");
    let written: Value = serde_json::from_slice(&bytes).unwrap();
    let (_, spec, _) = checked(&bytes, CALLERS[0]).unwrap().into_parts();
    let kept = serde_json::to_value(spec).unwrap();
    let mut lost = Vec::new();
    compare(&written, &kept, "", &mut lost);
    // Other platforms' sections, and the flag that the types spell otherwise.
    assert_eq!(lost, ["/freebsd", "/process/scheduler/flags/0", "/vm"]);
}

fn compare(written: &Value, kept: &Value, at: &str, lost: &mut Vec<String>) {
    use Value::{Array, Object};
    match (written, kept) {
        (Object(written), Object(kept)) => {
            for (key, value) in written {
                let at = format!("{at}/{key}");
                match kept.get(key) {
                    Some(kept) => compare(value, kept, &at, lost),
                    None => lost.push(at),
                }
            }
        }
        // Capabilities are sets.
        (Array(written), Array(kept)) if at.starts_with("/process/capabilities/") => {
            assert!(written.iter().all(|name| kept.contains(name)), "{at}");
        }
        (Array(written), Array(kept)) => {
            assert_eq!(written.len(), kept.len(), "{at}");
            for (index, (written, kept)) in written.iter().zip(kept).enumerate() {
                compare(written, kept, &format!("{at}/{index}"), lost);
            }
        }
        (written, kept) if written == kept => {}
        _ => lost.push(at.to_owned()),
    }
}

/// Marsaglia's xorshift64: the same mutations on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }
}

/// Values that stand at the edges of what the fields take.
const EDGES: [&str; 24] = [
    "null",
    "-1",
    "0",
    "1",
    "4294967295",
    "18446744073709551615",
    "-9223372036854775808",
    "0.5",
    "true",
    "\"\"",
    "\"\\u0000\"",
    "\"a\\nb\"",
    "\"..\"",
    "\".\"",
    "\"/\"",
    "\"/proc/self/fd\"",
    "\"bind\"",
    "\"CAP_MARS\"",
    "\"user\"",
    "\"net.//.x\"",
    "[]",
    "{}",
    "[{}]",
    "{\"\": \"\"}",
];

/// Damages the text itself: for the reader.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let end = (at + random.below(40)).min(bytes.len());
    match random.below(4) {
        0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => drop(bytes.drain(at..end)),
        _ => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
    }
    if bytes.is_empty() {
        bytes.push(b'{');
    }
}

/// Replaces one value somewhere in a document, or one element by another: for the checks.
fn replace(value: &mut Value, random: &mut Random) {
    let count = match value {
        Value::Array(elements) => elements.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    // Mostly deeper, so that the fields of small objects have their turn.
    if count > 0 && random.below(12) > 0 {
        let index = random.below(count);
        let other = random.below(count);
        return match value {
            Value::Array(elements) if random.below(8) == 0 => {
                elements[index] = elements[other].clone()
            }
            Value::Array(elements) => replace(&mut elements[index], random),
            Value::Object(fields) => {
                let field = fields.iter_mut().nth(index).map(|(_, field)| field);
                replace(field.unwrap(), random);
            }
            _ => {}
        };
    }
    *value = serde_json::from_str(EDGES[random.below(EDGES.len())]).unwrap();
}

fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let times = random.below(3);
    if random.below(3) == 0 {
        (0..=times).for_each(|_| damage(&mut bytes, random));
        return bytes;
    }
    let mut document = serde_json::from_slice(&bytes).unwrap();
    (0..=times).for_each(|_| replace(&mut document, random));
    serde_json::to_vec(&document).unwrap()
}

/// Set `CAPSID_FUZZ` to a number for more rounds than a test run has time for.
#[test]
fn mutated_configurations_never_panic() {
    let rounds = std::env::var("CAPSID_FUZZ")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(2_000);
    let corpus = corpus();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused, mut unread) = (0u64, 0u64, 0u64);
    for round in 0..rounds {
        let bytes = mutated(&corpus[round % corpus.len()].1, &mut random);
        let file = Path::new("/b/config.json");
        let Ok((spec, warnings)) = bundle::parse(&bytes, file) else {
            unread += 1;
            continue;
        };
        for caller in CALLERS {
            let bundle = Bundle {
                dir: "/b".into(),
                spec: spec.clone(),
                warnings: warnings.clone(),
            };
            match validate(bundle, caller) {
                Ok(_) => accepted += 1,
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    // A fuzzer that never gets past the parser tests nothing.
    let each = u64::try_from(rounds).unwrap() / 20;
    assert!(
        accepted > each && refused > each && unread > each,
        "{accepted} {refused} {unread}"
    );
}

/// A list of the bundle's own counts for more than the rule: it must not be the shorter one.
#[test]
fn the_written_configuration_hides_what_a_silent_one_would() {
    for rootless in [None, Some((1000, 1000))] {
        let spec = template::default_spec(rootless, true);
        let masked = spec.linux().as_ref().unwrap().masked_paths().clone();
        let mut masked = masked.unwrap();
        masked.sort();
        let mut default = capsid::policy::MASKED_PATHS.map(str::to_owned);
        default.sort();
        assert_eq!(masked, default);
    }
}
