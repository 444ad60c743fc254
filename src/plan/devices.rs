//! Which devices a container may open or make: `linux.resources.devices` as a
//! program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! The kernel asks it with every open and mknod of a device node by a process
//! of the cgroup, wherever the node stands. Without it root inside is held by
//! nothing but the mode of a node: an image with the node of the host's disk
//! would be enough. What no rule allows is denied, also without any rules, as
//! runc has it (GHSA-g54h-m393-cpwq: a list that allows must not be read as one
//! that denies).

use std::fmt;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::Problem;

/// A device filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFilter {
    /// The program; the kernel gives it a `struct bpf_cgroup_dev_ctx`.
    pub program: Vec<Instruction>,
    /// What it does, in the order in which later rules override earlier ones.
    rules: Vec<Rule>,
    /// What no rule decides is allowed.
    otherwise: bool,
}

/// One eBPF instruction: the fields of the kernel's `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// `BPF_*` operation code.
    pub code: u8,
    /// The register that is changed or compared.
    pub destination: u8,
    /// The register that is read.
    pub source: u8,
    /// Bytes from the source register, or instructions to skip.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

impl Instruction {
    /// As it lies in memory; little-endian, as both supported architectures are.
    pub fn bytes(self) -> [u8; 8] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [i0, i1, i2, i3] = self.immediate.to_le_bytes();
        let registers = self.source << 4 | self.destination;
        [self.code, registers, o0, o1, i0, i1, i2, i3]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Char,
}

/// `None` is every one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// `BPF_DEVCG_ACC_*`.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Character devices that every container may open, and so may make: a node
/// gives nothing that opening does not. They come after the bundle's rules,
/// which could otherwise take away what the specification promises.
const STANDARD: [(u32, Option<u32>); 8] = [
    // "Default Devices" of the runtime specification: null, zero, full, random,
    // urandom, tty. The container's first process makes their nodes.
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    // A terminal: ptmx makes one, 136 is its other end. Each mount of devpts
    // shows its own only.
    (5, Some(2)),
    (136, None),
];

/// The filter for a bundle's rules and device nodes.
///
/// `None` when the rules end in allowing everything: then there is nothing to ask.
///
/// # Errors
/// Rules that say nothing a filter could do.
pub fn filter(
    rules: &[LinuxDeviceCgroup],
    nodes: &[LinuxDevice],
) -> Result<Option<DeviceFilter>, Vec<Problem>> {
    let (mut kept, otherwise) = read_all(rules)?;
    if otherwise && kept.iter().all(|rule| rule.allow) {
        return Ok(None);
    }
    kept.extend(nodes.iter().filter_map(node));
    kept.extend(STANDARD.map(|(major, minor)| Rule {
        allow: true,
        kind: Some(Kind::Char),
        major: Some(major),
        minor,
        access: ALL,
    }));
    Ok(Some(DeviceFilter {
        program: compile(&kept, otherwise),
        rules: kept,
        otherwise,
    }))
}

/// The rules that still matter, and what holds where none of them does.
fn read_all(rules: &[LinuxDeviceCgroup]) -> Result<(Vec<Rule>, bool), Vec<Problem>> {
    let mut kept = Vec::new();
    let mut otherwise = false;
    let mut problems = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        match read(rule, index) {
            // A denial of type `a` denies everything, as in cgroup v1 and runc,
            // whatever else it says. An allowance of type `a` does so in full
            // only: `a 10:229 r` must not open every disk.
            Ok(rule) if rule.kind.is_none() && (!rule.allow || rule.is_everything()) => {
                kept.clear();
                otherwise = rule.allow;
            }
            Ok(rule) => kept.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok((kept, otherwise))
    } else {
        Err(problems)
    }
}

fn read(rule: &LinuxDeviceCgroup, index: usize) -> Result<Rule, Problem> {
    let problem = |field: &str, text: &str| {
        let at = format!("/linux/resources/devices/{index}/{field}");
        Problem::new(at, text)
    };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C) => Some(Kind::Char),
        Some(LinuxDeviceType::U | LinuxDeviceType::P) => {
            return Err(problem("type", "a rule is for a, b or c"));
        }
    };
    let number = |field: &str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| problem(field, "is not a device number; -1 means all")),
    };
    let mut access = 0;
    for letter in rule.access().iter().flat_map(|access| access.chars()) {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(problem("access", "may contain r, w and m only")),
        };
    }
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        // Like the numbers: what is not said is not restricted.
        access: if access == 0 { ALL } else { access },
    })
}

/// The rule for a node of `linux.devices`: the container's first process, which
/// is in the cgroup, makes it. Opening is another matter, for which the bundle
/// has rules; engines write one for each device they pass.
fn node(device: &LinuxDevice) -> Option<Rule> {
    let kind = match device.typ() {
        LinuxDeviceType::B => Kind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => Kind::Char,
        // The kernel does not ask for a fifo.
        LinuxDeviceType::P | LinuxDeviceType::A => return None,
    };
    Some(Rule {
        allow: true,
        kind: Some(kind),
        // A number that is none has no rule, rather than one for all.
        major: Some(u32::try_from(device.major()).ok()?),
        minor: Some(u32::try_from(device.minor()).ok()?),
        access: MKNOD,
    })
}

impl Rule {
    fn is_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// Load a 32-bit word, load 16 bits, from the source register plus offset.
const BPF_LDX_MEM_W: u8 = 0x61;
const BPF_LDX_MEM_H: u8 = 0x69;
const BPF_ALU32_AND_K: u8 = 0x54;
const BPF_ALU32_RSH_K: u8 = 0x74;
const BPF_ALU64_MOV_K: u8 = 0xb7;
const BPF_JMP_JA: u8 = 0x05;
const BPF_JMP32_JSET_K: u8 = 0x46;
const BPF_JMP32_JNE_K: u8 = 0x56;
const BPF_EXIT: u8 = 0x95;

/// Register 0 is the answer: 1 allows, 0 is EPERM.
const ANSWER: u8 = 0;
/// Register 1 points to the context.
const CONTEXT: u8 = 1;
const VALUE: u8 = 2;
/// What is asked for and not yet allowed.
const ASKED: u8 = 3;

/// `struct bpf_cgroup_dev_ctx`: type in the low half of the first word, access
/// in its high half, then major and minor.
const TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

const fn load(code: u8, destination: u8, offset: i16) -> Instruction {
    Instruction {
        code,
        destination,
        source: CONTEXT,
        offset,
        immediate: 0,
    }
}

const fn with(code: u8, destination: u8, immediate: u32, skip: i16) -> Instruction {
    Instruction {
        code,
        destination,
        source: 0,
        offset: skip,
        immediate: immediate.cast_signed(),
    }
}

const fn answer(allow: bool) -> [Instruction; 2] {
    [
        with(BPF_ALU64_MOV_K, ANSWER, allow as u32, 0),
        with(BPF_EXIT, 0, 0, 0),
    ]
}

/// From the last rule to the first: each takes what it allows from what is
/// asked, until nothing is left (allowed) or a rule denies some of the rest.
///
/// So an open for reading and writing is two questions, each answered by the
/// last rule for it. Were it one, `deny w` would not stop it.
fn compile(rules: &[Rule], otherwise: bool) -> Vec<Instruction> {
    let mut program = vec![
        load(BPF_LDX_MEM_W, ASKED, TYPE),
        with(BPF_ALU32_RSH_K, ASKED, 16, 0),
    ];
    rules.iter().rev().for_each(|rule| emit(&mut program, rule));
    program.extend(answer(otherwise));
    program
}

fn emit(program: &mut Vec<Instruction>, rule: &Rule) {
    let kind = rule.kind.map(|kind| match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    });
    let tests = [
        (BPF_LDX_MEM_H, TYPE, kind),
        (BPF_LDX_MEM_W, MAJOR, rule.major),
        (BPF_LDX_MEM_W, MINOR, rule.minor),
    ];
    // What comes after the tests has four instructions, a test has two.
    let mut skip = 4 + tests
        .iter()
        .filter_map(|test| test.2.map(|_| 2))
        .sum::<i16>();
    for (code, offset, wanted) in tests {
        if let Some(wanted) = wanted {
            skip -= 2;
            // Loaded anew for each rule: a register that stayed alive would
            // give the verifier a state for each value it was compared with.
            program.push(load(code, VALUE, offset));
            program.push(with(BPF_JMP32_JNE_K, VALUE, wanted, skip));
        }
    }
    let access = u32::from(rule.access);
    if rule.allow {
        program.push(with(BPF_ALU32_AND_K, ASKED, !access, 0));
        program.push(with(BPF_JMP32_JNE_K, ASKED, 0, 2));
    } else {
        program.push(with(BPF_JMP32_JSET_K, ASKED, access, 1));
        program.push(with(BPF_JMP_JA, 0, 0, 2));
    }
    program.extend(answer(rule.allow));
}

impl fmt::Display for DeviceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device filter: {} instructions", self.program.len())?;
        let mut before = None;
        for rule in &self.rules {
            let word = if rule.allow { "allows" } else { "denies" };
            match before {
                Some(same) if same == word => write!(f, ", {rule}")?,
                Some(_) => write!(f, ", then {word} {rule}")?,
                None => write!(f, ", {word} {rule}")?,
            }
            before = Some(word);
        }
        let rest = if self.otherwise { "allows" } else { "denies" };
        write!(f, "; {rest} all else")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            None => "a ",
            Some(Kind::Block) => "b ",
            Some(Kind::Char) => "c ",
        })?;
        for (number, end) in [(self.major, ":"), (self.minor, " ")] {
            match number {
                Some(number) => write!(f, "{number}{end}")?,
                None => write!(f, "*{end}")?,
            }
        }
        [(READ, "r"), (WRITE, "w"), (MKNOD, "m")]
            .into_iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

#[cfg(test)]
mod tests;
