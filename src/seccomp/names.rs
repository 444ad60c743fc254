//! System call names: a binary search in tables that `build.rs` makes.

include!(concat!(env!("OUT_DIR"), "/syscall_tables.rs"));

/// How many rows, that is different names, the tables have.
pub(super) const ROWS: usize = PRESENT.len();

/// The row of a name, if any table has it.
pub(super) fn row(name: &str) -> Option<u16> {
    let (mut low, mut high) = (0, ROWS);
    while low < high {
        let middle = low.midpoint(high);
        match name_at(middle).cmp(name.as_bytes()) {
            std::cmp::Ordering::Equal => return u16::try_from(middle).ok(),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// Bit n is set when the row has a number in the n-th table of this target.
pub(super) fn tables_of(row: u16) -> u8 {
    PRESENT[usize::from(row)]
}

/// The name of a row.
pub(super) fn name(row: u16) -> &'static str {
    let row = usize::from(row);
    &NAMES[usize::from(STARTS[row])..usize::from(STARTS[row + 1])]
}

fn name_at(row: usize) -> &'static [u8] {
    &NAMES.as_bytes()[usize::from(STARTS[row])..usize::from(STARTS[row + 1])]
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
        #[cfg(target_arch = "x86_64")]
        let native: &[(u32, u16)] = &X86_64;
        #[cfg(target_arch = "aarch64")]
        let native: &[(u32, u16)] = &AARCH64;
        let mut compared = 0;
        for number in 0..=u32::try_from(syscalls::Sysno::last().id()).unwrap() {
            let Some(known) = syscalls::Sysno::new(usize::try_from(number).unwrap()) else {
                continue;
            };
            if cfg!(target_arch = "aarch64") && matches!(number, 79 | 403..=414 | 416..=423) {
                continue;
            }
            let expected = row(known.name());
            let found = native
                .iter()
                .find(|(n, _)| *n == number)
                .map(|(_, row)| *row);
            assert!(expected.is_some(), "{known} is missing in syscalls.tbl");
            assert_eq!(found, expected, "{known} is number {number}");
            compared += 1;
        }
        assert!(compared > 300, "only {compared} names were compared");
    }

    #[test]
    fn every_row_is_found_by_its_name() {
        for index in 0..ROWS {
            let name = std::str::from_utf8(name_at(index)).unwrap();
            assert_eq!(row(name).map(usize::from), Some(index), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_found() {
        for name in ["", "a", "opeen", "read\0", "READ", "zzz", "rea", "readd"] {
            assert_eq!(row(name), None, "{name:?}");
        }
    }
}
