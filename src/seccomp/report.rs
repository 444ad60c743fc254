//! Denied calls, collected and put into words: who made which call, which rule
//! denied it, and what would allow it.

use serde_json::json;

use super::filter::{Filter, Origins, Profile};
use super::judge::{Call, Decider, Judgement};
use super::words;
use crate::error;

/// So many different denials are remembered: a program that varies arguments
/// without end must not fill the runtime's memory.
const MOST: usize = 256;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    call: Call,
    judgement: Judgement,
    program: String,
    count: u64,
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

    /// One line for each different call.
    pub fn lines(&self, filter: &Filter) -> Vec<String> {
        let origins = filter.origins();
        let seen = self.seen.iter();
        let mut lines: Vec<String> = seen.map(|one| one.line(filter, &origins)).collect();
        if self.forgotten > 0 {
            lines.push(format!("and {} more calls of other kinds", self.forgotten));
        }
        lines
    }
}

impl Denial {
    fn line(&self, filter: &Filter, origins: &Origins) -> String {
        let times = match self.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let fate = match self.judgement.errno() {
            Some(errno) => error::errno_text(errno),
            None => "it was killed".to_owned(),
        };
        format!(
            "{} by {}, {times}: {fate}: {}; {}",
            self.words(),
            self.program.escape_debug(),
            self.reason(filter, origins),
            self.remedy(filter)
        )
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
        denials.lines(filter)
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
