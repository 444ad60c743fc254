//! What a path gives away that a person may not think of.

use std::path::{Path, PathBuf};

use crate::sandbox::Bind;

/// Keys, tokens and passwords, below the home directory.
const SECRETS: [&str; 14] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker/config.json",
    ".netrc",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".config/gcloud",
    ".config/gh",
    ".mozilla",
    ".password-store",
];

/// Files that the caller's own programs execute later.
const STARTED: [&str; 10] = [
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".config/fish",
    ".config/autostart",
    ".config/systemd",
    ".gitconfig",
    ".local/bin",
    "bin",
];

/// Sockets of daemons that do what they are told.
const SOCKETS: [&str; 6] = [
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
];

/// One sentence for each kind of danger.
pub(super) fn of(bind: &Bind) -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.and_then(|home| std::fs::canonicalize(home).ok());
    let below = |names: &[&str]| -> Vec<String> {
        let all = names
            .iter()
            .filter_map(|name| Some(home.as_ref()?.join(name)));
        shown(bind, all)
    };
    let mut notes = Vec::new();
    let secrets = below(&SECRETS);
    if !secrets.is_empty() {
        notes.push(format!("the program can read {}", secrets.join(", ")));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus"));
    let sockets = shown(bind, SOCKETS.iter().map(PathBuf::from).chain(runtime));
    if !sockets.is_empty() {
        notes.push(format!(
            "the program can command whoever listens on {}",
            sockets.join(", ")
        ));
    }
    if !bind.writable {
        return notes;
    }
    let started = below(&STARTED);
    if !started.is_empty() {
        notes.push(format!(
            "the program can change {}, which your own programs execute",
            started.join(", ")
        ));
    }
    let own = own_program().filter(|own| own.starts_with(&bind.source));
    if let Some(own) = own {
        notes.push(format!(
            "the program can replace {}, which makes sandboxes",
            own.display()
        ));
    }
    notes
}

/// Those of some paths that are there and become visible without being named.
fn shown(bind: &Bind, paths: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let real = paths.filter_map(|path| std::fs::canonicalize(path).ok());
    let inside = real.filter(|path| path.starts_with(&bind.source) && *path != bind.source);
    inside.map(|path| path.display().to_string()).collect()
}

/// The file that capsid was started from. By now it may run from a copy.
fn own_program() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    if name.components().count() > 1 {
        return std::fs::canonicalize(name).ok();
    }
    let path = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&path).map(|dir| dir.join(&name));
    all.filter(|file| is_file(file))
        .find_map(|file| std::fs::canonicalize(file).ok())
}

fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file())
}
