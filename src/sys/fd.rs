//! Descriptors: opening below a root, reading, writing, closing.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, owned, reg};

/// Where a path starts.
#[derive(Clone, Copy, Debug)]
pub enum At<'fd> {
    /// The working directory (which absolute paths ignore).
    Cwd,
    /// A directory.
    Dir(BorrowedFd<'fd>),
}

impl At<'_> {
    pub(super) fn reg(self) -> usize {
        match self {
            At::Cwd => reg(libc::AT_FDCWD),
            At::Dir(fd) => reg(fd.as_raw_fd()),
        }
    }
}

/// How openat2(2) may resolve a path: `RESOLVE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolve(u64);

impl Resolve {
    /// The directory is the root of everything: `..`, absolute links and all.
    pub const IN_ROOT: Self = Self(libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS);
    /// The same, and a symbolic link anywhere is an error (ELOOP).
    pub const IN_ROOT_NO_LINKS: Self =
        Self(libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS);
    /// Below the directory and on its file system: for procfs, where anything
    /// mounted over a file is an attack (CVE-2025-52881).
    pub const BENEATH_SAME_MOUNT: Self =
        Self(libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS);
    /// Anywhere, as the host's own paths are.
    pub const ANY: Self = Self(0);
    /// Anywhere, but through no symbolic link (ELOOP).
    pub const NO_LINKS: Self = Self(libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS);
    /// Anywhere, but not through `/proc/PID/fd` and the like (CVE-2024-21626).
    pub const NO_MAGICLINKS: Self = Self(libc::RESOLVE_NO_MAGICLINKS);
}

/// Opens a path; close-on-exec and not a controlling terminal in any case.
pub fn open(at: At<'_>, path: &CStr, flags: i32, resolve: Resolve) -> Result<OwnedFd> {
    open_mode(at, path, flags, 0, resolve)
}

/// Opens or creates a file with permission bits `mode`.
pub fn open_mode(
    at: At<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: Resolve,
) -> Result<OwnedFd> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let noctty = if flags & libc::O_PATH == 0 {
        libc::O_NOCTTY
    } else {
        0
    };
    let how = OpenHow {
        flags: u64::from((flags | libc::O_CLOEXEC | noctty).cast_unsigned()),
        mode: u64::from(mode),
        resolve: resolve.0,
    };
    // SAFETY: the path ends with NUL; `how` is laid out as open_how and its size is passed.
    let fd = unsafe {
        call(
            Sysno::openat2,
            [
                at.reg(),
                path.as_ptr() as usize,
                &raw const how as usize,
                size_of::<OpenHow>(),
                0,
                0,
            ],
        )
    }?;
    Ok(owned(fd))
}

/// What fstat(2) tells of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: u32,
    /// The device the file stands for, if it is a device node.
    pub rdev: u64,
    /// The file system it is on.
    pub dev: u64,
    /// Its inode number.
    pub ino: u64,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Stat {
    /// Whether the type bits are `S_IFDIR`, `S_IFCHR` and so on.
    pub fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }
}

/// fstat(2); works on `O_PATH` descriptors.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat> {
    let mut raw = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the buffer is a struct stat, which on 64-bit Linux is the kernel's own.
    unsafe {
        call(
            Sysno::fstat,
            [reg(fd.as_raw_fd()), raw.as_mut_ptr() as usize, 0, 0, 0, 0],
        )
    }?;
    // SAFETY: all zero bytes are a valid struct stat, and the call filled it.
    let raw = unsafe { raw.assume_init() };
    Ok(Stat {
        mode: raw.st_mode,
        rdev: raw.st_rdev,
        dev: raw.st_dev,
        ino: raw.st_ino,
        uid: raw.st_uid,
        gid: raw.st_gid,
    })
}

/// The number of the mount that a file is on, by statx(2).
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the empty path ends with NUL, and the buffer is a struct statx.
    unsafe {
        call(
            Sysno::statx,
            [
                reg(fd.as_raw_fd()),
                c"".as_ptr() as usize,
                reg(libc::AT_EMPTY_PATH),
                libc::STATX_MNT_ID as usize,
                raw.as_mut_ptr() as usize,
                0,
            ],
        )
    }?;
    // SAFETY: all zero bytes are a valid struct statx, and the call filled it.
    Ok(unsafe { raw.assume_init() }.stx_mnt_id)
}

/// The magic number of the file system a file is on, and its mount flags (`ST_*`).
pub fn file_system(fd: BorrowedFd<'_>) -> Result<(i64, i64)> {
    /// `struct statfs` of 64-bit Linux; the C libraries hide `flags`.
    #[repr(C)]
    #[derive(Default)]
    struct Statfs {
        magic: i64,
        block_size: i64,
        counts: [u64; 5],
        id: [i32; 2],
        name_length: i64,
        fragment_size: i64,
        flags: i64,
        spare: [i64; 4],
    }
    let mut raw = Statfs::default();
    // SAFETY: the buffer is laid out as the kernel's struct statfs.
    unsafe {
        call(
            Sysno::fstatfs,
            [reg(fd.as_raw_fd()), &raw mut raw as usize, 0, 0, 0, 0],
        )
    }?;
    Ok((raw.magic, raw.flags))
}

/// Reads once into the buffer; the number of bytes read.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and length are of one live, writable buffer.
    unsafe {
        call(
            Sysno::read,
            [
                reg(fd.as_raw_fd()),
                buffer.as_mut_ptr() as usize,
                buffer.len(),
                0,
                0,
                0,
            ],
        )
    }
}

/// Writes once; the number of bytes written.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the pointer and length are of one live buffer.
    unsafe {
        call(
            Sysno::write,
            [
                reg(fd.as_raw_fd()),
                bytes.as_ptr() as usize,
                bytes.len(),
                0,
                0,
                0,
            ],
        )
    }
}

/// readlinkat(2) of an `O_PATH` descriptor of a symbolic link.
pub fn read_link(link: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the empty path ends with NUL; pointer and length are of one live buffer.
    unsafe {
        call(
            Sysno::readlinkat,
            [
                reg(link.as_raw_fd()),
                c"".as_ptr() as usize,
                buffer.as_mut_ptr() as usize,
                buffer.len(),
                0,
                0,
            ],
        )
    }
}

/// fchmod(2).
pub fn chmod(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    call_with_numbers(
        Sysno::fchmod,
        [reg(fd.as_raw_fd()), mode as usize, 0, 0, 0, 0],
    )
    .map(drop)
}

/// fchownat(2) of what the descriptor stands for; works on `O_PATH` descriptors.
pub fn chown(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the empty path ends with NUL.
    unsafe {
        call(
            Sysno::fchownat,
            [
                reg(fd.as_raw_fd()),
                c"".as_ptr() as usize,
                uid as usize,
                gid as usize,
                reg(libc::AT_EMPTY_PATH),
                0,
            ],
        )
    }
    .map(drop)
}

/// Makes `target` a copy of `fd`, without close-on-exec: for descriptors 0, 1 and 2.
pub fn duplicate_to(fd: BorrowedFd<'_>, target: RawFd) -> Result<()> {
    if fd.as_raw_fd() == target {
        return Ok(());
    }
    call_with_numbers(Sysno::dup3, [reg(fd.as_raw_fd()), reg(target), 0, 0, 0, 0]).map(drop)
}

/// A copy of a descriptor with a number of at least `least`, close-on-exec.
pub fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> Result<OwnedFd> {
    let new = call_with_numbers(
        Sysno::fcntl,
        [
            reg(fd.as_raw_fd()),
            reg(libc::F_DUPFD_CLOEXEC),
            reg(least),
            0,
            0,
            0,
        ],
    )?;
    Ok(owned(new))
}

/// Whether a descriptor of this number is open.
pub fn is_open(fd: RawFd) -> bool {
    call_with_numbers(Sysno::fcntl, [reg(fd), reg(libc::F_GETFD), 0, 0, 0, 0]).is_ok()
}

/// Takes over a descriptor that somebody else opened in a table shared with
/// this process; `None` when there is none of this number.
pub fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the descriptor is open, and whoever opened it leaves it to this process.
    is_open(number).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// close(2) of a descriptor by its number, for a process whose `OwnedFd` of it is
/// forgotten.
pub fn close(number: RawFd) -> Result<()> {
    call_with_numbers(Sysno::close, [reg(number), 0, 0, 0, 0, 0]).map(drop)
}

/// Closes every descriptor from `first` to `last`, both included.
///
/// For the child on its way to exec, where every `OwnedFd` in that range is
/// forgotten with the process image.
pub fn close_range(first: RawFd, last: u32) -> Result<()> {
    call_with_numbers(Sysno::close_range, [reg(first), last as usize, 0, 0, 0, 0]).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_range_on_exec(first: RawFd) -> Result<()> {
    call_with_numbers(
        Sysno::close_range,
        [
            reg(first),
            u32::MAX as usize,
            libc::CLOSE_RANGE_CLOEXEC as usize,
            0,
            0,
            0,
        ],
    )
    .map(drop)
}

/// Takes the close-on-exec mark off a descriptor.
pub fn keep_on_exec(fd: RawFd) -> Result<()> {
    call_with_numbers(Sysno::fcntl, [reg(fd), reg(libc::F_SETFD), 0, 0, 0, 0]).map(drop)
}

/// fchdir(2).
pub fn change_directory(fd: BorrowedFd<'_>) -> Result<()> {
    call_with_numbers(Sysno::fchdir, [reg(fd.as_raw_fd()), 0, 0, 0, 0, 0]).map(drop)
}

/// getcwd(2) into the buffer; the length with its NUL.
pub fn working_directory(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and length are of one live, writable buffer.
    unsafe {
        call(
            Sysno::getcwd,
            [buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0, 0],
        )
    }
}

/// A pipe: reading end, writing end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0i32; 2];
    // SAFETY: the buffer holds the two ints the call writes.
    unsafe {
        call(
            Sysno::pipe2,
            [ends.as_mut_ptr() as usize, reg(libc::O_CLOEXEC), 0, 0, 0, 0],
        )
    }?;
    Ok((owned(reg(ends[0])), owned(reg(ends[1]))))
}

/// An anonymous file in memory that can be sealed; `name` shows up in /proc only.
pub fn memory_file(name: &CStr, flags: u32) -> Result<OwnedFd> {
    // SAFETY: the name ends with NUL.
    let fd = unsafe {
        call(
            Sysno::memfd_create,
            [
                name.as_ptr() as usize,
                (flags | libc::MFD_CLOEXEC) as usize,
                0,
                0,
                0,
                0,
            ],
        )
    }?;
    Ok(owned(fd))
}

/// How often a seal is tried. Each time the kernel itself waits for about 0.1 s.
const SEAL_ATTEMPTS: u32 = 20;

/// Adds `F_SEAL_*` to a memory file. The kernel refuses `F_SEAL_WRITE` with EBUSY while
/// anything holds one of its pages: a pipe, or the kernel itself when memory is short.
pub fn seal(fd: BorrowedFd<'_>, seals: i32) -> Result<()> {
    let arguments = [
        reg(fd.as_raw_fd()),
        reg(libc::F_ADD_SEALS),
        reg(seals),
        0,
        0,
        0,
    ];
    let mut attempts = 1..SEAL_ATTEMPTS;
    loop {
        match call_with_numbers(Sysno::fcntl, arguments) {
            Err(failure) if failure.is(libc::EBUSY) && attempts.next().is_some() => {}
            other => return other.map(drop),
        }
    }
}

/// The `F_SEAL_*` of a memory file; an error for any other file.
pub fn seals(fd: BorrowedFd<'_>) -> Result<i32> {
    call_with_numbers(
        Sysno::fcntl,
        [reg(fd.as_raw_fd()), reg(libc::F_GET_SEALS), 0, 0, 0, 0],
    )
    .map(|seals| i32::try_from(seals).unwrap_or(0))
}

/// sendfile(2) from the file's own offset; the number of bytes copied.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, count: usize) -> Result<usize> {
    call_with_numbers(
        Sysno::sendfile,
        [reg(to.as_raw_fd()), reg(from.as_raw_fd()), 0, count, 0, 0],
    )
}

/// faccessat(2) with `X_OK`, by the effective ids.
pub fn is_executable(at: At<'_>, path: &CStr) -> Result<()> {
    // SAFETY: the path ends with NUL.
    unsafe {
        call(
            Sysno::faccessat2,
            [
                at.reg(),
                path.as_ptr() as usize,
                reg(libc::X_OK),
                reg(libc::AT_EACCESS),
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// fcntl(2) `F_GETFL`: how a descriptor was opened.
pub fn status_flags(fd: BorrowedFd<'_>) -> Result<i32> {
    call_with_numbers(
        Sysno::fcntl,
        [reg(fd.as_raw_fd()), reg(libc::F_GETFL), 0, 0, 0, 0],
    )
    .map(|flags| i32::try_from(flags).unwrap_or(0))
}

/// One of the descriptors that the program gets, if it is open.
pub fn of_program(number: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: the descriptor is open, and nothing closes what the program gets before the
    // program image is replaced.
    is_open(number).then(|| unsafe { BorrowedFd::borrow_raw(number) })
}

/// Descriptor 0, 1 or 2, if it is open.
pub fn standard(number: RawFd) -> Option<BorrowedFd<'static>> {
    if !(0..=2).contains(&number) || !is_open(number) {
        return None;
    }
    // SAFETY: the descriptor is open, and nothing in the runtime closes descriptors 0 to 2
    // before the program image is replaced.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}
