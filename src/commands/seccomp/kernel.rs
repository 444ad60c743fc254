//! What the kernel of this machine knows of system calls and filters.

use std::fs;

use crate::host::kernel::Version;

pub(super) use crate::host::kernel::running;

/// Numbers that are the same on all architectures, with the version that
/// brought them; and two of x86_64. All others are older than any kernel that
/// capsid runs on.
const SINCE: &[(std::ops::RangeInclusive<u32>, Version)] = &[
    (335..=335, (6, 11)),
    (336..=336, (6, 18)),
    (424..=427, (5, 1)),
    (428..=433, (5, 2)),
    (434..=435, (5, 3)),
    (436..=436, (5, 9)),
    (437..=438, (5, 6)),
    (439..=439, (5, 8)),
    (440..=440, (5, 10)),
    (441..=441, (5, 11)),
    (442..=442, (5, 12)),
    (443..=443, (5, 14)),
    (444..=446, (5, 13)),
    (447..=447, (5, 14)),
    (448..=448, (5, 15)),
    (449..=449, (5, 16)),
    (450..=450, (5, 17)),
    (451..=451, (6, 5)),
    (452..=453, (6, 6)),
    (454..=456, (6, 7)),
    (457..=461, (6, 8)),
    (462..=462, (6, 10)),
    (463..=466, (6, 13)),
    (467..=467, (6, 15)),
    (468..=469, (6, 17)),
    (470..=470, (6, 19)),
    (471..=471, (7, 0)),
];

/// Whether a version has the system call of a native number.
pub(super) fn has(version: Version, number: u32) -> bool {
    let since = SINCE.iter().find(|(numbers, _)| numbers.contains(&number));
    since.is_none_or(|(_, since)| *since <= version)
}

/// The version that `SECCOMP_FILTER_FLAG_*` came with, of those that can be
/// missing; the others are older than any kernel that capsid runs on.
pub(super) fn flag_since(flag: &str) -> Option<Version> {
    (flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV").then_some((5, 19))
}

/// The actions of the running kernel, in its own words: `kill_process errno`.
pub(super) fn actions() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::abi;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(has((5, 10), 436) && has((5, 9), 436) && !has((5, 8), 436) && has((4, 0), 0));
    }

    #[test]
    fn every_new_number_has_a_version() {
        for (number, name) in abi::native().calls().filter(|(number, _)| *number >= 424) {
            assert!(!has((5, 0), number), "{number} {name}");
        }
    }
}
