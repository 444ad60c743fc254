//! What a process gives up or limits before exec.

use std::ffi::CStr;

use syscalls::Sysno;

use super::{Result, call, call_with_numbers, owned, reg};

/// setgroups(2).
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and count are of one live slice of gid_t.
    unsafe {
        call(
            Sysno::setgroups,
            [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// setresgid(2) of all three group ids.
pub fn set_gid(gid: u32) -> Result<()> {
    let gid = gid as usize;
    call_with_numbers(Sysno::setresgid, [gid, gid, gid, 0, 0, 0]).map(drop)
}

/// setresuid(2) of all three user ids.
pub fn set_uid(uid: u32) -> Result<()> {
    let uid = uid as usize;
    call_with_numbers(Sysno::setresuid, [uid, uid, uid, 0, 0, 0]).map(drop)
}

/// setfsgid(2) and setfsuid(2): whose what is made will be. Another id than 0
/// takes capabilities away, which are put in force again.
pub fn set_file_system_ids(id: u32) -> Result<()> {
    // Both only tell the id before, so a second call with none shows the new one.
    for sysno in [Sysno::setfsgid, Sysno::setfsuid] {
        call_with_numbers(sysno, [id as usize, 0, 0, 0, 0, 0])?;
        let now = call_with_numbers(sysno, [u32::MAX as usize, 0, 0, 0, 0, 0])?;
        if now != id as usize {
            return Err(crate::error::Failure::of(sysno, libc::EPERM));
        }
    }
    let mut sets = super::process::capabilities()?;
    sets.effective = sets.permitted;
    set_capabilities(sets)
}

/// `PR_SET_KEEPCAPS`: permitted capabilities survive the change of user id.
pub fn keep_capabilities(keep: bool) -> Result<()> {
    call_with_numbers(
        Sysno::prctl,
        [reg(libc::PR_SET_KEEPCAPS), usize::from(keep), 0, 0, 0, 0],
    )
    .map(drop)
}

/// Drops every capability from the bounding set that `keep` does not have.
///
/// Goes up to the kernel's last capability, found by its refusal, so that one
/// newer than this program is dropped too.
pub fn bound_capabilities(keep: u64) -> Result<()> {
    for capability in 0..64usize {
        let kept = keep & (1u64 << capability) != 0;
        let command = if kept {
            libc::PR_CAPBSET_READ
        } else {
            libc::PR_CAPBSET_DROP
        };
        match call_with_numbers(Sysno::prctl, [reg(command), capability, 0, 0, 0, 0]) {
            Ok(_) => {}
            Err(failure) if failure.is(libc::EINVAL) => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// The three sets of capset(2), one bit per capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What the process can use.
    pub effective: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What may survive exec through file capabilities.
    pub inheritable: u64,
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
pub(super) struct CapabilityHeader {
    version: u32,
    pid: i32,
}

impl CapabilityHeader {
    /// The calling process, with 64-bit sets.
    pub(super) const fn own() -> Self {
        const VERSION_3: u32 = 0x2008_0522;
        Self {
            version: VERSION_3,
            pid: 0,
        }
    }
}

/// capset(2) of all three sets in one call.
pub fn set_capabilities(sets: CapabilitySets) -> Result<()> {
    let header = CapabilityHeader::own();
    let low = |set: u64| u32::try_from(set & 0xffff_ffff).unwrap_or(0);
    let high = |set: u64| u32::try_from(set >> 32).unwrap_or(0);
    let data = [
        [
            low(sets.effective),
            low(sets.permitted),
            low(sets.inheritable),
        ],
        [
            high(sets.effective),
            high(sets.permitted),
            high(sets.inheritable),
        ],
    ];
    // SAFETY: the header says version 3, for which the data are two blocks of three 32-bit words.
    unsafe {
        call(
            Sysno::capset,
            [
                &raw const header as usize,
                data.as_ptr() as usize,
                0,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// Makes exactly `ambient` the ambient set.
pub fn set_ambient_capabilities(ambient: u64) -> Result<()> {
    let command = reg(libc::PR_CAP_AMBIENT);
    let clear = reg(libc::PR_CAP_AMBIENT_CLEAR_ALL);
    call_with_numbers(Sysno::prctl, [command, clear, 0, 0, 0, 0])?;
    for capability in (0..64usize).filter(|c| ambient & (1u64 << c) != 0) {
        let raise = reg(libc::PR_CAP_AMBIENT_RAISE);
        call_with_numbers(Sysno::prctl, [command, raise, capability, 0, 0, 0])?;
    }
    Ok(())
}

/// `PR_SET_NO_NEW_PRIVS`: exec never raises privileges again.
pub fn no_new_privileges() -> Result<()> {
    call_with_numbers(
        Sysno::prctl,
        [reg(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0, 0],
    )
    .map(drop)
}

/// seccomp(2): loads a filter; a listener comes back when the flags ask for one.
pub fn load_filter(
    program: &[libc::sock_filter],
    flags: u32,
) -> Result<Option<std::os::fd::OwnedFd>> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const libc::sock_filter,
    }
    let length = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let filter = Program {
        length,
        instructions: program.as_ptr(),
    };
    // SAFETY: the program is laid out as sock_fprog and points to `length` live
    // instructions laid out as sock_filter.
    let outcome = unsafe {
        call(
            Sysno::seccomp,
            [
                libc::SECCOMP_SET_MODE_FILTER as usize,
                flags as usize,
                &raw const filter as usize,
                0,
                0,
                0,
            ],
        )
    }?;
    let listener = u64::from(flags) & u64::from(NEW_LISTENER) != 0;
    Ok(listener.then(|| owned(outcome)))
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const NEW_LISTENER: u32 = 1 << 3;

/// prlimit(2) of the calling process.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    set_limit_of(0, resource, soft, hard)
}

/// prlimit(2) of a process; 0 is the calling one.
pub fn set_limit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: the new limit is two live 64-bit numbers; the old one may be null.
    unsafe {
        call(
            Sysno::prlimit64,
            [
                reg(pid),
                resource as usize,
                limit.as_ptr() as usize,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// `struct sched_attr`, first version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scheduling {
    /// Size of this structure in bytes.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Real-time priority, 1 to 99.
    pub priority: u32,
    /// Nanoseconds per period (`SCHED_DEADLINE`).
    pub runtime: u64,
    /// Nanoseconds until the deadline.
    pub deadline: u64,
    /// Nanoseconds of a period.
    pub period: u64,
}

/// sched_setattr(2) of the calling process.
pub fn set_scheduling(scheduling: &Scheduling) -> Result<()> {
    // SAFETY: the structure is laid out as sched_attr and says its own size.
    unsafe {
        call(
            Sysno::sched_setattr,
            [0, std::ptr::from_ref(scheduling) as usize, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// sched_setaffinity(2) of the calling process: bit n of the mask is CPU n.
pub fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the pointer and size in bytes are of one live slice.
    unsafe {
        call(
            Sysno::sched_setaffinity,
            [0, size_of_val(mask), mask.as_ptr() as usize, 0, 0, 0],
        )
    }
    .map(drop)
}

/// set_mempolicy(2) of the calling process: bit n of the mask is node n.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one from the number of bits before it looks at them.
    let bits = nodes.len() * 64 + 1;
    // SAFETY: the mask is one live slice with a bit more than is said, less one;
    // of an empty one nothing is read.
    unsafe {
        call(
            Sysno::set_mempolicy,
            [reg(mode), nodes.as_ptr() as usize, bits, 0, 0, 0],
        )
    }
    .map(drop)
}

/// ioprio_set(2) of the calling process: class in bits 13 up, level below.
pub fn set_io_priority(priority: u16) -> Result<()> {
    const WHO_PROCESS: usize = 1;
    call_with_numbers(
        Sysno::ioprio_set,
        [WHO_PROCESS, 0, usize::from(priority), 0, 0, 0],
    )
    .map(drop)
}

/// personality(2).
pub fn set_personality(personality: u64) -> Result<()> {
    call_with_numbers(
        Sysno::personality,
        [usize::try_from(personality).unwrap_or(0), 0, 0, 0, 0, 0],
    )
    .map(drop)
}

/// umask(2); the mask before.
pub fn set_umask(mask: u32) -> u32 {
    // The call cannot fail.
    let old = call_with_numbers(Sysno::umask, [mask as usize, 0, 0, 0, 0, 0]).unwrap_or(0o022);
    u32::try_from(old).unwrap_or(0o022)
}

/// `KEYCTL_JOIN_SESSION_KEYRING` with a name: a keyring that nobody else has.
pub fn new_session_keyring(name: &CStr) -> Result<()> {
    // SAFETY: the name ends with NUL.
    unsafe {
        call(
            Sysno::keyctl,
            [
                libc::KEYCTL_JOIN_SESSION_KEYRING as usize,
                name.as_ptr() as usize,
                0,
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// sethostname(2).
pub fn set_host_name(name: &[u8]) -> Result<()> {
    // SAFETY: the pointer and length are of one live slice.
    unsafe {
        call(
            Sysno::sethostname,
            [name.as_ptr() as usize, name.len(), 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// setdomainname(2).
pub fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: the pointer and length are of one live slice.
    unsafe {
        call(
            Sysno::setdomainname,
            [name.as_ptr() as usize, name.len(), 0, 0, 0, 0],
        )
    }
    .map(drop)
}
