//! The runtime's side of a clone: open what is needed, clone, answer the child
//! until the container is created or the program runs.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;

use syscalls::Sysno;

use crate::error::{Call, Check, Error, Failure, Result};
use crate::host;
use crate::plan::{BindSource, Opener, Plan, ProcessStep, RootStep};
use crate::sys::arguments::Place;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};
use crate::sys::process::{self, Cloned, Pointers};
use crate::sys::{restrict, signal, socket, trace};

use super::failed_step::{Step, step_error};
use super::hand_over::Delivery;
use super::handles::{self, Handles};
use super::overlay::Overlay;
use super::protocol::{self, ToParent};
use super::secrets::Secret;
use super::supervisor::Watchers;
use super::{child, hooks, idmaps, protect, root};

/// What a launch needs besides the plan.
#[derive(Debug, Default)]
pub struct Supplies<'a> {
    /// The cgroup to be cloned into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The container's first process, for `exec`.
    pub target: Option<OwnedFd>,
    /// The listening socket for `start`.
    pub start: Option<OwnedFd>,
    /// What goes below /run/secrets.
    pub secrets: Vec<Secret>,
    /// The user namespace that was made for the container.
    pub user_namespace: Option<OwnedFd>,
    /// The root file system, where it cannot be the mount that is there.
    pub overlay: Option<Overlay>,
}

/// Who answers what the child cannot do itself.
pub trait Attendant {
    /// The process exists; nothing of the program has run yet.
    fn process(&mut self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()>;
    /// Its namespaces exist and can still be opened by others.
    fn namespaces(&mut self, _pid: i32) -> Result<()> {
        Ok(())
    }
    /// The network namespace is there for the interfaces that the plan moves.
    fn net_devices(&mut self, _namespace: OwnedFd) -> Result<()> {
        Ok(())
    }
    /// The namespaces exist: run the prestart and createRuntime hooks.
    fn runtime_hooks(&mut self, pid: i32) -> Result<()>;
    /// The master side of the terminal.
    fn console(&mut self, master: OwnedFd) -> Result<()>;
    /// The listener of the process's seccomp filter.
    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()>;
    /// Who looks on until the program runs.
    fn watchers(&mut self) -> Watchers<'_> {
        Watchers::default()
    }
}

/// A process that was set up, and waits for `start` or runs its program.
#[derive(Debug)]
pub struct Launched {
    /// Its pid in the runtime's pid namespace.
    pub pid: i32,
    /// The same, beyond reuse of the number.
    pub pidfd: OwnedFd,
}

/// Carries out a plan. On failure nothing of it is left but what the caller made.
pub fn launch(
    plan: &Plan,
    supplies: Supplies<'_>,
    attendant: &mut dyn Attendant,
) -> Result<Launched> {
    let (ours, theirs) =
        socket::pair().map_err(|failure| Error::system("make", "a pair of sockets", failure))?;
    let cgroup = supplies.cgroup;
    let mut handles = open_handles(plan, supplies, theirs)?;
    let flags = match plan.enter.joiner.is_empty() {
        true => plan.enter.new,
        false => 0,
    };
    // A joiner with a mounter is none of those that limits count.
    let cgroup = cgroup.filter(|_| handles.cgroup.is_none());
    let cloned = process::clone(flags, cgroup).map_err(|failure| explain_clone(flags, failure))?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            // With a copy of the runtime's end it would wait for a runtime that is gone.
            drop(ours);
            child::run(plan, &mut handles)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let mut launch = Launch {
        plan,
        socket: ours,
        procfs: handles.procfs,
        sources: handles.sources,
        hook_output: handles.hook_output.map(File::from),
        pid,
        pidfd,
        joining: !plan.enter.joiner.is_empty(),
        joiner: None,
        executing: false,
        traced: false,
        delivery: Delivery::default(),
    };
    // The child's ends must close with the child.
    drop((
        handles.socket,
        handles.start,
        handles.namespaces,
        handles.target,
        handles.cgroup,
        handles.secrets,
    ));
    // From now on there may be someone inside who would like to look at this
    // process. Before, newuidmap and the state directory needed it visible.
    let hidden = process::hide()
        .map_err(|failure| Error::system("hide", "the runtime's own process", failure));
    match hidden.and_then(|()| launch.attend(attendant)) {
        Ok(()) => Ok(launch.finish()),
        Err(error) => {
            launch.end();
            Err(error)
        }
    }
}

/// Opens the host's procfs and makes sure that it is one (CVE-2019-16884).
pub fn open_procfs() -> Result<OwnedFd> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    const ROOT_INODE: u64 = 1;
    let failed = |failure| Error::system("open", "/proc", failure);
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let procfs = fd::open(At::Cwd, c"/proc", flags, Resolve::ANY).map_err(failed)?;
    let magic = fd::file_system(procfs.as_fd()).map_err(failed)?.0;
    let root = fd::stat(procfs.as_fd()).map_err(failed)?.ino == ROOT_INODE;
    if magic == PROC_SUPER_MAGIC && root {
        Ok(procfs)
    } else {
        Err(failed(Failure::check(Check::NotProcfs)))
    }
}

fn open_handles(plan: &Plan, supplies: Supplies<'_>, socket: OwnedFd) -> Result<Handles> {
    let procfs = open_procfs()?;
    let (overlay, covers) = supplies.overlay.map(|one| (one.mount, one.covers)).unzip();
    let mut overlay = overlay.zip(plan.enter.mapped_root());
    let sources = plan
        .sources
        .iter()
        .enumerate()
        .map(|(index, source)| match source.opener {
            Opener::Child => Ok(None),
            Opener::Runtime => {
                if let Some((made, _)) = overlay.take_if(|(_, place)| *place == index) {
                    return Ok(Some(made));
                }
                open_source(&procfs, source, supplies.user_namespace.as_ref()).map(Some)
            }
        })
        .collect::<Result<_>>()?;
    let has_hooks = handles::hooks(plan).next().is_some();
    let hook_output = if has_hooks {
        Some(hooks::memory_file("the output of hooks")?.into())
    } else {
        None
    };
    let own_program = protect::own_program()
        .map_err(|failure| Error::system("look at", "the runtime's own program file", failure))?;
    Ok(Handles {
        socket,
        target: supplies.target,
        cgroup: handles::cgroup(plan, supplies.cgroup)?,
        scope: handles::scope(plan),
        namespaces: handles::open_namespaces(plan)?,
        sources,
        covers,
        secrets: supplies.secrets,
        start: supplies.start,
        hook_output,
        kernel_mounts: if plan.root.contains(&RootStep::MoveRoot) {
            handles::kernel_mounts()?
        } else {
            Vec::new()
        },
        own_program,
        arguments: Pointers::new(plan.program.arguments.clone()),
        environment: Pointers::new(plan.program.environment.clone()),
        own_arguments: Place::read(procfs.as_fd()),
        hooks: handles::hook_pointers(plan),
        procfs,
    })
}

fn open_source(procfs: &OwnedFd, source: &BindSource, given: Option<&OwnedFd>) -> Result<OwnedFd> {
    let path = source.path.to_string_lossy();
    let tree = root::source_tree(source)
        .map_err(|failure| Error::system("open the bind source", &path, failure))?;
    // Opened in the host's own mount namespace, it would stay a peer of the
    // host's mount: what is mounted inside would appear on the host.
    let slave = Attributes {
        propagation: libc::MS_SLAVE,
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), &slave, true)
        .map_err(|failure| Error::system("cut off the propagation of", &path, failure))?;
    match (source.idmap.as_ref().map(|idmap| &idmap.maps), given) {
        (Some(Some(maps)), _) => {
            let namespace = idmaps::describing_namespace(procfs.as_fd(), maps)?;
            idmap(source, &tree, &namespace)?;
        }
        (Some(None), Some(given)) => idmap(source, &tree, given)?,
        _ => {}
    }
    Ok(tree)
}

fn idmap(source: &BindSource, tree: &OwnedFd, namespace: &OwnedFd) -> Result<()> {
    idmap_tree(source, tree, namespace).map_err(|failure| {
        Error::system("idmap the mount of", source.path.to_string_lossy(), failure)
    })
}

/// Maps the ids of a detached mount.
pub fn idmap_tree(source: &BindSource, tree: &OwnedFd, namespace: &OwnedFd) -> Result<(), Failure> {
    let recursive = source.idmap.as_ref().is_some_and(|idmap| idmap.recursive);
    map_ids(tree, namespace, recursive)
}

/// The same as a user namespace maps them, with all that is mounted below or without.
pub fn map_ids(tree: &OwnedFd, namespace: &OwnedFd, recursive: bool) -> Result<(), Failure> {
    use std::os::fd::AsRawFd;
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_IDMAP,
        user_namespace: u64::from(namespace.as_raw_fd().cast_unsigned()),
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), &attributes, recursive)
}

/// The error of a failed clone, with what forbids user namespaces if that was it.
pub fn explain_clone(flags: u64, failure: Failure) -> Error {
    let user = flags & u64::from(libc::CLONE_NEWUSER.cast_unsigned()) != 0;
    let refused = matches!(
        failure.errno,
        libc::EPERM | libc::ENOSPC | libc::EACCES | libc::EUSERS
    );
    if user && refused {
        let (missing, repair) = host::user_namespace_obstacle();
        return Error::Missing {
            doing: "make a user namespace".into(),
            missing,
            repair,
        };
    }
    Error::system("clone", "the container's first process", failure)
}

struct Launch<'p> {
    plan: &'p Plan,
    socket: OwnedFd,
    procfs: OwnedFd,
    sources: Vec<Option<OwnedFd>>,
    hook_output: Option<File>,
    pid: i32,
    pidfd: OwnedFd,
    /// The process at the other end is the joiner, not the first process yet.
    joining: bool,
    /// The joiner, as long as it has a mounter to wait for.
    joiner: Option<i32>,
    /// The child is about to execute the program.
    executing: bool,
    /// It has a tracer.
    traced: bool,
    /// The listener of its filter.
    delivery: Delivery,
}

impl Launch<'_> {
    fn attend(&mut self, attendant: &mut dyn Attendant) -> Result<()> {
        if !self.joining {
            attendant.process(self.pid, self.pidfd.as_fd())?;
        }
        loop {
            match self.hear(attendant)? {
                // The attendant saw to it when it was told of the process.
                Some(ToParent::AwaitCgroup) => self.proceed()?,
                Some(ToParent::AwaitTracer) => {
                    if let Some(tracer) = attendant.watchers().tracer {
                        tracer.seize(self.pid)?;
                        self.traced = true;
                    }
                    self.proceed()?;
                }
                Some(ToParent::IdMaps) => self.map_ids(attendant)?,
                Some(ToParent::Cloned(pid)) => self.take_over(pid, attendant)?,
                Some(ToParent::NetDevices(namespace)) => {
                    attendant.net_devices(namespace)?;
                    self.proceed()?;
                }
                Some(ToParent::RuntimeHooks) => {
                    attendant.runtime_hooks(self.pid)?;
                    self.proceed()?;
                }
                Some(ToParent::Console(master)) => {
                    attendant.console(master)?;
                    self.proceed()?;
                }
                Some(ToParent::Messenger(messenger)) => self.delivery.expect(messenger),
                Some(ToParent::Listener(listener)) => {
                    self.delivery.await_end()?;
                    attendant.listener(self.pid, listener)?;
                    if let Some(tracer) = attendant.watchers().tracer {
                        // The messenger is traced as well, and there until it is waited for.
                        tracer.serve()?;
                    }
                    self.proceed()?;
                }
                Some(ToParent::Created) => return Ok(()),
                Some(ToParent::Executing) => self.executing = true,
                Some(ToParent::Failed { step, failure }) => return Err(self.failed(step, failure)),
                None if self.executing => return Ok(()),
                None => return Err(self.died()),
            }
        }
    }

    fn hear(&self, attendant: &mut dyn Attendant) -> Result<Option<ToParent>> {
        attendant.watchers().serve_until(self.socket.as_fd())?;
        protocol::hear_child(self.socket.as_fd())
            .map_err(|failure| Error::system("hear from", "the container's first process", failure))
    }

    fn proceed(&self) -> Result<()> {
        protocol::proceed(self.socket.as_fd())
            .map_err(|failure| Error::system("answer", "the container's first process", failure))
    }

    fn map_ids(&mut self, attendant: &mut dyn Attendant) -> Result<()> {
        if let Some(maps) = &self.plan.ids {
            idmaps::write(self.procfs.as_fd(), self.pid, maps)?;
        }
        // Those of a container that was given its ids have them already.
        let mapped = !self.plan.enter.mounter.is_empty();
        let wanting = self.plan.sources.iter().zip(&self.sources);
        for (source, tree) in wanting.filter(|_| !mapped) {
            let inherits = source
                .idmap
                .as_ref()
                .is_some_and(|idmap| idmap.maps.is_none());
            if let (true, Some(tree)) = (inherits, tree) {
                let namespace = idmaps::user_namespace(self.procfs.as_fd(), self.pid)?;
                idmap(source, tree, &namespace)?;
            }
        }
        self.set_limits()?;
        if let Some(score) = &self.plan.enter.oom_score_adj {
            let score = score.to_string_lossy();
            idmaps::write_file(self.procfs.as_fd(), self.pid, "oom_score_adj", &score)?;
        }
        attendant.namespaces(self.pid)?;
        self.proceed()
    }

    /// Resource limits of a process whose user namespace keeps it from raising them.
    fn set_limits(&self) -> Result<()> {
        for step in &self.plan.limits {
            if let ProcessStep::Rlimit {
                name,
                resource,
                soft,
                hard,
            } = step
            {
                restrict::set_limit_of(self.pid, *resource, *soft, *hard)
                    .map_err(|failure| Error::system("set", name, failure))?;
            }
        }
        Ok(())
    }

    /// The joiner has cloned the first process. Unless it has a mounter, it has ended.
    fn take_over(&mut self, pid: i32, attendant: &mut dyn Attendant) -> Result<()> {
        let failed = |failure| Error::system("take over", "the container's first process", failure);
        if self.plan.enter.mounter.is_empty() {
            process::wait(self.pid, 0).map_err(failed)?;
        } else {
            self.joiner = Some(self.pid);
        }
        self.pid = pid;
        self.pidfd = process::pidfd_open(pid).map_err(failed)?;
        self.joining = false;
        attendant.process(pid, self.pidfd.as_fd())?;
        self.proceed()
    }

    fn failed(&mut self, step: u16, failure: Failure) -> Error {
        // Ubuntu lets the namespace be made, and refuses the first thing done in it.
        let first_mount = failure.call == Call::of(Sysno::mount) && failure.is(libc::EACCES);
        if let (true, Some((missing, repair))) = (first_mount, host::apparmor_restriction()) {
            let doing = "use a user namespace".into();
            return Error::Missing {
                doing,
                missing,
                repair,
            };
        }
        let steps = self.plan.child_steps();
        let index = usize::from(step);
        let words = steps
            .get(index)
            .cloned()
            .unwrap_or_else(|| "an unknown step".into());
        let before_exec = self.plan.steps_before_exec();
        let program = self.plan.program.arguments.first();
        let program = program.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        step_error(
            Step {
                words,
                index,
                of: steps.len(),
                last: index >= before_exec,
            },
            &program,
            failure,
            self.hook_output.as_mut(),
        )
    }

    fn died(&self) -> Error {
        let how = match self.await_end() {
            Some(status) => hooks::describe(std::process::ExitStatus::from_raw(status)),
            _ => "ended".into(),
        };
        let during = if self.joining {
            "enter namespaces"
        } else {
            "set the container up"
        };
        Error::Died {
            how,
            during: during.into(),
        }
    }

    /// Leaves none but the container's process.
    fn finish(self) -> Launched {
        self.await_joiner();
        Launched {
            pid: self.pid,
            pidfd: self.pidfd,
        }
    }

    /// Leaves no process behind.
    fn end(&self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = self.await_end();
        self.await_joiner();
    }

    /// It ends with its mounter, and that with the first process or before.
    fn await_joiner(&self) {
        if let Some(joiner) = self.joiner {
            let _ = process::wait(joiner, 0);
        }
    }

    /// The wait status of the process. Process 1 of a namespace does not end before
    /// all that is in there was waited for, and who is traced waits for the tracer.
    fn await_end(&self) -> Option<i32> {
        if !self.traced {
            return process::wait(self.pid, 0).ok().flatten();
        }
        loop {
            match signal::wait_any(0) {
                Ok(Some((pid, status))) if pid == self.pid && trace::stop(status).is_none() => {
                    return Some(status);
                }
                Err(failure) if !failure.is(libc::EINTR) => return None,
                Ok(None) => return None,
                Ok(Some(_)) | Err(_) => {}
            }
        }
    }
}
