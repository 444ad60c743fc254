//! ptrace(2) as a tracer that was not asked for: by `PTRACE_SEIZE`, which stops
//! nothing by itself and leaves job control as it is.

use std::mem::MaybeUninit;

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, reg};

const PTRACE_CONT: i32 = 7;
const PTRACE_SYSCALL: i32 = 24;
const PTRACE_GETEVENTMSG: i32 = 0x4201;
const PTRACE_SEIZE: i32 = 0x4206;
const PTRACE_LISTEN: i32 = 0x4208;
const PTRACE_GET_SYSCALL_INFO: i32 = 0x420e;

/// Stops of system calls can be told from signals; children, threads and what
/// they execute are traced as well; nobody outlives the tracer, without which a
/// call that the filter gives to it would fail.
const OPTIONS: usize = (libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL)
    .cast_unsigned() as usize;

const WORD: usize = size_of::<u64>();

/// Why a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The filter gives a call to the tracer (`SECCOMP_RET_TRACE`), before it is made.
    Call,
    /// Before or after a call, after [`resume_to_exit`].
    Syscall,
    /// It has executed another program.
    Exec,
    /// It has made a process or thread.
    Clone,
    /// A group stop: it stays as it is until SIGCONT.
    Group,
    /// It has begun to be traced, or a group stop is over.
    Trap,
    /// A signal of this number is about to be delivered.
    Signal(i32),
}

/// What a wait status says of a thread that is traced; `None` if it has ended.
pub fn stop(status: i32) -> Option<Stop> {
    if status & 0xff != 0x7f {
        return None;
    }
    let signal = status >> 8 & 0xff;
    Some(match (status >> 16, signal) {
        (libc::PTRACE_EVENT_SECCOMP, _) => Stop::Call,
        (libc::PTRACE_EVENT_EXEC, _) => Stop::Exec,
        (libc::PTRACE_EVENT_STOP, libc::SIGTRAP) => Stop::Trap,
        (libc::PTRACE_EVENT_STOP, _) => Stop::Group,
        (0, signal) if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
        (0, signal) => Stop::Signal(signal),
        _ => Stop::Clone,
    })
}

/// `struct ptrace_syscall_info` of `linux/ptrace.h`.
#[repr(C)]
struct Information {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    words: [u64; 8],
}

const _: () = assert!(size_of::<Information>() == 88);

/// Where in a call a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Before it: `AUDIT_ARCH_*`, number, arguments.
    Before(u32, u64, [u64; 6]),
    /// After it: what it returned, with errors as negative numbers.
    After(i64),
    /// In none.
    Elsewhere,
}

/// `PTRACE_SEIZE`: from here on the thread and all it makes are traced, and none
/// of them outlives the caller.
pub fn seize(thread: i32) -> Result<()> {
    ask(PTRACE_SEIZE, thread, 0, OPTIONS)
}

/// Lets a thread go on, and delivers a signal to it; 0 is none.
pub fn resume(thread: i32, signal: i32) -> Result<()> {
    ask(PTRACE_CONT, thread, 0, reg(signal))
}

/// Lets a thread go on to the end of its call.
pub fn resume_to_exit(thread: i32) -> Result<()> {
    ask(PTRACE_SYSCALL, thread, 0, 0)
}

/// Leaves a thread in its group stop, until SIGCONT.
pub fn leave_stopped(thread: i32) -> Result<()> {
    ask(PTRACE_LISTEN, thread, 0, 0)
}

/// What came with an event: the thread that was made, or the number that a
/// thread had before it executed another program.
pub fn message(thread: i32) -> Result<i32> {
    let mut value = 0usize;
    // SAFETY: the kernel writes one unsigned long, which lives through the call.
    unsafe {
        call(
            Sysno::ptrace,
            [
                reg(PTRACE_GETEVENTMSG),
                reg(thread),
                0,
                &raw mut value as usize,
                0,
                0,
            ],
        )
    }?;
    Ok(i32::try_from(value).unwrap_or(0))
}

/// Where in a call a stopped thread is.
pub fn progress(thread: i32) -> Result<Progress> {
    const EXIT: u8 = 2;
    const SECCOMP: u8 = 3;
    let mut found = MaybeUninit::<Information>::zeroed();
    // SAFETY: the kernel writes at most as many bytes as it is told there are.
    unsafe {
        call(
            Sysno::ptrace,
            [
                reg(PTRACE_GET_SYSCALL_INFO),
                reg(thread),
                size_of::<Information>(),
                found.as_mut_ptr() as usize,
                0,
                0,
            ],
        )
    }?;
    // SAFETY: it was zeroed, every byte pattern is valid, and the kernel wrote only bytes.
    let found = unsafe { found.assume_init() };
    let [number, a, b, c, d, e, f, _] = found.words;
    Ok(match found.op {
        SECCOMP => Progress::Before(found.arch, number, [a, b, c, d, e, f]),
        EXIT => Progress::After(number.cast_signed()),
        _ => Progress::Elsewhere,
    })
}

fn ask(request: i32, thread: i32, address: usize, data: usize) -> Result<()> {
    // None of these requests takes a pointer.
    call_with_numbers(
        Sysno::ptrace,
        [reg(request), reg(thread), address, data, 0, 0],
    )
    .map(drop)
}

/// process_vm_readv(2): reads memory of another process, as far as it is there;
/// how many bytes.
pub fn read_memory(thread: i32, address: u64, buffer: &mut [u8]) -> Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = [usize::try_from(address).unwrap_or(0), buffer.len()];
    const _: () = assert!(size_of::<libc::iovec>() == 2 * WORD);
    // SAFETY: the kernel writes only into `buffer`, which `local` describes; the other
    // address is of another process, and the kernel checks it.
    unsafe {
        call(
            Sysno::process_vm_readv,
            [
                reg(thread),
                &raw const local as usize,
                1,
                remote.as_ptr() as usize,
                1,
                0,
            ],
        )
    }
}

/// The next thread of the caller's, or traced by it, that has stopped: its number
/// and wait status. Who has ended stays to be waited for.
pub fn next_stop() -> Result<Option<(i32, i32)>> {
    let mut found = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
    // SAFETY: the kernel writes one siginfo_t, which lives through the call; the usage
    // pointer may be null.
    let outcome = unsafe {
        call(
            Sysno::waitid,
            [
                libc::P_ALL as usize,
                0,
                found.as_mut_ptr() as usize,
                reg(options),
                0,
                0,
            ],
        )
    };
    match outcome {
        Err(failure) if failure.is(libc::ECHILD) => return Ok(None),
        other => other?,
    };
    // SAFETY: zeroed, and for waitid the kernel fills the fields of a child.
    let found = unsafe { found.assume_init() };
    // SAFETY: the fields of SIGCHLD are the ones that waitid(2) fills; all zero is none.
    let pid = unsafe { found.si_pid() };
    // SAFETY: as above.
    let status = unsafe { found.si_status() };
    // Put together as wait4(2) has it.
    Ok((pid != 0).then_some((pid, status << 8 | 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let stopped = |event: i32, signal: i32| stop(event << 16 | signal << 8 | 0x7f);
        assert_eq!(stopped(0, 17), Some(Stop::Signal(17)));
        assert_eq!(stopped(0, libc::SIGTRAP), Some(Stop::Signal(libc::SIGTRAP)));
        assert_eq!(stopped(0, libc::SIGTRAP | 0x80), Some(Stop::Syscall));
        assert_eq!(stopped(7, libc::SIGTRAP), Some(Stop::Call));
        assert_eq!(stopped(4, libc::SIGTRAP), Some(Stop::Exec));
        assert_eq!(stopped(128, libc::SIGTRAP), Some(Stop::Trap));
        assert_eq!(stopped(128, libc::SIGTSTP), Some(Stop::Group));
        for made in [1, 2, 3] {
            assert_eq!(stopped(made, libc::SIGTRAP), Some(Stop::Clone));
        }
        // Ended by itself, by a signal, with a core file.
        for ended in [0, 7 << 8, 9, 0x8b] {
            assert_eq!(stop(ended), None);
        }
    }

    #[test]
    fn memory_is_read_as_far_as_it_is_there() {
        let own = std::process::id().cast_signed();
        let text = *b"a path\0";
        let mut buffer = [0; 7];
        let read = read_memory(own, text.as_ptr() as u64, &mut buffer).unwrap();
        assert_eq!((read, buffer), (7, text));
        assert!(read_memory(own, 8, &mut buffer).is_err());
    }
}
