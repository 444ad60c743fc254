//! The process that `exec` runs: from a file, or the container's own with changes.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::ExecArgs;
use crate::commands::prepared::Entry;
use crate::error::{Error, Problem, Result};
use crate::image::Digest;
use crate::log;
use crate::policy::{self, Hardening};
use crate::spec::bundle::{self, Bundle};
use crate::spec::validate;
use crate::state::Record;

impl ExecArgs {
    /// The file the process comes from.
    pub(super) fn source(&self, record: &Record) -> PathBuf {
        self.process
            .clone()
            .unwrap_or_else(|| record.bundle.join("config.json"))
    }
}

/// The process to run. Without `--process` it is the bundle's, read anew, as
/// runc does.
pub(super) fn of(args: &ExecArgs, record: &Record, hardening: &Hardening) -> Result<Process> {
    let mut process = match &args.process {
        Some(file) => {
            let (process, warnings) = bundle::read_process(file)?;
            warnings.iter().for_each(log::warning);
            process
        }
        None => with_changes(&own_bundle(record)?.spec, args)?,
    };
    let file = args.source(record);
    let warnings = validate::validate_process(&process, &file)?;
    warnings.iter().for_each(log::warning);
    policy::harden(&mut process, hardening)
        .map_err(|problems| Error::Spec { file, problems }.refused())?;
    Ok(process)
}

/// The container's bundle, read anew. If its configuration was pinned at create, it
/// still must be the same.
fn own_bundle(record: &Record) -> Result<Bundle> {
    if !record.config_pinned {
        return bundle::read(&record.bundle);
    }
    let pin = record
        .config_digest
        .as_deref()
        .map(Digest::parse)
        .transpose();
    let pin = pin.map_err(Error::Usage)?;
    Entry::measured(&record.bundle, pin).map(|entry| entry.bundle)
}

/// The container's own process with other arguments and what the options change.
fn with_changes(spec: &Spec, args: &ExecArgs) -> Result<Process> {
    let missing = || Error::Spec {
        file: "config.json".into(),
        problems: vec![Problem::new(
            "/process",
            "process property must not be empty",
        )],
    };
    let mut process = spec.process().clone().ok_or_else(missing)?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    let mut user = process.user().clone();
    if let Some(asked) = args.user {
        user.set_uid(asked.uid);
        if let Some(gid) = asked.gid {
            user.set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    add_capabilities(&mut process, &args.caps)?;
    Ok(process)
}

/// `--cap`: bounding, effective and permitted; ambient only where the
/// configuration gives an inheritable set, which is never widened here
/// (CVE-2022-29162).
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Capabilities::new();
    for name in names {
        let upper = name.to_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let capability: Capability = short
            .parse()
            .map_err(|_| Error::Usage(format!("--cap {name:?}: no capability of that name")))?;
        added.insert(capability);
    }
    let none = || {
        let mut empty = LinuxCapabilities::default();
        empty
            .set_bounding(None)
            .set_effective(None)
            .set_permitted(None);
        empty.set_inheritable(None).set_ambient(None);
        empty
    };
    let mut sets = process.capabilities().clone().unwrap_or_else(none);
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(&added);
        Some(set)
    };
    let (bounding, effective, permitted) = (
        with(sets.bounding()),
        with(sets.effective()),
        with(sets.permitted()),
    );
    sets.set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted);
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    if !inheritable.is_empty() {
        let mut ambient = sets.ambient().clone().unwrap_or_default();
        ambient.extend(added.intersection(&inheritable));
        sets.set_ambient(Some(ambient));
    }
    process.set_capabilities(Some(sets));
    Ok(())
}
