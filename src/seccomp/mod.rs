//! OCI seccomp profiles, compiled to BPF. Pure: loading is `sys::restrict`'s.

/// A compiled filter, ready for seccomp(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The instructions, at most `BPF_MAXINSNS` (4096).
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*` to load it with.
    pub flags: u32,
}

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// `BPF_*` operation code.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}
