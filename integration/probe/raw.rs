//! The probe's system calls. A probe must try what no safe interface offers,
//! so this is the one place outside `src/sys` with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use syscalls::{Errno, Sysno, syscall};

/// A call whose arguments are numbers, or whatever a test wrote on the command line.
pub(crate) fn call(nr: Sysno, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: no argument is derived from memory this program owns; a test
    // that names a wild pointer gets EFAULT, or ends this process and no other.
    unsafe { syscall!(nr, args[0], args[1], args[2], args[3], args[4], args[5]) }
}

/// A call with one buffer: the argument at `place` becomes its address.
pub(crate) fn call_with(
    nr: Sysno,
    mut args: [usize; 6],
    place: usize,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    args[place] = buffer.as_mut_ptr() as usize;
    // SAFETY: the address is that of a live, exclusively borrowed buffer;
    // every caller in this program gives one at least as long as the size the
    // call knows or is told.
    unsafe { syscall!(nr, args[0], args[1], args[2], args[3], args[4], args[5]) }
}

/// A call by a number that need not be one of this machine's: x32, not yet invented.
pub(crate) fn call_number(nr: i64, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: as for `call`; buffers that the caller made live until it returns.
    let result = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    usize::try_from(result).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::new(error.raw_os_error().unwrap_or(0))
    })
}

/// A call without arguments by the entry of 32-bit programs, and with their numbers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_32(nr: u32) -> u32 {
    let result;
    // SAFETY: the entry changes the result and at most the registers named
    // here; the arguments are whatever the registers hold, so callers only
    // give calls that have none.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") nr => result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result
}

/// The kernel's view of a descriptor number as an argument.
pub(crate) fn fd_arg(fd: RawFd) -> usize {
    usize::try_from(fd).unwrap_or(usize::MAX)
}

/// `ioctl` with a buffer.
pub(crate) fn ioctl(fd: RawFd, request: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let request = usize::try_from(request).unwrap_or(usize::MAX);
    call_with(Sysno::ioctl, [fd_arg(fd), request, 0, 0, 0, 0], 2, buffer)
}

/// Rows and columns of a terminal.
pub(crate) fn window_size(fd: RawFd) -> Result<(u16, u16), Errno> {
    let mut size = [0u8; 8];
    ioctl(fd, libc::TIOCGWINSZ, &mut size)?;
    let word = |at: usize| u16::from_ne_bytes([size[at], size[at + 1]]);
    Ok((word(0), word(2)))
}

/// Sets rows and columns of a terminal.
pub(crate) fn set_window_size(fd: RawFd, rows: u16, columns: u16) -> Result<(), Errno> {
    let mut size = [0u8; 8];
    size[0..2].copy_from_slice(&rows.to_ne_bytes());
    size[2..4].copy_from_slice(&columns.to_ne_bytes());
    ioctl(fd, libc::TIOCSWINSZ, &mut size).map(drop)
}

/// Ends this process with a real SIGSEGV: the first process of a pid namespace
/// cannot send itself a deadly signal, but a fault it raises is deadly.
pub(crate) fn fault() -> Result<ExitCode, String> {
    let anonymous = usize::try_from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).unwrap_or(0);
    // PROT_NONE is 0; no descriptor is -1.
    let page = call(Sysno::mmap, [0, 4096, 0, anonymous, usize::MAX, 0])
        .map_err(|errno| format!("mmap: {errno}"))?;
    // SAFETY: the page is mapped without access, so the read cannot touch any
    // object; it raises SIGSEGV, which is what this function is for.
    let _ = unsafe { std::ptr::read_volatile(page as *const u8) };
    Err("a read of an inaccessible page succeeded".to_owned())
}

/// A new process: `true` in the child. Only for a program with one thread.
pub(crate) fn fork() -> Result<Option<usize>, Errno> {
    let signal = usize::try_from(libc::SIGCHLD).unwrap_or(0);
    let pid = call(Sysno::clone, [signal, 0, 0, 0, 0, 0])?;
    Ok((pid != 0).then_some(pid))
}

/// One message with at most one descriptor.
pub(crate) fn receive_fd(stream: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>), String> {
    let mut payload = vec![0u8; 4096];
    // Aligned as a control message header must be; room for 16 descriptors.
    let mut control = [0u64; 16];
    let mut vector = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: a message header of zeroes is valid: no name, no buffers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header names two live buffers with their true lengths.
    let length =
        unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length)
        .map_err(|_| format!("recvmsg: {}", std::io::Error::last_os_error()))?;
    payload.truncate(length);
    Ok((
        payload,
        descriptors(&control, message.msg_controllen as usize),
    ))
}

/// The descriptors of the first control message, when it is SCM_RIGHTS.
fn descriptors(control: &[u64], length: usize) -> Vec<OwnedFd> {
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let number =
        |at: usize| c_int::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    // struct cmsghdr: length (a word), level, type, then the data.
    if length < 16 || number(8) != libc::SOL_SOCKET || number(12) != libc::SCM_RIGHTS {
        return Vec::new();
    }
    let end = usize::try_from(number(0)).unwrap_or(0).min(length);
    (16..end.saturating_sub(3))
        .step_by(4)
        // SAFETY: the kernel has just installed this descriptor for us; nothing else owns it.
        .map(|at| unsafe { OwnedFd::from_raw_fd(number(at)) })
        .collect()
}

/// A descriptor that the program was started with.
pub(crate) fn inherited(fd: RawFd) -> File {
    // SAFETY: inherited descriptors above 2 have no other owner in this
    // program; a number that is not open gives EBADF on use.
    unsafe { File::from_raw_fd(fd) }
}

/// A number of seconds and nanoseconds of a clock.
pub(crate) fn clock(id: c_int) -> Option<f64> {
    let mut time = [0u8; 16];
    let id = usize::try_from(id).ok()?;
    call_with(Sysno::clock_gettime, [id, 0, 0, 0, 0, 0], 1, &mut time).ok()?;
    let seconds = u64::from_ne_bytes(time[0..8].try_into().ok()?);
    let nanoseconds = u64::from_ne_bytes(time[8..16].try_into().ok()?);
    Some(std::time::Duration::new(seconds, u32::try_from(nanoseconds).ok()?).as_secs_f64())
}
