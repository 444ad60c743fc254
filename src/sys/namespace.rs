//! Whose a user namespace is.

use std::os::fd::{AsRawFd, BorrowedFd};

use syscalls::Sysno;

use super::{Result, call, reg};

/// `NS_GET_OWNER_UID`: the user who made a user namespace, given its file in /proc.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<u32> {
    const NS_GET_OWNER_UID: usize = 0xb704;
    let mut uid = u32::MAX;
    // SAFETY: the call writes one uid_t, which is what the pointer leads to.
    unsafe {
        call(
            Sysno::ioctl,
            [
                reg(namespace.as_raw_fd()),
                NS_GET_OWNER_UID,
                &raw mut uid as usize,
                0,
                0,
                0,
            ],
        )
    }?;
    Ok(uid)
}
