//! The files of a cgroup as runc's statistics.
//!
//! Names and shape are those of runc's `types.Stats` on cgroup v2: what Go
//! leaves out when it is zero is left out here, what it prints always is there.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::execute::cgroup::Cgroup;

/// What a container uses.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Stats {
    cpu: Cpu,
    cpuset: CpuSet,
    memory: Memory,
    pids: Pids,
    blkio: BlkIo,
    hugetlb: BTreeMap<String, HugeTlb>,
    intel_rdt: Nothing,
    /// capsid, like runc on cgroup v2, does not look into the network namespace.
    network_interfaces: Option<()>,
}

/// An object without members.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Nothing {}

/// Times in nanoseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

/// All but the lists exist in cgroup v1 only, and are 0.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

/// In bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    /// Memory and swap together, as in cgroup v1.
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlkIo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct BlkIoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    op: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct HugeTlb {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

/// How long processes waited for lack of something: averages in percent, the total in microseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Pressure {
    some: Averages,
    full: Averages,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Averages {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Stats {
    /// Reads them. A file that this machine does not have counts nothing.
    pub(super) fn of(cgroup: &Cgroup) -> Result<Self> {
        let sizes = huge_page_sizes();
        Self::from_files(&sizes, |file| cgroup.content(file))
    }

    fn from_files(
        huge_pages: &[String],
        read: impl Fn(&str) -> Result<Option<String>>,
    ) -> Result<Self> {
        let text = |file: &str| read(file).map(Option::unwrap_or_default);
        let mut hugetlb = BTreeMap::new();
        for size in huge_pages {
            if let Some(current) = read(&format!("hugetlb.{size}.current"))? {
                let reserved = read(&format!("hugetlb.{size}.rsvd.current"))?;
                let events = text(&format!("hugetlb.{size}.events"))?;
                let entry = HugeTlb {
                    usage: limit(&reserved.unwrap_or(current)),
                    max: 0,
                    failcnt: number_of(&events, "max"),
                };
                hugetlb.insert(size.clone(), entry);
            }
        }
        Ok(Self {
            cpu: cpu(&text("cpu.stat")?, &text("cpu.pressure")?),
            cpuset: CpuSet {
                cpus: numbers(&text("cpuset.cpus.effective")?),
                mems: numbers(&text("cpuset.mems.effective")?),
                ..CpuSet::default()
            },
            memory: memory(&text)?,
            pids: Pids {
                current: limit(&text("pids.current")?),
                // runc prints no limit as 0.
                limit: text("pids.max")?.trim().parse().unwrap_or(0),
            },
            blkio: blkio(&text("io.stat")?, &text("io.pressure")?),
            hugetlb,
            intel_rdt: Nothing {},
            network_interfaces: None,
        })
    }
}

/// The sizes of huge pages of this machine, as file names of the controller have them.
fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let names = entries.into_iter().flatten().flatten();
    let mut sizes: Vec<String> = names
        .filter_map(|entry| page_size(entry.file_name().to_str()?))
        .collect();
    sizes.sort_unstable();
    sizes
}

/// `hugepages-2048kB` -> `2MB`.
fn page_size(directory: &str) -> Option<String> {
    let kilobytes = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let kilobytes: u64 = kilobytes.parse().ok()?;
    Some(match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes >> 10),
        _ => format!("{}GB", kilobytes >> 20),
    })
}

fn cpu(stat: &str, pressure: &str) -> Cpu {
    let nanoseconds = |name: &str| number_of(stat, name).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: number_of(stat, "nr_periods"),
            throttled_periods: number_of(stat, "nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: psi(pressure),
    }
}

fn memory(text: &impl Fn(&str) -> Result<String>) -> Result<Memory> {
    let raw: BTreeMap<String, u64> = text("memory.stat")?
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect();
    let usage = MemoryEntry {
        limit: limit(&text("memory.max")?),
        usage: limit(&text("memory.current")?),
        max: limit(&text("memory.peak")?),
        failcnt: 0,
    };
    let swap = MemoryEntry {
        limit: limit(&text("memory.swap.max")?).saturating_add(usage.limit),
        usage: limit(&text("memory.swap.current")?).saturating_add(usage.usage),
        ..MemoryEntry::default()
    };
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: psi(&text("memory.pressure")?),
        ..Memory::default()
    })
}

/// A line like `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` for each device.
fn blkio(stat: &str, pressure: &str) -> BlkIo {
    let mut blkio = BlkIo {
        psi: psi(pressure),
        ..BlkIo::default()
    };
    for line in stat.lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((major, minor)) = device else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match name {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlkIoEntry {
                major,
                minor,
                op,
                value: value.parse().unwrap_or(0),
            });
        }
    }
    blkio
}

/// A number, or `max` as the largest; 0 for a file that is not there.
fn limit(content: &str) -> u64 {
    match content.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

/// The number after a name in a file with one pair per line; 0 if it is not there.
pub(super) fn number_of(content: &str, name: &str) -> u64 {
    let found = content.lines().find_map(|line| match line.split_once(' ') {
        Some((key, value)) if key == name => value.trim().parse().ok(),
        _ => None,
    });
    found.unwrap_or(0)
}

/// The numbers of a list like `0-2,5`.
fn numbers(list: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

fn psi(content: &str) -> Option<Pressure> {
    let averages = |kind: &str| {
        let line = content.lines().find_map(|line| line.strip_prefix(kind))?;
        let mut found = Averages::default();
        for (name, value) in line
            .split_ascii_whitespace()
            .filter_map(|w| w.split_once('='))
        {
            match name {
                "avg10" => found.avg10 = value.parse().ok()?,
                "avg60" => found.avg60 = value.parse().ok()?,
                "avg300" => found.avg300 = value.parse().ok()?,
                "total" => found.total = value.parse().ok()?,
                _ => {}
            }
        }
        Some(found)
    };
    Some(Pressure {
        some: averages("some ")?,
        // CPU pressure of the whole machine has no such line in older kernels.
        full: averages("full ").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
