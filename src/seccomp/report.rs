//! Denied calls, collected and put into words: who made which call, which rule
//! denied it, and what would allow it.

use serde_json::json;

use super::builtin::Builtin;
use super::filter::{Filter, Origins, Profile};
use super::judge::{Call, Decider, Judge, Judgement};
use super::words;
use crate::error;

/// So many different denials are remembered: a program that varies arguments
/// without end must not fill the runtime's memory.
const MOST: usize = 256;

/// In whose words a report says what would allow a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Fields and annotations of a bundle.
    Bundle,
    /// Options of `capsid sandbox`.
    Sandbox,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    call: Call,
    judgement: Judgement,
    program: String,
    count: u64,
}

/// A denied call and how often it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'d> {
    /// The call, and the arguments that decided.
    pub call: String,
    /// The name of the program that made it.
    pub program: &'d str,
    /// How often.
    pub count: u64,
    /// What became of it.
    pub answer: String,
}

/// The denied calls of a container, in the order in which they were first made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    seen: Vec<Denial>,
    /// How many more there were than are remembered.
    forgotten: u64,
}

impl Denials {
    /// Adds a denied call of a program.
    pub fn add(&mut self, call: Call, judgement: Judgement, program: String) {
        // Arguments that nobody looked at make no difference.
        let mut call = call;
        for (index, value) in call.args.iter_mut().enumerate() {
            if judgement.arguments & 1 << index == 0 {
                *value = 0;
            }
        }
        let known = self.seen.iter().position(|denial| {
            denial.call == call && denial.judgement == judgement && denial.program == program
        });
        match known {
            Some(index) => self.seen[index].count += 1,
            None if self.seen.len() < MOST => self.seen.push(Denial {
                call,
                judgement,
                program,
                count: 1,
            }),
            None => self.forgotten += 1,
        }
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Each different call without advice: for those who watch, and not for those
    /// who write profiles.
    pub fn told(&self) -> Vec<Told<'_>> {
        let each = self.seen.iter().map(|one| Told {
            call: one.words(),
            program: &one.program,
            count: one.count,
            answer: one.fate(),
        });
        each.collect()
    }

    /// One line for each different call.
    pub fn lines(&self, filter: &Filter, advice: Advice) -> Vec<String> {
        if self.seen.is_empty() {
            return Vec::new();
        }
        let origins = filter.origins();
        // For the question whether the weaker profile would do.
        let default = Filter {
            profile: Profile::Builtin(Builtin::Default),
            floor: false,
            granted: filter.granted.clone(),
        };
        let default = default.judge().ok();
        let remedy = |one: &Denial| match advice {
            Advice::Bundle => one.remedy(filter),
            Advice::Sandbox => one.option(filter, default.as_ref()),
        };
        let seen = self.seen.iter();
        let mut lines: Vec<String> = seen
            .map(|one| one.line(filter, &origins, &remedy(one)))
            .collect();
        if self.forgotten > 0 {
            lines.push(format!("and {} more calls of other kinds", self.forgotten));
        }
        lines
    }
}

impl Denial {
    fn line(&self, filter: &Filter, origins: &Origins, remedy: &str) -> String {
        let times = match self.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        format!(
            "{} by {}, {times}: {}: {}; {remedy}",
            self.words(),
            self.program.escape_debug(),
            self.fate(),
            self.reason(filter, origins),
        )
    }

    /// What became of it.
    fn fate(&self) -> String {
        match self.judgement.errno() {
            Some(errno) => error::errno_text(errno),
            None => "it was killed".to_owned(),
        }
    }

    /// The arguments that decided, each with its place.
    fn tested(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.call.args.into_iter().enumerate();
        all.filter(|(index, _)| self.judgement.arguments & 1 << index != 0)
    }

    /// The call and the arguments that decided.
    fn words(&self) -> String {
        let Some(name) = self.call.name() else {
            let Call { nr, arch, .. } = self.call;
            return format!("system call {nr} of architecture {arch:#x}");
        };
        let arguments: Vec<String> = self
            .tested()
            .map(|(index, value)| words::argument(name, index, value))
            .collect();
        if arguments.is_empty() {
            name.to_owned()
        } else {
            format!("{name}({})", arguments.join(", "))
        }
    }

    /// Which rule denied it.
    fn reason(&self, filter: &Filter, origins: &Origins) -> String {
        let profile = match &filter.profile {
            Profile::Builtin(own) => format!("the {own} profile"),
            Profile::Bundle(_) | Profile::None => "the bundle's profile".to_owned(),
        };
        if let Some((own, origin)) = origins.of(self.judgement.by) {
            let why = origin.comment.split(". ").next().unwrap_or_default();
            let why = why.trim_end_matches('.');
            return format!("rule {} of the {own} profile ({why})", origin.index);
        }
        match self.judgement.by {
            Decider::Rule(index) => format!("/linux/seccomp/syscalls/{index}"),
            Decider::Newer => format!("newer than {profile}"),
            Decider::Architecture => "not this machine's own architecture".to_owned(),
            Decider::Default | Decider::Floor(_) => format!("{profile} does not have it"),
        }
    }

    /// What would allow it.
    fn remedy(&self, filter: &Filter) -> String {
        const FLOOR: &str = "annotation dev.capsid.relax=seccomp-floor";
        const FLOOR_AND_LIMIT: &str = "annotation dev.capsid.relax=seccomp-floor,nested-userns";
        let floor = if self.makes_user_namespace() {
            // Without the filter the limit of the user namespace would still hold.
            FLOOR_AND_LIMIT
        } else {
            FLOOR
        };
        let mut needed = Vec::new();
        match (self.judgement.by, &filter.profile) {
            (Decider::Floor(_), _) => needed.push(floor.to_owned()),
            (Decider::Architecture, _) if filter.floor => {
                needed.push(format!("{FLOOR} and linux.seccomp.architectures"));
            }
            (Decider::Architecture, _) => needed.push("linux.seccomp.architectures".to_owned()),
            _ if self.call.name().is_none() => {
                return "no profile can name it".to_owned();
            }
            (Decider::Rule(index), Profile::Bundle(_)) => {
                needed.push(format!("a change of linux.seccomp.syscalls[{index}]"));
            }
            (_, Profile::Builtin(own)) => {
                needed.push(format!(
                    "linux.seccomp from `capsid seccomp print {own}` with {}",
                    self.rule()
                ));
            }
            (_, Profile::Bundle(_) | Profile::None) => {
                needed.push(format!("linux.seccomp.syscalls with {}", self.rule()));
            }
        }
        if self.judgement.below && !matches!(self.judgement.by, Decider::Architecture) {
            needed.push(floor.to_owned());
        }
        format!("to allow it: {}", needed.join(" and "))
    }

    /// The option of `capsid sandbox` that would allow it.
    fn option(&self, filter: &Filter, default: Option<&Judge>) -> String {
        let by_default =
            default.is_some_and(|default| default.judge(&self.call).ret == libc::SECCOMP_RET_ALLOW);
        let mut needed = Vec::new();
        match (self.judgement.by, &filter.profile) {
            (Decider::Floor(_), Profile::Bundle(_) | Profile::None) => {}
            (Decider::Architecture, _) => {
                needed.push("--seccomp FILE whose profile lists this architecture".to_owned())
            }
            _ if self.call.name().is_none() => return "no profile can name it".to_owned(),
            (_, Profile::Bundle(_) | Profile::None) => {
                needed.push(format!("{} in the file of --seccomp", self.rule()));
            }
            (_, Profile::Builtin(Builtin::Strict)) if by_default => {
                needed.push("--seccomp default".to_owned());
            }
            (_, Profile::Builtin(own)) => needed.push(format!(
                "--seccomp FILE, made from `capsid seccomp print {own}` and {}",
                self.rule()
            )),
        }
        let floor = matches!(self.judgement.by, Decider::Floor(_));
        if floor || self.judgement.below || self.judgement.by == Decider::Architecture {
            needed.push("--relax seccomp-floor".to_owned());
        }
        if self.makes_user_namespace() {
            // Without the filter the limit of the user namespace would still hold.
            needed.push("--relax nested-userns".to_owned());
        }
        format!("to allow it: {}", needed.join(" and "))
    }

    /// Whether the call makes a user namespace. The flags of clone3 are behind a
    /// pointer; it is answered as if there were no such call.
    fn makes_user_namespace(&self) -> bool {
        let named = matches!(self.call.name(), Some("unshare" | "clone"));
        named && self.call.args[0] & u64::from(libc::CLONE_NEWUSER.cast_unsigned()) != 0
    }

    /// The rule of a profile that would allow the call.
    fn rule(&self) -> String {
        let name = self.call.name().unwrap_or("?");
        let args: Vec<_> = self
            .tested()
            .map(|(index, value)| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" }))
            .collect();
        let mut rule = json!({ "names": [name], "action": "SCMP_ACT_ALLOW" });
        if !args.is_empty() {
            rule["args"] = args.into();
        }
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::abi;

    fn filter(profile: serde_json::Value) -> Filter {
        Filter {
            profile: Profile::Bundle(Box::new(serde_json::from_value(profile).unwrap())),
            floor: true,
            granted: Vec::new(),
        }
    }

    fn call(name: &str, args: [u64; 6]) -> Call {
        let native = abi::native();
        let (nr, _) = native.calls().find(|(_, known)| *known == name).unwrap();
        let arch = native.audit;
        Call { arch, nr, args }
    }

    fn lines(filter: &Filter, calls: &[Call]) -> Vec<String> {
        let judge = filter.judge().unwrap();
        let mut denials = Denials::default();
        for call in calls {
            denials.add(*call, judge.judge(call), "prog".into());
        }
        denials.lines(filter, Advice::Bundle)
    }

    #[test]
    fn a_line_tells_who_what_why_and_what_to_do() {
        let filter = filter(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["read", "socket", "statx"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["kill"], "action": "SCMP_ACT_KILL",
              "args": [{ "index": 1, "value": 9, "op": "SCMP_CMP_EQ" }] },
        ]}));
        let chroot = call("chroot", [1, 2, 3, 4, 5, 6]);
        let found = lines(
            &filter,
            &[
                chroot,
                call("chroot", [7; 6]),
                call("kill", [1, 9, 0, 0, 0, 0]),
                call("socket", [38, 5, 0, 0, 0, 0]),
                call("setns", [0; 6]),
                Call {
                    nr: 99_999,
                    ..chroot
                },
            ],
        );
        let expected = [
            "chroot by prog, 2 times: operation not permitted (EPERM): the bundle's profile does \
             not have it; to allow it: linux.seccomp.syscalls with \
             {\"action\":\"SCMP_ACT_ALLOW\",\"names\":[\"chroot\"]}",
            "kill(argument 1 = 0x9) by prog, once: it was killed: /linux/seccomp/syscalls/1; to \
             allow it: a change of linux.seccomp.syscalls[1]",
        ];
        assert_eq!(found[..2], expected);
        assert!(
            found[2].starts_with("socket(domain = AF_ALG"),
            "{}",
            found[2]
        );
        assert!(found[2].contains("of the floor profile"), "{}", found[2]);
        assert!(found[2].ends_with("to allow it: annotation dev.capsid.relax=seccomp-floor"));
        assert!(found[3].ends_with("and annotation dev.capsid.relax=seccomp-floor"));
        assert!(found[4].contains("system call 99999"), "{}", found[4]);
        assert!(found[4].ends_with("newer than the bundle's profile; no profile can name it"));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_sandbox_is_told_of_its_options() {
        let filter = Filter {
            profile: Profile::Builtin(Builtin::Strict),
            floor: true,
            granted: Vec::new(),
        };
        let judge = filter.judge().unwrap();
        let mut denials = Denials::default();
        let calls = [
            call("setns", [0; 6]),
            call("socket", [38, 5, 0, 0, 0, 0]),
            call("mq_open", [0; 6]),
        ];
        for call in calls {
            denials.add(call, judge.judge(&call), "prog".into());
        }
        let found = denials.lines(&filter, Advice::Sandbox);
        assert!(
            found[0].contains("--seccomp FILE, made from"),
            "{}",
            found[0]
        );
        assert!(
            found[0].ends_with(" and --relax seccomp-floor"),
            "{}",
            found[0]
        );
        assert!(found[1].contains("--relax seccomp-floor"), "{}", found[1]);
        assert!(
            found[2].ends_with("to allow it: --seccomp default"),
            "{}",
            found[2]
        );
    }

    #[test]
    fn endless_variety_does_not_fill_the_memory() {
        let filter = filter(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 1, "value": 9, "op": "SCMP_CMP_EQ" }] },
        ]}));
        let calls: Vec<Call> = (100..1100)
            .map(|n| call("ioctl", [0, n, 0, 0, 0, 0]))
            .collect();
        let found = lines(&filter, &calls);
        assert_eq!(found.len(), MOST + 1);
        assert_eq!(found[MOST], "and 744 more calls of other kinds");
    }
}
