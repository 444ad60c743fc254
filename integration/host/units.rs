//! Units of systemd as systemctl and the cgroup show them, and bundles whose
//! containers become such.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::roles::{Role, Test};
use crate::runtime::Call;

/// A container's unit.
pub(crate) struct Unit<'t> {
    test: &'t Test,
    pub(crate) name: String,
}

impl<'t> Unit<'t> {
    /// That of a bundle which does not name one.
    pub(crate) fn of(bundle: &Bundle<'t>) -> Self {
        Self::named(bundle.test, &format!("capsid-{}.scope", bundle.id))
    }

    pub(crate) fn named(test: &'t Test, name: &str) -> Self {
        Self {
            test,
            name: name.to_owned(),
        }
    }

    /// The role's systemd is asked.
    pub(crate) fn systemctl(&self, words: &[&str]) -> Call<'t> {
        let mut all = vec!["systemctl"];
        if self.test.rootless() {
            all.push("--user");
        }
        all.extend_from_slice(words);
        self.test.command(&all)
    }

    #[track_caller]
    pub(crate) fn property(&self, property: &str) -> String {
        let words = ["show", "--value", "--property", property, &self.name];
        self.systemctl(&words).ok().trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn cgroup(&self) -> PathBuf {
        let group = self.property("ControlGroup");
        assert!(group.len() > 1, "{} has no cgroup: {group:?}", self.name);
        PathBuf::from(format!("/sys/fs/cgroup{group}"))
    }

    /// A file of the unit's cgroup.
    #[track_caller]
    pub(crate) fn value(&self, file: &str) -> String {
        let path = self.cgroup().join(file);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn processes(&self) -> Vec<i64> {
        let text = self.value("cgroup.procs");
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    pub(crate) fn is_known(&self) -> bool {
        self.property("LoadState") != "not-found"
    }

    /// systemd has forgotten it, and its cgroup is gone.
    #[track_caller]
    pub(crate) fn assert_gone(&self, cgroup: &Path) {
        assert!(!cgroup.exists(), "{} was left behind", cgroup.display());
        let state = self.property("ActiveState");
        assert!(!self.is_known(), "{} is still {state}", self.name);
    }
}

/// The role logs in: from here on systemd makes its cgroups.
pub(crate) fn log_in(test: &Test) {
    log_in_with(test, &["--systemd-cgroup"]);
}

pub(crate) fn log_in_with(test: &Test, flags: &'static [&'static str]) {
    let first = test.session.set(flags);
    assert!(first.is_ok(), "once for each test");
}

/// A bundle that leaves the name of its unit to the runtime.
pub(crate) fn bundle(test: &Test) -> Bundle<'_> {
    Bundle::new(test).edit(|config| {
        config["linux"]
            .as_object_mut()
            .map(|linux| linux.remove("cgroupsPath"));
    })
}

pub(crate) fn limited(test: &Test, resources: Value) -> Bundle<'_> {
    bundle(test).edit(|config| config["linux"]["resources"] = resources)
}

pub(crate) fn memory(bytes: u64) -> Value {
    json!({ "memory": { "limit": bytes } })
}

/// The slice for containers whose bundle names none.
pub(crate) fn usual_slice(test: &Test) -> &'static str {
    match test.role {
        Role::Root => "system.slice",
        _ => "user.slice",
    }
}
