//! `capsid seccomp show` and `print`: the compiled filter, the calls by what
//! happens to them, or the profile itself.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::{Loaded, wrapped};
use crate::seccomp::abi::{self, Answer};
use crate::seccomp::listing::Listing;
use crate::seccomp::walk;

/// The listing, or with `calls` the summary.
pub(super) fn text(loaded: &Loaded, calls: bool) -> String {
    if calls {
        summary(loaded)
    } else {
        format!("{}\n{}", loaded.program, Listing::new(&loaded.program))
    }
}

/// The profile as `linux.seccomp`, its conditions on the container decided.
pub(super) fn profile(loaded: &Loaded) -> String {
    // Names and numbers always have a JSON form.
    let profile = serde_json::to_value(&loaded.resolved.profile).unwrap_or_default();
    format!("{profile:#}\n")
}

/// The native system calls, by answer; those whose arguments decide with their rules.
fn summary(loaded: &Loaded) -> String {
    let native = abi::native();
    let mut by_answer: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let mut conditional = Vec::new();
    for (number, name) in native.calls() {
        match walk::verdict(&loaded.program, native.audit, number).only() {
            Some(answer) => by_answer.entry(answer.0).or_default().push(name),
            None => conditional.push(name),
        }
    }
    let mut text = format!(
        "{}, default {}\n",
        native.name,
        Answer(loaded.program.default)
    );
    // The laxest answer has the greatest value.
    for (answer, mut names) in by_answer.into_iter().rev() {
        names.sort_unstable();
        text += &format!(
            "{} ({}):\n{}",
            Answer(answer),
            names.len(),
            wrapped(names, 2)
        );
    }
    if !conditional.is_empty() {
        conditional.sort_unstable();
        text += &format!("conditional ({}):\n", conditional.len());
        for name in conditional {
            text += &rules_of(loaded, name);
        }
    }
    text
}

/// The rules of one name, in the order in which they are tried.
fn rules_of(loaded: &Loaded, name: &str) -> String {
    let mut text = format!("  {name}:\n");
    let rules = loaded.profile().syscalls().as_deref().unwrap_or_default();
    let rules = rules.iter().enumerate();
    for (index, rule) in rules.filter(|(_, rule)| rule.names().iter().any(|n| n == name)) {
        let mut line = format!("    {}", action(rule.action(), rule.errno_ret()));
        if let Some(conditions) = conditions(rule) {
            line += &format!(" if {conditions}");
        }
        text += &format!("{line}  ({})\n", loaded.rule(index));
    }
    text + &format!("    otherwise {}\n", Answer(loaded.program.default))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> String {
    Answer(action.as_u32(errno)).to_string()
}

/// The conditions of a rule in words, if it has any.
fn conditions(rule: &LinuxSyscall) -> Option<String> {
    let args = rule.args().as_deref().filter(|args| !args.is_empty())?;
    let mut indices: Vec<usize> = args.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    // Two conditions on one argument are alternatives, as in runc.
    let alternatives = indices.windows(2).any(|pair| pair[0] == pair[1]);
    let words: Vec<String> = args.iter().map(condition).collect();
    Some(words.join(if alternatives { " or " } else { " and " }))
}

fn condition(arg: &LinuxSeccompArg) -> String {
    use LinuxSeccompOperator as Op;
    let name = format!("args[{}]", arg.index());
    let value = number(arg.value());
    let sign = match arg.op() {
        Op::ScmpCmpMaskedEq => {
            let wanted = number(arg.value_two().unwrap_or(0));
            return format!("{name} & {value} == {wanted}");
        }
        Op::ScmpCmpNe => "!=",
        Op::ScmpCmpLt => "<",
        Op::ScmpCmpLe => "<=",
        Op::ScmpCmpEq => "==",
        Op::ScmpCmpGe => ">=",
        Op::ScmpCmpGt => ">",
    };
    format!("{name} {sign} {value}")
}

/// Small numbers are counts and families, great ones flags.
fn number(value: u64) -> String {
    if value < 256 {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}
