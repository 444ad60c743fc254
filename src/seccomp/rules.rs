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

use super::condition::{Alternative, Condition, MAX_ARGUMENTS};
use super::tree::Leaf;
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
    ret: u32,
    /// One of these sets of conditions must hold; none at all means always.
    alternatives: Vec<Vec<Condition>>,
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

/// Which tables the filter is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// Bit n: the n-th table of the target.
    pub(super) tables: u8,
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
            slots: vec![Slot::default(); names::ROWS],
            decisions: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate() {
            match lower(entry) {
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

    /// Whether the profile mentions the name of this row.
    pub(super) fn is_named(&self, row: u16) -> bool {
        self.slots[usize::from(row)].named
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

    /// The leaf of each row.
    pub(super) fn leaves(&mut self) -> Vec<Leaf> {
        let mut known = vec![None; self.links.len()];
        let mut leaves = Vec::with_capacity(self.slots.len());
        for index in 0..self.slots.len() {
            let Slot { head, closed, .. } = self.slots[index];
            let leaf = match head {
                None => Leaf::Return(self.default),
                Some(head) => match known[head] {
                    Some(leaf) => leaf,
                    None => *known[head].insert(self.leaf(head, closed)),
                },
            };
            leaves.push(leaf);
        }
        leaves
    }

    /// Adds a rule to the lists of all names of its entry.
    fn add(&mut self, entry: &LinuxSyscall, rule: Rule, scope: Scope) {
        let first_link = self.links.len();
        let index = self.rules.len();
        let ret = rule.ret;
        self.notify |= ret == libc::SECCOMP_RET_USER_NOTIF && !entry.names().is_empty();
        self.rules.push(rule);
        for name in entry.names() {
            let row = names::row(name);
            let native = row.filter(|&row| names::tables_of(row) & scope.tables != 0);
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
        let Some(row) = names::row(multiplexer) else {
            return false;
        };
        let Rule {
            ret,
            ref alternatives,
        } = self.rules[rule];
        if alternatives.is_empty() || returns::is_laxer(self.default, ret) {
            let routed = self.rules.len();
            self.rules.push(Rule {
                ret,
                alternatives: vec![vec![condition]],
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
        let repeated = head.is_some_and(|head| self.links[head].rule == rule);
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

    /// What the list that ends at `head` comes to.
    fn leaf(&mut self, head: usize, closed: bool) -> Leaf {
        let mut otherwise = self.default;
        let mut rules = Vec::new();
        let mut next = Some(head);
        while let Some(link) = next {
            rules.push(self.links[link].rule);
            next = self.links[link].before;
        }
        rules.reverse();
        if closed && let Some(last) = rules.pop() {
            otherwise = self.rules[last].ret;
            rules.retain(|&rule| !returns::is_laxer(self.rules[rule].ret, otherwise));
            while rules
                .last()
                .is_some_and(|&rule| self.rules[rule].ret == otherwise)
            {
                rules.pop();
            }
        }
        if rules.is_empty() {
            return Leaf::Return(otherwise);
        }
        let decision = Decision { rules, otherwise };
        let known = self.decisions.iter().position(|other| *other == decision);
        Leaf::Decide(known.unwrap_or_else(|| {
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
fn lower(entry: &LinuxSyscall) -> Result<Rule, Vec<(String, String)>> {
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
    Ok(Rule { ret, alternatives })
}
