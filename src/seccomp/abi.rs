//! The ABIs of this machine: whose numbers a filter can be asked about.

use std::fmt;

use oci_spec::runtime::{Arch, LinuxSeccomp};

use super::tables::Target;
use super::{architecture, names, returns};

/// One way into the kernel, with numbers of its own.
#[derive(Clone, Copy, Debug)]
pub struct Abi {
    /// The name that the kernel's tables have for it: `x86_64`.
    pub name: &'static str,
    /// `AUDIT_ARCH_*` of `linux/audit.h`, which x86_64 and x32 share.
    pub audit: u32,
    /// What a profile calls it.
    pub arch: Arch,
    /// Its column in the tables.
    column: usize,
}

static X86_64: [Abi; 3] = [
    Abi {
        name: "x86_64",
        audit: architecture::AUDIT_ARCH_X86_64,
        arch: Arch::ScmpArchX86_64,
        column: 0,
    },
    Abi {
        name: "x86",
        audit: architecture::AUDIT_ARCH_I386,
        arch: Arch::ScmpArchX86,
        column: 2,
    },
    Abi {
        name: "x32",
        audit: architecture::AUDIT_ARCH_X86_64,
        arch: Arch::ScmpArchX32,
        column: 1,
    },
];

static AARCH64: [Abi; 2] = [
    Abi {
        name: "aarch64",
        audit: architecture::AUDIT_ARCH_AARCH64,
        arch: Arch::ScmpArchAarch64,
        column: 0,
    },
    Abi {
        name: "arm",
        audit: architecture::AUDIT_ARCH_ARM,
        arch: Arch::ScmpArchArm,
        column: 1,
    },
];

/// The ABIs of this machine, the native one first.
pub fn all() -> &'static [Abi] {
    match names::tables().target {
        Target::X86_64 => &X86_64,
        Target::Aarch64 => &AARCH64,
    }
}

/// The ABI of this build of capsid.
pub fn native() -> &'static Abi {
    &all()[0]
}

impl Abi {
    /// The system calls in the order of their numbers: number and name.
    pub fn calls(&self) -> impl Iterator<Item = (u32, &'static str)> + use<> {
        let numbers = names::tables().columns[self.column].iter();
        numbers.map(|&(number, row)| (number, names::tables().name(row)))
    }

    /// The name of a number.
    pub fn name_of(&self, number: u32) -> Option<&'static str> {
        let numbers = names::tables().columns[self.column];
        let place = numbers.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        Some(names::tables().name(numbers[place].1))
    }

    /// Whether the rules of a profile speak of this ABI.
    pub fn is_covered(&self, profile: &LinuxSeccomp) -> bool {
        let listed = profile.architectures().as_deref().unwrap_or_default();
        self.arch == native().arch || listed.contains(&self.arch)
    }
}

/// The name of a number for one value of `seccomp_data.arch`.
pub fn name_of(audit: u32, number: u32) -> Option<&'static str> {
    let mut abis = all().iter().filter(|abi| abi.audit == audit);
    abis.find_map(|abi| abi.name_of(number))
}

/// Whether any machine that the tables know has a system call of this name.
pub fn is_known(name: &str) -> bool {
    names::tables().row(name).is_some()
}

/// A `SECCOMP_RET_*` value, shown by its kernel name: `ERRNO(1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub u32);

impl Answer {
    /// Whether the system call takes place, as far as the filter goes.
    pub fn lets_through(self) -> bool {
        let action = self.0 & libc::SECCOMP_RET_ACTION_FULL;
        action == libc::SECCOMP_RET_ALLOW || action == libc::SECCOMP_RET_LOG
    }

    /// The word of `/proc/sys/kernel/seccomp/actions_avail`.
    pub fn kernel_word(self) -> String {
        let shown = self.to_string().to_lowercase();
        shown.split('(').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        returns::Words(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_and_answers_have_words() {
        let (number, name) = native().calls().last().unwrap();
        assert_eq!(native().name_of(number), Some(name));
        assert_eq!(name_of(native().audit, number), Some(name));
        assert_eq!(name_of(native().audit, 100_000), None);
        assert!(is_known("cacheflush") && !is_known("opeen"));
        let words = [0x0005_0001, 0x8000_0000, 0x7fc0_0000, 0x7fff_0000]
            .map(|value| Answer(value).kernel_word());
        assert_eq!(words, ["errno", "kill_process", "user_notif", "allow"]);
        assert!(Answer(0x7fff_0000).lets_through());
        assert!(Answer(0x7ffc_0000).lets_through() && !Answer(0x7ff0_0001).lets_through());
    }
}
