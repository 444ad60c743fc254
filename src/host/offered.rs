//! Ranges of ids that root may give to containers.

use super::{ranges, text};

/// Whose entries in /etc/subuid and /etc/subgid these are.
pub const NAME: &str = "capsid";

/// Where they are otherwise: above what directory services give to people (SSSD's
/// default ends at 2000200000), systemd to containers and useradd to users, and
/// below what systemd keeps for foreign images (0x7ffe0000). Many systems take no
/// id from 2^31 on.
const DEFAULT: (u32, u32) = (0x7800_0000, 0x7fe_0000);

/// The first ids of all ranges of a length: those that are in both files.
pub fn first_ids(length: u32) -> Vec<u32> {
    let read = |path| ranges(&text(path), u32::MAX, Some(NAME));
    let (users, groups) = (read("/etc/subuid"), read("/etc/subgid"));
    match users.is_empty() && groups.is_empty() {
        true => blocks(&[DEFAULT], &[DEFAULT], length),
        false => blocks(&users, &groups, length),
    }
}

fn blocks(users: &[(u32, u32)], groups: &[(u32, u32)], length: u32) -> Vec<u32> {
    let in_groups = |first: u32| {
        let fits = |(start, count): &(u32, u32)| {
            let offset = first.checked_sub(*start);
            offset.is_some_and(|offset| offset <= *count && count - offset >= length)
        };
        groups.iter().any(fits)
    };
    let of_range = |(start, count): &(u32, u32)| {
        let start = *start;
        (0..count / length).map(move |index| start + index * length)
    };
    let all = users.iter().flat_map(of_range);
    all.filter(|first| *first > 0 && in_groups(*first))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_whole_and_in_both_files() {
        assert_eq!(blocks(&[(100, 35)], &[(90, 40)], 10), [100, 110, 120]);
        assert_eq!(blocks(&[(100, 35)], &[(110, 19)], 10), [110]);
        assert!(blocks(&[(100, 9)], &[(100, 9)], 10).is_empty());
        assert_eq!(
            blocks(&[(0, 20)], &[(0, 20)], 10),
            [10],
            "never the host's root"
        );
        let default = blocks(&[DEFAULT], &[DEFAULT], 65536);
        assert_eq!(default.len(), 2046);
        assert!(
            default
                .iter()
                .all(|first| (0x7800_0000..0x7ffe_0000).contains(first))
        );
    }
}
