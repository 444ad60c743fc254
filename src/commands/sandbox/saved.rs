//! A sandbox as a bundle that any OCI runtime runs.

use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::Spec;
use syscalls::Sysno;

use super::request::Asked;
use crate::error::{Error, Result};
use crate::execute::skeleton;
use crate::log;
use crate::policy;
use crate::sandbox::{ROOTFS, Sandbox};
use crate::spec::template;

/// The configuration with what capsid's own rules add, for other runtimes: the
/// filter written out, and no core files.
pub(super) fn whole(sandbox: &Sandbox, asked: &Asked) -> Result<Spec> {
    let mut spec = sandbox.spec.clone();
    let profile = asked.seccomp.place_in(&mut spec);
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    if linux.seccomp().is_none() {
        let resolved = profile.resolve(&[]).map_err(|problems| Error::Spec {
            file: format!("{profile}.json").into(),
            problems,
        })?;
        linux.set_seccomp(Some(resolved.profile));
    }
    if let Some(process) = spec.process_mut() {
        policy::core_dumps(process);
    }
    Ok(spec)
}

/// Writes config.json and the root directory.
pub(super) fn write(directory: &Path, sandbox: &Sandbox, asked: &Asked) -> Result<u8> {
    let failed =
        |doing, call, error: &std::io::Error| Error::io(doing, directory.display(), call, error);
    std::fs::create_dir_all(directory)
        .map_err(|error| failed("make the bundle", Sysno::mkdirat, &error))?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(directory, flags, Mode::empty()).map_err(|errno| {
        Error::nix("open the bundle", directory.display(), Sysno::openat, errno)
    })?;
    skeleton::make(opened.as_fd(), ROOTFS, &sandbox.skeleton)?;
    write_configuration(directory, sandbox, asked)?;
    log::tell(format!(
        "saved; run it with: capsid run --bundle {} ID",
        directory.display()
    ));
    Ok(0)
}

/// Writes config.json alone.
pub(super) fn write_configuration(
    directory: &Path,
    sandbox: &Sandbox,
    asked: &Asked,
) -> Result<()> {
    let file = directory.join("config.json");
    let text = template::to_json(&whole(sandbox, asked)?);
    std::fs::write(&file, text)
        .map_err(|error| Error::io("write", file.display(), Sysno::openat, &error))
}
