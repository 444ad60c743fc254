//! The host's programs and the caller's circumstances, as far as a sandbox
//! shows them.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{text, user_name};
use crate::sys::fd::{self, At, Resolve};

/// What a sandbox shows of the host, and what its defaults depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Userland {
    /// Paths that are shown, and what they are on this host.
    pub files: Vec<(&'static str, Found)>,
    /// The caller's name.
    pub user_name: Option<String>,
    /// Variables that say how to talk to the caller: TERM and the language.
    pub environment: Vec<(String, String)>,
    /// Bytes of memory of the machine.
    pub memory: u64,
    /// Bytes of swap.
    pub swap: u64,
    /// The caller's hard limit of open files.
    pub open_files: u64,
    /// The caller's own `oom_score_adj`, below which nobody may go.
    pub oom_score_adj: i32,
    /// The caller's umask.
    pub umask: u32,
    /// The kernel has time namespaces.
    pub time_namespaces: bool,
    /// This process: what tells sandboxes of one time apart.
    pub process: u32,
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory, with its path without links.
    Directory(PathBuf),
    /// A file, with its path without links.
    File(PathBuf),
    /// A link that also leads somewhere inside.
    Link(PathBuf),
}

/// Where the host's programs are.
const PROGRAMS: [&str; 8] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
];

/// Files of `/etc` without which programs do not work; none of them tells of
/// users or keys. Whole directories only where nothing private can be in them.
const ETC: [&str; 17] = [
    "/etc/alternatives",
    "/etc/ca-certificates/extracted",
    "/etc/crypto-policies",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];

impl Userland {
    /// Reads it from the running system.
    pub fn read(uid: u32, umask: u32) -> Self {
        let memory = text("/proc/meminfo");
        let kilobytes = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_ascii_whitespace().next());
            number
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let all = PROGRAMS.iter().chain(&ETC);
        Self {
            files: all.filter_map(|path| Some((*path, look(path)?))).collect(),
            user_name: user_name(&text("/etc/passwd"), uid),
            environment: variables(),
            memory: kilobytes("MemTotal:") << 10,
            swap: kilobytes("SwapTotal:") << 10,
            open_files: open_files(),
            oom_score_adj: text("/proc/self/oom_score_adj").trim().parse().unwrap_or(0),
            umask,
            time_namespaces: Path::new("/proc/self/ns/time").exists(),
            process: std::process::id(),
        }
    }
}

fn variables() -> Vec<(String, String)> {
    let wanted = |name: &str| {
        matches!(
            name,
            "TERM" | "COLORTERM" | "LANG" | "LANGUAGE" | "NO_COLOR" | "TZ"
        ) || name.starts_with("LC_")
    };
    let all = std::env::vars_os();
    let text =
        all.filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    let mut found: Vec<_> = text.filter(|(name, _)| wanted(name)).collect();
    found.sort();
    found
}

fn open_files() -> u64 {
    let limits = text("/proc/self/limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    // "unlimited" is no number.
    hard.and_then(|hard| hard.parse().ok()).unwrap_or(u64::MAX)
}

fn look(path: &'static str) -> Option<Found> {
    let c_path = std::ffi::CString::new(path).ok()?;
    // Most lead there without any link: then this is all there is to know.
    match fd::open(At::Cwd, &c_path, libc::O_PATH, Resolve::NO_LINKS) {
        Ok(found) => {
            let directory = fd::stat(found.as_fd()).ok()?.is(libc::S_IFDIR);
            Some(match directory {
                true => Found::Directory(path.into()),
                false => Found::File(path.into()),
            })
        }
        Err(failure) if failure.is(libc::ELOOP) => through_links(Path::new(path)),
        Err(_) => None,
    }
}

fn through_links(path: &Path) -> Option<Found> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).ok()?;
        let from = path.parent().unwrap_or(path).join(&target);
        if leads_to_programs(&from) {
            return Some(Found::Link(target));
        }
    }
    let real = fs::canonicalize(path).ok()?;
    match fs::metadata(&real).ok()?.is_dir() {
        true => Some(Found::Directory(real)),
        false => Some(Found::File(real)),
    }
}

/// Whether a path, `..` taken as text, is below `/usr`: there it is the same inside.
fn leads_to_programs(path: &Path) -> bool {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean.starts_with("/usr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_programs_stay_links() {
        for (path, expected) in [
            ("/usr/bin", true),
            ("/etc/../usr/lib/os-release", true),
            ("/etc/../usr/../etc/shadow", false),
            ("/usrlocal", false),
        ] {
            assert_eq!(leads_to_programs(Path::new(path)), expected, "{path}");
        }
    }
}
