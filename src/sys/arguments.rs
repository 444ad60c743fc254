//! The memory that /proc/PID/cmdline shows.

use std::os::fd::{AsFd, BorrowedFd};

use super::fd::{self, At, Resolve};

/// Where this process's own arguments are: two addresses, from field 48 and 49
/// of /proc/self/stat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    start: usize,
    end: usize,
}

impl Place {
    /// Reads it from a procfs; nothing where that does not say.
    pub fn read(procfs: BorrowedFd<'_>) -> Self {
        // 52 numbers and a name of at most 64 bytes.
        let mut stat = [0u8; 2048];
        let file = fd::open(
            At::Dir(procfs),
            c"self/stat",
            libc::O_RDONLY,
            Resolve::BENEATH_SAME_MOUNT,
        );
        let length = file.and_then(|file| fd::read(file.as_fd(), &mut stat));
        length
            .ok()
            .and_then(|length| Self::parse(&stat[..length]))
            .unwrap_or_default()
    }

    /// Fields are counted from the last parenthesis, for the name may hold anything.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
        // The first of them is field 3.
        let mut fields = rest.split_ascii_whitespace().skip(48 - 3);
        let start = fields.next()?.parse().ok()?;
        let end = fields.next()?.parse().ok()?;
        (start != 0 && start < end).then_some(Self { start, end })
    }

    /// Writes a name and then only zeros over the arguments of this process.
    ///
    /// Whoever may see the process may read them, whatever else it hides.
    pub fn overwrite(self, name: &[u8]) {
        for (index, address) in (self.start..self.end).enumerate() {
            // The last byte stays zero: the kernel looks at it for its own end.
            let last = address + 1 == self.end;
            let byte = name.get(index).copied().filter(|_| !last).unwrap_or(0);
            let place = std::ptr::with_exposed_provenance_mut::<u8>(address);
            // SAFETY: the kernel itself put the argument strings there, on the stack of
            // this process, writable; the only other pointers to them are the C
            // library's and the standard library's argv, which nothing reads after
            // clone. Volatile, so that it is not left out because nothing reads it.
            unsafe { place.write_volatile(byte) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_found_behind_any_name() {
        let mut line = String::from("1 (a) b) S");
        for field in 4..=52 {
            line += &format!(" {field}");
        }
        let place = Place::parse(line.as_bytes()).unwrap();
        assert_eq!(place, Place { start: 48, end: 49 });
        assert_eq!(Place::parse(b"1 (a) S 1 2"), None);
    }

    #[test]
    fn the_kernel_tells_where_they_are() {
        let procfs = std::fs::File::open("/proc").unwrap();
        let place = Place::read(procfs.as_fd());
        assert!(place.start < place.end, "{place:?}");
    }
}
