//! Go's flag syntax, made plain for clap.
//!
//! Engines were written against runc, and runc's options are Go's: one dash or
//! two before a long name (`-no-subreaper`), the value after `=` or as the next
//! argument whatever it looks like, `--flag=false`, the last mention wins. This
//! pass rewrites one command's arguments as `--name` or `--name=value` and sets
//! the operands apart, so that clap only checks values.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use clap::{Arg, ArgAction, Command};

/// One command's arguments, options and operands told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Each `--name` or `--name=value`.
    pub(crate) options: Vec<OsString>,
    /// What is not an option, in order.
    pub(crate) operands: Vec<OsString>,
    /// Whether text was asked for instead of the command itself.
    pub(crate) asked: Option<Asked>,
}

/// Options that print something and end the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// Where options may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Only before the first operand: what follows belongs to another program or command.
    OptionsFirst,
    /// Anywhere before `--`.
    Mixed,
}

/// Sorts `args` by the options that `command` defines.
///
/// The error is a sentence without the command's name.
pub(crate) fn sort(
    command: &Command,
    args: &[OsString],
    order: Order,
) -> Result<Arguments, String> {
    let mut sorted = Arguments::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            sorted.operands.extend(rest.cloned());
            break;
        }
        let Some(body) = option_body(arg) else {
            sorted.operands.push(arg.clone());
            if order == Order::OptionsFirst {
                sorted.operands.extend(rest.cloned());
                break;
            }
            continue;
        };
        let (name, value) = split_at_equals(body);
        let Some(option) = find(command, name) else {
            return Err(format!("unknown option {}", arg.display()));
        };
        let long = option.get_long().unwrap_or_default();
        match option.get_action() {
            ArgAction::Help => sorted.asked = sorted.asked.or(Some(Asked::Help)),
            ArgAction::Version => sorted.asked = sorted.asked.or(Some(Asked::Version)),
            ArgAction::SetTrue => set_switch(&mut sorted.options, long, value)?,
            // A value only after `=`: the next argument is not its own.
            _ if option.is_require_equals_set() && value.is_none() => {
                sorted.options.push(format!("--{long}").into());
            }
            _ => {
                let value = value
                    .map(OsStr::as_bytes)
                    .or_else(|| rest.next().map(|v| v.as_bytes()));
                let Some(value) = value else {
                    return Err(format!("flag needs an argument: --{long}"));
                };
                sorted.options.push(joined(long, value));
            }
        }
    }
    Ok(sorted)
}

/// Whether `arg` is one of the command's options, with a value or without.
pub(crate) fn knows(command: &Command, arg: &OsStr) -> bool {
    option_body(arg).is_some_and(|body| find(command, split_at_equals(body).0).is_some())
}

/// The text after the dashes, if `arg` is an option at all: a lone `-` is not.
fn option_body(arg: &OsStr) -> Option<&OsStr> {
    let bytes = arg.as_bytes();
    let body = bytes
        .strip_prefix(b"--")
        .or_else(|| bytes.strip_prefix(b"-"))?;
    (!body.is_empty()).then(|| OsStr::from_bytes(body))
}

fn split_at_equals(body: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let bytes = body.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) => (
            OsStr::from_bytes(&bytes[..at]),
            Some(OsStr::from_bytes(&bytes[at + 1..])),
        ),
        None => (body, None),
    }
}

fn find<'a>(command: &'a Command, name: &OsStr) -> Option<&'a Arg> {
    let name = name.to_str()?;
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg
                .get_short()
                .is_some_and(|short| name.chars().eq(std::iter::once(short)))
    })
}

/// The last mention of a switch decides, so an earlier one is taken back.
fn set_switch(
    options: &mut Vec<OsString>,
    long: &str,
    value: Option<&OsStr>,
) -> Result<(), String> {
    let plain = OsString::from(format!("--{long}"));
    options.retain(|option| *option != plain);
    let on = match value {
        None => true,
        Some(value) => value.to_str().and_then(parse_bool).ok_or_else(|| {
            format!("invalid boolean value {value:?} for --{long}: use true or false")
        })?,
    };
    if on {
        options.push(plain);
    }
    Ok(())
}

fn joined(long: &str, value: &[u8]) -> OsString {
    let mut option = format!("--{long}=").into_bytes();
    option.extend_from_slice(value);
    OsString::from_vec(option)
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A length of time as Go writes it: `5s`, `1m30s`, `1.5h`, `250ms`, or `0`.
///
/// Fails with a sentence on anything else; a negative length makes no sense for
/// any option, so it is refused too.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration {text:?}: write for example 5s, 1m30s or 250ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("test")
            .disable_help_flag(true)
            .arg(Arg::new("bundle").short('b').long("bundle"))
            .arg(
                Arg::new("no-pivot")
                    .long("no-pivot")
                    .action(ArgAction::SetTrue),
            )
            .arg(
                Arg::new("env")
                    .short('e')
                    .long("env")
                    .action(ArgAction::Append),
            )
            .arg(
                Arg::new("help")
                    .short('h')
                    .long("help")
                    .action(ArgAction::Help),
            )
            .arg(Arg::new("operands").num_args(0..))
    }

    fn sorted(args: &[&str], order: Order) -> Result<(Vec<String>, Vec<String>), String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let strings =
            |list: Vec<OsString>| list.into_iter().map(|a| a.into_string().unwrap()).collect();
        sort(&command(), &args, order).map(|s| (strings(s.options), strings(s.operands)))
    }

    #[test]
    fn one_dash_or_two_equals_or_space() {
        for args in [
            ["-bundle", "B"].as_slice(),
            &["--bundle", "B"],
            &["-bundle=B"],
            &["--bundle=B"],
            &["-b", "B"],
            &["-b=B"],
            &["--b=B"],
        ] {
            let (options, operands) = sorted(args, Order::Mixed).unwrap();
            assert_eq!(
                (options, operands),
                (vec!["--bundle=B".to_owned()], vec![]),
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_value_may_look_like_an_option_or_be_empty() {
        assert_eq!(sorted(&["-e", "-x"], Order::Mixed).unwrap().0, ["--env=-x"]);
        assert_eq!(sorted(&["-e", "--"], Order::Mixed).unwrap().0, ["--env=--"]);
        assert_eq!(
            sorted(&["--bundle="], Order::Mixed).unwrap().0,
            ["--bundle="]
        );
        assert_eq!(
            sorted(&["-e", "A=B=C"], Order::Mixed).unwrap().0,
            ["--env=A=B=C"]
        );
    }

    #[test]
    fn the_last_mention_of_a_switch_decides() {
        assert_eq!(
            sorted(&["-no-pivot"], Order::Mixed).unwrap().0,
            ["--no-pivot"]
        );
        assert_eq!(
            sorted(&["--no-pivot", "--no-pivot=f"], Order::Mixed)
                .unwrap()
                .0,
            [""; 0]
        );
        assert_eq!(
            sorted(&["--no-pivot=0", "--no-pivot=1"], Order::Mixed)
                .unwrap()
                .0,
            ["--no-pivot"]
        );
        let wrong = sorted(&["--no-pivot=maybe"], Order::Mixed).unwrap_err();
        assert!(
            wrong.contains("invalid boolean value \"maybe\" for --no-pivot"),
            "{wrong}"
        );
    }

    #[test]
    fn options_stop_at_the_first_operand_only_where_asked() {
        let args = ["ctr", "ls", "-b", "x"];
        assert_eq!(sorted(&args, Order::OptionsFirst).unwrap().1, args);
        let (options, operands) = sorted(&args, Order::Mixed).unwrap();
        assert_eq!(
            (options, operands),
            (vec!["--bundle=x".into()], vec!["ctr".into(), "ls".into()])
        );
        assert_eq!(sorted(&["--", "-b"], Order::Mixed).unwrap().1, ["-b"]);
        assert_eq!(sorted(&["-"], Order::Mixed).unwrap().1, ["-"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            sorted(&["--bundle"], Order::Mixed).unwrap_err(),
            "flag needs an argument: --bundle"
        );
        assert_eq!(
            sorted(&["-nope=1"], Order::Mixed).unwrap_err(),
            "unknown option -nope=1"
        );
        assert_eq!(
            sorted(&["-bB"], Order::Mixed).unwrap_err(),
            "unknown option -bB"
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_survive() {
        let args = [OsString::from_vec(b"--bundle=/a\xff".to_vec())];
        let sorted = sort(&command(), &args, Order::Mixed).unwrap();
        assert_eq!(sorted.options[0].as_bytes(), b"--bundle=/a\xff");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(parse_duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("1.5h").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(parse_duration("0").unwrap(), Duration::ZERO);
        for wrong in ["", "5", "s", "5x", "-5s", "1..5s", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
