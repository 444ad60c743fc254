//! Golden plans: what capsid would do for a configuration, word for word.
//!
//! `tests/plans/NAME.json` is a configuration, `NAME.plan` what becomes of it:
//! rules, warnings and plan, or the problems found. `UPDATE=1 cargo test --test
//! plans` writes the plans anew; their diff is the diff in behaviour.
//!
//! A configuration may begin with `"like": "OTHER"`: it is then a patch (RFC
//! 7396) of another one, where a key such as `"mounts+"` appends to a list. Who
//! asks is the first word of the name:
//!
//! | name        | caller                                                    |
//! |-------------|-----------------------------------------------------------|
//! | `rootless-` | an ordinary user with subordinate ids                     |
//! | `single-`   | an ordinary user without                                  |
//! | `nested-`   | root of a user namespace, as rootless podman runs capsid  |
//! | `exec-`     | root, who runs the process in a container that exists     |
//! | others      | root                                                      |
//!
//! `NAME.options.json` has what a command line and a machine add, as [`Choices`].

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its material is not there"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use capsid::error::{Error, Problem};
use capsid::host::cgroup::{Access, CgroupFacts};
use capsid::host::{Facts, OfferedIds, Subordinate};
use capsid::plan::Plan;
use capsid::plan::build::{self, Options, Target};
use capsid::plan::cgroup::systemd::{self, Instance};
use capsid::plan::cgroup::{self, CgroupPlan, Request};
use capsid::policy::{self, By, HardenedSpec, Hardening, Level, Rule, Wish};
use capsid::seccomp::Asks;
use capsid::spec::bundle::{self, Bundle};
use capsid::spec::namespaces::{Kind, Namespaces};
use capsid::spec::validate::{Caller, validate};
use serde::Deserialize;
use serde_json::{Map, Value};

#[path = "plans/order.rs"]
mod order;

const BUNDLE: &str = "/bundle";
const ID: &str = "web";

/// What a command line and a machine add to a configuration.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Choices {
    /// `run`: do not wait for `start`.
    run: bool,
    no_pivot: bool,
    no_new_keyring: bool,
    preserved_fds: i32,
    listen_fds: i32,
    /// How many times `--secret` is given.
    secrets: usize,
    die_with_parent: bool,
    notify: Option<PathBuf>,
    /// The mount point that the root file system is on.
    parent_mount: Option<PathBuf>,
    /// The caller may not write cgroups.
    no_cgroup_access: bool,
    /// `--systemd-cgroup`
    systemd: bool,
    /// setgroups(2) is denied in the container that `exec` enters.
    no_setgroups: bool,
    /// An older version of Landlock's ABI than 7; negative where there is none.
    landlock: i32,
    /// `run --report-denials`
    report_denials: bool,
    /// `run --report-denials=all`
    traced: bool,
    /// `run --record-profile`
    record_profile: bool,
    /// `--hardening`
    hardening: Level,
    /// `--relax`
    relax: Vec<Rule>,
    /// The first of the ids that root may give the container; without, its root
    /// file system is an overlay.
    offered: Option<u32>,
    /// Entries of `mounts` that bind a device node.
    devices: Vec<usize>,
}

impl Choices {
    fn hardening(&self) -> Hardening {
        let mut wish = Wish::default();
        wish.relaxed
            .extend(self.relax.iter().map(|rule| (*rule, By::Option)));
        let keyring = self
            .no_new_keyring
            .then_some((Rule::Keyring, By::NoNewKeyring));
        wish.relaxed.extend(keyring);
        Hardening::at(self.hardening).asked(&wish, None).unwrap()
    }

    fn asks(&self) -> Asks {
        match (self.report_denials, self.record_profile) {
            (true, _) => Asks::AboutDenied,
            (_, true) => Asks::AboutAllowed,
            _ => Asks::Nobody,
        }
    }
}

/// One configuration with all that decides what becomes of it.
struct Case {
    name: String,
    config: Value,
    choices: Choices,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

/// The names of the files in `tests/plans` with an ending.
fn names(ending: &str) -> BTreeSet<String> {
    fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .filter(|name| !name.ends_with(".options"))
        .collect()
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = names(".json").into_iter().map(Case::read).collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    cases
}

fn read_json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A configuration, with the one that it is like put below it.
fn configuration(path: &Path) -> Value {
    let mut config = read_json(path);
    let like = config.as_object_mut().and_then(|all| all.remove("like"));
    let Some(like) = like else { return config };
    let other = format!("{}.json", like.as_str().unwrap());
    let mut whole = configuration(&path.parent().unwrap().join(other));
    patch(&mut whole, config);
    whole
}

fn patch(target: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *target = change;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in change {
        if let Some(list) = key.strip_suffix('+') {
            let list = target.entry(list).or_insert_with(|| Value::Array(vec![]));
            list.as_array_mut()
                .unwrap()
                .extend(value.as_array().unwrap().clone());
        } else if value.is_null() {
            target.remove(&key);
        } else {
            patch(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

impl Case {
    fn read(name: String) -> Self {
        let options = directory().join(format!("{name}.options.json"));
        let choices = if options.exists() {
            serde_json::from_value(read_json(&options)).unwrap()
        } else {
            Choices::default()
        };
        Self {
            config: configuration(&directory().join(format!("{name}.json"))),
            name,
            choices,
        }
    }

    fn is_exec(&self) -> bool {
        self.name.starts_with("exec-")
    }

    /// Who asks, in words and as facts.
    fn facts(&self) -> (&'static str, Facts) {
        let root = Facts {
            uid: 0,
            gid: 0,
            privileged: true,
            in_user_namespace: false,
            may_set_groups: true,
            read_only_sysctls: false,
            landlock: match self.choices.landlock {
                0 => Some(7),
                older => u32::try_from(older).ok(),
            },
            capabilities: (1 << 41) - 1,
            subordinate: Subordinate::default(),
            offered: Some(match self.choices.offered {
                Some(first) => Ok(OfferedIds {
                    first,
                    devices: self.choices.devices.clone(),
                }),
                None => Err("its root file system is an overlay".into()),
            }),
        };
        let user = Facts {
            uid: 1000,
            gid: 1000,
            privileged: false,
            capabilities: 0,
            offered: None,
            ..root.clone()
        };
        let ranges = vec![(100_000, 65_536)];
        let subordinate = Subordinate {
            users: ranges.clone(),
            groups: ranges,
            helpers: true,
        };
        match self.name.split('-').next() {
            Some("single") => ("user 1000 without subordinate ids", user),
            Some("rootless") => (
                "user 1000 with subordinate ids",
                Facts {
                    subordinate,
                    ..user
                },
            ),
            Some("nested") => (
                "root of a user namespace",
                Facts {
                    in_user_namespace: true,
                    ..root
                },
            ),
            _ => ("root", root),
        }
    }

    fn hardened(&self, facts: &Facts) -> Result<HardenedSpec, Error> {
        let text = serde_json::to_vec(&self.config).unwrap();
        let (spec, warnings) = bundle::parse(&text, &Path::new(BUNDLE).join("config.json"))?;
        let bundle = Bundle {
            dir: BUNDLE.into(),
            spec,
            warnings,
        };
        let privileged = facts.privileged;
        let valid = validate(bundle, Caller { privileged })?;
        policy::apply(valid, facts, self.choices.hardening()).map_err(problems)
    }

    fn cgroup(&self, hardened: &HardenedSpec, caller: &Facts) -> Result<CgroupPlan, Error> {
        let facts = CgroupFacts {
            mount: Some("/sys/fs/cgroup".into()),
            own: if caller.privileged {
                "/system.slice/containerd.service".into()
            } else {
                "/user.slice/user-1000.slice/user@1000.service/app.slice/capsid.scope".into()
            },
        };
        let linux = hardened.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let request = Request {
            id: ID,
            path: path.filter(|_| !self.choices.systemd),
            resources: linux.and_then(|linux| linux.resources().as_ref()),
            devices: linux
                .and_then(|linux| linux.devices().as_deref())
                .unwrap_or_default(),
            device_filter: caller.privileged && !caller.in_user_namespace,
        };
        let plan = cgroup::plan(&request, &facts).map_err(problems)?;
        if !self.choices.systemd {
            return Ok(plan);
        }
        let (instance, control_group) = match caller.privileged {
            true => (Instance::System, ""),
            false => (
                Instance::User,
                "/user.slice/user-1000.slice/user@1000.service",
            ),
        };
        let request = systemd::Request {
            asked: true,
            id: ID,
            path,
            instance,
            control_group,
        };
        let annotations = hardened.spec.annotations().iter().flatten();
        let annotations = annotations.map(|(key, value)| (key.as_str(), value.as_str()));
        systemd::in_scope(plan, &request, annotations).map_err(problems)
    }

    /// The plan of a new container, and what the user is told about it.
    fn create(&self, hardened: &HardenedSpec, facts: &Facts) -> Result<(Plan, Vec<String>), Error> {
        let cgroup = self.cgroup(hardened, facts)?;
        let mut told = cgroup.notes.clone();
        let access = if self.choices.no_cgroup_access {
            Access::Denied(cgroup.path.clone(), libc::EACCES)
        } else {
            Access::Writable
        };
        let cgroup = cgroup
            .settle(&access, facts.privileged)?
            .map_err(|reason| told.push(reason))
            .ok();
        let cgroup = cgroup.map(|mut plan| {
            for limit in &hardened.limits {
                plan.prefer(limit.file, limit.value);
            }
            plan
        });
        let root = hardened.spec.root().as_ref().unwrap();
        let options = Options {
            network: None,
            id: ID.into(),
            rootfs: Path::new(BUNDLE).join(root.path()),
            parent_mount: self.choices.parent_mount.clone(),
            park: !self.choices.run,
            no_pivot: self.choices.no_pivot,
            preserved_fds: self.choices.preserved_fds,
            listen_fds: self.choices.listen_fds,
            secrets: self.choices.secrets,
            die_with_parent: self.choices.die_with_parent,
            notify: self.choices.notify.clone(),
            asks: self.choices.asks(),
            measured: None,
            traced: self.choices.traced,
            plain_paths: false,
            cgroup,
        };
        let (plan, warnings) = build::for_create(hardened, facts, options).map_err(problems)?;
        told.extend(warnings);
        Ok((plan, told))
    }

    /// The plan of the configuration's process in a container that has the
    /// configuration's namespaces already.
    fn exec(&self, hardened: &HardenedSpec, facts: &Facts) -> Result<(Plan, Vec<String>), Error> {
        let namespaces = Namespaces::of(&hardened.spec);
        let linux = hardened.spec.linux().as_ref();
        let target = Target {
            awaits_cgroup: false,
            given: self.choices.offered,
            awaits_class: linux.is_some_and(|linux| linux.intel_rdt().is_some()),
            id: ID.into(),
            differing: Kind::ALL
                .iter()
                .filter(|kind| namespaces.has(**kind))
                .fold(0, |flags, kind| flags | kind.flag()),
            may_set_groups: !self.choices.no_setgroups,
            preserved_fds: self.choices.preserved_fds,
            new_keyring: !self.choices.no_new_keyring,
            filter: hardened.filter.clone(),
            fence: hardened.fence.clone(),
            personality: linux.and_then(|linux| linux.personality().clone()),
            memory_policy: linux.and_then(|linux| linux.memory_policy().clone()),
        };
        let process = hardened.spec.process().as_ref().unwrap();
        build::for_exec(process, facts, &target).map_err(problems)
    }

    fn plan(&self) -> Result<(HardenedSpec, Plan, Vec<String>), Error> {
        let facts = self.facts().1;
        let hardened = self.hardened(&facts)?;
        let (plan, told) = if self.is_exec() {
            self.exec(&hardened, &facts)?
        } else {
            self.create(&hardened, &facts)?
        };
        Ok((hardened, plan, told))
    }

    /// What the golden file says.
    fn text(&self) -> String {
        let mut text = format!("caller: {}\n", self.facts().0);
        match self.plan() {
            Ok((hardened, plan, told)) => {
                // `exec` finds the rules applied.
                if !self.is_exec() {
                    text += "rules:\n";
                    for outcome in &hardened.outcomes {
                        text += &format!("  {outcome}\n");
                    }
                }
                for warning in hardened.warnings.iter().chain(&told) {
                    text += &format!("warning: {warning}\n");
                }
                text + &without_numbers(&plan.to_string())
            }
            Err(Error::Spec { problems, .. }) => {
                text += "problems:\n";
                for Problem { at, problem } in problems {
                    text += &format!("  {at}: {problem}\n");
                }
                text
            }
            Err(other) => format!("{text}error: {other}\n"),
        }
    }
}

/// A step more must not change every line after it.
fn without_numbers(plan: &str) -> String {
    let step = |line: &str| {
        let text = line.trim_start();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match text[digits..].strip_prefix("  ") {
            Some(step) if digits > 0 => format!("  {step}\n"),
            _ => format!("{line}\n"),
        }
    };
    plan.lines().map(step).collect()
}

fn problems(problems: Vec<Problem>) -> Error {
    Error::Spec {
        file: BUNDLE.into(),
        problems,
    }
}

/// The first line in which two texts differ.
fn difference(expected: &str, found: &str) -> String {
    let line = |text: &str, at: usize| text.lines().nth(at).unwrap_or("(nothing)").to_owned();
    let same = |at: &usize| line(expected, *at) != line(found, *at);
    let at = (0..expected.lines().count().max(found.lines().count())).find(same);
    let at = at.unwrap_or(0);
    format!(
        "line {}\n  -{}\n  +{}",
        at + 1,
        line(expected, at),
        line(found, at)
    )
}

#[test]
fn plans_are_what_they_were() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut differences = Vec::new();
    for case in cases() {
        let file = directory().join(format!("{}.plan", case.name));
        let found = case.text();
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if update {
            fs::write(&file, found).unwrap();
        } else if expected != found {
            let difference = difference(&expected, &found);
            differences.push(format!("{}: {difference}", case.name));
        }
    }
    let advice = "look at each; if all are meant: UPDATE=1 cargo test --test plans";
    assert!(
        differences.is_empty(),
        "{advice}\n{}",
        differences.join("\n")
    );
}

#[test]
fn every_plan_has_its_configuration() {
    assert_eq!(names(".plan"), names(".json"));
}
