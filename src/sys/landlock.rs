//! Landlock: a process fences itself off, for good.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, owned, reg};

/// What a ruleset is about: whatever it handles is denied, but for its rules.
/// `struct landlock_ruleset_attr`; older kernels know only its beginning and
/// take the rest if it is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`.
    pub files: u64,
    /// `LANDLOCK_ACCESS_NET_*`.
    pub ports: u64,
    /// `LANDLOCK_SCOPE_*`.
    pub scopes: u64,
}

/// landlock_create_ruleset(2).
pub fn create_ruleset(handled: &Handled) -> Result<OwnedFd> {
    // Before ABI 4 the structure ended with its first member, and before ABI 6
    // with its second.
    let size = match handled {
        Handled { scopes: 1.., .. } => 24,
        Handled { ports: 1.., .. } => 16,
        _ => 8,
    };
    // SAFETY: the structure is laid out as the kernel's, and is at least as long as said.
    unsafe {
        call(
            Sysno::landlock_create_ruleset,
            [std::ptr::from_ref(handled) as usize, size, 0, 0, 0, 0],
        )
    }
    .map(owned)
}

/// landlock_add_rule(2) of `LANDLOCK_RULE_PATH_BENEATH`: allows this of a file, or
/// of all below a directory.
pub fn allow_beneath(ruleset: BorrowedFd<'_>, path: BorrowedFd<'_>, access: u64) -> Result<()> {
    const PATH_BENEATH: usize = 1;
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct Attributes {
        access: u64,
        parent: i32,
    }
    let attributes = Attributes {
        access,
        parent: path.as_raw_fd(),
    };
    // SAFETY: the attributes are laid out as the kernel's for this type of rule.
    unsafe {
        call(
            Sysno::landlock_add_rule,
            [
                reg(ruleset.as_raw_fd()),
                PATH_BENEATH,
                &raw const attributes as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// landlock_add_rule(2) of `LANDLOCK_RULE_NET_PORT`.
pub fn allow_port(ruleset: BorrowedFd<'_>, port: u16, access: u64) -> Result<()> {
    const NET_PORT: usize = 2;
    // `struct landlock_net_port_attr`.
    let attributes = [access, u64::from(port)];
    // SAFETY: the attributes are laid out as the kernel's for this type of rule.
    unsafe {
        call(
            Sysno::landlock_add_rule,
            [
                reg(ruleset.as_raw_fd()),
                NET_PORT,
                attributes.as_ptr() as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// landlock_restrict_self(2). Without flags: what is denied after exec is left to
/// the kernel's audit log.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    call_with_numbers(
        Sysno::landlock_restrict_self,
        [reg(ruleset.as_raw_fd()), 0, 0, 0, 0, 0],
    )
    .map(drop)
}
