//! The tables of this program's own target, as `build.rs` made them.

use super::tables::{Tables, Target};

include!(concat!(env!("OUT_DIR"), "/syscall_tables.rs"));

/// The tables of this program's target.
pub(super) const fn tables() -> &'static Tables {
    &TABLES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is written by hand, so every number that the `syscalls` crate
    /// knows for this machine is compared with it. The crate gives aarch64 the
    /// 64-bit-time calls, which only 32-bit architectures have, and calls 79
    /// otherwise than profiles do.
    #[test]
    fn numbers_agree_with_the_syscalls_crate() {
        let tables = tables();
        let native = tables.columns[0];
        let mut compared = 0;
        for number in 0..=u32::try_from(syscalls::Sysno::last().id()).unwrap() {
            let Some(known) = syscalls::Sysno::new(usize::try_from(number).unwrap()) else {
                continue;
            };
            if cfg!(target_arch = "aarch64") && matches!(number, 79 | 403..=414 | 416..=423) {
                continue;
            }
            let expected = tables.row(known.name());
            let found = native.iter().find(|(known, _)| *known == number);
            let found = found.map(|(_, row)| *row);
            assert!(expected.is_some(), "{known} is missing in syscalls.tbl");
            assert_eq!(found, expected, "{known} is number {number}");
            compared += 1;
        }
        assert!(compared > 300, "only {compared} names were compared");
    }

    #[test]
    fn every_row_is_found_by_its_name() {
        let tables = tables();
        for row in 0..u16::try_from(tables.rows()).unwrap() {
            let name = tables.name(row);
            assert_eq!(tables.row(name), Some(row), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_found() {
        for name in ["", "a", "opeen", "read\0", "READ", "zzz", "rea", "readd"] {
            assert_eq!(tables().row(name), None, "{name:?}");
        }
    }
}
