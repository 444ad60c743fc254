//! A container's cgroup as a scope of systemd: its name, place and properties.
//!
//! Pure. The limits are written to the cgroup and read back there as without
//! systemd. As properties it is told of them too, for it writes what it
//! believes again whenever its configuration is reloaded.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{CgroupPlan, Limit};
use crate::error::{Problem, escape};

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// systemd's name for it on the bus: `MemoryMax`.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// The types of the properties that are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`: a number, bytes or microseconds; the greatest means "no limit".
    Number(u64),
    /// `i`: the number of a signal.
    Signal(i32),
    /// `au`
    Pids(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `ay`: a set of CPUs or memory nodes, the lowest eight in the first byte.
    Bytes(Vec<u8>),
}

/// Whose systemd manages the container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// The machine's own, on the system bus.
    System,
    /// That of the calling user, on the user's bus.
    User,
}

/// The scope a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whose systemd makes it.
    pub instance: Instance,
    /// The unit's name: `libpod-ID.scope`.
    pub unit: String,
    /// The slice it is in: `machine.slice`.
    pub slice: String,
    /// What the unit is for, in words.
    description: String,
    /// From `org.systemd.property.*` annotations.
    annotated: Vec<Property>,
    /// The caller asked for a scope; otherwise it is the best there is, and a
    /// container without limits can do without it.
    pub asked: bool,
}

/// What is asked of systemd.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`: `slice:prefix:name`, or absent.
    pub path: Option<&'a Path>,
    /// Whose systemd.
    pub instance: Instance,
    /// The cgroup of that systemd, as it names it itself; empty or `/` for the root.
    pub control_group: &'a str,
    /// The caller asked for a scope, with `--systemd-cgroup`.
    pub asked: bool,
}

/// The prefix of annotations that set unit properties.
const ANNOTATION: &str = "org.systemd.property.";

/// The longest name of a unit.
const LONGEST_NAME: usize = 255;

/// Turns a planned cgroup into one that systemd makes.
///
/// # Errors
/// A `cgroupsPath` that is no `slice:prefix:name`; annotations that are not
/// allowed or have no such value.
pub fn in_scope<'a>(
    mut plan: CgroupPlan,
    request: &Request<'_>,
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<CgroupPlan, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut annotated = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            continue;
        };
        match property(name, value) {
            Ok(property) => annotated.push(property),
            Err(problem) => {
                let at = format!("/annotations/{}", escape(key));
                problems.push(Problem::new(at, problem));
            }
        }
    }
    match names(request) {
        Ok((slice, unit)) if problems.is_empty() => {
            let below = request.control_group.trim_matches('/');
            plan.path = [Path::new(below), &levels(&slice), Path::new(&unit)]
                .iter()
                .fold(plan.mount.clone(), |path, part| path.join(part));
            plan.scope = Some(Scope {
                instance: request.instance,
                description: format!("capsid container {}", request.id),
                unit,
                slice,
                annotated,
                asked: request.asked,
            });
            return Ok(plan);
        }
        Ok(_) => {}
        Err(problem) => problems.insert(0, Problem::new("/linux/cgroupsPath", problem)),
    }
    Err(problems)
}

/// The names of slice and unit.
fn names(request: &Request<'_>) -> Result<(String, String), String> {
    let path = request.path.map(Path::to_string_lossy).unwrap_or_default();
    let mut parts = path.split(':');
    let (slice, prefix, name) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), None, ..) => ("", "capsid", request.id),
        (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
        _ => {
            return Err(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, \
                 got {path:?} instead"
            ));
        }
    };
    let slice = match (slice, request.instance) {
        ("", Instance::System) => "system.slice",
        ("", Instance::User) => "user.slice",
        (slice, _) => slice,
    };
    check_slice(slice)?;
    if name.is_empty() || name.ends_with(".slice") {
        return Err(format!("{name:?} cannot be a scope's name"));
    }
    let unit = match prefix {
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    check_name(&unit)?;
    Ok((slice.to_owned(), unit))
}

/// systemd's own rule, for its answer would not say which character it is.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if let Some(wrong) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!("{wrong:?} may not be in the name of a unit"));
    }
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "the name of a unit has {LONGEST_NAME} bytes at most"
        ));
    }
    // It becomes a directory of the hierarchy.
    if name.starts_with('.') {
        return Err(format!("{name:?} begins with a dot"));
    }
    Ok(())
}

fn check_slice(slice: &str) -> Result<(), String> {
    check_name(slice)?;
    let wrong = || format!("{slice:?} is not the name of a slice (a-b.slice)");
    let stem = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if stem != "-" && stem.split('-').any(str::is_empty) {
        return Err(wrong());
    }
    Ok(())
}

/// A slice's name says where it is: `a-b.slice` is in `a.slice`.
fn levels(slice: &str) -> PathBuf {
    let stem = slice.trim_end_matches(".slice");
    let mut path = PathBuf::new();
    if stem == "-" {
        return path;
    }
    for (at, _) in stem.match_indices('-') {
        path.push(format!("{}.slice", &stem[..at]));
    }
    path.push(slice);
    path
}

impl Scope {
    /// All properties of the unit for its first process and these limits. What
    /// an annotation says of a property goes last and so counts.
    pub fn properties(&self, pid: u32, limits: &[Limit]) -> Vec<Property> {
        let flag = |name: &str, value| new(name, Value::Flag(value));
        let mut properties = vec![
            new("Description", Value::Text(self.description.clone())),
            new("Slice", Value::Text(self.slice.clone())),
            flag("Delegate", true),
            flag("DefaultDependencies", false),
            flag("CPUAccounting", true),
            flag("IOAccounting", true),
            flag("MemoryAccounting", true),
            flag("TasksAccounting", true),
            new("PIDs", Value::Pids(vec![pid])),
        ];
        for limit in limits {
            for property in of_limit(limit) {
                replace(&mut properties, property);
            }
        }
        for property in &self.annotated {
            replace(&mut properties, property.clone());
        }
        properties
    }
}

impl Scope {
    /// The properties in words, for `explain`.
    pub fn told(&self, limits: &[Limit]) -> String {
        let properties = self.properties(0, limits);
        let words = properties.iter().filter_map(|property| {
            let value = match &property.value {
                // Not known yet.
                Value::Pids(_) => return None,
                Value::Text(text) => text.clone(),
                Value::Flag(flag) => flag.to_string(),
                Value::Number(u64::MAX) => "infinity".to_owned(),
                Value::Number(number) => number.to_string(),
                Value::Signal(signal) => signal.to_string(),
                Value::Texts(texts) => texts.join(" "),
                Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            };
            Some(format!("{}={value}", property.name))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Each property once: systemd would add to a list what comes twice.
fn replace(properties: &mut Vec<Property>, property: Property) {
    properties.retain(|other| other.name != property.name);
    properties.push(property);
}

fn new(name: &str, value: Value) -> Property {
    Property {
        name: name.to_owned(),
        value,
    }
}

/// What systemd calls limits that change.
pub fn changed(limits: &[Limit]) -> Vec<Property> {
    let mut properties = Vec::new();
    for property in limits.iter().flat_map(of_limit) {
        replace(&mut properties, property);
    }
    properties
}

/// What systemd calls a limit; empty where it has no name for it, or none in
/// all versions since 244: then the cgroup's file alone has it.
fn of_limit(limit: &Limit) -> Vec<Property> {
    let name = match limit.file.as_str() {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "io.weight" => "IOWeight",
        "cpu.max" => return quota(&limit.value),
        "cpuset.cpus" => return set("AllowedCPUs", &limit.value),
        "cpuset.mems" => return set("AllowedMemoryNodes", &limit.value),
        _ => return Vec::new(),
    };
    let value = limit.value.trim_start_matches("default ");
    let number = number(value).map(|number| new(name, Value::Number(number)));
    number.into_iter().collect()
}

fn number(value: &str) -> Option<u64> {
    match value {
        "max" => Some(u64::MAX),
        value => value.parse().ok(),
    }
}

/// `cpu.max` as systemd has it: microseconds of each second. It rounds down to
/// whole hundredths of a CPU, so they are rounded up before.
fn quota(value: &str) -> Vec<Property> {
    const SECOND: u64 = 1_000_000;
    const STEP: u64 = 10_000;
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let (Some(quota), Some(period @ 1..)) = (number(quota), number(period)) else {
        return Vec::new();
    };
    let of_second = match quota {
        u64::MAX => u64::MAX,
        quota => quota
            .saturating_mul(SECOND)
            .div_ceil(period)
            .checked_next_multiple_of(STEP)
            .unwrap_or(u64::MAX),
    };
    vec![
        new("CPUQuotaPerSecUSec", Value::Number(of_second)),
        new("CPUQuotaPeriodUSec", Value::Number(period)),
    ]
}

/// A list like `0-2,5` as a mask.
fn set(name: &str, value: &str) -> Vec<Property> {
    /// More CPUs than any kernel is built for.
    const MOST: u32 = 1 << 16;
    let mut mask = Vec::new();
    for (first, last) in super::limit::list(value).unwrap_or_default() {
        // What no machine has is refused when it is written to the cgroup.
        if last >= MOST {
            return Vec::new();
        }
        for bit in first..=last {
            let at = (bit / 8) as usize;
            if mask.len() <= at {
                mask.resize(at + 1, 0u8);
            }
            mask[at] |= 1 << (bit % 8);
        }
    }
    vec![new(name, Value::Bytes(mask))]
}

/// A property from an annotation, its value in GVariant's text format.
///
/// Only what changes neither what runs nor what is allowed: a unit's properties
/// can name commands for systemd to run, with its privileges (CVE-2024-3154).
fn property(name: &str, text: &str) -> Result<Property, String> {
    let text = text.trim();
    let wrong = |kind: &str| format!("{text:?} is not {kind}");
    let value = match name {
        "CollectMode" => match quoted(text) {
            Some(mode @ ("inactive" | "inactive-or-failed")) => Value::Text(mode.to_owned()),
            _ => return Err(wrong("'inactive' or 'inactive-or-failed'")),
        },
        "DefaultDependencies" => Value::Flag(match text {
            "true" => true,
            "false" => false,
            _ => return Err(wrong("true or false")),
        }),
        // podman sets it for every container. It is what systemd sends to stop the scope.
        "KillSignal" => {
            let digits = text.trim_start_matches("int32").trim();
            let signal = digits
                .parse()
                .ok()
                .filter(|number| (1..=64).contains(number));
            Value::Signal(signal.ok_or_else(|| wrong("the number of a signal"))?)
        }
        "After" | "Before" => {
            Value::Texts(units(text).ok_or_else(|| wrong("a list like ['a.service']"))?)
        }
        "TimeoutStopUSec" => {
            let digits = text.trim_start_matches("uint64").trim();
            let number = digits.parse();
            Value::Number(number.map_err(|_| wrong("a number of microseconds"))?)
        }
        "TimeoutStopSec" => {
            let microseconds = seconds(text).ok_or_else(|| wrong("a number of seconds"))?;
            return Ok(new("TimeoutStopUSec", Value::Number(microseconds)));
        }
        _ => {
            return Err(
                "is not one of the unit properties that a bundle may set: After, Before, \
                 CollectMode, DefaultDependencies, KillSignal, TimeoutStopSec, TimeoutStopUSec"
                    .into(),
            );
        }
    };
    Ok(new(name, value))
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"'))
}

fn units(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let names = inner.split(',').map(|part| {
        let name = quoted(part.trim())?;
        check_name(name).ok()?;
        Some(name.to_owned())
    });
    names.collect()
}

/// Seconds, whole or with a fraction, as microseconds.
fn seconds(text: &str) -> Option<u64> {
    let text = ["uint64", "int64", "uint32", "int32"]
        .iter()
        .find_map(|kind| text.strip_prefix(kind))
        .unwrap_or(text);
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    if fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(fraction)
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Instance::System => "the machine's systemd",
            Instance::User => "the user's systemd",
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, slice) = (&self.unit, &self.slice);
        write!(f, "have {} make {unit} in {slice}", self.instance)
    }
}

#[cfg(test)]
mod tests;
