//! Looking for other processes' ways out: their files, directories and programs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::Outcome;
use crate::act::say;

/// What was found until the file to stop at appeared.
#[derive(Default)]
struct Found {
    rounds: u64,
    /// Processes that came and went.
    seen: u64,
    /// Ways to the canary.
    ways: BTreeMap<String, u64>,
    /// Programs of others that were open for writing, by device and inode number.
    writable: BTreeMap<String, u64>,
    /// Capabilities that any of them had, and could have had.
    permitted: u64,
    bounding: u64,
}

/// Looks through the descriptors and directories of all processes but itself and
/// the first for a file of the host, at their capabilities, and tries to open their
/// programs for writing, again and again until a file appears.
pub(crate) fn stalk(canary: &str, until: &str) -> Outcome {
    let own = std::process::id().to_string();
    let mut found = Found::default();
    // Programs that could not be written while they ran, held for later.
    let mut held: Vec<(u64, File)> = Vec::new();
    say("READY");
    while !Path::new(until).exists() {
        found.rounds += 1;
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.starts_with(|first: char| first.is_ascii_digit());
            if number && name != own && name != "1" {
                found.seen += 1;
                found.process(&entry.path(), canary, &mut held);
            }
        }
        held.retain(|(_, program)| !found.writes(program));
    }
    say(&json!({
        "rounds": found.rounds, "seen": found.seen, "ways": found.ways, "writable": found.writable,
        "permitted": found.permitted, "bounding": found.bounding,
    })
    .to_string());
    Ok(ExitCode::SUCCESS)
}

impl Found {
    fn process(&mut self, process: &Path, canary: &str, held: &mut Vec<(u64, File)>) {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        };
        self.permitted |= set("CapPrm:").unwrap_or(0);
        self.bounding |= set("CapBnd:").unwrap_or(0);
        let program = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(process.join("exe"));
        if let Ok(program) = program {
            let inode = program.metadata().map_or(0, |meta| meta.ino());
            let mine = fs::metadata("/proc/self/exe").map_or(0, |meta| meta.ino());
            if inode != mine && held.iter().all(|(known, _)| *known != inode) && held.len() < 64 {
                held.push((inode, program));
            }
        }
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
        let mut doors: Vec<PathBuf> = descriptors.flatten().map(|entry| entry.path()).collect();
        doors.extend(["root", "cwd"].map(|name| process.join(name)));
        for door in doors {
            // From a directory as a root, from one somewhere below it, and from a procfs.
            for way in ["", "../../../../../../../../..", "1/root"] {
                if fs::symlink_metadata(door.join(way).join(canary)).is_ok() {
                    let name = door.file_name().unwrap_or_default().to_string_lossy();
                    *self.ways.entry(format!("{name}/{way}")).or_default() += 1;
                }
            }
        }
    }

    /// Whether a program of another can be opened for writing; nothing is written.
    fn writes(&mut self, program: &File) -> bool {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let open = OpenOptions::new().write(true).open(path);
        if let (Ok(_), Ok(meta)) = (&open, program.metadata()) {
            let name = format!("{}:{}", meta.dev(), meta.ino());
            *self.writable.entry(name).or_default() += 1;
        }
        open.is_ok()
    }
}
