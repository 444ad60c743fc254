//! How a container comes to be: shared by `create` and `run`.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use oci_spec::runtime::Hook;

use super::cli::Global;
use super::create::CreateArgs;
use super::given::Given;
use super::hooks::{run_poststop, state_of};
use super::notify::{self, Notify};
use super::prepared::{Entry, Prepared, prepare};
use super::{announce, audited, descriptors, life, system_calls};
use crate::audit::{self, What};
use crate::error::{Error, Failure, Result};
use crate::execute::alive::Stat;
use crate::execute::cgroup::{self, Cgroup, LeftOut};
use crate::execute::net_devices::{self, Borrowed};
use crate::execute::parent::{self, Attendant, Launched, Supplies};
use crate::execute::pasta::{Passage, Pasta};
use crate::execute::rdt::{self, Resctrl};
use crate::execute::secrets::Secret;
use crate::execute::supervisor::{Purpose, Supervisor, Watchers};
use crate::execute::systemd::Manager;
use crate::execute::tracer::Tracer;
use crate::execute::{hooks, start_socket};
use crate::host::cgroup::CgroupFacts;
use crate::log;
use crate::plan::Plan;
use crate::plan::build::Options;
use crate::plan::cgroup::CgroupPlan;
use crate::policy::{self, By, HardenedSpec, Rule};
use crate::seccomp::{Advice, Asks};
use crate::spec::annotations;
use crate::state::{Record, Root, Slot, check_id};

mod overlay;
mod record;

/// How the container is to be created.
pub(super) struct Mode {
    /// Wait for `start`.
    pub(super) park: bool,
    /// The caller does not stay.
    pub(super) detach: bool,
    /// The program ends with the caller.
    pub(super) die_with_parent: bool,
    /// What only the program is to know.
    pub(super) secrets: Vec<Secret>,
    /// What the caller does with the system calls that it asks to be asked about.
    pub(super) purpose: Option<Purpose>,
    /// Who looks on at the calls that name a file or a peer.
    pub(super) tracer: Option<Tracer>,
    /// What pasta passes between it and the host's network.
    pub(super) passage: Option<Passage>,
    /// Of a sandbox: nothing of a service manager is passed on, and limits that
    /// are left out are defaults.
    pub(super) sandbox: bool,
}

impl Mode {
    /// In whose words denied calls are reported.
    fn advice(&self) -> Advice {
        match self.sandbox {
            true => Advice::Sandbox,
            false => Advice::Bundle,
        }
    }
}

/// A container that waits for `start`, or runs already.
pub(super) struct Created {
    pub(super) record: Record,
    pub(super) launched: Launched,
    pub(super) console: Option<OwnedFd>,
    pub(super) notify: Option<Notify>,
    pub(super) supervisor: Option<Supervisor>,
    pub(super) tracer: Option<Tracer>,
    /// Its network, as long as this lives.
    pub(super) pasta: Option<Pasta>,
}

/// Creates a container from its bundle; on failure nothing of it is left.
pub(super) fn create(global: &Global, args: &CreateArgs, mode: Mode) -> Result<Created> {
    check_id(&args.id)?;
    descriptors::close_on_exec()?;
    // Before this process opens any that could be taken for the caller's.
    descriptors::preserved(args.preserve_fds, true)?;
    let command = if mode.park { "create" } else { "run" };
    let mut annotations = BTreeMap::new();
    let attempt = || {
        let pin = args.pins.config;
        if !audited::is_on() && pin.is_none() {
            return create_bundle(global, Entry::read(&args.bundle)?, args, mode);
        }
        let entry = Entry::measured(&args.bundle, pin)?;
        annotations = annotations::all(&entry.bundle.spec);
        create_bundle(global, entry, args, mode)
    };
    attempt().inspect_err(|error| {
        audited::refused(command, &args.id, &global.root, &annotations, error);
    })
}

fn create_bundle(
    global: &Global,
    mut entry: Entry,
    args: &CreateArgs,
    mode: Mode,
) -> Result<Created> {
    let mut global = global.clone();
    let keyring = args
        .no_new_keyring
        .then_some((Rule::Keyring, By::NoNewKeyring));
    global.hardening.relaxed.extend(keyring);
    entry.measure = args.pins.measures_rootfs();
    let mut prepared = prepare(&global, entry, &args.id)?;
    prepared.tree = args.pins.check_rootfs(&prepared)?;
    let terminal = prepared.terminal();
    announce::check_terminal(terminal, mode.detach, args.console_socket.as_deref())?;
    create_in(
        || Root::open_or_create(&global.root)?.reserve(&args.id),
        prepared,
        args,
        mode,
    )
}

/// Creates a container in its state directory.
pub(super) fn create_in(
    slot: impl FnOnce() -> Result<Slot>,
    mut prepared: Prepared,
    args: &CreateArgs,
    mode: Mode,
) -> Result<Created> {
    let manager = prepared.manager.take();
    let given = prepared.given.take();
    let advice = mode.advice();
    let supervisor = prepared.supervise(mode.purpose)?;
    let (preserved_fds, listen_fds) = descriptors::preserved(args.preserve_fds, !mode.sandbox)?;
    let slot = slot()?;
    let notify = match notify::manager().filter(|_| !mode.sandbox) {
        Some(_) => Some(notify::make_directory(slot.container().path())?),
        None => None,
    };
    let options = Options {
        park: mode.park,
        no_pivot: args.no_pivot,
        preserved_fds,
        listen_fds,
        secrets: mode.secrets.len(),
        die_with_parent: mode.die_with_parent,
        notify,
        traced: mode.tracer.is_some(),
        asks: supervisor.as_ref().map_or(Asks::Nobody, Supervisor::asks),
        ..prepared.options(&args.id)
    };
    let (plan, warnings) = prepared.plan(options)?;
    warnings.iter().for_each(log::warning);
    for name in plan.skipped_system_calls() {
        log::debug(format!("seccomp: {name} is no system call of this machine"));
    }
    net_devices::check(&plan.net_devices)?;
    if let Some(rdt) = &plan.rdt {
        Resctrl::mounted()?.check(rdt)?;
    }
    let record = record::new(&prepared, &plan, args);
    Creation {
        args,
        hardened: &prepared.hardened,
        slot,
        record,
        scope: plan.cgroup.as_ref().zip(manager),
        console: None,
        notify: None,
        supervisor,
        tracer: mode.tracer,
        passage: mode.passage,
        pasta: None,
        quiet: prepared.choice.quiet,
        advice,
        secrets: mode.secrets,
        given,
        plan: &plan,
        parked: mode.park,
        borrowed: None,
    }
    .carry_out(&plan, mode.park)
}

struct Creation<'a> {
    args: &'a CreateArgs,
    hardened: &'a HardenedSpec,
    slot: Slot,
    record: Record,
    /// The cgroup that systemd makes, and systemd.
    scope: Option<(&'a CgroupPlan, Manager)>,
    console: Option<OwnedFd>,
    notify: Option<Notify>,
    supervisor: Option<Supervisor>,
    tracer: Option<Tracer>,
    passage: Option<Passage>,
    pasta: Option<Pasta>,
    /// Nobody asked for the limits that may be left out.
    quiet: bool,
    /// In whose words denied calls are reported.
    advice: Advice,
    secrets: Vec<Secret>,
    /// The user namespace that it is given, and ids that are held for it.
    given: Option<Given>,
    plan: &'a Plan,
    /// It waits for `start`.
    parked: bool,
    /// Interfaces of the host that are inside, until the container is there.
    borrowed: Option<Borrowed>,
}

impl Creation<'_> {
    fn carry_out(mut self, plan: &Plan, park: bool) -> Result<Created> {
        let made = match &plan.cgroup {
            Some(cgroup) if cgroup.scope.is_some() => {
                // A unit of that name with processes is somebody else's, and
                // must not get into this container's record.
                cgroup::refuse_populated(cgroup)?;
                self.slot.container().save(&self.record)?;
                None
            }
            Some(cgroup) => {
                // Whoever finds this record knows which cgroup to remove,
                // however this process ends (runc#3591).
                self.slot.container().save(&self.record)?;
                let made = cgroup::make(cgroup)?;
                self.note(&made.left_out);
                Some(made)
            }
            None => None,
        };
        let cgroup = made.as_ref().map(|made| &made.cgroup);
        match self.launch(plan, park, cgroup) {
            Ok(launched) => {
                drop(self.slot.keep());
                Ok(Created {
                    record: self.record,
                    launched,
                    console: self.console,
                    notify: self.notify,
                    supervisor: self.supervisor,
                    tracer: self.tracer,
                    pasta: self.pasta,
                })
            }
            Err(error) => {
                if let Some(borrowed) = &mut self.borrowed {
                    borrowed.give_back();
                }
                let started = self.scope.as_ref().is_some_and(|one| one.1.has_started());
                if started && let Err(error) = life::scope::end(&self.record) {
                    log::warning(error);
                }
                clean_up(&self.record, cgroup);
                self.tell_end();
                Err(error)
            }
        }
    }

    /// Tells that what was begun came to nothing, and which calls it was denied.
    fn tell_end(&self) {
        let (container, record) = (self.slot.container(), &self.record);
        if let Some(Purpose::Report(denials)) = self.supervisor.as_ref().map(|one| &one.purpose) {
            audited::denials(container.path().parent(), record, denials);
            system_calls::tell_denials(denials, &record.filter, self.advice);
        }
        if record.pid > 0 {
            let (force, failed) = (true, true);
            audited::done(container, record, What::Delete { force, failed });
        }
    }

    /// Tells that it is there, before anything of it runs: what must be told and
    /// cannot ends it again.
    fn tell_begin(&self, pid: i32) -> Result<()> {
        if !audited::is_on() {
            return Ok(());
        }
        let record = &self.record;
        let mut whats = vec![What::Create {
            pid,
            bundle: &record.bundle,
            program: &record.late_steps.program,
            level: record.hardening.level,
            rules: &record.outcomes,
            rootfs: record.rootfs_digest.as_deref(),
        }];
        let level = record.hardening.level;
        whats.extend(
            audit::relaxed(level, &record.outcomes).map(|(rule, by)| What::Relax { rule, by }),
        );
        if !self.parked {
            whats.push(What::Start { pid });
        }
        audited::begin(self.slot.container(), record, &whats)
    }

    /// Notes which limits are not in force. Those of the bundle the caller must
    /// know of; those of capsid's own are a rule that cannot be had here.
    fn note(&mut self, left_out: &[LeftOut]) -> bool {
        let mut noted = false;
        // No limit is what there is without the controller as well.
        for left in left_out.iter().filter(|left| left.limit.value != "max") {
            let mut own = self.hardened.limits.iter();
            match own.find(|own| own.file == left.limit.file) {
                Some(own) => {
                    policy::lose(&mut self.record.outcomes, own.rule, &left.why);
                    noted = true;
                }
                None if self.quiet => log::debug(left),
                None => log::warning(left),
            }
        }
        noted
    }

    fn launch(&mut self, plan: &Plan, park: bool, cgroup: Option<&Cgroup>) -> Result<Launched> {
        if !park {
            self.notify = Notify::bind(self.slot.container().path())?;
        }
        let start = if park {
            Some(start_socket::listen(self.slot.container().dir())?)
        } else {
            None
        };
        let mut given = self.given.take();
        let overlay = self.make_overlay(&mut given)?;
        let (range, user_namespace) = given.map(|given| (given.range, given.namespace)).unzip();
        let supplies = Supplies {
            cgroup: cgroup.map(Cgroup::dir),
            target: None,
            start,
            secrets: std::mem::take(&mut self.secrets),
            user_namespace,
            overlay,
        };
        let launched = parent::launch(plan, supplies, self)?;
        // The record that has been saved names them.
        if let Some(range) = range {
            range.keep();
        }
        self.args.announce().process(&launched)?;
        if park {
            start_socket::publish(self.slot.container().dir())?;
        }
        Ok(launched)
    }

    /// Goes on where capsid found that the user's systemd could be asked, and it
    /// then did not do it: there was nothing to limit.
    fn go_without_scope(&mut self, error: &Error) -> Result<()> {
        let why = format!("no cgroup of its own: {error}");
        let say = if self.quiet { log::debug } else { log::warning };
        say(&why);
        for limit in &self.hardened.limits {
            policy::lose(&mut self.record.outcomes, limit.rule, &why);
        }
        let started = self.scope.take().is_some_and(|(_, one)| one.has_started());
        // What systemd may still make has no limits and ends with the container.
        if !started {
            self.record.cgroup = None;
        }
        self.slot.container().save(&self.record)
    }
}

/// Has systemd put the waiting first process into its scope, and limits that.
fn enter_scope(plan: &CgroupPlan, manager: &mut Manager, pid: i32) -> Result<Vec<LeftOut>> {
    let Some(scope) = &plan.scope else {
        return Ok(Vec::new());
    };
    manager.start(scope, pid, &plan.limits)?;
    // systemd can accept a process and not move it: one of another user, or one
    // that its own pid namespace numbers differently.
    let facts = CgroupFacts::of(pid)?;
    if facts.own_directory(&plan.mount) != plan.path {
        return Err(Error::Missing {
            doing: format!("have {} put in {}", scope.unit, plan.path.display()),
            missing: format!("the process is in {} instead", facts.own.display()),
            repair: "run capsid in the pid and cgroup namespace of that systemd".into(),
        });
    }
    cgroup::adopt(plan).map(|made| made.left_out)
}

/// Undoes what a failed creation did: the specification wants poststop hooks to
/// run as if the container had been deleted.
fn clean_up(record: &Record, cgroup: Option<&Cgroup>) {
    if let Some(cgroup) = cgroup
        && let Err(error) = cgroup.kill().and_then(|()| cgroup.remove())
    {
        log::warning(error);
    }
    if let Err(error) = crate::execute::overlay::undo(record.overlay.as_ref(), &record.rootfs) {
        log::warning(error);
    }
    if let Some(rdt) = &record.rdt
        && let Err(error) = rdt::leave(rdt)
    {
        log::warning(error);
    }
    run_poststop(record);
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
        self.slot.container().save(&self.record)?;
        if let Some(rdt) = &self.plan.rdt {
            let (record, container) = (&mut self.record, self.slot.container());
            Resctrl::mounted()?.enter(rdt, pid, &mut |made| {
                record.rdt = Some(made.clone());
                container.save(record)
            })?;
        }
        if let Some((plan, manager)) = &mut self.scope {
            match enter_scope(plan, manager, pid) {
                Err(error) if plan.can_do_without_scope() => self.go_without_scope(&error)?,
                Err(error) => return Err(error),
                Ok(left_out) if self.note(&left_out) => {
                    self.slot.container().save(&self.record)?;
                }
                Ok(_) => {}
            }
        }
        self.tell_begin(pid)
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

    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        match &mut self.supervisor {
            Some(supervisor) => supervisor.attach(listener),
            None => announce::listener(&self.record, "creating", pid, &listener)?,
        }
        Ok(())
    }

    fn namespaces(&mut self, pid: i32) -> Result<()> {
        if let Some(passage) = &self.passage {
            let container = self.slot.container();
            self.pasta = Some(passage.attach(pid, (container.dir(), container.path()))?);
        }
        Ok(())
    }

    fn net_devices(&mut self, namespace: OwnedFd) -> Result<()> {
        self.borrowed = Some(Borrowed::take(&self.plan.net_devices, namespace)?);
        Ok(())
    }

    fn watchers(&mut self) -> Watchers<'_> {
        Watchers {
            supervisor: self.supervisor.as_mut(),
            tracer: self.tracer.as_mut(),
        }
    }
}
