//! A container that was created, and what the probe saw in one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::runtime::{Call, Output, Running};

/// A container that was created from a bundle.
pub(crate) struct Container<'b, 't> {
    pub(crate) bundle: &'b Bundle<'t>,
    pub(crate) creator: Running,
}

impl Container<'_, '_> {
    pub(crate) fn id(&self) -> &str {
        &self.bundle.id
    }

    #[track_caller]
    pub(crate) fn start(&self) {
        self.bundle.on(&["start"]).ok();
    }

    /// The document that `state` prints; anything on standard error is a fault.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        let output = self.bundle.on(&["state"]).output().success();
        if !output.stderr.is_empty() {
            output.fail("nothing on standard error: engines read both streams as one");
        }
        output.json()
    }

    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    #[track_caller]
    pub(crate) fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().unwrap_or(0)
    }

    #[track_caller]
    pub(crate) fn wait_status(&self, status: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.status() != status {
            assert!(
                Instant::now() < end,
                "{} is {}, not {status}",
                self.id(),
                self.status()
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Everything the container's process printed so far.
    pub(crate) fn printed(&self) -> String {
        self.creator.so_far()
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.printed().contains(text) {
            assert!(
                Instant::now() < end,
                "the container never said {text:?}: {:?}",
                self.printed()
            );
            sleep(Duration::from_millis(3));
        }
    }

    #[track_caller]
    pub(crate) fn kill(&self, signal: &str) {
        self.bundle.test.capsid(&["kill", self.id(), signal]).ok();
    }

    /// `exec` with flags before the id and words after it.
    pub(crate) fn exec_call(&self, flags: &[&str], words: &[&str]) -> Call<'_> {
        let mut all = vec!["exec"];
        all.extend_from_slice(flags);
        all.push(self.id());
        all.extend_from_slice(words);
        self.bundle.test.capsid(&all)
    }

    /// The probe, by `exec`.
    pub(crate) fn exec(&self, flags: &[&str], args: &[&str]) -> Output {
        let mut words = vec!["/bin/probe"];
        words.extend_from_slice(args);
        self.exec_call(flags, &words).output()
    }

    /// What `probe report` prints through `exec`.
    #[track_caller]
    pub(crate) fn exec_report(&self, flags: &[&str]) -> Report {
        Report(self.exec(flags, &["report"]).success().json())
    }

    /// Kills, deletes, and insists that nothing is left.
    #[track_caller]
    pub(crate) fn end(self) {
        self.bundle.on(&["delete", "--force"]).ok();
        self.bundle.assert_nothing_left();
    }
}

/// What the probe saw.
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// The value at a JSON pointer, null when there is none.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    #[track_caller]
    pub(crate) fn expect(&self, pointer: &str, value: Value) {
        assert_eq!(self.at(pointer), &value, "{pointer}");
    }

    /// A member whose name may hold slashes.
    pub(crate) fn member(&self, object: &str, name: &str) -> &Value {
        self.0
            .get(object)
            .and_then(|all| all.get(name))
            .unwrap_or(&Value::Null)
    }

    /// The last mount at a mount point.
    #[track_caller]
    pub(crate) fn mount(&self, point: &str) -> &Value {
        let all = self.at("/mounts").as_array().map_or(&[][..], Vec::as_slice);
        let found = all.iter().rev().find(|mount| mount["point"] == point);
        found.unwrap_or_else(|| panic!("nothing is mounted on {point}: {all:#?}"))
    }

    pub(crate) fn is_mounted(&self, point: &str) -> bool {
        let all = self.at("/mounts").as_array();
        all.is_some_and(|all| all.iter().any(|mount| mount["point"] == point))
    }

    /// Whether the last mount at a point has an option, of the mount or the file system.
    #[track_caller]
    pub(crate) fn has_option(&self, point: &str, option: &str) -> bool {
        let mount = self.mount(point);
        contains(&mount["options"], option) || contains(&mount["super"], option)
    }
}

/// Whether an array holds a string.
pub(crate) fn contains(array: &Value, text: &str) -> bool {
    array
        .as_array()
        .is_some_and(|all| all.iter().any(|entry| entry == text))
}

/// Appends to an array.
pub(crate) fn push(array: &mut Value, entry: Value) {
    match array {
        Value::Array(all) => all.push(entry),
        other => *other = json!([entry]),
    }
}
