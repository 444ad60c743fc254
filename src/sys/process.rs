//! Processes: clone3, namespaces, exec, waiting, signals.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, owned, reg, request};

/// `CLONE_NEWTIME`; shares its bit with the exit signal of the old clone(2).
pub const CLONE_NEWTIME: u64 = 0x80;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone()`] made of the caller.
#[derive(Debug)]
pub enum Cloned {
    /// This is the new process.
    Child,
    /// This is the caller; the new process has this pid and pidfd.
    Parent {
        /// The new process, in the caller's pid namespace.
        pid: i32,
        /// The new process, beyond reuse of its number.
        pidfd: OwnedFd,
    },
}

/// clone3(2) in the manner of fork: the child has its own copy of the memory.
///
/// `flags` may be any `CLONE_NEW*` and `CLONE_PARENT`. With a cgroup the child
/// starts in it and never runs outside its limits.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    clone_process(flags, cgroup, None)
}

/// The same without flags, with this pid in the namespace that children get. Which pid
/// is given next does not depend on it.
pub fn clone_numbered(cgroup: Option<BorrowedFd<'_>>, pid: i32) -> Result<Cloned> {
    clone_process(0, cgroup, Some(pid))
}

fn clone_process(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    number: Option<i32>,
) -> Result<Cloned> {
    let mut pidfd = -1i32;
    // SAFETY: all zero bytes are a valid clone_args: no flags and no pointers.
    let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    let pidfd_flag = libc::CLONE_PIDFD.cast_unsigned();
    arguments.flags = flags | u64::from(pidfd_flag);
    arguments.pidfd = &raw mut pidfd as u64;
    let parent = u64::from(libc::CLONE_PARENT.cast_unsigned());
    if flags & parent == 0 {
        // With CLONE_PARENT the child takes over the caller's own exit signal.
        arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    if let Some(number) = &number {
        arguments.set_tid = std::ptr::from_ref(number) as u64;
        arguments.set_tid_size = 1;
    }
    // SAFETY: without CLONE_VM the child gets a copy of the memory and of this stack, so it
    // returns from here as fork's child does; the runtime has one thread, so no lock
    // is held; `arguments`, `pidfd` and `number` live through the call.
    let pid = unsafe {
        call(
            Sysno::clone3,
            [
                &raw const arguments as usize,
                size_of::<libc::clone_args>(),
                0,
                0,
                0,
                0,
            ],
        )
    }?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    Ok(Cloned::Parent {
        pid: i32::try_from(pid).unwrap_or(-1),
        pidfd: owned(reg(pidfd)),
    })
}

/// setns(2): joins a namespace by its file, or several of a process by its pidfd.
pub fn join_namespace(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    call_with_numbers(
        Sysno::setns,
        [
            reg(fd.as_raw_fd()),
            usize::try_from(flags).unwrap_or(0),
            0,
            0,
            0,
            0,
        ],
    )
    .map(drop)
}

/// unshare(2).
pub fn unshare(flags: u64) -> Result<()> {
    call_with_numbers(
        Sysno::unshare,
        [usize::try_from(flags).unwrap_or(0), 0, 0, 0, 0, 0],
    )
    .map(drop)
}

/// `NS_GET_NSTYPE`: the `CLONE_NEW*` flag of a namespace file.
pub fn namespace_type(fd: BorrowedFd<'_>) -> Result<u64> {
    const NS_GET_NSTYPE: usize = 0xb703;
    call_with_numbers(
        Sysno::ioctl,
        [reg(fd.as_raw_fd()), NS_GET_NSTYPE, 0, 0, 0, 0],
    )
    .map(|flag| flag as u64)
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    call_with_numbers(Sysno::pidfd_open, [reg(pid), 0, 0, 0, 0, 0]).map(owned)
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    call_with_numbers(
        Sysno::pidfd_send_signal,
        [reg(pidfd.as_raw_fd()), reg(signal), 0, 0, 0, 0],
    )
    .map(drop)
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    call_with_numbers(Sysno::kill, [reg(pid), reg(signal), 0, 0, 0, 0]).map(drop)
}

/// wait4(2) for one child; its wait status. `WNOHANG` and no status yet give `None`.
pub fn wait(pid: i32, options: i32) -> Result<Option<i32>> {
    let mut status = 0i32;
    loop {
        // SAFETY: the status is a live int; the usage pointer may be null.
        let outcome = unsafe {
            call(
                Sysno::wait4,
                [reg(pid), &raw mut status as usize, reg(options), 0, 0, 0],
            )
        };
        match outcome {
            Err(failure) if failure.is(libc::EINTR) => {}
            Err(failure) => return Err(failure),
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(status)),
        }
    }
}

/// Waits until the descriptor is readable; false after `milliseconds` (`None`: no limit).
pub fn wait_readable(fd: BorrowedFd<'_>, milliseconds: Option<i64>) -> Result<bool> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let time = milliseconds.map(|m| libc::timespec {
        tv_sec: m / 1000,
        tv_nsec: (m % 1000) * 1_000_000,
    });
    let time = time.as_ref().map_or(0, |t| std::ptr::from_ref(t) as usize);
    // SAFETY: one live pollfd and its count; the timeout is live or null; no signal mask.
    let ready = unsafe { call(Sysno::ppoll, [&raw mut poll as usize, 1, time, 0, 0, 0]) }?;
    Ok(ready > 0)
}

/// execve(2): comes back only when it failed.
pub fn execute(
    program: &CStr,
    arguments: &Pointers,
    environment: &Pointers,
) -> crate::error::Failure {
    // SAFETY: the path ends with NUL; both arrays end with null and their strings with
    // NUL, kept alive by `Pointers`.
    let outcome = unsafe {
        call(
            Sysno::execve,
            [
                program.as_ptr() as usize,
                arguments.address(),
                environment.address(),
                0,
                0,
                0,
            ],
        )
    };
    match outcome {
        Err(failure) => failure,
        // The kernel does not return from a successful execve.
        Ok(_) => crate::error::Failure::of(Sysno::execve, libc::EINVAL),
    }
}

/// execveat(2) of an open file: comes back only when it failed.
pub fn execute_file(
    file: BorrowedFd<'_>,
    arguments: &Pointers,
    environment: &Pointers,
) -> crate::error::Failure {
    // SAFETY: the empty path ends with NUL; both arrays end with null and their strings
    // with NUL, kept alive by `Pointers`.
    let outcome = unsafe {
        call(
            Sysno::execveat,
            [
                reg(file.as_raw_fd()),
                c"".as_ptr() as usize,
                arguments.address(),
                environment.address(),
                reg(libc::AT_EMPTY_PATH),
                0,
            ],
        )
    };
    match outcome {
        Err(failure) => failure,
        // The kernel does not return from a successful execveat.
        Ok(_) => crate::error::Failure::of(Sysno::execveat, libc::EINVAL),
    }
}

/// A null-terminated array of C strings, as execve(2) takes it; made before clone.
#[derive(Debug)]
pub struct Pointers {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<std::ffi::CString>,
}

impl Pointers {
    /// Keeps the strings and points to them.
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }

    fn address(&self) -> usize {
        self.pointers.as_ptr() as usize
    }
}

/// exit_group(2): ends the process without running any destructor or handler.
pub fn exit(status: i32) -> ! {
    loop {
        // The call does not return; the loop is for the type.
        let _ = call_with_numbers(Sysno::exit_group, [reg(status), 0, 0, 0, 0, 0]);
    }
}

/// getpid(2).
pub fn id() -> i32 {
    call_with_numbers(Sysno::getpid, [0; 6]).map_or(0, |pid| i32::try_from(pid).unwrap_or(0))
}

/// setsid(2): a new session, so that no controlling terminal is shared (TIOCSTI).
pub fn new_session() -> Result<()> {
    call_with_numbers(Sysno::setsid, [0; 6]).map(drop)
}

/// `TIOCSCTTY`: makes a terminal the session's own.
pub fn take_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    call_with_numbers(
        Sysno::ioctl,
        [
            reg(terminal.as_raw_fd()),
            request(libc::TIOCSCTTY),
            0,
            0,
            0,
            0,
        ],
    )
    .map(drop)
}

/// `TIOCSPTLCK` with 0: lets the peer of a pseudoterminal be opened.
pub fn unlock_terminal(master: BorrowedFd<'_>) -> Result<()> {
    let unlocked = 0i32;
    // SAFETY: the argument is a live int that the call reads.
    unsafe {
        call(
            Sysno::ioctl,
            [
                reg(master.as_raw_fd()),
                request(libc::TIOCSPTLCK),
                &raw const unlocked as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// `TIOCGPTPEER`: the other end, opened without any path (CVE-2025-52565).
pub fn terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    call_with_numbers(
        Sysno::ioctl,
        [
            reg(master.as_raw_fd()),
            request(libc::TIOCGPTPEER),
            reg(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC),
            0,
            0,
            0,
        ],
    )
    .map(owned)
}

/// `TIOCSWINSZ`: sets a terminal's size in characters.
pub fn set_terminal_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the argument is a live winsize that the call reads.
    unsafe {
        call(
            Sysno::ioctl,
            [
                reg(terminal.as_raw_fd()),
                request(libc::TIOCSWINSZ),
                &raw const size as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// `TIOCGWINSZ`: a terminal's rows and columns.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the argument is a live winsize that the call fills.
    unsafe {
        call(
            Sysno::ioctl,
            [
                reg(terminal.as_raw_fd()),
                request(libc::TIOCGWINSZ),
                &raw mut size as usize,
                0,
                0,
                0,
            ],
        )
    }?;
    Ok((size.ws_row, size.ws_col))
}

/// `PR_SET_CHILD_SUBREAPER`: orphans of the container come to this process.
pub fn become_subreaper() -> Result<()> {
    call_with_numbers(
        Sysno::prctl,
        [reg(libc::PR_SET_CHILD_SUBREAPER), 1, 0, 0, 0, 0],
    )
    .map(drop)
}

/// `PR_SET_DUMPABLE` with 0: no ptrace, and /proc/PID belongs to real root (CVE-2016-9962).
pub fn hide() -> Result<()> {
    call_with_numbers(Sysno::prctl, [reg(libc::PR_SET_DUMPABLE), 0, 0, 0, 0, 0]).map(drop)
}

/// `PR_SET_NAME`: the name in /proc/PID/comm.
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the name ends with NUL; the kernel reads at most 16 bytes and stops there.
    unsafe {
        call(
            Sysno::prctl,
            [reg(libc::PR_SET_NAME), name.as_ptr() as usize, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// Resets SIGPIPE, which Rust's start-up ignores and exec would hand on, and
/// unblocks every signal.
pub fn default_signals() -> Result<()> {
    default_action(libc::SIGPIPE, 0)?;
    let none = 0u64;
    // SAFETY: the mask is a live 64-bit set of the size passed.
    unsafe {
        call(
            Sysno::rt_sigprocmask,
            [
                reg(libc::SIG_SETMASK),
                &raw const none as usize,
                0,
                size_of::<u64>(),
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// Children that end are forgotten at once instead of waiting for wait(2). Does
/// not survive exec.
pub fn forget_children() -> Result<()> {
    default_action(libc::SIGCHLD, libc::SA_NOCLDWAIT)
}

/// rt_sigaction(2) with the default handler.
fn default_action(signal: i32, flags: i32) -> Result<()> {
    /// `struct kernel_sigaction`: handler, flags, restorer, mask.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: usize,
        restorer: usize,
        mask: u64,
    }
    let action = Action {
        handler: libc::SIG_DFL,
        flags: reg(flags),
        restorer: 0,
        mask: 0,
    };
    // SAFETY: the action is laid out as the kernel's own and lives through the call.
    unsafe {
        call(
            Sysno::rt_sigaction,
            [
                reg(signal),
                &raw const action as usize,
                0,
                size_of::<u64>(),
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// sched_yield(2): lets others run first.
pub fn yield_now() {
    // It cannot fail on Linux.
    let _ = call_with_numbers(Sysno::sched_yield, [0; 6]);
}

/// The calling process's own effective, permitted and inheritable capabilities.
pub fn capabilities() -> Result<super::restrict::CapabilitySets> {
    let header = super::restrict::CapabilityHeader::own();
    let mut data = [[0u32; 3]; 2];
    // SAFETY: the header says version 3, for which the data are two blocks of three 32-bit words.
    unsafe {
        call(
            Sysno::capget,
            [
                &raw const header as usize,
                data.as_mut_ptr() as usize,
                0,
                0,
                0,
                0,
            ],
        )
    }?;
    let join = |index: usize| u64::from(data[0][index]) | u64::from(data[1][index]) << 32;
    Ok(super::restrict::CapabilitySets {
        effective: join(0),
        permitted: join(1),
        inheritable: join(2),
    })
}
