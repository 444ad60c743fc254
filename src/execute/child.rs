//! After clone: walk the plan. Decides nothing, allocates nothing, ends in exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::Failure;
use crate::plan::reach::RouteRule;
use crate::plan::steps::LabelStep;
use crate::plan::{EnterStep, ExecStep, Plan, ProcessStep};
use crate::spec::namespaces::Kind;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::process::{self, Cloned};
use crate::sys::restrict::{self, CapabilitySets};
use crate::sys::{Result, guard, net, signal, socket};

use super::handles::Handles;
use super::protocol::{self, ToParent};
use super::{fence, hand_over, hooks_inside, init, mounter, own_namespace, program, root};

/// Exit status of a child that failed and said why.
pub(super) const FAILED: i32 = 1;

/// The walk of one process through the plan.
#[derive(Debug)]
pub struct Walk<'p> {
    /// The plan.
    pub plan: &'p Plan,
    /// What the parent opened.
    pub handles: &'p mut Handles,
    /// Index of the step at hand among all that the child walks.
    pub at: u16,
    /// Index of the next hook among those that the child runs.
    pub hook: usize,
    /// The container's root directory.
    pub root: Option<OwnedFd>,
    /// The container's side of its terminal.
    pub terminal: Option<OwnedFd>,
    /// An empty read-only directory, for masks.
    pub empty: Option<OwnedFd>,
    /// The host's /dev/null, checked, for masks.
    pub null: Option<OwnedFd>,
    /// The Landlock ruleset.
    pub ruleset: Option<OwnedFd>,
    /// The connection between the first process and its joiner and mounter.
    pub mounter: Option<OwnedFd>,
    /// The mask for new files that the caller had.
    umask: u32,
    /// The working directory is the one asked for.
    in_cwd: bool,
}

/// Runs the child to its end: exec, or a report and exit.
pub fn run(plan: &Plan, handles: &mut Handles) -> ! {
    guard::forbid();
    let mut walk = Walk {
        plan,
        handles,
        at: 0,
        hook: 0,
        root: None,
        terminal: None,
        empty: None,
        null: None,
        ruleset: None,
        mounter: None,
        // Everything that is made gets exactly the mode the plan says.
        umask: restrict::set_umask(0),
        in_cwd: false,
    };
    let failure = match walk.all() {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    let message = ToParent::Failed {
        step: walk.at,
        failure,
    };
    // When nobody listens any more there is nobody to tell.
    let _ = protocol::tell_parent(walk.handles.socket.as_fd(), &message);
    process::exit(FAILED)
}

/// The number of a step, as messages have it.
pub(super) fn step_number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// A successful walk does not come back: it ends in another program.
enum Never {}

impl Walk<'_> {
    fn all(&mut self) -> Result<Never> {
        let plan = self.plan;
        if !plan.enter.joiner.is_empty() {
            self.steps(&plan.enter.joiner, Self::enter)?;
            self.clone_first_process()?;
        }
        self.steps(&plan.enter.first, Self::enter)?;
        self.at = step_number(plan.steps_before_mounter() + plan.enter.mounter.len());
        self.steps(&plan.root, root::step)?;
        restrict::set_umask(self.umask);
        self.steps(&plan.process, Self::process)?;
        self.steps(&plan.exec, Self::exec)?;
        // The last step of every plan is exec; it fails or does not return.
        Err(Failure::of(syscalls::Sysno::execve, libc::ENOEXEC))
    }

    pub(super) fn steps<S>(
        &mut self,
        steps: &[S],
        carry_out: impl Fn(&mut Self, &S) -> Result<()>,
    ) -> Result<()> {
        for step in steps {
            carry_out(self, step)?;
            self.at += 1;
        }
        Ok(())
    }

    /// The joiner's last act but for a mounter: the first process becomes its sibling,
    /// and waits until the runtime knows it. What it says could otherwise come before
    /// the joiner's own word, and be taken for the joiner's.
    fn clone_first_process(&mut self) -> Result<()> {
        let parent = u64::from(libc::CLONE_PARENT.cast_unsigned());
        let pair = match self.plan.enter.mounter.is_empty() {
            true => None,
            false => Some(socket::pair()?),
        };
        let cgroup = self.handles.cgroup.as_ref().map(OwnedFd::as_fd);
        match process::clone(self.plan.enter.new | parent, cgroup)? {
            Cloned::Child => {
                self.mounter = pair.map(|(_, theirs)| theirs);
                protocol::await_proceed(self.socket())
            }
            Cloned::Parent { pid, .. } => {
                protocol::tell_parent(self.socket(), &ToParent::Cloned(pid))?;
                let Some((ours, theirs)) = pair else {
                    process::exit(0)
                };
                // Its end must close with the first process.
                drop(theirs);
                self.mounter = Some(ours);
                mounter::serve(self)
            }
        }
    }

    /// The connection to whoever waits for this process.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.handles.socket.as_fd()
    }

    /// Tells the runtime something and waits until it has acted on it.
    pub fn ask(&self, message: &ToParent) -> Result<()> {
        protocol::tell_parent(self.socket(), message)?;
        protocol::await_proceed(self.socket())
    }

    pub(super) fn enter(&mut self, step: &EnterStep) -> Result<()> {
        match step {
            EnterStep::OomScoreAdj(score) => {
                self.write_proc(c"self/oom_score_adj", score.to_bytes())
            }
            EnterStep::Affinity(affinity) => restrict::set_affinity(&affinity.mask),
            EnterStep::Process(step) => self.process(step),
            EnterStep::Join(index, kind) => {
                let namespace = self.handles.namespaces[*index].as_fd();
                process::join_namespace(namespace, kind.flag())
            }
            EnterStep::JoinProcess(flags) => match &self.handles.target {
                Some(target) => process::join_namespace(target.as_fd(), *flags),
                None => Err(Failure::of(syscalls::Sysno::setns, libc::ESRCH)),
            },
            EnterStep::JoinFirst(kind) => mounter::join_first(self, *kind),
            EnterStep::NewUserNamespace => {
                process::unshare(u64::from(libc::CLONE_NEWUSER.cast_unsigned()))
            }
            EnterStep::NewMountNamespace => {
                process::unshare(u64::from(libc::CLONE_NEWNS.cast_unsigned()))
            }
            EnterStep::FileSystemIds(id) => restrict::set_file_system_ids(*id),
            EnterStep::Root(step) => root::step(self, step),
            EnterStep::AwaitMounts => mounter::await_mounts(self),
            // The parent sees to both when it hears of the process.
            EnterStep::AwaitCgroup | EnterStep::AwaitClass => self.ask(&ToParent::AwaitCgroup),
            EnterStep::AwaitTracer => self.ask(&ToParent::AwaitTracer),
            EnterStep::IdMaps => self.ask(&ToParent::IdMaps),
            EnterStep::TimeOffsets(offsets) => {
                process::unshare(process::CLONE_NEWTIME)?;
                self.write_proc(c"self/timens_offsets", offsets.to_bytes())
            }
            EnterStep::Hide => process::hide(),
            EnterStep::NewCgroupNamespace => {
                process::unshare(u64::from(libc::CLONE_NEWCGROUP.cast_unsigned()))
            }
            EnterStep::NetDevices => {
                let namespace = own_namespace::open(self.handles.procfs.as_fd(), Kind::Network)?;
                self.ask(&ToParent::NetDevices(namespace))
            }
            EnterStep::Label(label) => self.label(label),
            EnterStep::CloseDescriptors(first) => self.close_descriptors(*first),
        }
    }

    /// Writes a file of the host's procfs, through the handle made before
    /// anything of the container existed.
    pub fn write_proc(&self, file: &std::ffi::CStr, value: &[u8]) -> Result<()> {
        let procfs = At::Dir(self.handles.procfs.as_fd());
        let file = fd::open(procfs, file, libc::O_WRONLY, Resolve::BENEATH_SAME_MOUNT)?;
        fd::write(file.as_fd(), value).map(drop)
    }

    fn process(&mut self, step: &ProcessStep) -> Result<()> {
        match step {
            ProcessStep::Session => process::new_session(),
            ProcessStep::Keyring(name) => tolerate(
                restrict::new_session_keyring(name),
                // Without keys there is nothing to leak; inside another
                // container the filter there keeps everyone from them.
                &[libc::ENOSYS, libc::EPERM],
            ),
            ProcessStep::Terminal => self.take_terminal(true),
            ProcessStep::TerminalStdio => self.take_terminal(false),
            ProcessStep::StdioOwner(uid) => own_pipes(*uid),
            ProcessStep::LoopbackUp => net::loopback_up(),
            ProcessStep::Route(rule) => route(rule),
            ProcessStep::Hostname(name) => restrict::set_host_name(name.to_bytes()),
            ProcessStep::Domainname(name) => restrict::set_domain_name(name.to_bytes()),
            ProcessStep::Rlimit {
                resource,
                soft,
                hard,
                ..
            } => restrict::set_limit(*resource, *soft, *hard),
            ProcessStep::Scheduler(scheduling) => set_scheduling(scheduling),
            ProcessStep::IoPriority(priority) => restrict::set_io_priority(*priority),
            ProcessStep::Personality(domain) => restrict::set_personality(*domain),
            ProcessStep::Umask(mask) => {
                restrict::set_umask(*mask);
                Ok(())
            }
            ProcessStep::Cwd(path) => {
                let outcome = program::enter_directory(path);
                self.in_cwd = outcome.is_ok();
                tolerate(outcome, &[libc::EACCES, libc::EPERM])
            }
            ProcessStep::CwdAsUser(_) if self.in_cwd => Ok(()),
            ProcessStep::CwdAsUser(path) => program::enter_directory(path),
            ProcessStep::Bounding(keep) => restrict::bound_capabilities(*keep),
            // Where it is denied for good, as in a user namespace that an
            // ordinary user made, there is nothing left to drop with.
            ProcessStep::Groups(none) if none.is_empty() => {
                tolerate(restrict::set_groups(none), &[libc::EPERM])
            }
            ProcessStep::Groups(groups) => restrict::set_groups(groups),
            ProcessStep::Gid(gid) => restrict::set_gid(*gid),
            ProcessStep::Uid(uid) => become_user(*uid),
            ProcessStep::Capabilities {
                effective,
                permitted,
                inheritable,
                ambient,
            } => set_capabilities(*effective, *permitted, *inheritable, *ambient),
            ProcessStep::NoNewPrivileges => restrict::no_new_privileges(),
            // If it has ended already, the next word to it fails.
            ProcessStep::DieWithParent => signal::at_end_of_parent(libc::SIGKILL),
            ProcessStep::FindProgram => program::find(&self.plan.program, self.handles.own_program),
            ProcessStep::Affinity(affinity) => restrict::set_affinity(&affinity.mask),
            ProcessStep::MemoryPolicy(own) => restrict::set_memory_policy(own.mode, &own.nodes),
        }
    }

    fn take_terminal(&mut self, controlling: bool) -> Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        if controlling {
            process::take_terminal(terminal.as_fd())?;
        }
        (0..=2).try_for_each(|target| fd::duplicate_to(terminal.as_fd(), target))
    }

    fn exec(&mut self, step: &ExecStep) -> Result<()> {
        match step {
            ExecStep::Park => self.park(),
            ExecStep::Hook(hook) => hooks_inside::run(self, hook),
            ExecStep::Label(label) => self.label(label),
            ExecStep::CloseDescriptors(first) => {
                self.close_descriptors(*first)?;
                // The runtime marked everything it was given; these the program gets.
                (3..*first).try_for_each(fd::keep_on_exec)?;
                // What follows may be done under the bundle's filter, which need not
                // know of signals: execve and write are all that is asked of it.
                process::default_signals()
            }
            ExecStep::Restrict { files, descriptors } => {
                fence::restrict_self(self, *files, *descriptors)
            }
            ExecStep::Init(step) => init::split(self, step),
            ExecStep::Seccomp(filter) if filter.flags & restrict::NEW_LISTENER != 0 => {
                hand_over::load(filter, self.socket())
            }
            ExecStep::Seccomp(filter) => {
                restrict::load_filter(&filter.instructions, filter.flags).map(drop)
            }
            ExecStep::Process(step) => self.process(step),
            ExecStep::Execute(_) => {
                protocol::tell_parent(self.socket(), &ToParent::Executing)?;
                Err(program::execute(&self.plan.program, self.handles))
            }
        }
    }

    /// The container is created: whoever connects to the start socket lets it go on.
    fn park(&mut self) -> Result<()> {
        protocol::tell_parent(self.socket(), &ToParent::Created)?;
        if let Some(listener) = self.handles.start.take() {
            self.handles.socket = socket::accept(listener.as_fd())?;
        }
        Ok(())
    }

    fn label(&self, label: &LabelStep) -> Result<()> {
        let mut outcome = Ok(());
        for file in &label.files {
            outcome = self.write_proc(file, label.value.to_bytes());
            if !matches!(&outcome, Err(failure) if failure.is(libc::ENOENT)) {
                break;
            }
        }
        outcome
    }

    /// Closes everything but what the program gets and the connection to whoever
    /// waits, which is a socket: no path leads through it.
    fn close_descriptors(&self, first: i32) -> Result<()> {
        let kept = self.handles.socket.as_raw_fd();
        if kept > first {
            fd::close_range(first, (kept - 1).cast_unsigned())?;
        }
        fd::close_range(kept.max(first - 1) + 1, u32::MAX)
    }
}

/// Takes some errors for success.
fn tolerate(outcome: Result<()>, errnos: &[i32]) -> Result<()> {
    match outcome {
        Err(failure) if errnos.contains(&failure.errno) => Ok(()),
        other => other,
    }
}

/// Without losing the capabilities that later steps need.
fn become_user(uid: u32) -> Result<()> {
    restrict::keep_capabilities(true)?;
    restrict::set_uid(uid)
}

/// A kernel without a protocol family sends nothing over it either.
fn route(rule: &RouteRule) -> Result<()> {
    match net::change_routing(rule.message()) {
        Err(failure) if failure.is(libc::EAFNOSUPPORT) && rule.only_refuses() => Ok(()),
        other => other,
    }
}

/// Gives pipes and sockets on descriptors 0 to 2 to the program's user, who
/// could not open /dev/stdout again otherwise. A terminal or a file stays its
/// owner's: it is the caller's own.
fn own_pipes(uid: u32) -> Result<()> {
    for number in 0..=2 {
        let Some(pipe) = fd::standard(number) else {
            continue;
        };
        let stat = fd::stat(pipe)?;
        if (stat.is(libc::S_IFIFO) || stat.is(libc::S_IFSOCK)) && stat.uid != uid {
            let keep_group = u32::MAX;
            tolerate(
                fd::chown(pipe, uid, keep_group),
                &[libc::EPERM, libc::EROFS, libc::EINVAL, libc::EACCES],
            )?;
        }
    }
    Ok(())
}

fn set_scheduling(scheduling: &crate::plan::process::Scheduling) -> Result<()> {
    restrict::set_scheduling(&restrict::Scheduling {
        size: 48,
        policy: scheduling.policy,
        flags: scheduling.flags,
        nice: scheduling.nice,
        priority: scheduling.priority,
        runtime: scheduling.runtime,
        deadline: scheduling.deadline,
        period: scheduling.period,
    })
}

fn set_capabilities(effective: u64, permitted: u64, inheritable: u64, ambient: u64) -> Result<()> {
    restrict::set_capabilities(CapabilitySets {
        effective,
        permitted,
        inheritable,
    })?;
    restrict::keep_capabilities(false)?;
    restrict::set_ambient_capabilities(ambient)
}
