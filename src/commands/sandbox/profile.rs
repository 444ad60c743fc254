//! `--profile`: the options as a file, so that a project can have one.
//!
//! TOML, or JSON where the name ends so. Keys are the names of the options; what
//! is about one run only (`--detach`, `--bundle` and the like) is not among them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, IgnoredAny, Visitor};
use syscalls::Sysno;

use super::choices::Choices;
use crate::commands::root;
use crate::error::{Error, Result};

/// Every key.
const KEYS: [&str; 24] = [
    "ro",
    "rw",
    "cwd",
    "chdir",
    "overlay",
    "overlay-upper",
    "rootfs",
    "image",
    "timeout",
    "tmpfs",
    "net",
    "connect",
    "listen",
    "env",
    "user",
    "hostname",
    "memory",
    "cpus",
    "pids",
    "seccomp",
    "hardening",
    "relax",
    "tty",
    "quiet",
];

/// A key that is none, and its line: the parser names the place of the table only.
fn stranger(text: &str) -> Option<String> {
    let keys: BTreeMap<String, IgnoredAny> = basic_toml::from_str(text).ok()?;
    let strange = keys.keys().find(|key| !KEYS.contains(&key.as_str()))?;
    let begins = |line: &str| {
        line.trim_start_matches(['"', '\'', '[', ' ', '\t'])
            .starts_with(strange)
    };
    let line = text.lines().position(begins).map_or(1, |index| index + 1);
    Some(format!(
        "line {line}: unknown key {strange:?}: there are {}",
        KEYS.join(", ")
    ))
}

fn from_toml(text: &str) -> Result<Choices, String> {
    match stranger(text) {
        Some(problem) => Err(problem),
        None => basic_toml::from_str(text).map_err(|error| error.to_string()),
    }
}

/// Reads a profile. Paths in it are relative to the file's directory, and may
/// begin with `~/`.
pub(super) fn read(file: &str) -> Result<Choices> {
    let path = root::absolute(file.as_ref())?;
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::io("read the profile", path.display(), Sysno::openat, &error))?;
    let parsed = match path.extension().is_some_and(|name| name == "json") {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => from_toml(&text),
    };
    let mut choices: Choices =
        parsed.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let lists = [&mut choices.ro, &mut choices.rw, &mut choices.overlay];
    let single = [
        &mut choices.overlay_upper,
        &mut choices.rootfs,
        &mut choices.image,
    ];
    let paths = lists
        .into_iter()
        .flatten()
        .chain(single.into_iter().flatten());
    paths.for_each(|path| *path = anchored(path, base));
    if let Some(profile) = &mut choices.seccomp
        && !matches!(profile.as_str(), "strict" | "default")
    {
        *profile = anchored(profile, base);
    }
    Ok(choices)
}

fn anchored(path: &str, base: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let whole = match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        _ => base.join(path),
    };
    whole.to_string_lossy().into_owned()
}

/// A text, or a number as it is written.
pub(super) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    struct Word;

    impl Visitor<'_> for Word {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a number")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
            u64::try_from(number)
                .map(|number| number.to_string())
                .map_err(|_| E::custom("a negative number"))
        }

        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    from.deserialize_any(Word).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, text: &str) -> Result<Choices, String> {
        let directory = format!("capsid-profile-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(name);
        std::fs::write(&file, text).unwrap();
        let read = read(file.to_str().unwrap()).map_err(|error| error.to_string());
        std::fs::remove_dir_all(&directory).unwrap();
        read
    }

    #[test]
    fn both_forms_say_the_same() {
        let toml = "# comment\nro = [\"data\", \"/abs:/x\"]\ncwd = true\nmemory = \"1G\"\n\
                    pids = 100\ncpus = 1.5\nrelax = [\"seccomp-floor\"]\noverlay-upper = \"kept\"\n";
        let json = r#"{"ro": ["data", "/abs:/x"], "cwd": true, "memory": "1G", "pids": 100,
                       "cpus": 1.5, "relax": ["seccomp-floor"], "overlay-upper": "kept"}"#;
        let toml = parsed("a.toml", toml).unwrap();
        let json = parsed("a.json", json).unwrap();
        assert_eq!(
            (&toml.env, &toml.pids, &toml.relax),
            (&json.env, &json.pids, &json.relax)
        );
        assert!(
            toml.ro[0].starts_with('/') && toml.ro[0].ends_with("/data"),
            "{:?}",
            toml.ro
        );
        assert_eq!(toml.ro[1], "/abs:/x");
        let numbers = [toml.pids.as_deref(), toml.cpus.as_deref()];
        assert_eq!(numbers, [Some("100"), Some("1.5")]);
    }

    /// serde knows the names of the fields.
    #[test]
    fn every_option_has_its_key() {
        let error = serde_json::from_str::<Choices>("{\"x\": 1}").unwrap_err();
        let listed = KEYS.map(|key| format!("`{key}`")).join(", ");
        assert!(
            error
                .to_string()
                .contains(&format!("expected one of {listed} at")),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (name, text, words) in [
            (
                "b.toml",
                "cwd = true\nread = [\"x\"]\n",
                "unknown key \"read\"",
            ),
            ("b.toml", "cwd = true\nread = [\"x\"]\n", "line 2"),
            ("c.toml", "ro = \"x\"\n", "expected a sequence"),
            ("d.toml", "ro = [\"x\"\n", "line 2"),
            ("e.json", "{\"detach\": true}", "unknown field `detach`"),
            ("f.json", "{\"ro\": [1]}", "line 1 column 9"),
            ("g.toml", "pids = -1\n", "negative"),
            ("h.toml", "pids = true\n", "a text or a number"),
        ] {
            let error = parsed(name, text).unwrap_err();
            assert!(
                error.contains(words) && error.contains(name),
                "{words}: {error}"
            );
        }
    }
}
