//! A bundle on the way to a plan: shared by `create`, `run` and `explain`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::best_effort::{self, Choice};
use super::cli::Global;
use super::given::{self, Given, RootDirectory};
use super::place::{Place, Wish};
use super::{hardening, pins};
use crate::error::{Error, Problem, Result};
use crate::execute::supervisor::{Purpose, Supervisor};
use crate::execute::systemd::Manager;
use crate::host::Facts;
use crate::host::mountinfo;
use crate::image::{Digest, Tree};
use crate::log;
use crate::plan::Plan;
use crate::plan::build::{self, Options};
use crate::plan::cgroup::{self, CgroupPlan, Request};
use crate::plan::reach::Network;
use crate::policy::{self, Enforcement, HardenedSpec, Hardening, Level, Rule, Userns};
use crate::seccomp::{Asks, Builtin, Profile};
use crate::spec::annotations::{self, DIGEST_ROOTFS};
use crate::spec::bundle::{self, Bundle};
use crate::spec::validate::{self, Caller, ValidSpec};

/// A configuration on its way in, and what is special about it.
pub(super) struct Entry {
    /// The configuration, and the directory that relative paths in it begin at.
    pub(super) bundle: Bundle,
    /// What only a sandbox has: it comes from options and from no file.
    pub(super) sandbox: Option<Sandboxed>,
    /// The digest of config.json, where somebody wants to know it.
    pub(super) digest: Option<Digest>,
    /// Its root file system must be the very directory that is measured.
    pub(super) measure: bool,
}

/// What a sandbox has besides its configuration.
pub(super) struct Sandboxed {
    /// The root file system, which is there or will be.
    pub(super) rootfs: PathBuf,
    /// The filter, where the configuration has no profile.
    pub(super) profile: Builtin,
    /// The level and the rules that its options name.
    pub(super) hardening: policy::Wish,
    /// What it may reach of the network that it is attached to.
    pub(super) network: Option<Network>,
    /// Controllers whose limits somebody asked for; the other limits are defaults.
    pub(super) asked: Vec<&'static str>,
}

impl Entry {
    /// A bundle from its directory.
    pub(super) fn read(bundle: &Path) -> Result<Self> {
        let bundle = bundle::read(bundle)?;
        Ok(Self {
            bundle,
            sandbox: None,
            digest: None,
            measure: false,
        })
    }

    /// The same with the digest of its configuration, which may have to be this one.
    pub(super) fn measured(bundle: &Path, pin: Option<Digest>) -> Result<Self> {
        let mut digest = None;
        let read = bundle::read_and(bundle, &mut |bytes| digest = Some(Digest::of(bytes)));
        if let Some(found) = digest {
            // First: what another configuration says does not matter.
            let at = bundle.join("config.json").display().to_string();
            pins::expect(pin, found, &at, pins::BY_CONFIG)?;
        }
        Ok(Self {
            bundle: read?,
            sandbox: None,
            digest,
            measure: false,
        })
    }
}

/// A bundle, checked and hardened, with what the machine can give.
pub(super) struct Prepared {
    pub(super) hardened: HardenedSpec,
    pub(super) facts: Facts,
    pub(super) cgroup: Option<CgroupPlan>,
    /// Why it has this cgroup, or none.
    pub(super) choice: Choice,
    /// The systemd that makes the cgroup, if one is to.
    pub(super) manager: Option<Manager>,
    pub(super) rootfs: PathBuf,
    pub(super) parent_mount: Option<PathBuf>,
    pub(super) network: Option<Network>,
    /// Of a sandbox, and of no bundle.
    pub(super) sandbox: bool,
    /// The user namespace that it is given.
    pub(super) given: Option<Given>,
    /// The digest of config.json, where somebody wants to know it.
    pub(super) digest: Option<Digest>,
    /// The root file system as it was measured, if a digest is demanded.
    pub(super) tree: Option<Tree>,
}

impl Prepared {
    /// The options of a plain `create`.
    pub(super) fn options(&self, id: &str) -> Options {
        Options {
            id: id.to_owned(),
            rootfs: self.rootfs.clone(),
            parent_mount: self.parent_mount.clone(),
            park: true,
            no_pivot: false,
            preserved_fds: 0,
            listen_fds: 0,
            secrets: 0,
            die_with_parent: false,
            notify: None,
            network: self.network.clone(),
            asks: Asks::Nobody,
            traced: false,
            measured: self.tree.as_ref().map(|tree| tree.identity),
            plain_paths: self.sandbox,
            cgroup: self.cgroup.clone(),
        }
    }

    /// Whether the program gets a terminal.
    pub(super) fn terminal(&self) -> bool {
        let process = self.hardened.spec.process().as_ref();
        process.is_some_and(|process| process.terminal().unwrap_or(false))
    }

    /// A supervisor for a purpose.
    pub(super) fn supervise(&self, purpose: Option<Purpose>) -> Result<Option<Supervisor>> {
        let Some(purpose) = purpose else {
            return Ok(None);
        };
        if matches!(purpose, Purpose::Record(_)) {
            // While calls are written down only the floor denies any.
            let permitted = self.hardened.hardening.permit(Rule::SeccompDefault);
            permitted.map_err(|refusal| {
                Error::Usage(format!("--record-profile: {refusal}")).refused()
            })?;
        }
        let judge = self.hardened.filter.judge();
        let judge = judge.map_err(|problems| self.refused(problems))?;
        Ok(Some(Supervisor::new(purpose, judge)))
    }

    fn refused(&self, problems: Vec<Problem>) -> Error {
        Error::Spec {
            file: self.hardened.bundle.join("config.json"),
            problems,
        }
    }

    /// The plan, and what the user should know about it.
    pub(super) fn plan(&self, options: Options) -> Result<(Plan, Vec<String>)> {
        let planned = build::for_create(&self.hardened, &self.facts, options);
        let planned = planned.map_err(|problems| self.refused(problems))?;
        pins::check_plan(self.tree.as_ref(), &planned.0)?;
        Ok(planned)
    }
}

/// Judges a configuration; touches nothing.
pub(super) fn prepare(global: &Global, entry: Entry, id: &str) -> Result<Prepared> {
    let mut facts = Facts::read();
    let (digest, measure) = (entry.digest, entry.measure);
    let (bundle, sandbox) = (entry.bundle, entry.sandbox);
    let hardening = match &sandbox {
        Some(sandbox) => hardening::settle(&sandbox.hardening, Level::Strict)?,
        None => hardening::settle(&global.hardening, Level::Baseline)?,
    };
    let (file, privileged) = (bundle.file(), facts.privileged);
    let valid = validate::validate(bundle, Caller { privileged })?;
    let state = global.root.join(id);
    let given = look_for_ids(&valid, &mut facts, &hardening, measure, &state);
    let mut hardened = policy::apply(valid, &facts, hardening).map_err(|problems| {
        let file = file.clone();
        Error::Spec { file, problems }.refused()
    })?;
    hardened.warnings.iter().for_each(log::warning);
    let rootfs = match &sandbox {
        Some(sandbox) => {
            use_profile(&mut hardened, sandbox.profile);
            sandbox.rootfs.clone()
        }
        None => root_directory(&hardened, &file)?,
    };
    let mut wish = wish(global, &hardened.spec, id, &file, &facts);
    if let Some(sandbox) = &sandbox {
        wish.must_have = false;
        wish.asked = Some(&sandbox.asked);
    }
    let Place {
        plan: mut cgroup,
        manager,
        mut choice,
    } = wish.find(&facts)?;
    if let Some(plan) = cgroup.as_mut().filter(|_| facts.privileged) {
        plan.owner = cgroup::owner(&hardened.spec);
    }
    add_limits(&mut hardened, cgroup.as_mut(), &choice.reason);
    for outcome in &hardened.outcomes {
        log::debug(format!("rule {outcome}"));
    }
    choice.quiet = sandbox.is_some() && !global.best_effort;
    best_effort::make_up(&mut hardened.spec, &facts, &mut choice);
    let parent_mount = shared_parent(&hardened.spec, &rootfs)?;
    let hardened_given = hardened.given.is_some();
    Ok(Prepared {
        hardened,
        facts,
        cgroup,
        choice,
        manager,
        rootfs,
        parent_mount,
        given: given.filter(|_| hardened_given),
        sandbox: sandbox.is_some(),
        network: sandbox.and_then(|sandbox| sandbox.network),
        digest,
        tree: None,
    })
}

/// Looks for ids where a container of root may be given a user namespace by them.
fn look_for_ids(
    valid: &ValidSpec,
    facts: &mut Facts,
    hardening: &Hardening,
    measure: bool,
    state: &Path,
) -> Option<Given> {
    let spec = valid.spec();
    if !policy::is_candidate(spec, facts, hardening) {
        return None;
    }
    let root = spec.root().as_ref()?;
    let rootfs: PathBuf = valid.dir().join(root.path()).components().collect();
    let root = RootDirectory {
        path: rootfs,
        measured: measure || annotations::value(spec, DIGEST_ROOTFS).is_some(),
        overlays: hardening.userns == Userns::Overlay,
    };
    match given::offer(spec, valid.dir(), &root, state) {
        Ok((given, offered)) => {
            facts.offered = Some(Ok(offered));
            Some(given)
        }
        Err(why) => {
            facts.offered = Some(Err(why));
            None
        }
    }
}

/// Adds the limits that the bundle leaves out to a cgroup, if there is one.
fn add_limits(hardened: &mut HardenedSpec, cgroup: Option<&mut CgroupPlan>, reason: &str) {
    match cgroup {
        Some(plan) => {
            for limit in &hardened.limits {
                plan.prefer(limit.file, limit.value);
            }
        }
        None => {
            for limit in std::mem::take(&mut hardened.limits) {
                policy::lose(&mut hardened.outcomes, limit.rule, reason);
            }
        }
    }
}

/// The root file system's directory, absolute. A symbolic link is refused: it
/// could lead elsewhere by the time it is used.
fn root_directory(hardened: &HardenedSpec, file: &Path) -> Result<PathBuf> {
    let problem = |text: String| Error::Spec {
        file: file.to_owned(),
        problems: vec![Problem::new("/root/path", text)],
    };
    let root = hardened.spec.root().as_ref();
    let given = root.map_or_else(PathBuf::new, |root| root.path().clone());
    let path: PathBuf = hardened.bundle.join(&given).components().collect();
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(found) if found.is_symlink() => Err(problem(format!(
            "{} is a symbolic link; give the directory it leads to",
            path.display()
        ))),
        Ok(_) => Err(problem(format!("{} is not a directory", path.display()))),
        Err(error) => Err(problem(format!(
            "the root file system {} cannot be used: {}",
            path.display(),
            crate::error::errno_text(error.raw_os_error().unwrap_or(libc::EIO))
        ))),
    }
}

/// The mount point above the root file system, where its propagation matters.
fn shared_parent(spec: &Spec, rootfs: &Path) -> Result<Option<PathBuf>> {
    let linux = spec.linux().as_ref();
    let word = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let shared = word.is_some_and(|word| word.ends_with("shared"));
    shared.then(|| mount_point(rootfs)).transpose()
}

/// The mount point that a directory is below.
fn mount_point(path: &Path) -> Result<PathBuf> {
    let mounts = mountinfo::read()?;
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    // Of several on one another the last is the one that is seen.
    let nearest = above.max_by_key(|mount| mount.point.as_os_str().len());
    Ok(nearest.map_or_else(|| "/".into(), |mount| mount.point.clone()))
}

/// The profile of a sandbox, unless it brings one.
fn use_profile(hardened: &mut HardenedSpec, profile: Builtin) {
    let Profile::Builtin(own) = &mut hardened.filter.profile else {
        return;
    };
    *own = profile;
    let mut outcomes = hardened.outcomes.iter_mut();
    if let Some(outcome) = outcomes.find(|outcome| outcome.rule == Rule::SeccompDefault) {
        outcome.enforcement = Enforcement::Enforced(format!("the {profile} profile"));
    }
}

/// What the bundle and the command line say of the cgroup.
fn wish<'a>(
    global: &Global,
    spec: &'a Spec,
    id: &'a str,
    file: &'a Path,
    facts: &Facts,
) -> Wish<'a> {
    let linux = spec.linux().as_ref();
    let real_root = facts.is_real_root();
    // Whether to go on without a cgroup: `--rootless` decides nothing else. As
    // root of a child user namespace engines of ordinary users call.
    let must_have = global.rootless.map_or(real_root, |rootless| !rootless);
    let annotations = spec.annotations().iter().flatten();
    Wish {
        request: Request {
            id,
            path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
            resources: linux.and_then(|linux| linux.resources().as_ref()),
            devices: linux
                .and_then(|linux| linux.devices().as_deref())
                .unwrap_or_default(),
            device_filter: real_root,
        },
        annotations: annotations
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect(),
        systemd: global.systemd_cgroup,
        disabled: global.no_cgroup,
        must_have: must_have && !global.best_effort,
        best_effort: global.best_effort,
        asked: None,
        file,
    }
}
