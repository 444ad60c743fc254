//! What a filter makes of one call, and why: for reports of denials.

use oci_spec::runtime::LinuxSeccomp;

use super::architecture::{self, Architecture, Calls, Meaning};
use super::condition::MAX_ARGUMENTS;
use super::rules::{Found, Rules};
use super::{abi, returns};
use crate::error::Problem;

/// One system call, as a filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub arch: u32,
    /// The number.
    pub nr: u32,
    /// The arguments.
    pub args: [u64; MAX_ARGUMENTS],
}

impl Call {
    /// The name of the call, if any architecture of this machine has the number.
    pub fn name(&self) -> Option<&'static str> {
        abi::name_of(self.arch, self.nr)
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decider {
    /// An entry of the profile's `syscalls`.
    Rule(usize),
    /// The profile's default action.
    Default,
    /// The call is newer than every call the profile names.
    Newer,
    /// An entry of the floor's `syscalls`.
    Floor(usize),
    /// The filter judges no calls of this architecture.
    Architecture,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The `SECCOMP_RET_*` value.
    pub ret: u32,
    /// Who decided.
    pub by: Decider,
    /// Bit n: argument n was looked at.
    pub arguments: u8,
    /// The floor denies the call too, so that a rule of the profile alone would
    /// not allow it.
    pub below: bool,
}

impl Judgement {
    /// The error number that the caller gets, if the call fails with one.
    pub fn errno(&self) -> Option<i32> {
        let errno = self.ret & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
        errno.then(|| (self.ret & libc::SECCOMP_RET_DATA).cast_signed())
    }
}

/// The rules behind a filter.
#[derive(Debug)]
pub struct Judge {
    profile: Rules,
    floor: Option<Rules>,
    architectures: Vec<Architecture>,
}

impl Judge {
    /// The rules of a profile and of the floor under it.
    ///
    /// # Errors
    ///
    /// What is wrong with the profile.
    pub fn new(profile: &LinuxSeccomp, floor: Option<&LinuxSeccomp>) -> Result<Self, Vec<Problem>> {
        let (architectures, scope) = architecture::of(profile, floor.is_some());
        Ok(Self {
            profile: Rules::new(profile, scope)?,
            floor: floor.map(|floor| Rules::new(floor, scope)).transpose()?,
            architectures,
        })
    }

    /// What the filter of these rules returns for a call.
    pub fn judge(&self, call: &Call) -> Judgement {
        let by_architecture = |ret| Judgement {
            ret,
            by: Decider::Architecture,
            arguments: 0,
            below: self.floor.is_some(),
        };
        let architecture = self.architectures.iter().find(|one| one.audit == call.arch);
        let segment = architecture.and_then(|one| one.segment(call.nr));
        match segment.map(|segment| &segment.meaning) {
            None => by_architecture(libc::SECCOMP_RET_KILL_PROCESS),
            Some(Meaning::Refused) => by_architecture(returns::errno(libc::ENOSYS)),
            Some(Meaning::Calls(calls)) => self.among(calls, call),
        }
    }

    fn among(&self, calls: &Calls, call: &Call) -> Judgement {
        let row = calls.row(call.nr);
        let own = match row {
            _ if self
                .profile
                .refuses_newer(calls)
                .is_some_and(|newest| call.nr > newest) =>
            {
                Judgement {
                    ret: returns::errno(libc::ENOSYS),
                    by: Decider::Newer,
                    arguments: 0,
                    below: false,
                }
            }
            Some(row) => {
                let found = self.profile.tried(row).judge(calls.width, &call.args);
                judgement(found, Decider::Rule)
            }
            None => Judgement {
                ret: self.profile.default,
                by: Decider::Default,
                arguments: 0,
                below: false,
            },
        };
        let denied = self.floor.as_ref().zip(row).map(|(floor, row)| {
            let found = floor.tried(row).judge(calls.width, &call.args);
            judgement(found, Decider::Floor)
        });
        match denied {
            Some(denied) if returns::is_laxer(own.ret, denied.ret) => denied,
            Some(denied) => Judgement {
                below: returns::is_laxer(libc::SECCOMP_RET_ALLOW, denied.ret),
                ..own
            },
            None => own,
        }
    }
}

fn judgement(found: Found, rule: fn(usize) -> Decider) -> Judgement {
    Judgement {
        ret: found.ret,
        by: found.entry.map_or(Decider::Default, rule),
        arguments: found.arguments,
        below: false,
    }
}
