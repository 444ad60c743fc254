//! One value for one file of a cgroup, and how the kernel shows it afterwards.

use std::fmt;

/// One value for one file of the cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The file's name: `memory.max`.
    pub file: String,
    /// What is written, without a newline.
    pub value: String,
    /// The controller the file belongs to; `None` for the core files (`cgroup.*`).
    pub controller: Option<String>,
    /// The bundle asks for it, so that not being able to is an error. `false`
    /// for "no limit", and for capsid's own defaults, which are left out and
    /// reported then.
    pub required: bool,
    /// How the file shows the value when it is read.
    pub shown: Shown,
    /// What is written instead where the kernel does not have `file`.
    pub instead: Option<Box<Limit>>,
    /// The file that says how much is in use: the limit is refused when that is
    /// more (`memory.checkBeforeUpdate`), for the kernel would kill processes.
    pub usage: Option<&'static str>,
}

/// How the kernel shows a value that it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As it was written.
    Same,
    /// A number of bytes, rounded down to whole pages of at most so many bytes;
    /// a huge one as `max`.
    Bytes(u64),
    /// A list of numbers and ranges, in the kernel's own spelling.
    List,
    /// A line for each device or resource: its name, then one value or several
    /// `name=value`. A line that limits nothing is left out.
    Entry,
    /// In a form that only the controller knows.
    Otherwise,
}

/// The largest page of any supported machine is 64 KiB.
const LARGEST_PAGE: u64 = 1 << 16;

impl Limit {
    /// A limit for `file`; the controller is the name's first part.
    pub fn new(file: &str, value: impl Into<String>, required: bool) -> Self {
        let controller = match file.split_once('.') {
            Some(("cgroup", _)) | None => None,
            Some((controller, _)) => Some(controller.to_owned()),
        };
        let value = value.into();
        // No limit is what there is without the controller as well.
        let required = required && value != "max";
        let shown = Shown::of(file, &value);
        Self {
            file: file.to_owned(),
            value,
            controller,
            required,
            shown,
            instead: None,
            usage: None,
        }
    }

    /// Whether `read` is what the file shows after the value was accepted.
    pub fn is_shown_as(&self, read: &str) -> bool {
        let read = read.trim();
        match self.shown {
            Shown::Otherwise => true,
            Shown::Same => read == self.value,
            Shown::List => list(read).is_some_and(|read| Some(read) == list(&self.value)),
            Shown::Entry => self.is_entry_of(read),
            Shown::Bytes(page) => match (self.value.parse::<u64>(), read.parse::<u64>()) {
                (Ok(asked), Ok(read)) => read <= asked && asked - read < page,
                // More than the page counter can count is no limit.
                (Ok(asked), Err(_)) => read == "max" && asked > (i64::MAX as u64) - page,
                _ => read == self.value,
            },
        }
    }

    /// Which line of the file this is about: a device, a resource, or `default`.
    /// `None` where the file has one value only.
    pub fn entry(&self) -> Option<&str> {
        if self.shown != Shown::Entry {
            return None;
        }
        match self.value.split_once(' ') {
            Some((key, _)) => Some(key),
            None => Some("default"),
        }
    }

    /// Whether a list (`cpuset.cpus`) names nothing that is not in another.
    pub fn is_part_of(&self, all: &str) -> bool {
        let (Some(asked), Some(all)) = (list(&self.value), list(all)) else {
            return false;
        };
        asked.iter().all(|(first, last)| {
            all.iter()
                .any(|(lowest, highest)| lowest <= first && last <= highest)
        })
    }

    fn is_entry_of(&self, read: &str) -> bool {
        let Some(key) = self.entry() else {
            return false;
        };
        let asked = self.value.strip_prefix(key).unwrap_or(&self.value);
        let mut asked = asked.split_ascii_whitespace();
        match line_of(read, key) {
            Some(line) => asked.all(|word| line.split_ascii_whitespace().any(|w| w == word)),
            None => asked.all(|word| word == "max" || word.ends_with("=max")),
        }
    }
}

/// What the line of `key` says in a file with one line for each device or resource.
pub fn line_of<'c>(content: &'c str, key: &str) -> Option<&'c str> {
    content.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        rest.strip_prefix(' ').map(str::trim)
    })
}

impl Shown {
    fn of(file: &str, value: &str) -> Self {
        let plain = value == "max" || value.bytes().all(|b| b.is_ascii_digit());
        match file {
            "pids.max"
            | "cpu.weight"
            | "cpu.idle"
            | "cpu.max.burst"
            | "memory.oom.group"
            | "cgroup.max.depth"
            | "cgroup.max.descendants"
                if plain =>
            {
                Self::Same
            }
            "memory.max" | "memory.high" | "memory.low" | "memory.min" | "memory.swap.max"
            | "memory.swap.high" | "memory.zswap.max"
                if plain =>
            {
                Self::Bytes(LARGEST_PAGE)
            }
            "cpu.max" if value.contains(' ') => Self::Same,
            "cpuset.cpus" | "cpuset.mems" => Self::List,
            "io.max" | "rdma.max" | "misc.max" | "io.weight" | "io.bfq.weight" => Self::Entry,
            _ if plain => huge_page(file).map_or(Self::Otherwise, Self::Bytes),
            _ => Self::Otherwise,
        }
    }
}

/// The size in bytes in a name like `hugetlb.2MB.max` or `hugetlb.1GB.rsvd.max`.
fn huge_page(file: &str) -> Option<u64> {
    let rest = file.strip_prefix("hugetlb.")?.strip_suffix(".max")?;
    let size = rest.strip_suffix(".rsvd").unwrap_or(rest);
    let units = [("KB", 10), ("MB", 20), ("GB", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((size.strip_suffix(unit)?, *shift)))?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The ranges of a list like `0-2,5`, sorted and joined; `None` if it is none.
pub(super) fn list(text: &str) -> Option<Vec<(u32, u32)>> {
    let mut ranges = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ranges.push((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?));
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    Some(joined)
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} to {}", self.file, self.value)?;
        if let Some(instead) = &self.instead {
            write!(
                f,
                " (or {} to {} where the kernel lacks that file)",
                instead.file, instead.value
            )?;
        }
        if let Some(usage) = self.usage {
            write!(f, " unless {usage} is more")?;
        }
        if !self.required {
            f.write_str(" (left out where the controller is missing)")?;
        }
        Ok(())
    }
}
