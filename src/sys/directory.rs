//! Names in a directory: made, removed, listed, given away.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use syscalls::Sysno;

use super::{Result, call, reg};

/// getdents64(2): raw directory entries.
pub fn read_directory(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and length are of one live, writable buffer.
    unsafe {
        call(
            Sysno::getdents64,
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

/// mkdirat(2) of one name in a directory.
pub fn mkdir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the name ends with NUL.
    unsafe {
        call(
            Sysno::mkdirat,
            [
                reg(dir.as_raw_fd()),
                name.as_ptr() as usize,
                mode as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// mknodat(2) of one name in a directory; never follows a link, never truncates.
pub fn mknod(dir: BorrowedFd<'_>, name: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: the name ends with NUL.
    unsafe {
        call(
            Sysno::mknodat,
            [
                reg(dir.as_raw_fd()),
                name.as_ptr() as usize,
                mode as usize,
                // The kernel takes 32 bits: 12 of major and 20 of minor number.
                usize::try_from(device & 0xffff_ffff).unwrap_or(0),
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// symlinkat(2).
pub fn symlink(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both strings end with NUL.
    unsafe {
        call(
            Sysno::symlinkat,
            [
                target.as_ptr() as usize,
                reg(dir.as_raw_fd()),
                name.as_ptr() as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// unlinkat(2) of a file.
pub fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: the name ends with NUL.
    unsafe {
        call(
            Sysno::unlinkat,
            [reg(dir.as_raw_fd()), name.as_ptr() as usize, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// fchownat(2) of one name, not following a link.
pub fn chown_at(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the name ends with NUL.
    unsafe {
        call(
            Sysno::fchownat,
            [
                reg(dir.as_raw_fd()),
                name.as_ptr() as usize,
                uid as usize,
                gid as usize,
                reg(libc::AT_SYMLINK_NOFOLLOW),
                0,
            ],
        )
    }
    .map(drop)
}
