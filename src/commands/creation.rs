//! How a container comes to be: shared by `create` and `run`.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::runtime::{Hook, Spec};

use super::cli::Global;
use super::create::CreateArgs;
use super::notify::{self, Notify};
use crate::error::{Error, Failure, Problem, Result};
use crate::execute::alive::Stat;
use crate::execute::cgroup::{self, Cgroup};
use crate::execute::parent::{self, Attendant, Launched, Supplies};
use crate::execute::{hooks, start_socket};
use crate::host::Facts;
use crate::host::cgroup::CgroupFacts;
use crate::host::mountinfo;
use crate::log;
use crate::plan::build::{self, Options};
use crate::plan::cgroup::{self as cgroup_plan, CgroupPlan, Request};
use crate::plan::{Plan, hooks as hook_plan};
use crate::policy::{self, HardenedSpec};
use crate::seccomp::Asks;
use crate::spec::bundle;
use crate::spec::namespaces::{Kind, Namespaces};
use crate::spec::validate::{self, Caller};
use crate::state::{CgroupRecord, Driver, FORMAT, LateSteps, Record, Root, Slot, check_id};

/// A bundle, checked and hardened, with what the machine can give.
pub(super) struct Prepared {
    pub(super) hardened: HardenedSpec,
    pub(super) facts: Facts,
    pub(super) cgroup: Option<CgroupPlan>,
    pub(super) rootfs: PathBuf,
    pub(super) parent_mount: Option<PathBuf>,
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
            no_new_keyring: false,
            preserved_fds: 0,
            listen_fds: 0,
            notify: None,
            asks: Asks::Nobody,
            cgroup: self.cgroup.clone(),
        }
    }

    /// The plan, and what the user should know about it.
    pub(super) fn plan(&self, options: Options) -> Result<(Plan, Vec<String>)> {
        let planned = build::for_create(&self.hardened, &self.facts, options);
        planned.map_err(|problems| Error::Spec {
            file: self.hardened.bundle.join("config.json"),
            problems,
        })
    }
}

/// Reads and judges a bundle; touches nothing.
pub(super) fn prepare(global: &Global, bundle: &Path, id: &str) -> Result<Prepared> {
    let facts = Facts::read();
    let bundle = bundle::read(bundle)?;
    let file = bundle.file();
    let valid = validate::validate(
        bundle,
        Caller {
            privileged: facts.privileged,
        },
    )?;
    let hardened = policy::apply(valid, &facts).map_err(|problem| Error::Spec {
        file: file.clone(),
        problems: vec![problem],
    })?;
    hardened.warnings.iter().for_each(log::warning);
    hardened
        .outcomes
        .iter()
        .for_each(|outcome| log::debug(format!("rule {outcome}")));
    let rootfs = root_directory(&hardened, &file)?;
    // Whether to go on without a cgroup: `--rootless` decides nothing else. As
    // root of a child user namespace engines of ordinary users call.
    let real_root = facts.privileged && !facts.in_user_namespace;
    let must_have = global.rootless.map_or(real_root, |rootless| !rootless);
    let cgroup = plan_cgroup(&hardened.spec, id, &facts, must_have, &file)?;
    let shared = hardened
        .spec
        .linux()
        .as_ref()
        .and_then(|l| l.rootfs_propagation().as_deref());
    let shared = shared.is_some_and(|word| word.ends_with("shared"));
    let parent_mount = if shared {
        Some(mount_point(&rootfs)?)
    } else {
        None
    };
    Ok(Prepared {
        hardened,
        facts,
        cgroup,
        rootfs,
        parent_mount,
    })
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

/// The mount point that a directory is below.
fn mount_point(path: &Path) -> Result<PathBuf> {
    let mounts = mountinfo::read()?;
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    // Of several on one another the last is the one that is seen.
    let nearest = above.max_by_key(|mount| mount.point.as_os_str().len());
    Ok(nearest.map_or_else(|| "/".into(), |mount| mount.point.clone()))
}

fn plan_cgroup(
    spec: &Spec,
    id: &str,
    facts: &Facts,
    must_have: bool,
    file: &Path,
) -> Result<Option<CgroupPlan>> {
    let linux = spec.linux().as_ref();
    let cgroups = CgroupFacts::read()?;
    let request = Request {
        id,
        path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        devices: linux
            .and_then(|linux| linux.devices().as_deref())
            .unwrap_or_default(),
        device_filter: facts.privileged && !facts.in_user_namespace,
    };
    let plan = cgroup_plan::plan(&request, &cgroups).map_err(|problems| Error::Spec {
        file: file.to_owned(),
        problems,
    })?;
    plan.notes.iter().for_each(log::warning);
    let access = cgroups.access(&plan.path);
    let filtered = plan.devices.is_some();
    match plan.settle(&access, must_have)? {
        Ok(plan) => Ok(Some(plan)),
        Err(reason) => {
            if filtered {
                // Real root with --rootless: nothing else keeps devices away.
                log::warning(format!("{reason}; so no device filter either"));
            } else {
                log::debug(reason);
            }
            Ok(None)
        }
    }
}

/// Which descriptors after 2 the program gets: (all, those for socket activation).
pub(super) fn preserved(asked: u32, activation: bool) -> Result<(i32, i32)> {
    let listen = if activation { listen_fds() } else { 0 };
    let all = i32::try_from(asked)
        .ok()
        .and_then(|asked| asked.checked_add(listen));
    let all = all.filter(|all| *all < i32::MAX - 3);
    let all =
        all.ok_or_else(|| Error::Usage("--preserve-fds: no such number of descriptors".into()))?;
    match (3..3 + all).find(|fd| !crate::sys::fd::is_open(*fd)) {
        Some(fd) => Err(Error::Usage(format!(
            "unable to stat preserved-fd {fd} (of {all}): it is not open"
        ))),
        None => Ok((all, listen)),
    }
}

/// `LISTEN_FDS`, if `LISTEN_PID` says that they are for this process.
fn listen_fds() -> i32 {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<i32>().ok())
    };
    let for_us = number("LISTEN_PID") == i32::try_from(std::process::id()).ok();
    if for_us {
        number("LISTEN_FDS").unwrap_or(0).max(0)
    } else {
        0
    }
}

/// How the container is to be created.
pub(super) struct Mode {
    /// Wait for `start`.
    pub(super) park: bool,
    /// The caller does not stay.
    pub(super) detach: bool,
}

/// A container that waits for `start`, or runs already.
pub(super) struct Created {
    pub(super) record: Record,
    pub(super) launched: Launched,
    pub(super) console: Option<OwnedFd>,
    pub(super) notify: Option<Notify>,
}

/// Creates a container; on failure nothing of it is left.
pub(super) fn create(global: &Global, args: &CreateArgs, mode: &Mode) -> Result<Created> {
    check_id(&args.id)?;
    if global.systemd_cgroup {
        return Err(Error::Missing {
            doing: "let systemd manage the cgroup".into(),
            missing: "this version has no systemd driver".into(),
            repair: "leave --systemd-cgroup out and have the engine use cgroupfs \
                     (podman --cgroup-manager=cgroupfs; Docker native.cgroupdriver=cgroupfs)"
                .into(),
        });
    }
    // What the caller left open is neither for hooks nor for helpers.
    crate::sys::fd::close_range_on_exec(3)
        .map_err(|failure| Error::system("mark", "the caller's descriptors", failure))?;
    let prepared = prepare(global, &args.bundle, &args.id)?;
    let process = prepared.hardened.spec.process().as_ref();
    let terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
    check_terminal(terminal, mode.detach, args.console_socket.as_deref())?;
    let (preserved_fds, listen_fds) = preserved(args.preserve_fds, true)?;
    let slot = Root::open_or_create(&global.root)?.reserve(&args.id)?;
    let notify = match notify::manager() {
        Some(_) => Some(notify::make_directory(slot.container().path())?),
        None => None,
    };
    let options = Options {
        park: mode.park,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserved_fds,
        listen_fds,
        notify,
        ..prepared.options(&args.id)
    };
    let (plan, warnings) = prepared.plan(options)?;
    warnings.iter().for_each(log::warning);
    let record = record(&prepared, &plan, args);
    Creation {
        args,
        hardened: &prepared.hardened,
        slot,
        record,
        console: None,
        notify: None,
    }
    .carry_out(&plan, mode)
}

/// runc's rule and words: a terminal that outlives the caller needs someone to take it.
pub(super) fn check_terminal(terminal: bool, detach: bool, socket: Option<&Path>) -> Result<()> {
    let usage = |text: &str| Err(Error::Usage(text.into()));
    match (terminal && detach, socket) {
        (true, None) => {
            usage("cannot allocate tty if the runtime will detach without setting console socket")
        }
        (false, Some(_)) => {
            usage("cannot use console socket if the runtime will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}

fn record(prepared: &Prepared, plan: &Plan, args: &CreateArgs) -> Record {
    let spec = &prepared.hardened.spec;
    let steps = plan.child_steps();
    let first = plan.steps_before_exec();
    let namespaces = Namespaces::of(spec);
    let linux = spec.linux().as_ref();
    Record {
        format: FORMAT,
        oci_version: spec.version().clone(),
        id: args.id.clone(),
        bundle: prepared.hardened.bundle.clone(),
        rootfs: prepared.rootfs.clone(),
        created: log::rfc3339_nanos(SystemTime::now()),
        owner: nix::unistd::getuid().as_raw(),
        annotations: spec
            .annotations()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        pid: 0,
        start_time: 0,
        cgroup: prepared.cgroup.as_ref().map(|plan| CgroupRecord {
            path: plan.path.clone(),
            driver: Driver::Cgroupfs,
        }),
        namespaces: plan.enter.differing,
        private_pid: namespaces.makes(Kind::Pid),
        hooks: spec.hooks().clone(),
        filter: prepared.hardened.filter.clone(),
        personality: linux.and_then(|linux| linux.personality().clone()),
        late_steps: LateSteps {
            first: first + 1,
            of: steps.len(),
            steps: steps[first.min(steps.len())..].to_vec(),
            program: plan
                .program
                .arguments
                .first()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        },
    }
}

struct Creation<'a> {
    args: &'a CreateArgs,
    hardened: &'a HardenedSpec,
    slot: Slot,
    record: Record,
    console: Option<OwnedFd>,
    notify: Option<Notify>,
}

impl Creation<'_> {
    fn carry_out(mut self, plan: &Plan, mode: &Mode) -> Result<Created> {
        let made = match &plan.cgroup {
            Some(cgroup) => {
                // Whoever finds this record knows which cgroup to remove,
                // however this process ends (runc#3591).
                self.slot.container().save(&self.record)?;
                Some(cgroup::make(cgroup)?)
            }
            None => None,
        };
        let cgroup = made.as_ref().map(|made| &made.cgroup);
        match self.launch(plan, mode, cgroup) {
            Ok(launched) => {
                drop(self.slot.keep());
                Ok(Created {
                    record: self.record,
                    launched,
                    console: self.console,
                    notify: self.notify,
                })
            }
            Err(error) => {
                clean_up(&self.record, cgroup);
                Err(error)
            }
        }
    }

    fn launch(&mut self, plan: &Plan, mode: &Mode, cgroup: Option<&Cgroup>) -> Result<Launched> {
        if !mode.park {
            self.notify = Notify::bind(self.slot.container().path())?;
        }
        let start = if mode.park {
            Some(start_socket::listen(self.slot.container().dir())?)
        } else {
            None
        };
        let supplies = Supplies {
            cgroup: cgroup.map(Cgroup::dir),
            target: None,
            start,
        };
        let launched = parent::launch(plan, supplies, self)?;
        self.args.announce().process(&launched)?;
        if mode.park {
            start_socket::publish(self.slot.container().dir())?;
        }
        Ok(launched)
    }
}

/// Undoes what a failed creation did: the specification wants poststop hooks to
/// run as if the container had been deleted.
fn clean_up(record: &Record, cgroup: Option<&Cgroup>) {
    if let Some(cgroup) = cgroup
        && let Err(error) = cgroup.kill().and_then(|()| cgroup.remove())
    {
        log::warning(error);
    }
    run_poststop(record);
}

/// Runs the poststop hooks; a failure is a warning and the others still run.
pub(super) fn run_poststop(record: &Record) {
    let poststop = record
        .hooks
        .as_ref()
        .and_then(|hooks| hooks.poststop().as_ref());
    let state = state_of(record, "stopped", 0);
    for (index, hook) in poststop.into_iter().flatten().enumerate() {
        if let Err(error) = hooks::run(hook, &format!("poststop hook {index}"), &state) {
            log::warning(error);
        }
    }
}

/// Runs the poststart hooks; a failure ends the container (runtime specification 1.3).
pub(super) fn run_poststart(record: &Record) -> Result<()> {
    let poststart = record
        .hooks
        .as_ref()
        .and_then(|hooks| hooks.poststart().as_ref());
    hooks::run_all(
        poststart,
        "poststart",
        &state_of(record, "running", record.pid),
    )
}

/// The state document for a hook, from the record.
fn state_of(record: &Record, status: &str, pid: i32) -> Vec<u8> {
    let annotations = record
        .annotations
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()));
    let parts = hook_plan::document(
        &record.oci_version,
        annotations,
        &record.id,
        status,
        &record.bundle,
    );
    hooks::document(&parts, pid)
}

impl Attendant for Creation<'_> {
    fn process(&mut self, pid: i32, _pidfd: BorrowedFd<'_>) -> Result<()> {
        let stat = Stat::of(pid)?.ok_or_else(|| {
            Error::system(
                "read the start time of",
                format!("process {pid}"),
                Failure::of(syscalls::Sysno::openat, libc::ESRCH),
            )
        })?;
        self.record.pid = pid;
        self.record.start_time = stat.start_time;
        self.slot.container().save(&self.record)
    }

    #[allow(
        deprecated,
        reason = "the runtime specification still demands prestart hooks"
    )]
    fn runtime_hooks(&mut self, pid: i32) -> Result<()> {
        let Some(lists) = self.hardened.spec.hooks().as_ref() else {
            return Ok(());
        };
        let state = state_of(&self.record, "creating", pid);
        let run = |list: Option<&Vec<Hook>>, name: &str| hooks::run_all(list, name, &state);
        run(lists.prestart().as_ref(), "prestart")?;
        run(lists.create_runtime().as_ref(), "createRuntime")
    }

    fn console(&mut self, master: OwnedFd) -> Result<()> {
        self.console = self.args.announce().console(master)?;
        Ok(())
    }
}
