//! `capsid update`: change the limits of a container.

use std::ffi::OsString;
use std::str::FromStr;

use clap::{ArgMatches, Command};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::cli::Global;
use super::{life, options};
use crate::error::{Error, Result};
use crate::log;

/// Each option that is a limit, with its value's name and what it means.
const LIMITS: &[(&str, &str, &str)] = &[
    ("blkio-weight", "N", "Weight of block IO, 10 to 1000"),
    (
        "cpu-period",
        "US",
        "Period of the CPU quota, in microseconds",
    ),
    (
        "cpu-quota",
        "US",
        "CPU time in each period; -1 for no limit",
    ),
    (
        "cpu-burst",
        "US",
        "CPU time that may be saved up for later periods",
    ),
    (
        "cpu-share",
        "N",
        "CPU shares, 2 to 262144 (becomes cpu.weight)",
    ),
    ("cpu-rt-period", "US", "Only cgroup v1 has it: an error"),
    ("cpu-rt-runtime", "US", "Only cgroup v1 has it: an error"),
    ("cpuset-cpus", "LIST", "CPUs to run on, like 0-2,5"),
    ("cpuset-mems", "LIST", "Memory nodes to use"),
    ("cpu-idle", "0|1", "Run only when nothing else wants to"),
    (
        "memory",
        "BYTES",
        "Memory limit, like 512m; -1 for no limit",
    ),
    (
        "memory-reservation",
        "BYTES",
        "Memory that is reclaimed last (memory.low)",
    ),
    (
        "memory-swap",
        "BYTES",
        "Limit of memory and swap together; needs --memory",
    ),
    (
        "pids-limit",
        "N",
        "How many processes and threads; -1 for no limit",
    ),
    ("l3-cache-schema", "SCHEMA", "Not supported: an error"),
    ("mem-bw-schema", "SCHEMA", "Not supported: an error"),
];

/// What the kernel no longer has; engines may still say it.
const OBSOLETE: [&str; 2] = ["kernel-memory", "kernel-memory-tcp"];

pub(crate) fn command() -> Command {
    let mut command = Command::new("update")
        .about("Change the limits of a container")
        .long_about(
            "Change limits of a container that is created, running or paused. What is not named\n\
             stays as it is. All limits are changed, or none: when the kernel refuses one, the\n\
             others get their old values again. Rules for devices are not changed.",
        )
        .arg(
            options::path(
                "resources",
                "FILE",
                "Read JSON like linux.resources from this file, or - for\nstandard input",
            )
            .short('r'),
        );
    for (name, value, help) in LIMITS {
        command = command.arg(options::text(name, value, help));
    }
    for name in OBSOLETE {
        command = command.arg(options::text(name, "BYTES", "Obsolete and ignored").hide(true));
    }
    command.arg(options::container_id()).after_help(
        "Examples:\n  capsid update --memory 512m --pids-limit 100 web\n  \
         echo '{\"cpu\":{\"quota\":50000,\"period\":100000}}' | capsid update -r - web",
    )
}

/// Changes the limits.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = UpdateArgs::from_matches(matches)?;
    life::update::update(&global.root, &args.id, args.limits)?;
    Ok(0)
}

/// What was asked of `update`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateArgs {
    /// The container's id.
    pub(crate) id: String,
    /// The limits that change, or where they are.
    pub(crate) limits: life::update::Source,
}

impl UpdateArgs {
    /// Fails without an id, and for values that are no numbers.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let id = options::operand(matches, "id")?;
        for name in OBSOLETE {
            if options::given(matches, name).is_some() {
                log::warning(format!(
                    "--{name} is obsolete and ignored: --memory counts it"
                ));
            }
        }
        let file = matches
            .get_one::<OsString>("resources")
            .filter(|file| !file.is_empty());
        let Some(file) = file else {
            let limits = life::update::Source::Options(Box::new(resources(matches)?));
            return Ok(Self { id, limits });
        };
        // runc would ignore the options in silence.
        let beside = LIMITS
            .iter()
            .find(|(name, ..)| options::given(matches, name).is_some());
        if let Some((name, ..)) = beside {
            return Err(Error::Usage(format!(
                "--{name} would have no effect beside --resources: write it into that file"
            )));
        }
        let limits = match file == "-" {
            true => life::update::Source::StandardInput,
            false => life::update::Source::File(file.into()),
        };
        Ok(Self { id, limits })
    }
}

fn resources(matches: &ArgMatches) -> Result<LinuxResources> {
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if options::given(matches, name).is_some() {
            return Err(Error::Missing {
                doing: format!("apply --{name}"),
                missing: "update does not change linux.intelRdt".into(),
                repair: "write to the schemata of its resctrl class".into(),
            });
        }
    }
    let mut resources = LinuxResources::default();
    if let weight @ Some(_) = number(matches, "blkio-weight")? {
        let mut block_io = LinuxBlockIo::default();
        block_io.set_weight(weight);
        resources.set_block_io(Some(block_io));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_period(number(matches, "cpu-period")?);
    cpu.set_quota(number(matches, "cpu-quota")?);
    cpu.set_burst(number(matches, "cpu-burst")?);
    cpu.set_shares(number(matches, "cpu-share")?);
    cpu.set_realtime_period(number(matches, "cpu-rt-period")?);
    cpu.set_realtime_runtime(number(matches, "cpu-rt-runtime")?);
    cpu.set_idle(number(matches, "cpu-idle")?);
    cpu.set_cpus(options::given(matches, "cpuset-cpus"));
    cpu.set_mems(options::given(matches, "cpuset-mems"));
    resources.set_cpu(Some(cpu));
    let mut memory = LinuxMemory::default();
    memory.set_limit(bytes(matches, "memory")?);
    memory.set_reservation(bytes(matches, "memory-reservation")?);
    memory.set_swap(bytes(matches, "memory-swap")?);
    resources.set_memory(Some(memory));
    if let Some(limit) = number(matches, "pids-limit")? {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn number<T: FromStr>(matches: &ArgMatches, name: &str) -> Result<Option<T>> {
    let parse = |text: String| {
        text.parse()
            .map_err(|_| Error::Usage(format!("invalid value {text:?} for --{name}")))
    };
    options::given(matches, name).map(parse).transpose()
}

fn bytes(matches: &ArgMatches, name: &str) -> Result<Option<i64>> {
    let parse = |text: String| {
        size(&text).ok_or_else(|| {
            Error::Usage(format!(
                "invalid value {text:?} for --{name}: give bytes, a size like 512m, or -1 for no limit"
            ))
        })
    };
    options::given(matches, name).map(parse).transpose()
}

/// A number of bytes as Docker writes it: `1073741824`, `512m`, `1.5GiB`, and -1
/// for no limit. All units are powers of 1024.
fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let text = text.to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << shift);
    }
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number * (1_u64 << shift) as f64;
    #[allow(clippy::cast_possible_truncation, reason = "checked on this line")]
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, expected) in [
            ("0", 0),
            ("-1", -1),
            ("1024", 1024),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("32 gb", 32 << 30),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("7b", 7),
        ] {
            assert_eq!(size(text), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "-2",
            "m",
            "5x",
            "1.2.3k",
            "1e3",
            "9999999999999999999",
            "9p9",
            "+-1",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
