//! The steps of a plan and what they are called.

use std::ffi::{CStr, CString};
use std::fmt;

use super::BindSource;
pub use super::exec::{ExecStep, LabelStep};
use super::landlock::FenceStep;
use super::memory_policy::MemoryPolicy;
use super::mounts::MountStep;
use super::reach::RouteRule;
pub use super::rootfs::DeviceStep;
use super::secrets::SecretsStep;

/// Entering namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnterStep {
    /// Write `/proc/self/oom_score_adj`, while the file still belongs to the caller.
    OomScoreAdj(CString),
    /// Pin the process to CPUs before it enters the container's cgroup.
    Affinity(Affinity),
    /// A property of the process, while it may still have it, or before others see it.
    Process(Box<ProcessStep>),
    /// Join a namespace by its file; the index counts the plan's paths.
    Join(usize, crate::spec::namespaces::Kind),
    /// Join several namespaces of the container's first process.
    JoinProcess(u64),
    /// Join a namespace of the first process, which hands it over.
    JoinFirst(crate::spec::namespaces::Kind),
    /// Make a user namespace after others were joined.
    NewUserNamespace,
    /// Make a mount namespace. That of who has another user namespace than what it
    /// copies has all mounts locked.
    NewMountNamespace,
    /// What is made belongs to this user and group of the host, with all privileges
    /// kept: an idmapped mount takes files from those alone whom it maps.
    FileSystemIds(u32),
    /// A part of the root file system that the host's root makes.
    Root(Box<RootStep>),
    /// Wait until the mounter has done its steps; the container's terminal comes from
    /// there.
    AwaitMounts,
    /// Wait until systemd has put the process into its cgroup.
    AwaitCgroup,
    /// Wait until the runtime traces this process, which it may as long as the
    /// process can be looked at.
    AwaitTracer,
    /// Wait until the runtime has written the id maps.
    IdMaps,
    /// Make a time namespace for children and write its offsets.
    TimeOffsets(CString),
    /// Not dumpable: nobody inside can trace it or follow its /proc links.
    Hide,
    /// A new cgroup namespace, now that the process is in its cgroup.
    NewCgroupNamespace,
    /// Wait until the runtime has put the process into its resctrl class.
    AwaitClass,
    /// Wait until the runtime has moved network interfaces into the namespace that
    /// the process is in.
    NetDevices,
    /// Label the exec of the process that is cloned next.
    Label(Box<LabelStep>),
    /// Close every descriptor from this number on but the connection to the runtime:
    /// whoever may trace others inside could open them by `/proc/PID/fd`, and the
    /// host's procfs is among them (CVE-2016-9962).
    CloseDescriptors(i32),
}

/// A set of CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// As written in the configuration.
    pub list: String,
    /// Bit n is CPU n.
    pub mask: Vec<u64>,
}

impl fmt::Display for EnterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnterStep::OomScoreAdj(score) => write!(f, "set oom_score_adj to {}", Text(score)),
            EnterStep::Affinity(affinity) => write!(f, "run on CPUs {}", affinity.list),
            EnterStep::Process(step) => step.fmt(f),
            EnterStep::Join(_, kind) => {
                write!(f, "join the {} namespace given by path", kind.name())
            }
            EnterStep::JoinProcess(flags) => {
                write!(
                    f,
                    "join the container's namespaces: {}",
                    crate::spec::namespaces::names(*flags)
                )
            }
            EnterStep::JoinFirst(kind) => {
                write!(f, "join the {} namespace of the first process", kind.name())
            }
            EnterStep::NewUserNamespace => f.write_str("make a user namespace"),
            EnterStep::NewMountNamespace => f.write_str("make a mount namespace"),
            EnterStep::FileSystemIds(id) => write!(f, "make files as user and group {id}"),
            EnterStep::Root(step) => f.write_str(&step.describe(&[])),
            EnterStep::AwaitMounts => f.write_str("wait for the mounter"),
            EnterStep::AwaitCgroup => f.write_str("wait until systemd has put it into its cgroup"),
            EnterStep::AwaitTracer => f.write_str("wait until capsid traces it"),
            EnterStep::IdMaps => f.write_str("wait for the id maps"),
            EnterStep::TimeOffsets(text) => {
                let lines = text.to_string_lossy().trim_end().replace('\n', ", ");
                write!(f, "make a time namespace with offsets: {lines}")
            }
            EnterStep::Hide => f.write_str("become undumpable"),
            EnterStep::NewCgroupNamespace => f.write_str("make a cgroup namespace"),
            EnterStep::AwaitClass => f.write_str("wait until it is in its resctrl class"),
            EnterStep::NetDevices => f.write_str("wait for the network interfaces"),
            EnterStep::Label(label) => label.fmt(f),
            EnterStep::CloseDescriptors(first) => write!(f, "close descriptors from {first} on"),
        }
    }
}

/// Building the root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootStep {
    /// Refuse a caller whose root is not that of its mount namespace.
    ExpectNamespaceRoot,
    /// Change the propagation of every mount of the host's tree, in this namespace only.
    Propagation(u64),
    /// Make the host's mount that the root is on private, in this namespace only.
    PrivateParent(CString),
    /// Open one of the plan's bind sources.
    OpenSource(usize),
    /// Attach a copy of the root file system's mount onto itself.
    AttachRoot {
        /// The root file system on the host.
        path: CString,
    },
    /// Attach the idmapped mount of the root file system onto its directory.
    AttachMapped {
        /// The root file system on the host.
        path: CString,
        /// The mount, among the plan's bind sources.
        source: usize,
    },
    /// Attach a copy of the working directory's mount onto itself: it is the root
    /// file system that the joiner attached, and cannot be pivoted to as it is.
    AttachInherited,
    /// Refuse a root file system that is another directory than the one that was
    /// measured.
    ExpectRoot {
        /// The file system it is on.
        dev: u64,
        /// Its inode number there.
        ino: u64,
    },
    /// Become the container's user and group 0.
    BecomeRoot,
    /// One of `mounts`.
    Mount(MountStep),
    /// A device node.
    Device(DeviceStep),
    /// A symbolic link below `/dev`.
    Link {
        /// What it points to.
        target: CString,
        /// Its directory in the container.
        directory: CString,
        /// Its name.
        name: CString,
        /// Take the place of what is there.
        replace: bool,
    },
    /// Open a pseudoterminal and bind it on `/dev/console`.
    Console {
        /// Rows and columns.
        size: Option<(u16, u16)>,
        /// Who owns the terminal.
        uid: u32,
    },
    /// Open a pseudoterminal of the container's devpts, for one more process.
    Terminal {
        /// Rows and columns.
        size: Option<(u16, u16)>,
        /// Who owns the terminal.
        uid: u32,
    },
    /// Open the terminal that the mounter has opened by the container's own mount:
    /// by another it has no name inside.
    NamedTerminal,
    /// Wait until the runtime has run the prestart and createRuntime hooks: they
    /// find the mounts made and the old root still there.
    RuntimeHooks,
    /// A createContainer hook.
    Hook(HookStep),
    /// Write a sysctl.
    Sysctl {
        /// Below /proc: `sys/net/ipv4/ip_forward`.
        file: CString,
        /// The value.
        value: CString,
    },
    /// Cover a path with nothing.
    Mask(CString),
    /// Make a path read-only, with all mounted below it.
    ReadonlyPath(CString),
    /// Make one mount read-only, now that all below it is made.
    ReadonlyMount(CString),
    /// Make the root mount read-only.
    ReadonlyRoot,
    /// Make the new root `/` and drop the old one.
    Pivot,
    /// The same without pivot_root(2), for a root on a ramfs.
    MoveRoot,
    /// Change the propagation of the container's root mount.
    RootPropagation(u64),
    /// Change the propagation of a mount that the mounter has made: in a copy, what was
    /// shared is a slave, and what was unbindable is lost.
    MountPropagation {
        /// Its mount point in the container.
        path: CString,
        /// `MS_*` flags.
        flags: u64,
    },
    /// Make the directory that the program starts in, if it is missing.
    WorkingDirectory(CString),
    /// Files that only the program is to know.
    Secrets(SecretsStep),
    /// The Landlock ruleset, or one of its rules.
    Fence(FenceStep),
}

/// A hook that the child runs inside the container's namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStep {
    /// Which list and place: `createContainer hook 0`.
    pub which: String,
    /// The program.
    pub path: CString,
    /// Its arguments.
    pub arguments: Vec<CString>,
    /// Its environment: only what is given.
    pub environment: Vec<CString>,
    /// Seconds until it is killed.
    pub timeout: Option<i64>,
    /// The container's state as JSON, up to the pid and after it.
    pub state: (Vec<u8>, Vec<u8>),
}

impl RootStep {
    /// The step in one line.
    pub fn describe(&self, sources: &[BindSource]) -> String {
        let propagation = super::mounts::propagation_name;
        match self {
            RootStep::ExpectNamespaceRoot => "check that / is the mount namespace's root".into(),
            RootStep::Propagation(flags) => format!("make all mounts {}", propagation(*flags)),
            RootStep::PrivateParent(path) => format!("make the mount {} private", Text(path)),
            RootStep::OpenSource(index) => {
                let source = sources
                    .get(*index)
                    .map(|source| Text(&source.path).to_string());
                format!("open the bind source {}", source.unwrap_or_default())
            }
            RootStep::AttachRoot { path } => format!("attach the root file system {}", Text(path)),
            RootStep::AttachMapped { path, .. } => {
                format!("attach the root file system {}, idmapped", Text(path))
            }
            RootStep::AttachInherited => "attach the root file system that is there".into(),
            RootStep::ExpectRoot { .. } => "look whether it is what was measured".into(),
            RootStep::BecomeRoot => "become user 0 and group 0 of the user namespace".into(),
            RootStep::Mount(mount) => mount.describe(sources),
            RootStep::Device(device) => device.to_string(),
            RootStep::Link {
                target,
                directory,
                name,
                ..
            } => {
                let (name, target) = (Text(name), Text(target));
                format!("link {}/{name} to {target}", Text(directory))
            }
            RootStep::Console { size, .. } => match size {
                Some((rows, columns)) => {
                    format!("open a terminal of {rows} rows and {columns} columns as /dev/console")
                }
                None => "open a terminal as /dev/console".into(),
            },
            RootStep::Terminal { .. } => "open a terminal".into(),
            RootStep::NamedTerminal => "open the terminal by its name".into(),
            RootStep::RuntimeHooks => "wait for the prestart and createRuntime hooks".into(),
            RootStep::Hook(hook) => hook.to_string(),
            RootStep::Sysctl { file, value } => {
                format!("write {} to /proc/{}", Text(value), Text(file))
            }
            RootStep::Mask(path) => format!("mask {}", Text(path)),
            RootStep::ReadonlyPath(path) => format!("make {} read-only", Text(path)),
            RootStep::ReadonlyMount(path) => format!("make the mount {} read-only", Text(path)),
            RootStep::ReadonlyRoot => "make the root mount read-only".into(),
            RootStep::Pivot => "pivot to the new root and detach the old one".into(),
            RootStep::MoveRoot => "move the new root to / without pivot_root".into(),
            RootStep::WorkingDirectory(path) => format!("make {} if it is missing", Text(path)),
            RootStep::Secrets(step) => step.to_string(),
            RootStep::Fence(step) => step.to_string(),
            RootStep::RootPropagation(flags) => {
                format!("make the root mount {}", propagation(*flags))
            }
            RootStep::MountPropagation { path, flags } => {
                format!("make the mount {} {}", Text(path), propagation(*flags))
            }
        }
    }
}

impl fmt::Display for HookStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} ({})", self.which, Text(&self.path))
    }
}

/// The process's own properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessStep {
    /// A new session: no controlling terminal is shared.
    Session,
    /// A new session keyring of this name.
    Keyring(CString),
    /// Make the console the session's terminal and descriptors 0, 1 and 2.
    Terminal,
    /// Make the console descriptors 0, 1 and 2 only.
    TerminalStdio,
    /// Let the user open /dev/stdout again when it is a pipe of the caller.
    StdioOwner(u32),
    /// Bring the loopback device up.
    LoopbackUp,
    /// One rule for where packets may go.
    Route(RouteRule),
    /// The name of the host.
    Hostname(CString),
    /// The name of the NIS domain.
    Domainname(CString),
    /// One resource limit.
    Rlimit {
        /// `RLIMIT_*` as the configuration spells it.
        name: &'static str,
        /// Its number.
        resource: u32,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Scheduling policy.
    Scheduler(crate::plan::process::Scheduling),
    /// Class and level of I/O priority, as ioprio_set(2) takes it.
    IoPriority(u16),
    /// Execution domain.
    Personality(u64),
    /// File mode creation mask.
    Umask(u32),
    /// Working directory, as the container's root; left to the user where root may not.
    Cwd(CString),
    /// Working directory, as the user, if root could not enter it.
    CwdAsUser(CString),
    /// Capabilities the bounding set keeps.
    Bounding(u64),
    /// Supplementary groups.
    Groups(Vec<u32>),
    /// Group id.
    Gid(u32),
    /// User id; capabilities survive it until they are set.
    Uid(u32),
    /// Effective, permitted, inheritable and ambient capabilities.
    Capabilities {
        /// Effective set.
        effective: u64,
        /// Permitted set.
        permitted: u64,
        /// Inheritable set.
        inheritable: u64,
        /// Ambient set.
        ambient: u64,
    },
    /// Exec never raises privileges.
    NoNewPrivileges,
    /// Be killed when the runtime ends. A change of identity would take that back.
    DieWithParent,
    /// Look for the program now, so that a missing one fails `create`.
    FindProgram,
    /// Pin the process to CPUs.
    Affinity(Affinity),
    /// Which memory nodes pages come from.
    MemoryPolicy(MemoryPolicy),
}

impl fmt::Display for ProcessStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::capabilities::capability_names;
        use super::process::limit_text;
        match self {
            ProcessStep::Session => f.write_str("start a new session"),
            ProcessStep::Keyring(name) => write!(f, "join a new session keyring {}", Text(name)),
            ProcessStep::Terminal => f.write_str("make the console the controlling terminal"),
            ProcessStep::TerminalStdio => f.write_str("make the console descriptors 0 to 2"),
            ProcessStep::StdioOwner(uid) => {
                write!(f, "give pipes on descriptors 0 to 2 to user {uid}")
            }
            ProcessStep::LoopbackUp => f.write_str("bring the loopback device up"),
            ProcessStep::Route(rule) => rule.fmt(f),
            ProcessStep::Hostname(name) => write!(f, "set the host name to {}", Text(name)),
            ProcessStep::Domainname(name) => write!(f, "set the domain name to {}", Text(name)),
            ProcessStep::Rlimit {
                name, soft, hard, ..
            } => {
                write!(
                    f,
                    "set {name} to {}:{}",
                    limit_text(*soft),
                    limit_text(*hard)
                )
            }
            ProcessStep::Scheduler(scheduling) => write!(f, "set the scheduler: {scheduling}"),
            ProcessStep::IoPriority(priority) => {
                let (class, level) = (priority >> 13, priority & 7);
                write!(f, "set the I/O priority to class {class}, level {level}")
            }
            ProcessStep::Personality(domain) => write!(f, "set the personality to {domain:#x}"),
            ProcessStep::Umask(mask) => write!(f, "set the umask to {mask:04o}"),
            ProcessStep::Cwd(path) => write!(f, "change to directory {}", Text(path)),
            ProcessStep::CwdAsUser(path) => {
                write!(
                    f,
                    "change to directory {} as the user, if not there yet",
                    Text(path)
                )
            }
            ProcessStep::Bounding(set) => {
                write!(f, "bound capabilities to {}", capability_names(*set))
            }
            ProcessStep::Groups(groups) => write!(f, "set supplementary groups to {groups:?}"),
            ProcessStep::Gid(gid) => write!(f, "become group {gid}"),
            ProcessStep::Uid(uid) => write!(f, "become user {uid}"),
            ProcessStep::Capabilities {
                effective,
                permitted,
                inheritable,
                ambient,
            } => write_sets(f, [*effective, *permitted, *inheritable, *ambient]),
            ProcessStep::NoNewPrivileges => f.write_str("set no_new_privs"),
            ProcessStep::DieWithParent => f.write_str("be killed when the runtime ends"),
            ProcessStep::FindProgram => f.write_str("find the program"),
            ProcessStep::Affinity(affinity) => write!(f, "run on CPUs {}", affinity.list),
            ProcessStep::MemoryPolicy(policy) => policy.fmt(f),
        }
    }
}

fn write_sets(f: &mut fmt::Formatter<'_>, sets: [u64; 4]) -> fmt::Result {
    let [effective, permitted, inheritable, ambient] =
        sets.map(super::capabilities::capability_names);
    write!(
        f,
        "set capabilities: effective {effective}, permitted {permitted}, "
    )?;
    write!(f, "inheritable {inheritable}, ambient {ambient}")
}

/// A C string as a person reads it.
pub(crate) struct Text<'a>(pub(crate) &'a CStr);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_string_lossy().escape_debug())
    }
}
