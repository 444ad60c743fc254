//! The Landlock fence as steps: a ruleset, its rules, and going behind it.

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::c_string;
use super::steps::Text;
use crate::error::Problem;
use crate::policy::landlock::{Fence, PathRule, Writing};

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// What a rule for something that is no directory may speak of.
pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
/// What an open descriptor that can be read was opened for.
pub const READING: u64 = READ_FILE | IOCTL_DEV;
/// What an open descriptor that can be written was opened for.
pub const WRITING: u64 = WRITE_FILE | TRUNCATE | IOCTL_DEV;

const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;

const SCOPE_ABSTRACT_SOCKETS: u64 = 1 << 0;
const SCOPE_SIGNALS: u64 = 1 << 1;

/// What a version of the ABI can handle of files.
fn files_of(abi: u32) -> u64 {
    let last = match abi {
        0 | 1 => 12,
        2 => 13,
        3 | 4 => 14,
        _ => 15,
    };
    (1 << (last + 1)) - 1
}

/// One step of making the fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FenceStep {
    /// Make the ruleset.
    Ruleset(Ruleset),
    /// Add a rule for what is below a path.
    Beneath(Beneath),
    /// Add a rule for a TCP port.
    Port(Port),
}

impl fmt::Display for FenceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FenceStep::Ruleset(ruleset) => ruleset.fmt(f),
            FenceStep::Beneath(rule) => rule.fmt(f),
            FenceStep::Port(port) => port.fmt(f),
        }
    }
}

/// What the ruleset is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The version of the kernel's ABI.
    pub abi: u32,
    /// `LANDLOCK_ACCESS_FS_*`.
    pub files: u64,
    /// `LANDLOCK_ACCESS_NET_*`.
    pub ports: u64,
    /// `LANDLOCK_SCOPE_*`.
    pub scopes: u64,
}

/// A rule for what is below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beneath {
    /// The path, in the container.
    pub path: CString,
    /// `LANDLOCK_ACCESS_FS_*` that are allowed there.
    pub access: u64,
    words: String,
}

/// A rule for a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// `LANDLOCK_ACCESS_NET_*` that are allowed with it.
    pub access: u64,
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.files != 0, "files"),
            (self.ports & BIND_TCP != 0, "binding TCP ports"),
            (self.ports & CONNECT_TCP != 0, "connecting to TCP ports"),
            (
                self.scopes & SCOPE_ABSTRACT_SOCKETS != 0,
                "abstract sockets outside",
            ),
            (self.scopes & SCOPE_SIGNALS != 0, "signals to the outside"),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, word)| *word)
            .collect();
        write!(
            f,
            "make a Landlock ruleset (ABI {}) for {}",
            self.abi,
            parts.join(", ")
        )
    }
}

impl fmt::Display for Beneath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allow below {}: {}", Text(&self.path), self.words)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.access {
            BIND_TCP => "binding",
            _ => "connecting to",
        };
        write!(f, "allow {doing} TCP port {}", self.number)
    }
}

/// Whose process goes behind the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The container's first.
    First,
    /// One more, of `exec`: in a domain beside that of the first.
    Another,
}

/// The ruleset and its rules.
pub(super) fn steps(fence: &Fence, abi: u32, whose: Whose) -> Result<Vec<FenceStep>, Problem> {
    let handled = match fence.files.is_empty() {
        true => 0,
        false => files_of(abi),
    };
    let ports = |list: &Option<Vec<u16>>, access| if list.is_some() { access } else { 0 };
    let mut steps = vec![FenceStep::Ruleset(Ruleset {
        abi,
        files: handled,
        ports: ports(&fence.bind, BIND_TCP) | ports(&fence.connect, CONNECT_TCP),
        scopes: scopes(fence, abi, whose),
    })];
    for rule in &fence.files {
        steps.push(FenceStep::Beneath(beneath(rule, handled)?));
    }
    for (list, access) in [(&fence.bind, BIND_TCP), (&fence.connect, CONNECT_TCP)] {
        let ports = list.iter().flatten();
        steps.extend(ports.map(|port| {
            FenceStep::Port(Port {
                number: *port,
                access,
            })
        }));
    }
    Ok(steps)
}

/// A process of `exec` is an outsider to the domain of the first, and works in the
/// container all the same: where a namespace keeps it from reaching out, its
/// scope may end there.
fn scopes(fence: &Fence, abi: u32, whose: Whose) -> u64 {
    if abi < 6 || fence.files.is_empty() {
        return 0;
    }
    let fenced = |own_namespace: bool| whose == Whose::First || !own_namespace;
    let sockets = fenced(fence.own_network).then_some(SCOPE_ABSTRACT_SOCKETS);
    let signals = fenced(fence.own_pids).then_some(SCOPE_SIGNALS);
    sockets.unwrap_or(0) | signals.unwrap_or(0)
}

fn beneath(rule: &PathRule, handled: u64) -> Result<Beneath, Problem> {
    let (access, word) = match rule.writing {
        Writing::Nothing => (0, None),
        Writing::Existing => (WRITE_FILE, Some("write to what is there")),
        Writing::Everything => (
            WRITE_FILE
                | REMOVE_DIR
                | REMOVE_FILE
                | MAKE_DIR
                | MAKE_REG
                | MAKE_SOCK
                | MAKE_FIFO
                | MAKE_SYM
                | REFER
                | TRUNCATE,
            Some("write"),
        ),
    };
    let execute = if rule.execute { EXECUTE } else { 0 };
    let devices = if rule.devices { IOCTL_DEV } else { 0 };
    let words = [
        Some("read"),
        word,
        rule.execute.then_some("execute"),
        (rule.devices && handled & IOCTL_DEV != 0).then_some("ioctl of devices"),
    ];
    let words: Vec<_> = words.into_iter().flatten().collect();
    Ok(Beneath {
        path: c_string(rule.path.as_os_str().as_bytes(), "/mounts")?,
        access: handled & (READ_FILE | READ_DIR | access | execute | devices),
        words: words.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence() -> Fence {
        Fence {
            files: vec![PathRule {
                path: "/tmp".into(),
                writing: Writing::Everything,
                execute: true,
                devices: true,
            }],
            bind: None,
            connect: Some(vec![443]),
            own_pids: true,
            own_network: false,
        }
    }

    fn ruleset(steps: &[FenceStep]) -> Ruleset {
        match steps[0] {
            FenceStep::Ruleset(ruleset) => ruleset,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_asked_of_a_kernel_that_does_not_know_it() {
        // Numbers of linux/landlock.h: the last right that each ABI knows.
        for (abi, last) in [
            (1, 12),
            (2, 13),
            (3, 14),
            (4, 14),
            (5, 15),
            (6, 15),
            (7, 15),
        ] {
            let steps = steps(&fence(), abi, Whose::First).unwrap();
            let ruleset = ruleset(&steps);
            assert_eq!(ruleset.files, (1 << (last + 1)) - 1, "{abi}");
            assert_eq!(ruleset.scopes, if abi < 6 { 0 } else { 3 }, "{abi}");
            let FenceStep::Beneath(rule) = &steps[1] else {
                panic!("{steps:?}");
            };
            assert_eq!(rule.access & !ruleset.files, 0, "{abi}");
        }
    }

    #[test]
    fn no_rule_allows_to_make_devices() {
        let rule = beneath(&fence().files[0], u64::MAX).unwrap();
        let (char_device, block_device) = (1 << 6, 1 << 11);
        assert_eq!(rule.access, files_of(7) & !(char_device | block_device));
    }

    #[test]
    fn one_more_process_is_scoped_where_no_namespace_does_it() {
        let steps = steps(&fence(), 7, Whose::Another).unwrap();
        assert_eq!(ruleset(&steps).scopes, SCOPE_ABSTRACT_SOCKETS);
    }

    #[test]
    fn ports_alone_leave_files_and_scopes() {
        let ports = Fence {
            files: Vec::new(),
            ..fence()
        };
        let steps = steps(&ports, 7, Whose::First).unwrap();
        let expected = Ruleset {
            abi: 7,
            files: 0,
            ports: CONNECT_TCP,
            scopes: 0,
        };
        assert_eq!(ruleset(&steps), expected);
        assert_eq!(steps[1].to_string(), "allow connecting to TCP port 443");
    }
}
