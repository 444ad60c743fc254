//! Questions to the kernel that change nothing.

use std::ffi::CStr;

use syscalls::Sysno;

use super::{Result, call, call_with_numbers};

/// `SECCOMP_GET_ACTION_AVAIL`: fails with EOPNOTSUPP for a `SECCOMP_RET_*` that the kernel lacks.
pub fn seccomp_action(action: u32) -> Result<()> {
    // SAFETY: the argument is a live 32-bit number that the call reads.
    unsafe {
        call(
            Sysno::seccomp,
            [
                libc::SECCOMP_GET_ACTION_AVAIL as usize,
                0,
                &raw const action as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// Whether seccomp(2) knows all these `SECCOMP_FILTER_FLAG_*`.
///
/// The kernel looks at the flags first (EINVAL) and at the program then: there
/// is none, so nothing is loaded (EFAULT).
pub fn seccomp_flags(flags: u64) -> Result<()> {
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    let flags = usize::try_from(flags).unwrap_or(usize::MAX);
    match call_with_numbers(Sysno::seccomp, [mode, flags, 0, 0, 0, 0]) {
        Err(failure) if failure.is(libc::EFAULT) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// landlock_create_ruleset(2) with `LANDLOCK_CREATE_RULESET_VERSION`: the version of its ABI.
pub fn landlock_version() -> Result<usize> {
    const VERSION: usize = 1;
    call_with_numbers(Sysno::landlock_create_ruleset, [0, 0, VERSION, 0, 0, 0])
}

/// Whether a file has capabilities: getxattr(2) of `security.capability`.
pub fn has_file_capabilities(path: &CStr) -> bool {
    // SAFETY: both strings end with NUL; with size 0 nothing is written.
    let size = unsafe {
        call(
            Sysno::getxattr,
            [
                path.as_ptr() as usize,
                c"security.capability".as_ptr() as usize,
                0,
                0,
                0,
                0,
            ],
        )
    };
    size.is_ok_and(|size| size > 0)
}
