//! bpf(2): loading a device filter and attaching it to a cgroup.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use super::{Result, call, owned};

const BPF_PROG_LOAD: usize = 5;
const BPF_PROG_ATTACH: usize = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Beside the filters of others, in this cgroup and above it: all must allow.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Of no consequence: the program calls no function of the kernel.
const LICENCE: &CStr = c"Apache-2.0";

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads; what is not given is zero.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct Attach {
    target: i32,
    program: i32,
    kind: u32,
    flags: u32,
}

/// `BPF_PROG_LOAD` of a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`; each
/// instruction is the bytes of a `struct bpf_insn`.
pub fn load_device_program(instructions: &[[u8; 8]]) -> Result<OwnedFd> {
    let attributes = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        // More than the kernel takes (a million) is E2BIG either way.
        count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        licence: LICENCE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"capsid_devices\0\0",
    };
    // SAFETY: the attributes are laid out as the first fields of union bpf_attr
    // and their size is given. They point to `count` live instructions of eight
    // bytes and to a live string with its NUL; the kernel only reads them.
    let program = unsafe {
        call(
            Sysno::bpf,
            [
                BPF_PROG_LOAD,
                &raw const attributes as usize,
                size_of::<Load>(),
                0,
                0,
                0,
            ],
        )
    }?;
    Ok(owned(program))
}

/// `BPF_PROG_ATTACH` of a device program to a cgroup; `O_PATH` is enough for its directory.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let attributes = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attributes are laid out as the first fields of union bpf_attr
    // and their size is given; they hold numbers only.
    unsafe {
        call(
            Sysno::bpf,
            [
                BPF_PROG_ATTACH,
                &raw const attributes as usize,
                size_of::<Attach>(),
                0,
                0,
                0,
            ],
        )
    }
    .map(drop)
}
