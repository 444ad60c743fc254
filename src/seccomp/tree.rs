//! System call numbers to leaves: ranges, and a search tree over them.

use super::condition::Width;
use super::encode::{Assembler, Label, Test};
use super::rules::Verdict;

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// This `SECCOMP_RET_*` value, whatever the arguments.
    Return(u32),
    /// The arguments decide.
    Decide {
        /// What the profile says.
        profile: Verdict,
        /// What the floor says.
        floor: Verdict,
        /// How much of an argument counts.
        width: Width,
    },
}

/// All 32-bit numbers, as ranges of equal leaves.
#[derive(Debug)]
pub(super) struct Ranges<L> {
    /// First number and leaf of each range, in order; the first starts at 0.
    ranges: Vec<(u32, L)>,
}

impl<L: Copy + PartialEq> Ranges<L> {
    /// One range that holds every number.
    pub(super) fn new(leaf: L) -> Self {
        let ranges = vec![(0, leaf)];
        Self { ranges }
    }

    /// Gives the numbers from `start` on another leaf; starts never decrease.
    pub(super) fn from(&mut self, start: u32, leaf: L) {
        if let Some(last) = self.ranges.last_mut()
            && last.0 == start
        {
            last.1 = leaf;
            self.merge_last();
        } else if self.ranges.last().is_none_or(|last| last.1 != leaf) {
            self.ranges.push((start, leaf));
        }
    }

    /// A changed leaf may have become its neighbour's.
    fn merge_last(&mut self) {
        if let [.., before, last] = self.ranges.as_slice()
            && before.1 == last.1
        {
            self.ranges.pop();
        }
    }

    /// Code that finds the leaf of the number in the accumulator.
    pub(super) fn emit(&self, code: &mut Assembler, leaf: &mut LeafCode<'_, L>) -> Label {
        let mut groups = Vec::with_capacity(self.ranges.len());
        let mut rest = self.ranges.as_slice();
        while !rest.is_empty() {
            let (group, after) = rest.split_at(group_length(rest));
            groups.push(group);
            rest = after;
        }
        emit_groups(&groups, code, leaf)
    }
}

/// Makes or finds the code of a leaf.
pub(super) type LeafCode<'a, L> = dyn FnMut(&mut Assembler, L) -> Label + 'a;

/// Numbers that stand alone among ranges of one leaf cost one comparison each
/// in a chain and two in the tree; beyond this many the chain is the longer way.
const LONGEST_CHAIN: usize = 3;

/// How many ranges from the first on can be one chain of equality tests.
fn group_length<L: Copy + PartialEq>(ranges: &[(u32, L)]) -> usize {
    let mut length = 1;
    while length < 2 * LONGEST_CHAIN
        && let [(number, _), (after, leaf), ..] = ranges[length..]
        && number + 1 == after
        && leaf == ranges[0].1
    {
        length += 2;
    }
    length
}

/// A comparison splits the groups into halves, so a tree of n is log2(n) deep.
fn emit_groups<L: Copy + PartialEq>(
    groups: &[&[(u32, L)]],
    code: &mut Assembler,
    leaf: &mut LeafCode<'_, L>,
) -> Label {
    if let [group] = groups {
        return emit_chain(group, code, leaf);
    }
    let (below, above) = groups.split_at(groups.len() / 2);
    let less = emit_groups(below, code, leaf);
    let at_least = emit_groups(above, code, leaf);
    code.branch(Test::AtLeast(above[0][0].0), at_least, less)
}

/// Tests each number that stands alone; the ranges around them are the rest.
fn emit_chain<L: Copy>(
    group: &[(u32, L)],
    code: &mut Assembler,
    leaf: &mut LeafCode<'_, L>,
) -> Label {
    let mut next = leaf(code, group[0].1);
    for &(number, alone) in group.iter().skip(1).step_by(2).rev() {
        let alone = leaf(code, alone);
        next = code.branch(Test::Equal(number), alone, next);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Leaf = Leaf::Return(1);
    const B: Leaf = Leaf::Return(2);
    const C: Leaf = Leaf::Return(3);

    fn ranges(starts: &[(u32, Leaf)]) -> Ranges<Leaf> {
        let mut ranges = Ranges::new(starts[0].1);
        for &(start, leaf) in &starts[1..] {
            ranges.from(start, leaf);
        }
        ranges
    }

    #[test]
    fn neighbours_of_one_leaf_are_one_range() {
        let merged = ranges(&[(0, A), (3, A), (5, B), (6, B), (7, A), (7, B), (9, A)]);
        assert_eq!(merged.ranges, [(0, A), (5, B), (9, A)]);
    }

    #[test]
    fn numbers_that_stand_alone_form_chains_of_limited_length() {
        let all = ranges(&[(0, A), (5, B), (6, A), (8, C), (9, A), (20, B), (22, A)]);
        assert_eq!(group_length(&all.ranges), 5);
        assert_eq!(group_length(&all.ranges[5..]), 1);
        let alternating: Vec<_> = (0..40)
            .map(|n| (n, if n % 2 == 0 { A } else { B }))
            .collect();
        assert_eq!(group_length(&alternating), 7);
        assert_eq!(group_length(&[(0, A)]), 1);
        assert_eq!(group_length(&[(0, A), (1, B)]), 1);
    }
}
