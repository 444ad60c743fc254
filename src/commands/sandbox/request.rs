//! From what was written to what is asked: numbers are read, paths are found.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;

use super::choices::Choices;
use super::image::{self, Wishes};
use super::net::Written;
use super::paths::{self, Shown, Surroundings};
use crate::commands::go_flags;
use crate::commands::hardening;
use crate::commands::reports::Extent;
use crate::error::{Error, Result};
use crate::execute::supervisor::Purpose;
use crate::host::userland::Found;
use crate::image::Image;
use crate::plan::init;
use crate::policy::Wish;
use crate::sandbox::{Bind, Limits, Net, Overlay, Request, Seccomp, Tmpfs};
use crate::seccomp::{Builtin, Denials, Recording, source};

/// What is asked of a sandbox, and of capsid around it.
pub(super) struct Asked {
    /// What is inside.
    pub(super) request: Request,
    /// The system calls.
    pub(super) seccomp: Seccomp,
    /// The level and the rules that are given up.
    pub(super) hardening: Wish,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
    /// Say nothing about refused calls.
    pub(super) quiet: bool,
    /// Tell which files and peers were refused as well.
    pub(super) all_denials: bool,
    /// Where to write a profile that covers the program's system calls.
    pub(super) record_profile: Option<PathBuf>,
    /// Which descriptor is told of its life.
    pub(super) json_status: Option<String>,
    /// Do not wait for its end.
    pub(super) detach: bool,
    /// Only print the configuration.
    pub(super) print_spec: bool,
    /// Only save a bundle there.
    pub(super) bundle: Option<PathBuf>,
    /// What the person should know.
    pub(super) warnings: Vec<String>,
}

impl Asked {
    pub(super) fn of(choices: Choices, place: Surroundings) -> Result<Self> {
        let mut place = place;
        let image = image::open(&choices)?;
        let shown = Paths::of(&choices, image.as_ref(), &mut place)?;
        let wishes = image.as_ref().map(Wishes::of).transpose()?;
        let wishes = wishes.unwrap_or_default();
        let own = choices.env.iter().map(|text| variable(text));
        let own: Vec<_> = own.filter_map(Result::transpose).collect::<Result<_>>()?;
        let here = place.here;
        let absolute = |text: Option<String>| text.map(|text| here.join(text));
        let limits = limits(&choices)?;
        let bundle = absolute(choices.bundle);
        let detach = choices.detach;
        let asked_user = choices.user.as_deref().map(user).transpose()?;
        let request = Request {
            command: match choices.command.is_empty() {
                true => wishes.command,
                false => choices.command,
            },
            binds: shown.binds,
            overlays: shown.overlays,
            rootfs: shown.rootfs,
            place: bundle.clone(),
            tmpfs: choices
                .tmpfs
                .iter()
                .map(|text| tmpfs(text))
                .collect::<Result<_>>()?,
            net: Written {
                net: choices.net.as_deref(),
                connect: &choices.connect,
                listen: &choices.listen,
            }
            .read()?,
            env: [wishes.env, own].concat(),
            user: asked_user.or(wishes.user),
            hostname: choices.hostname,
            directory: shown.directory.or(wishes.directory),
            limits,
            terminal: terminal(choices.tty.as_deref(), detach)?,
        };
        let asked = Self {
            request,
            timeout: choices.timeout.as_deref().map(time).transpose()?,
            seccomp: seccomp(choices.seccomp.as_deref(), &here)?,
            hardening: hardening::of_words(choices.hardening.as_deref(), &choices.relax)?,
            quiet: choices.quiet,
            all_denials: choices.report_denials == Some(Extent::All),
            record_profile: absolute(choices.record_profile),
            json_status: choices.json_status,
            detach,
            print_spec: choices.print_spec,
            bundle,
            warnings: place.warnings,
        };
        asked.checked()
    }

    /// Options that exclude each other.
    fn checked(self) -> Result<Self> {
        if self.request.command.is_empty() {
            return Err(Error::Usage(
                "the image names no program: write one after --".into(),
            ));
        }
        let attached = matches!(self.request.net, Net::Pasta(_));
        let watched = [
            (attached, "--net pasta"),
            (self.record_profile.is_some(), "--record-profile"),
            (self.all_denials, "--report-denials=all"),
            (self.timeout.is_some(), "--timeout"),
        ];
        for (given, option) in watched {
            if given && self.detach {
                return Err(Error::Usage(format!(
                    "{option} needs the foreground: leave --detach out"
                )));
            }
        }
        if self.all_denials && self.record_profile.is_some() {
            return Err(Error::Usage(
                "--record-profile lets calls through that --report-denials denies: give one of them"
                    .into(),
            ));
        }
        Ok(self)
    }

    /// What is done with the program's system calls.
    pub(super) fn purpose(&self) -> Option<Purpose> {
        if self.record_profile.is_some() {
            let init = init::CALLS.iter().map(|call| call.name());
            return Some(Purpose::Record(Recording::with(init)));
        }
        let told = !self.quiet || self.json_status.is_some();
        (told && !self.detach).then(|| Purpose::Report(Denials::default()))
    }

    /// What is told of files and peers, to a person or a program.
    pub(super) fn extent(&self) -> Option<Extent> {
        let told = !self.quiet || self.json_status.is_some();
        (told && self.all_denials).then_some(Extent::All)
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

/// What of the host is shown.
struct Paths {
    binds: Vec<Bind>,
    overlays: Vec<Overlay>,
    rootfs: Option<Vec<(PathBuf, Found)>>,
    directory: Option<PathBuf>,
}

impl Paths {
    fn of(choices: &Choices, image: Option<&Image>, place: &mut Surroundings) -> Result<Self> {
        let mut binds = Vec::new();
        let mut directory = choices.chdir.as_ref().map(PathBuf::from);
        if choices.cwd {
            let here = place.find(".", Shown::Writable)?;
            directory = directory.or_else(|| Some(here.destination.clone()));
            binds.push(here);
        }
        for text in &choices.ro {
            binds.push(place.find(text, Shown::ReadOnly)?);
        }
        for text in &choices.rw {
            binds.push(place.find(text, Shown::Writable)?);
        }
        let mut overlays = Vec::new();
        for text in &choices.overlay {
            let lower = place.find(text, Shown::Overlay)?;
            overlays.push(Overlay { lower, upper: None });
        }
        match (&choices.overlay_upper, overlays.as_mut_slice()) {
            (None, _) => {}
            (Some(text), [only]) => {
                paths::make_layer(&place.here.join(text))?;
                let upper = place.find(text, Shown::Upper)?;
                let (a, b) = (&upper.source, &only.lower.source);
                if a.starts_with(b) || b.starts_with(a) {
                    return Err(wrong(
                        "--overlay-upper",
                        text,
                        "neither directory may be in the other",
                    ));
                }
                only.upper = Some(upper);
            }
            (Some(text), _) => {
                return Err(wrong(
                    "--overlay-upper",
                    text,
                    "give it with exactly one --overlay",
                ));
            }
        }
        let root = choices.rootfs.as_ref().map(|text| place.here.join(text));
        let root = root.or_else(|| image.map(|image| image.rootfs.clone()));
        let rootfs = root.map(|root| paths::top(&root));
        Ok(Self {
            binds,
            overlays,
            rootfs: rootfs.transpose()?,
            directory,
        })
    }
}

fn limits(choices: &Choices) -> Result<Limits> {
    let memory = choices.memory.as_deref();
    Ok(Limits {
        memory: memory.map(|text| size("--memory", text)).transpose()?,
        cpus: choices.cpus.as_deref().map(cpus).transpose()?,
        pids: choices.pids.as_deref().map(pids).transpose()?,
    })
}

fn wrong(option: &str, text: &str, right: &str) -> Error {
    Error::Usage(format!("{option} {text:?}: {right}"))
}

fn terminal(text: Option<&str>, detach: bool) -> Result<bool> {
    match text {
        None | Some("auto") if detach => Ok(false),
        // One that leads elsewhere must stay apart.
        None | Some("auto") => Ok(std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal()),
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

fn time(text: &str) -> Result<Duration> {
    let time = go_flags::parse_duration(text)
        .ok()
        .filter(|time| !time.is_zero());
    time.ok_or_else(|| wrong("--timeout", text, "give a time like 90s, 5m or 1h30m"))
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
