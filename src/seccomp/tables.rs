//! System call names and numbers: a binary search in tables without pointers.
//!
//! A filter is compiled on the way of a container's start, so there is no hash
//! table that would have to be built first.

/// The processor architectures that capsid runs on.
#[allow(dead_code, reason = "a program is made for one of them")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// x86_64, with x32 and i386 beside it.
    X86_64,
    /// aarch64, with 32-bit arm beside it.
    Aarch64,
}

/// All names, and their numbers on the architectures of a target.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The target.
    pub(crate) target: Target,
    /// The names of all rows, in order, without anything in between.
    pub(crate) names: &'static str,
    /// Where each row's name starts, and where the last one ends.
    pub(crate) starts: &'static [u16],
    /// Bit n of a row: it has a number in the n-th column.
    pub(crate) present: &'static [u8],
    /// Numbers with their rows, in order: those of x86_64, x32 and x86, or of
    /// aarch64 and arm.
    pub(crate) columns: &'static [&'static [(u32, u16)]],
}

impl Tables {
    /// How many rows, that is different names, there are.
    pub(super) const fn rows(&self) -> usize {
        self.present.len()
    }

    /// The row of a name, if any architecture has it.
    pub(super) fn row(&self, name: &str) -> Option<u16> {
        let (mut low, mut high) = (0, self.rows());
        while low < high {
            let middle = low.midpoint(high);
            match self.bytes(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return u16::try_from(middle).ok(),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The name of a row.
    pub(super) fn name(&self, row: u16) -> &'static str {
        let row = usize::from(row);
        &self.names[usize::from(self.starts[row])..usize::from(self.starts[row + 1])]
    }

    /// Bit n is set when the row has a number in the n-th column.
    pub(super) fn columns_of(&self, row: u16) -> u8 {
        self.present[usize::from(row)]
    }

    /// Comparing bytes needs no check for character boundaries.
    fn bytes(&self, row: usize) -> &'static [u8] {
        &self.names.as_bytes()[usize::from(self.starts[row])..usize::from(self.starts[row + 1])]
    }
}
