//! The rules of a profile, lowered to one leaf for each system call name.
//!
//! Which rule decides, where several name one system call:
//!
//! 1. A rule with the default action does nothing (as in runc and crun).
//! 2. Rules are tried in the order of the document; the first that matches
//!    decides, and the default action when none does.
//! 3. A rule without conditions ends the list: rules after it are ignored. It
//!    also outweighs rules with conditions before it whose action is laxer
//!    than its own. (libseccomp lets it outweigh all of them; keeping the
//!    stricter ones means that a denial in a profile is never lost.)
//! 4. The conditions of a rule must all hold. When two of them test one
//!    argument, each is a rule of its own instead (as in runc).

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use super::alternatives::Alternative;
use super::architecture::Calls;
use super::condition::{Condition, MAX_ARGUMENTS, Width};
use super::{names, returns};
use crate::error::Problem;

/// Where seccomp profiles stand in a configuration.
const PROFILE: &str = "/linux/seccomp";

/// A profile as rules and, for each system call name, the list of its rules.
#[derive(Debug)]
pub(super) struct Rules {
    /// The return value of the default action.
    pub(super) default: u32,
    /// Whether any rule asks a supervisor.
    pub(super) notify: bool,
    /// Names without a number on any architecture of the filter.
    pub(super) skipped: Vec<String>,
    rules: Vec<Rule>,
    links: Vec<Link>,
    slots: Vec<Slot>,
    decisions: Vec<Decision>,
}

/// One entry of `syscalls`, or one made for a multiplexer.
#[derive(Debug)]
struct Rule {
    /// The index of the entry.
    entry: usize,
    ret: u32,
    /// One of these sets of conditions must hold; none at all means always.
    alternatives: Vec<Vec<Condition>>,
    /// A way through a multiplexer to a call that the entry has no conditions for.
    routes_all: bool,
}

/// The rules of a system call as a list whose head is the last one; names with
/// equal lists share it, so that they share code.
#[derive(Clone, Copy, Debug)]
struct Link {
    before: Option<usize>,
    rule: usize,
}

/// What is known of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    head: Option<usize>,
    /// A rule without conditions is at the head.
    closed: bool,
    /// The profile mentions the name, if only with the default action.
    named: bool,
}

/// The rules of a name whose arguments matter.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    rules: Vec<usize>,
    otherwise: u32,
}

/// What a profile says of one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This `SECCOMP_RET_*` value, whatever the arguments.
    Return(u32),
    /// The arguments decide: for [`Rules::alternatives`].
    Decide(usize),
}

/// The rules that are tried for one name, in order.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    rules: &'a Rules,
    /// Those with conditions.
    conditional: Vec<usize>,
    /// The one without, which decides when none of them does.
    closing: Option<usize>,
}

/// The result of one call's rules, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The `SECCOMP_RET_*` value.
    pub(super) ret: u32,
    /// The entry of `syscalls` that decided; none means the default action.
    pub(super) entry: Option<usize>,
    /// Bit n: argument n was looked at.
    pub(super) arguments: u8,
}

impl Tried<'_> {
    /// Tries the rules on the arguments of a call.
    pub(super) fn judge(&self, width: Width, args: &[u64; MAX_ARGUMENTS]) -> Found {
        let mut arguments = 0;
        for &rule in &self.conditional {
            let rule = &self.rules.rules[rule];
            for conditions in &rule.alternatives {
                let tested = conditions
                    .iter()
                    .fold(0, |bits, one| bits | 1 << one.argument());
                arguments |= tested;
                if conditions
                    .iter()
                    .all(|condition| condition.holds(width, args))
                {
                    return Found {
                        ret: rule.ret,
                        entry: Some(rule.entry),
                        arguments: tested,
                    };
                }
            }
        }
        let closing = self.closing.map(|rule| &self.rules.rules[rule]);
        Found {
            ret: closing.map_or(self.rules.default, |rule| rule.ret),
            entry: closing.map(|rule| rule.entry),
            arguments,
        }
    }
}

/// Which columns of the tables the filter is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// Bit n: the n-th column of the target.
    pub(super) columns: u8,
    /// Whether socketcall and ipc can be used in place of other calls.
    pub(super) multiplexed: bool,
}

impl Rules {
    /// Checks and lowers a profile; all problems are reported, not the first only.
    pub(super) fn new(profile: &LinuxSeccomp, scope: Scope) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let default = default_return(profile, &mut problems);
        let entries = profile.syscalls().as_deref().unwrap_or_default();
        let mut all = Self {
            default,
            notify: false,
            skipped: Vec::new(),
            rules: Vec::with_capacity(entries.len()),
            links: Vec::with_capacity(entries.len()),
            slots: vec![Slot::default(); names::tables().rows()],
            decisions: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate() {
            match lower(index, entry) {
                Ok(rule) => all.add(entry, rule, scope),
                Err(found) => problems.extend(found.into_iter().map(|(at, problem)| {
                    Problem::new(format!("{PROFILE}/syscalls/{index}{at}"), problem)
                })),
            }
        }
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(problems)
        }
    }

    /// The greatest number that the profile names, where greater ones are
    /// answered with ENOSYS: they are newer than the profile.
    pub(super) fn refuses_newer(&self, calls: &Calls) -> Option<u32> {
        if self.default != returns::errno(libc::EPERM) {
            return None;
        }
        let newest = calls.newest(|row| self.slots[usize::from(row)].named);
        newest.map(|(number, _)| number)
    }

    /// The rules that are tried for one row.
    pub(super) fn tried(&self, row: u16) -> Tried<'_> {
        self.list(self.slots[usize::from(row)])
    }

    /// Whether a verdict could make a result stricter.
    pub(super) fn matters(&self, verdict: Verdict, result: u32) -> bool {
        let stricter = |value: u32| returns::is_laxer(result, value);
        match verdict {
            Verdict::Return(value) => stricter(value),
            Verdict::Decide(decision) => {
                let Decision { rules, otherwise } = &self.decisions[decision];
                stricter(*otherwise) || rules.iter().any(|&rule| stricter(self.rules[rule].ret))
            }
        }
    }

    /// The return value of every rule that may apply.
    pub(super) fn alternatives(&self, decision: usize) -> (Vec<Alternative<'_>>, u32) {
        let Decision { rules, otherwise } = &self.decisions[decision];
        let alternatives = rules
            .iter()
            .map(|&rule| &self.rules[rule])
            .flat_map(|rule| {
                rule.alternatives.iter().map(|conditions| Alternative {
                    conditions,
                    ret: rule.ret,
                })
            });
        (alternatives.collect(), *otherwise)
    }

    /// What the profile says of each row.
    pub(super) fn verdicts(&mut self) -> Vec<Verdict> {
        let mut known = vec![None; self.links.len()];
        let mut verdicts = Vec::with_capacity(self.slots.len());
        for index in 0..self.slots.len() {
            let slot = self.slots[index];
            let verdict = match slot.head {
                None => Verdict::Return(self.default),
                Some(head) => match known[head] {
                    Some(verdict) => verdict,
                    None => *known[head].insert(self.verdict(slot)),
                },
            };
            verdicts.push(verdict);
        }
        verdicts
    }

    /// Adds a rule to the lists of all names of its entry.
    fn add(&mut self, entry: &LinuxSyscall, rule: Rule, scope: Scope) {
        let first_link = self.links.len();
        let index = self.rules.len();
        let ret = rule.ret;
        self.notify |= ret == libc::SECCOMP_RET_USER_NOTIF && !entry.names().is_empty();
        self.rules.push(rule);
        for name in entry.names() {
            let row = names::tables().row(name);
            let native = row.filter(|&row| names::tables().columns_of(row) & scope.columns != 0);
            if let Some(row) = native {
                self.append(row, index, first_link);
            }
            let routed = scope.multiplexed && self.add_route(name, index);
            if native.is_none() && !routed {
                self.skipped.push(name.clone());
            }
        }
    }

    /// Covers the way to a system call through socketcall or ipc.
    ///
    /// Its arguments are behind a pointer there, where a filter cannot see
    /// them. A rule with conditions that is stricter than the default is
    /// therefore applied to all such calls, and a laxer one to none.
    fn add_route(&mut self, name: &str, rule: usize) -> bool {
        let Some((multiplexer, condition)) = super::multiplex::route(name) else {
            return false;
        };
        let Some(row) = names::tables().row(multiplexer) else {
            return false;
        };
        let Rule {
            entry,
            ret,
            ref alternatives,
            ..
        } = self.rules[rule];
        let routes_all = alternatives.is_empty();
        if routes_all || returns::is_laxer(self.default, ret) {
            let routed = self.rules.len();
            self.rules.push(Rule {
                entry,
                ret,
                alternatives: vec![vec![condition]],
                routes_all,
            });
            let first_link = self.links.len();
            self.append(row, routed, first_link);
        }
        true
    }

    /// Appends a rule to the list of one name. Links from `first_link` on were
    /// made for the same rule.
    fn append(&mut self, row: u16, rule: usize, first_link: usize) {
        let Slot { head, closed, .. } = self.slots[usize::from(row)];
        self.slots[usize::from(row)].named = true;
        let repeated = head.is_some_and(|head| {
            let last = &self.rules[self.links[head].rule];
            let own = &self.rules[rule];
            last.entry == own.entry && last.alternatives == own.alternatives
        });
        if closed || repeated || self.rules[rule].ret == self.default {
            return;
        }
        let made = self.links[first_link..]
            .iter()
            .position(|link| link.before == head && link.rule == rule);
        let link = match made {
            Some(position) => first_link + position,
            None => {
                self.links.push(Link { before: head, rule });
                self.links.len() - 1
            }
        };
        let slot = &mut self.slots[usize::from(row)];
        slot.head = Some(link);
        slot.closed = self.rules[rule].alternatives.is_empty();
    }

    /// The rules of a slot that have an effect.
    fn list(&self, slot: Slot) -> Tried<'_> {
        let mut rules = Vec::new();
        let mut next = slot.head;
        while let Some(link) = next {
            rules.push(self.links[link].rule);
            next = self.links[link].before;
        }
        rules.reverse();
        self.outweigh_routes(&mut rules);
        let closing = if slot.closed { rules.pop() } else { None };
        if let Some(closing) = closing {
            let otherwise = self.rules[closing].ret;
            rules.retain(|&rule| !returns::is_laxer(self.rules[rule].ret, otherwise));
            while rules
                .last()
                .is_some_and(|&rule| self.rules[rule].ret == otherwise)
            {
                rules.pop();
            }
        }
        Tried {
            rules: self,
            conditional: rules,
            closing,
        }
    }

    /// Rule 3 among the ways through a multiplexer to one call: a rule without
    /// conditions outweighs laxer ones before it.
    fn outweigh_routes(&self, rules: &mut Vec<usize>) {
        // The last rules first: each way with the strictest result after it.
        let mut later: Vec<(&[Vec<Condition>], u32)> = Vec::new();
        let mut kept = Vec::with_capacity(rules.len());
        for &rule in rules.iter().rev() {
            let own = &self.rules[rule];
            let way = later.iter_mut().find(|(way, _)| *way == own.alternatives);
            if way
                .as_ref()
                .is_some_and(|(_, ret)| returns::is_laxer(own.ret, *ret))
            {
                continue;
            }
            match way {
                _ if !own.routes_all => {}
                Some((_, ret)) => *ret = own.ret,
                None => later.push((&own.alternatives, own.ret)),
            }
            kept.push(rule);
        }
        kept.reverse();
        *rules = kept;
    }

    /// What the rules of a slot come to.
    fn verdict(&mut self, slot: Slot) -> Verdict {
        let Tried {
            conditional: rules,
            closing,
            ..
        } = self.list(slot);
        let otherwise = closing.map_or(self.default, |closing| self.rules[closing].ret);
        if rules.is_empty() {
            return Verdict::Return(otherwise);
        }
        let decision = Decision { rules, otherwise };
        let known = self.decisions.iter().position(|other| *other == decision);
        Verdict::Decide(known.unwrap_or_else(|| {
            self.decisions.push(decision);
            self.decisions.len() - 1
        }))
    }
}

/// The default action; a supervisor cannot be asked about every system call.
fn default_return(profile: &LinuxSeccomp, problems: &mut Vec<Problem>) -> u32 {
    let action = profile.default_action();
    if action == LinuxSeccompAction::ScmpActNotify {
        problems.push(Problem::new(
            format!("{PROFILE}/defaultAction"),
            "SCMP_ACT_NOTIFY cannot be the default action: the container would wait for its \
             supervisor before it can start; name the system calls to be supervised",
        ));
    }
    returns::of(action, profile.default_errno_ret()).unwrap_or_else(|problem| {
        problems.push(Problem::new(format!("{PROFILE}/defaultErrnoRet"), problem));
        libc::SECCOMP_RET_KILL_PROCESS
    })
}

/// One entry as a rule, or its problems with their places in the entry.
fn lower(index: usize, entry: &LinuxSyscall) -> Result<Rule, Vec<(String, String)>> {
    let mut problems = Vec::new();
    let ret = returns::of(entry.action(), entry.errno_ret()).unwrap_or_else(|problem| {
        problems.push(("/errnoRet".to_owned(), problem));
        0
    });
    // runc refuses this too: its init process, like ours, has to write before
    // the supervisor exists.
    let write = entry.names().iter().position(|name| name == "write");
    if entry.action() == LinuxSeccompAction::ScmpActNotify
        && let Some(place) = write
    {
        let problem = "SCMP_ACT_NOTIFY cannot be used for write: the container writes to the \
                       runtime before its supervisor can answer";
        problems.push((format!("/names/{place}"), problem.to_owned()));
    }
    let mut conditions = Vec::new();
    let mut indices = [0_usize; MAX_ARGUMENTS];
    for (place, arg) in entry.args().iter().flatten().enumerate() {
        if let Some(condition) = Condition::new(arg) {
            conditions.push(condition);
            indices[arg.index()] += 1;
        } else {
            let problem = format!(
                "there is no argument {}: a system call has arguments 0 to 5",
                arg.index()
            );
            problems.push((format!("/args/{place}/index"), problem));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let alternatives = if indices.iter().any(|&count| count > 1) {
        conditions
            .into_iter()
            .map(|condition| vec![condition])
            .collect()
    } else if conditions.is_empty() {
        Vec::new()
    } else {
        vec![conditions]
    };
    Ok(Rule {
        entry: index,
        ret,
        alternatives,
        routes_all: false,
    })
}
