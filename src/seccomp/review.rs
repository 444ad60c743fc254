//! What of a profile changes nothing.
//!
//! A pair of a rule and one of its names is redundant when the profile without
//! it decides the same for all arguments. Pairs are judged by the order rules
//! that `rules` states, and by comparing conditions as they are written: two
//! that mean the same in other words are not found.

use std::collections::{BTreeMap, HashMap, HashSet};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::architecture::{self, Architecture, Meaning};
use super::rules::Scope;
use super::{multiplex, names, returns};
use crate::error::Problem;

/// A rule, or one of its names, that can be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redundancy {
    /// The rule's place in `syscalls`.
    pub rule: usize,
    /// The name's place in `names`; `None` when the whole rule can go.
    pub name: Option<usize>,
    /// Why.
    pub reason: Reason,
}

/// Why something has no effect. Places are those of rules in `syscalls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rule has no names.
    NoNames,
    /// The rule has the name already.
    Repeated,
    /// The action is the default action.
    DefaultAction,
    /// An earlier rule without conditions ends the list.
    After(usize),
    /// A later rule without conditions is stricter, and outweighs it.
    Outweighed(usize),
    /// An earlier rule matches whenever this one does.
    Shadowed(usize),
    /// A later rule decides the same.
    Covered(usize),
}

impl Redundancy {
    /// The redundancy in words; `place` turns the place of a rule into a pointer.
    pub fn problem(&self, profile: &LinuxSeccomp, place: &dyn Fn(usize) -> String) -> Problem {
        let mut at = place(self.rule);
        let mut words = String::new();
        if let Some(name) = self.name {
            at += &format!("/names/{name}");
            let rules = profile.syscalls().as_deref().unwrap_or_default();
            let name = rules.get(self.rule).and_then(|rule| rule.names().get(name));
            words = format!("{}: ", name.map_or("", |name| name).escape_debug());
        }
        words += &match self.reason {
            Reason::NoNames => "the rule has no names".to_owned(),
            Reason::Repeated => "the rule has this name already".to_owned(),
            Reason::DefaultAction => "this is what the default action does".to_owned(),
            Reason::After(rule) => format!("{} decides before, without conditions", place(rule)),
            Reason::Outweighed(rule) => {
                format!("{} is stricter and has no conditions", place(rule))
            }
            Reason::Shadowed(rule) => format!("{} decides before in all its cases", place(rule)),
            Reason::Covered(rule) => format!("{} decides the same", place(rule)),
        };
        Problem::new(at, words)
    }
}

/// All that can be removed together without a change, in the order of the
/// profile. Rules with mistakes, and names without a number here, are left out.
pub fn redundant(profile: &LinuxSeccomp) -> Vec<Redundancy> {
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let Ok(default) = returns::of(profile.default_action(), profile.default_errno_ret()) else {
        return Vec::new();
    };
    let (architectures, scope) = architecture::of(profile, false);
    let cases: Vec<Vec<Case>> = rules.iter().map(cases_of).collect();
    let mut found = Found::new();
    let lists = lists(rules, &cases, scope, &mut found);
    let newest = newest(&architectures, default, |row| lists.contains_key(&row));
    for (row, list) in &lists {
        // A mention alone can tell where numbers newer than the profile begin.
        let mention = newest.contains(row) && list.iter().all(|entry| entry.ret == default);
        let mut kept = Vec::new();
        for (at, entry) in list.iter().enumerate() {
            if entry.ret == default && !(mention && at == 0) {
                found.insert((entry.rule, entry.name), Reason::DefaultAction);
            } else {
                kept.push(entry);
            }
        }
        let name = rules[list[0].rule].names()[list[0].name].as_str();
        let judged = judge_routed(name, &kept, scope, default);
        found.extend(judged.map(|(at, reason)| ((kept[at].rule, kept[at].name), reason)));
    }
    whole_rules(rules, found)
}

/// The reason for each place of a rule and of a name in it.
type Found = BTreeMap<(usize, usize), Reason>;

/// The entries of each system call, in the order of the rules.
fn lists<'a>(
    rules: &[LinuxSyscall],
    cases: &'a [Vec<Case>],
    scope: Scope,
    found: &mut Found,
) -> BTreeMap<u16, Vec<Entry<'a>>> {
    let mut lists: BTreeMap<u16, Vec<Entry<'a>>> = BTreeMap::new();
    for (rule, entry) in rules.iter().enumerate() {
        let Ok(ret) = returns::of(entry.action(), entry.errno_ret()) else {
            continue;
        };
        let mut seen = HashSet::new();
        for (name, text) in entry.names().iter().enumerate() {
            let Some(row) = names::tables()
                .row(text)
                .filter(|&row| has_number(row, text, scope))
            else {
                continue;
            };
            if !seen.insert(row) {
                found.insert((rule, name), Reason::Repeated);
                continue;
            }
            let cases = &cases[rule];
            let entry = Entry {
                rule,
                name,
                ret,
                cases,
            };
            lists.entry(row).or_default().push(entry);
        }
    }
    lists
}

/// Judges the entries of a name that may be reached through socketcall or ipc,
/// or is one of these two and has entries of other names among its own.
fn judge_routed(
    name: &str,
    list: &[&Entry<'_>],
    scope: Scope,
    default: u32,
) -> impl Iterator<Item = (usize, Reason)> + use<> {
    let is_multiplexer = matches!(name, "socketcall" | "ipc");
    let judged = if scope.multiplexed && is_multiplexer {
        after_end(list)
    } else {
        judge(list)
    };
    let is_routed = scope.multiplexed && multiplex::route(name).is_some();
    let needed = if is_routed {
        needed_routes(list, default)
    } else {
        HashSet::new()
    };
    judged
        .into_iter()
        .filter(move |(at, _)| !needed.contains(at))
}

/// A name has a number on an architecture of the filter, or is reached through one.
fn has_number(row: u16, name: &str, scope: Scope) -> bool {
    names::tables().columns_of(row) & scope.columns != 0
        || scope.multiplexed && multiplex::route(name).is_some()
}

/// One rule as seen from one of its names.
struct Entry<'a> {
    rule: usize,
    name: usize,
    ret: u32,
    cases: &'a [Case],
}

impl Entry<'_> {
    fn is_unconditional(&self) -> bool {
        matches!(self.cases, [case] if case.is_empty())
    }
}

/// Conditions that must all hold: argument, operator, value, second value.
type Case = Vec<(usize, u32, u64, u64)>;

/// The conditions of a rule, sorted; as alternatives when two test one argument.
fn cases_of(rule: &LinuxSyscall) -> Vec<Case> {
    let args = rule.args().as_deref().unwrap_or_default();
    let mut case: Case = args.iter().map(condition).collect();
    case.sort_unstable();
    if case.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        case.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![case]
    }
}

fn condition(arg: &LinuxSeccompArg) -> (usize, u32, u64, u64) {
    use LinuxSeccompOperator as Op;
    match (arg.op(), arg.value(), arg.value_two().unwrap_or(0)) {
        (Op::ScmpCmpMaskedEq, u64::MAX, value) => (arg.index(), Op::ScmpCmpEq as u32, value, 0),
        (Op::ScmpCmpMaskedEq, mask, value) => (arg.index(), arg.op() as u32, mask, value),
        (_, value, _) => (arg.index(), arg.op() as u32, value, 0),
    }
}

/// Entries of one name that have no effect, by their place in the list.
fn judge(list: &[&Entry<'_>]) -> Vec<(usize, Reason)> {
    let mut found = after_end(list);
    let end = list.iter().position(|entry| entry.is_unconditional());
    let before = &list[..end.unwrap_or(list.len())];
    let end = end.map(|at| list[at]);
    let mut alive = Vec::new();
    let mut seen: HashMap<&[(usize, u32, u64, u64)], usize> = HashMap::new();
    for (at, entry) in before.iter().enumerate() {
        if let Some(end) = end.filter(|end| returns::is_laxer(entry.ret, end.ret)) {
            found.push((at, Reason::Outweighed(end.rule)));
            continue;
        }
        let before = |case: &Case| subsets(case).find_map(|part| seen.get(&part[..]).copied());
        let mut shadows = entry.cases.iter().map(before);
        if let Some(Some(rule)) = shadows.next()
            && shadows.all(|rule| rule.is_some())
        {
            found.push((at, Reason::Shadowed(rule)));
            continue;
        }
        for case in entry.cases {
            seen.entry(case).or_insert(entry.rule);
        }
        alive.push(at);
    }
    found.extend(covered(list, alive, end));
    found
}

/// Entries after the first one without conditions.
fn after_end(list: &[&Entry<'_>]) -> Vec<(usize, Reason)> {
    let Some(end) = list.iter().position(|entry| entry.is_unconditional()) else {
        return Vec::new();
    };
    let reason = Reason::After(list[end].rule);
    (end + 1..list.len()).map(|at| (at, reason)).collect()
}

/// Entries that decide what an entry after them decides as well, with only
/// entries of the same action between the two.
fn covered(
    list: &[&Entry<'_>],
    alive: Vec<usize>,
    end: Option<&Entry<'_>>,
) -> Vec<(usize, Reason)> {
    let mut found = Vec::new();
    let mut run = end.map(|end| end.ret);
    let mut wider: HashMap<&[(usize, u32, u64, u64)], usize> = HashMap::new();
    if let Some(end) = end {
        wider.insert(&[], end.rule);
    }
    for at in alive.into_iter().rev() {
        let entry = list[at];
        if run != Some(entry.ret) {
            wider.clear();
            run = Some(entry.ret);
        }
        let after = |case: &Case| subsets(case).find_map(|part| wider.get(&part[..]).copied());
        let mut covers = entry.cases.iter().map(after);
        if let Some(Some(rule)) = covers.next()
            && covers.all(|rule| rule.is_some())
        {
            found.push((at, Reason::Covered(rule)));
            continue;
        }
        for case in entry.cases {
            wider.insert(case, entry.rule);
        }
    }
    found
}

/// All parts of a case, of which there are at most 64: one argument is in it once.
fn subsets(case: &Case) -> impl Iterator<Item = Case> + '_ {
    let count = 1_u32 << case.len().min(6);
    (0..count).map(|chosen| {
        let places = case.iter().enumerate();
        let chosen = places.filter(|(place, _)| chosen >> place & 1 == 1);
        chosen.map(|(_, condition)| *condition).collect()
    })
}

/// Entries that may decide for calls through socketcall or ipc, where arguments
/// cannot be seen: the first one of each action, whatever it does for the call
/// itself. Which of them decides depends on the rules for the multiplexer.
fn needed_routes(list: &[&Entry<'_>], default: u32) -> HashSet<usize> {
    let mut actions = HashSet::new();
    let places = list.iter().enumerate().filter(|(_, entry)| {
        (entry.is_unconditional() || returns::is_laxer(default, entry.ret))
            && actions.insert(entry.ret)
    });
    places.map(|(at, _)| at).collect()
}

/// Rows of the newest names that a profile mentions, one for each table, when
/// it matters: see [`compile`](super::compile).
fn newest(
    architectures: &[Architecture],
    default: u32,
    is_named: impl Fn(u16) -> bool,
) -> Vec<u16> {
    if default != returns::errno(libc::EPERM) {
        return Vec::new();
    }
    let segments = architectures.iter().flat_map(|arch| &arch.segments);
    segments
        .filter_map(|segment| match &segment.meaning {
            Meaning::Calls(calls) => calls.newest(&is_named),
            Meaning::Refused => None,
        })
        .map(|(_, row)| row)
        .collect()
}

/// Says it once where every name of a rule is redundant for one reason.
fn whole_rules(rules: &[LinuxSyscall], found: BTreeMap<(usize, usize), Reason>) -> Vec<Redundancy> {
    let mut all = Vec::new();
    let mut by_rule: BTreeMap<usize, Vec<(usize, Reason)>> = BTreeMap::new();
    for ((rule, name), reason) in found {
        by_rule.entry(rule).or_default().push((name, reason));
    }
    for (rule, entry) in rules.iter().enumerate() {
        let of_names = by_rule.remove(&rule).unwrap_or_default();
        let mut reasons = of_names.iter().map(|(_, reason)| *reason);
        let one = match reasons.next() {
            None if entry.names().is_empty() => Some(Reason::NoNames),
            None => None,
            Some(first) => Some(first)
                .filter(|_| of_names.len() == entry.names().len())
                .filter(|first| reasons.all(|reason| reason == *first)),
        };
        match one {
            Some(reason) => all.push(Redundancy {
                rule,
                name: None,
                reason,
            }),
            None => all.extend(of_names.into_iter().map(|(name, reason)| Redundancy {
                rule,
                name: Some(name),
                reason,
            })),
        }
    }
    all
}

#[cfg(test)]
mod tests;
