//! Every contradiction of a configuration, found before anything is done.
//!
//! Pure: what only the machine can say (does the path exist, does the kernel
//! have the feature, is a namespace file the host's own) is for later stages.
//! All findings are reported at once, so that a person repairs a file in one go.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};

use super::namespaces::{Kind, Namespaces};
use crate::error::{Error, Result};
use crate::spec::bundle::Bundle;
use findings::Findings;

mod annotations;
mod findings;
mod hooks;
mod ids;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;
pub mod sysctl;

/// Who asks for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whether the effective user id is 0 in the runtime's user namespace.
    pub privileged: bool,
}

/// A bundle whose configuration was checked: the only way to one is [`validate`].
#[derive(Clone, Debug)]
pub struct ValidSpec {
    bundle: Bundle,
}

impl ValidSpec {
    /// The configuration.
    pub fn spec(&self) -> &Spec {
        &self.bundle.spec
    }

    /// The bundle's directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.bundle.dir
    }

    /// What was left out or will not have the effect it may be thought to have.
    pub fn warnings(&self) -> &[String] {
        &self.bundle.warnings
    }

    /// The bundle's directory, the configuration and the warnings.
    pub fn into_parts(self) -> (PathBuf, Spec, Vec<String>) {
        (self.bundle.dir, self.bundle.spec, self.bundle.warnings)
    }
}

/// Checks a configuration.
///
/// A namespace's empty `path` is taken out, so that later stages see a path
/// only where there is one; so is a `pids.limit` of 0 from before version 1.3,
/// which engines wrote for "no limit".
///
/// # Errors
///
/// [`Error::Spec`] with every contradiction found.
pub fn validate(mut bundle: Bundle, caller: Caller) -> Result<ValidSpec> {
    namespaces::drop_empty_paths(&mut bundle.spec);
    resources::read_zero_pids(&mut bundle.spec);
    let mut findings = Findings::new(std::mem::take(&mut bundle.warnings));
    check(&bundle.spec, caller, &mut findings);
    match findings.into_result() {
        Ok(warnings) => Ok(ValidSpec {
            bundle: Bundle { warnings, ..bundle },
        }),
        Err(problems) => Err(Error::Spec {
            file: bundle.file(),
            problems,
        }),
    }
}

/// Checks a process that joins a container, as `exec` starts it. `file` is where
/// it was read from, for messages. Returns what will not have the effect it may
/// be thought to have.
///
/// # Errors
///
/// [`Error::Spec`] with every contradiction found.
pub fn validate_process(process: &Process, file: &Path) -> Result<Vec<String>> {
    let mut findings = Findings::new(Vec::new());
    process::check(process, "", &mut findings);
    findings.into_result().map_err(|problems| Error::Spec {
        file: file.to_owned(),
        problems,
    })
}

/// Checks limits by themselves, for a container whose configuration is of this
/// `version`. `file` is where they were read from, for messages.
///
/// # Errors
///
/// [`Error::Spec`] with every contradiction found.
pub fn validate_resources(limits: &mut LinuxResources, version: &str, file: &Path) -> Result<()> {
    resources::drop_zero_pids(limits, version);
    let mut findings = Findings::new(Vec::new());
    resources::check(limits, &mut findings);
    let checked = findings.into_result().map_err(|problems| Error::Spec {
        file: file.to_owned(),
        problems,
    });
    checked.map(drop)
}

fn check(spec: &Spec, caller: Caller, findings: &mut Findings) {
    check_version(spec.version(), findings);
    check_root(spec, findings);
    let namespaces = Namespaces::of(spec);
    match spec.process() {
        None => findings.problem("", "process property must not be empty"),
        Some(process) => {
            process::check(process, "/process", findings);
            ids::check_process(process, spec, &namespaces, caller, findings);
        }
    }
    check_names(spec, &namespaces, findings);
    namespaces::check(spec, &namespaces, findings);
    mounts::check(spec, &namespaces, findings);
    hooks::check(spec, findings);
    if let Some(linux) = spec.linux() {
        linux::check(linux, &namespaces, caller, findings);
        sysctl::check(linux, &namespaces, findings);
        if let Some(resources) = linux.resources() {
            resources::check(resources, findings);
        }
    }
    annotations::check(spec, &namespaces, findings);
}

/// Any 1.x.y: a minor version adds fields, and unknown fields are ignored anyway.
fn check_version(version: &str, findings: &mut Findings) {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = numbers.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if version.is_empty() {
        findings.problem("/ociVersion", "missing; capsid implements 1.x.y");
    } else if parts.len() != 3 || !parts.iter().all(digits) {
        findings.problem(
            "/ociVersion",
            format!("{version:?} is not a version like 1.3.0"),
        );
    } else if parts[0] != "1" {
        findings.problem(
            "/ociVersion",
            format!("{version:?} is not supported; capsid implements 1.x.y"),
        );
    }
}

fn check_root(spec: &Spec, findings: &mut Findings) {
    match spec.root() {
        None => findings.problem("/root", "missing; a container needs a root file system"),
        Some(root) => findings.path(format_args!("/root/path"), root.path()),
    }
}

/// The longest host and domain name, in bytes (`__NEW_UTS_LEN`).
const NAME_LIMIT: usize = 64;

fn check_names(spec: &Spec, namespaces: &Namespaces, findings: &mut Findings) {
    for (field, name) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        let at = format_args!("/{field}");
        findings.c_string(at, name);
        if name.len() > NAME_LIMIT {
            findings.problem(at, format!("longer than {NAME_LIMIT} bytes"));
        }
        if !namespaces.makes(Kind::Uts) {
            findings.problem(
                at,
                format!("unable to set {field} without a private UTS namespace"),
            );
        }
    }
}

/// A path without `.`, `..` and doubled slashes, as if no component was a
/// symbolic link, and absolute: enough to compare what was written, never to
/// open anything.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests;
