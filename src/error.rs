//! Every way capsid can fail, and what to do about it.
//!
//! A message names what was attempted, on which object, the error number and,
//! where one is known, the repair. Nothing here matches on text: callers match
//! on variants, people read the `Display` form.

use std::fmt;
use std::path::PathBuf;

use syscalls::Sysno;

mod hints;
mod problem;

pub use problem::{Problem, escape};

/// What fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One failed system call, or one failed check between system calls.
///
/// Small enough to travel from the child to its parent in a fixed-size frame;
/// the child may not allocate, so it cannot send a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was called or checked.
    pub call: Call,
    /// The kernel's error number, positive; 0 where only a check failed.
    pub errno: i32,
}

impl Failure {
    /// A failed check that has no error number.
    pub const fn check(check: Check) -> Self {
        Self {
            call: Call::check(check),
            errno: 0,
        }
    }

    /// A failed system call.
    pub const fn of(sysno: Sysno, errno: i32) -> Self {
        Self {
            call: Call::of(sysno),
            errno,
        }
    }

    /// Whether this is `sysno` failing with `errno`, or any call when `sysno` is `None`.
    pub fn is(&self, errno: i32) -> bool {
        self.errno == errno
    }
}

/// A system call number, or the number of a [`Check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call(u16);

/// Numbers from here on are checks; system call numbers are far below.
const FIRST_CHECK: u16 = 0xf000;

impl Call {
    /// The call of a system call number.
    pub const fn of(sysno: Sysno) -> Self {
        // The tables of all architectures end far below `FIRST_CHECK`.
        Self((sysno as u32 & 0xffff) as u16)
    }

    /// The call that stands for a check.
    pub const fn check(check: Check) -> Self {
        Self(FIRST_CHECK + check as u16)
    }

    /// The number that travels over the wire.
    pub const fn to_wire(self) -> u16 {
        self.0
    }

    /// The call of a number that came over the wire.
    pub const fn from_wire(wire: u16) -> Self {
        Self(wire)
    }

    /// The check this stands for, if it is one.
    pub fn as_check(self) -> Option<Check> {
        let index = self.0.checked_sub(FIRST_CHECK)?;
        Check::ALL.get(usize::from(index)).copied()
    }

    /// The kernel's name of the call, or what was checked.
    pub fn name(self) -> &'static str {
        match self.as_check() {
            Some(check) => check.sentence(),
            None => Sysno::new(usize::from(self.0)).map_or("unknown call", |s| s.name()),
        }
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident => $sentence:literal,)*) => {
        /// What capsid verifies between system calls, and what it says when that fails.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            const ALL: &'static [Check] = &[$(Check::$name,)*];

            /// The sentence a person reads.
            pub fn sentence(self) -> &'static str {
                match self { $(Check::$name => $sentence,)* }
            }
        }
    };
}

checks! {
    /// The mount point of proc or sysfs is not a plain directory (CVE-2019-19921 class).
    NotRealDirectory => "the mount point is not a real directory",
    /// A file and a directory, one to be mounted on the other. Docker looks for the first three words.
    DirectoryAndFile => "not a directory on both sides: a directory is mounted on a directory, a file on a file",
    /// A link leads to a mount point where none may: of a sandbox, or on procfs (CVE-2019-16884 class).
    LinkToMountPoint => "a symbolic link leads to the mount point",
    /// A path has more symbolic links than the kernel itself would follow.
    TooManyLinks => "too many levels of symbolic links",
    /// The path does not fit the kernel's limit.
    PathTooLong => "the path is longer than 4095 bytes",
    /// The device node found is not the device it must be (CVE-2026-88265 class).
    WrongDevice => "the file that exists there is not the expected device",
    /// The working directory is not below the container's root (CVE-2024-21626).
    CwdOutsideRoot => "the working directory is outside the container's root",
    /// `/dev/pts` of the container is not a devpts file system.
    NotDevpts => "/dev/pts in the container is not a devpts file system",
    /// No file of that name in any directory of PATH.
    ProgramNotInPath => "executable file not found in $PATH",
    /// The program named by path does not exist.
    ProgramMissing => "no such file or directory",
    /// The program is a directory.
    ProgramIsDirectory => "is a directory",
    /// The program has no execute permission.
    ProgramNotExecutable => "permission denied",
    /// A script names an interpreter that is not in the container.
    InterpreterMissing => "no such file or directory: the script's interpreter does not exist in the container",
    /// The dynamic loader named by an ELF file is not in the container.
    LoaderMissing => "no such file or directory: the dynamic loader this program names does not exist in the container",
    /// The first line of a script ends with a carriage return.
    CarriageReturn => "no such file or directory: the script's first line ends with a carriage return (CRLF line ends)",
    /// An ELF file of another machine.
    WrongArchitecture => "exec format error: the program is built for another architecture",
    /// Neither ELF nor `#!`.
    NotAProgram => "exec format error: neither an ELF program nor a script with a #! line",
    /// The program is the runtime itself, reached through /proc (CVE-2019-5736).
    ProgramIsRuntime => "permission denied: the program is the container runtime itself",
    /// A hook ended with a non-zero status.
    HookFailed => "the hook failed",
    /// A hook ran longer than its timeout.
    HookTimedOut => "the hook ran longer than its timeout",
    /// The peer of the socket pair is gone.
    PeerGone => "the other process ended",
    /// The peer sent something that is not in the protocol.
    BadMessage => "the other process sent an unexpected message",
    /// A kernel interface accepted a write and then shows another value.
    ReadBackDiffers => "the value read back differs from the value written",
    /// A namespace file is of another type than the configuration says.
    WrongNamespaceType => "the file is a namespace of another type",
    /// A procfs file is not on a procfs (CVE-2019-16884 class).
    NotProcfs => "the file is not on a procfs",
    /// Between measuring the root file system and attaching it, another took its place.
    RootReplaced => "another directory is there now than the one that was measured",
    /// In a chroot, pivot_root(2) leaves the namespace's root where it is, and setns(2) leads there.
    CalledInChroot => "the caller's root is not the root of its mount namespace",
    /// An overlay whose work directory the kernel could not use.
    OverlayReadOnly => "the kernel mounts it read-only, though it has an upper layer",
    /// A file to copy into a fresh tmpfs changed or nests too deeply.
    CopyTooDeep => "the directory tree to copy is nested too deeply",
}

/// Failures that depend on the life of a container. The texts are runc's own:
/// containerd, CRI-O and podman search for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// No state directory of that name.
    DoesNotExist,
    /// A container of that name exists; it was left as it is.
    Exists,
    /// The id has characters or components that are not allowed.
    InvalidId,
    /// The operation needs a live process.
    NotRunning,
    /// `pause` of a paused container, `exec` into one.
    Paused,
    /// `resume` of a container that is not paused.
    NotPaused,
    /// `start` of a stopped container.
    StartStopped,
    /// `start` of a running container.
    StartRunning,
    /// `start` in another state, named.
    StartIn(&'static str),
    /// `delete` without force of a live container: id and status.
    DeleteLive(String, &'static str),
    /// `exec` in a stopped container.
    ExecStopped,
    /// `exec` in a paused container.
    ExecPaused,
    /// Processes did not end after SIGKILL.
    StillRunning,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Life::DoesNotExist => "container does not exist",
            Life::Exists => "container with given ID already exists",
            Life::InvalidId => "invalid container ID format",
            Life::NotRunning => "container not running",
            Life::Paused => "container paused",
            Life::NotPaused => "container not paused",
            Life::StartStopped => "cannot start a container that has stopped",
            Life::StartRunning => "cannot start an already running container",
            Life::StartIn(status) => {
                return write!(f, "cannot start a container in the {status} state");
            }
            Life::DeleteLive(id, status) => {
                return write!(
                    f,
                    "cannot delete container {id} that is not stopped: {status}"
                );
            }
            Life::ExecStopped => "cannot exec in a stopped container",
            Life::ExecPaused => {
                "cannot exec in a paused container (use --ignore-paused to override)"
            }
            Life::StillRunning => "container init still running",
        })
    }
}

/// Every way a command can fail.
#[derive(Debug)]
pub enum Error {
    /// The command line makes no sense.
    Usage(String),
    /// A configuration file is unreadable or contradicts itself.
    Spec {
        /// The file.
        file: PathBuf,
        /// Everything that is wrong with it, not only the first thing.
        problems: Vec<Problem>,
    },
    /// The machine lacks something that was asked for.
    Missing {
        /// What was attempted.
        doing: String,
        /// What is missing.
        missing: String,
        /// The command or setting that repairs it.
        repair: String,
    },
    /// A step of the plan failed in the child.
    Step {
        /// The step in words, as `capsid explain` prints it.
        step: String,
        /// Its number, from 1.
        number: usize,
        /// How many steps the plan has.
        of: usize,
        /// The call and error number.
        failure: Failure,
    },
    /// The program to run cannot be executed.
    Program {
        /// `args[0]` of the process.
        program: String,
        /// Why not.
        failure: Failure,
    },
    /// A call failed in the runtime's own process.
    System {
        /// What was attempted.
        doing: String,
        /// The file, process or device it was attempted on.
        object: String,
        /// The call and error number.
        failure: Failure,
    },
    /// The container is not in the state the command needs.
    Life(Life),
    /// A state file cannot be used.
    State {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An image, or a part of it, is refused.
    Image {
        /// Document, layer and entry, or the directory.
        at: String,
        /// What is wrong there.
        problem: String,
    },
    /// A hook failed.
    Hook {
        /// Which list, and its place there: `createRuntime hook 0`.
        which: String,
        /// The program.
        path: PathBuf,
        /// How it ended, with what it wrote.
        outcome: String,
    },
    /// A rule of capsid's, or of root's policy file, does not allow what was asked for.
    Refused(Box<Error>),
    /// The child ended without a word.
    Died {
        /// The wait status in words.
        how: String,
        /// What it was last known to do.
        during: String,
    },
}

impl Error {
    /// A failed call in the runtime's own process.
    pub fn system(doing: impl Into<String>, object: impl fmt::Display, failure: Failure) -> Self {
        Error::System {
            doing: doing.into(),
            object: object.to_string(),
            failure,
        }
    }

    /// The same from an error of the standard library; `sysno` is the call that made it.
    pub fn io(
        doing: impl Into<String>,
        object: impl fmt::Display,
        sysno: Sysno,
        error: &std::io::Error,
    ) -> Self {
        Self::system(
            doing,
            object,
            Failure::of(sysno, error.raw_os_error().unwrap_or(libc::EIO)),
        )
    }

    /// The same error, of what is not allowed.
    pub fn refused(self) -> Self {
        Error::Refused(Box::new(self))
    }

    /// The same from nix.
    pub fn nix(
        doing: impl Into<String>,
        object: impl fmt::Display,
        sysno: Sysno,
        errno: nix::errno::Errno,
    ) -> Self {
        Self::system(doing, object, Failure::of(sysno, errno as i32))
    }
}

impl From<Life> for Error {
    fn from(life: Life) -> Self {
        Error::Life(life)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.call.as_check().is_some() {
            return f.write_str(self.call.name());
        }
        write!(f, "{}: {}", self.call.name(), errno_text(self.errno))
    }
}

/// The error number in words, with its symbol.
///
/// ENOENT is worded differently from libc on purpose: engines take the usual
/// words, and podman also "not found", for "the program to run does not exist"
/// and exit with 127, whatever was missing.
pub fn errno_text(errno: i32) -> String {
    let known = nix::errno::Errno::from_raw(errno);
    match known {
        nix::errno::Errno::ENOENT => "absent (ENOENT)".into(),
        nix::errno::Errno::UnknownErrno => format!("error {errno}"),
        _ => {
            let mut words = known.desc().to_owned();
            if let Some(first) = words.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            format!("{words} ({known:?})")
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(problem) => f.write_str(problem),
            Error::Spec { file, problems } => {
                write!(f, "{}: ", file.display())?;
                for (index, problem) in problems.iter().enumerate() {
                    if index > 0 {
                        f.write_str("; ")?;
                    }
                    if problem.at.is_empty() {
                        f.write_str(&problem.problem)?;
                    } else {
                        write!(f, "{}: {}", problem.at, problem.problem)?;
                    }
                }
                Ok(())
            }
            Error::Missing {
                doing,
                missing,
                repair,
            } => write!(f, "{doing}: {missing}; {repair}"),
            Error::Step {
                step,
                number,
                of,
                failure,
            } => {
                write!(f, "step {number} of {of}: {step}: {failure}")?;
                hints::write(f, failure, step)
            }
            Error::Program { program, failure } => write_program(f, program, failure),
            Error::System {
                doing,
                object,
                failure,
            } => {
                write!(f, "{doing} {object}: {failure}")?;
                hints::write(f, failure, doing)
            }
            Error::Life(life) => life.fmt(f),
            Error::State { file, problem } => write!(f, "{}: {problem}", file.display()),
            Error::Image { at, problem } => write!(f, "{at}: {problem}"),
            Error::Hook {
                which,
                path,
                outcome,
            } => {
                write!(f, "error running {which} ({}): {outcome}", path.display())
            }
            Error::Refused(why) => why.fmt(f),
            Error::Died { how, during } => {
                write!(
                    f,
                    "the container's first process {how} while the runtime waited for it to {during}"
                )
            }
        }
    }
}

/// Engines read exit codes 126 and 127 out of these words, so they are runc's.
fn write_program(f: &mut fmt::Formatter<'_>, program: &str, failure: &Failure) -> fmt::Result {
    write!(f, "exec: {program:?}: ")?;
    match failure.call.as_check() {
        Some(Check::ProgramMissing) => write!(f, "stat {program}: no such file or directory"),
        Some(check) => f.write_str(check.sentence()),
        None => {
            let words = nix::errno::Errno::from_raw(failure.errno)
                .desc()
                .to_lowercase();
            write!(f, "{}: {words}", failure.call.name())
        }
    }
}
