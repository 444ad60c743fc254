//! From what was written to what is asked: numbers are read, paths are found.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::choices::Choices;
use super::paths;
use crate::commands::hardening::Wish;
use crate::commands::root;
use crate::error::{Error, Result};
use crate::sandbox::{Limits, Net, Request, Seccomp, Tmpfs};
use crate::seccomp::{Builtin, source};

/// What is asked of a sandbox, and of capsid around it.
pub(super) struct Asked {
    /// What is inside.
    pub(super) request: Request,
    /// The system calls.
    pub(super) seccomp: Seccomp,
    /// The level and the rules that are given up.
    pub(super) hardening: Wish,
    /// Say nothing about refused calls.
    pub(super) quiet: bool,
    /// Only print the configuration.
    pub(super) print_spec: bool,
    /// Only save a bundle there.
    pub(super) bundle: Option<PathBuf>,
    /// What the person should know.
    pub(super) warnings: Vec<String>,
}

impl Asked {
    pub(super) fn of(choices: Choices, state: &Path) -> Result<Self> {
        let here = root::absolute(".".as_ref())?;
        let mut warnings = Vec::new();
        let mut binds = Vec::new();
        let mut directory = choices.chdir.map(PathBuf::from);
        if choices.cwd {
            let shown = paths::bind(".", true, &here)?;
            directory = directory.or_else(|| Some(shown.destination.clone()));
            binds.push(shown);
        }
        for text in &choices.ro {
            binds.push(paths::bind(text, false, &here)?);
        }
        for text in &choices.rw {
            binds.push(paths::bind(text, true, &here)?);
        }
        for bind in &binds {
            warnings.extend(paths::dangers(bind, state)?);
        }
        let user = choices.user.as_deref().map(user).transpose()?;
        let env = choices.env.iter().map(|text| variable(text));
        let request = Request {
            command: choices.command,
            binds,
            tmpfs: choices
                .tmpfs
                .iter()
                .map(|text| tmpfs(text))
                .collect::<Result<_>>()?,
            net: net(choices.net.as_deref())?,
            env: env.filter_map(Result::transpose).collect::<Result<_>>()?,
            user,
            hostname: choices.hostname,
            directory,
            limits: Limits {
                memory: choices
                    .memory
                    .as_deref()
                    .map(|text| size("--memory", text))
                    .transpose()?,
                cpus: choices.cpus.as_deref().map(cpus).transpose()?,
                pids: choices.pids.as_deref().map(pids).transpose()?,
            },
            terminal: terminal(choices.tty.as_deref())?,
        };
        let bundle = choices.bundle.map(|path| root::absolute(path.as_ref()));
        Ok(Self {
            request,
            seccomp: seccomp(choices.seccomp.as_deref(), &here)?,
            hardening: Wish::of(choices.hardening.as_deref(), &choices.relax)?,
            quiet: choices.quiet,
            print_spec: choices.print_spec,
            bundle: bundle.transpose()?,
            warnings,
        })
    }

    /// The controllers of limits that were asked for.
    pub(super) fn limited(&self) -> Vec<&'static str> {
        let limits = &self.request.limits;
        let asked = [
            ("memory", limits.memory.is_some()),
            ("cpu", limits.cpus.is_some()),
            ("pids", limits.pids.is_some()),
        ];
        asked
            .into_iter()
            .filter(|(_, asked)| *asked)
            .map(|(name, _)| name)
            .collect()
    }
}

impl Seccomp {
    /// Puts a profile of the person's own into a configuration; gives the one
    /// of the project's otherwise.
    pub(super) fn place_in(&self, spec: &mut Spec) -> Builtin {
        match self {
            Seccomp::Strict => Builtin::Strict,
            Seccomp::Default => Builtin::Default,
            Seccomp::Own(profile) => {
                let linux = spec.linux_mut().get_or_insert_with(Default::default);
                linux.set_seccomp(Some(*profile.clone()));
                Builtin::Strict
            }
        }
    }
}

fn wrong(option: &str, text: &str, right: &str) -> Error {
    Error::Usage(format!("{option} {text:?}: {right}"))
}

fn net(text: Option<&str>) -> Result<Net> {
    match text {
        None | Some("none") => Ok(Net::None),
        Some("host") => Ok(Net::Host),
        Some(other) => Err(wrong("--net", other, "give none or host")),
    }
}

fn terminal(text: Option<&str>) -> Result<bool> {
    match text {
        // Errors of the program stay apart where only they are on the terminal.
        None | Some("auto") => {
            Ok(std::io::stdin().is_terminal() && std::io::stdout().is_terminal())
        }
        Some("yes") => Ok(true),
        Some("no") => Ok(false),
        Some(other) => Err(wrong("--tty", other, "give auto, yes or no")),
    }
}

fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let refuse = || wrong("--user", text, "give numbers: 1000 or 1000:1000");
    let number = |text: &str| text.parse::<u32>().map_err(|_| refuse());
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// A variable and its value; none where the caller has none of that name.
fn variable(text: &str) -> Result<Option<(String, String)>> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if name.is_empty() {
        return Err(wrong(
            "--env",
            text,
            "give NAME=VALUE, or NAME to pass the caller's on",
        ));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// `512M`: a number and, if any, one of the letters K, M, G, T.
pub(super) fn size(option: &str, text: &str) -> Result<u64> {
    let refuse = || {
        wrong(
            option,
            text,
            "give a number of bytes, or one with K, M, G or T",
        )
    };
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']);
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(refuse()),
    };
    let number: u64 = digits.parse().map_err(|_| refuse())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(refuse)
}

/// Thousandths of a CPU.
fn cpus(text: &str) -> Result<u64> {
    let refuse = || wrong("--cpus", text, "give a number like 2 or 0.5, at least 0.01");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + part.len() == 0 || part.len() > 3 || !digits(whole) || !digits(part) {
        return Err(refuse());
    }
    let number: u64 = format!("{whole}{part:0<3}").parse().map_err(|_| refuse())?;
    (10..=10_000_000)
        .contains(&number)
        .then_some(number)
        .ok_or_else(refuse)
}

fn pids(text: &str) -> Result<u64> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=4_194_304).contains(number));
    number.ok_or_else(|| wrong("--pids", text, "give a number from 1 to 4194304"))
}

fn tmpfs(text: &str) -> Result<Tmpfs> {
    let (path, limit) = match text.split_once(':') {
        Some((path, limit)) => (path, Some(size("--tmpfs", limit)?)),
        None => (text, None),
    };
    Ok(Tmpfs {
        destination: path.into(),
        size: limit,
    })
}

fn seccomp(text: Option<&str>, here: &Path) -> Result<Seccomp> {
    match text {
        None | Some("strict") => Ok(Seccomp::Strict),
        Some("default") => Ok(Seccomp::Default),
        Some(file) => {
            let path = here.join(file);
            let failed = |error: std::io::Error| {
                Error::io(
                    "read the profile",
                    path.display(),
                    syscalls::Sysno::openat,
                    &error,
                )
            };
            let bytes = std::fs::read(&path).map_err(failed)?;
            let resolved = source::resolve(&bytes, &|_| false).map_err(|problems| Error::Spec {
                file: path.clone(),
                problems,
            })?;
            Ok(Seccomp::Own(Box::new(resolved.profile)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_refused() {
        assert_eq!(size("--memory", "512M").unwrap(), 512 << 20);
        assert_eq!(size("--memory", "2g").unwrap(), 2 << 30);
        assert_eq!(size("--memory", "77").unwrap(), 77);
        for bad in ["", "M", "5X", "-1", "0", "1.5G", "5MM", "99999999T"] {
            assert!(size("--memory", bad).is_err(), "{bad}");
        }
        assert_eq!(cpus("2").unwrap(), 2000);
        assert_eq!(cpus("0.5").unwrap(), 500);
        assert_eq!(cpus(".25").unwrap(), 250);
        for bad in ["", ".", "x", "0", "0.001", "1.2345", "-1", "1e3"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(user("0").unwrap(), (0, None));
        assert_eq!(user("5:6").unwrap(), (5, Some(6)));
        for bad in ["", "root", "1:", ":1", "-1", "4294967296"] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }
}
