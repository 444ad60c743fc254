//! Reading this process's surroundings out of /proc and /dev.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::{Value, json};
use syscalls::Sysno;

use crate::act::{describe, errno_name};
use crate::raw;

pub(crate) fn cwd() -> Value {
    match std::env::current_dir() {
        Ok(path) => json!(path.to_string_lossy()),
        Err(error) => json!({ "error": errno_name(&error) }),
    }
}

/// Inode numbers of the namespaces of a process: the identity of each.
pub(crate) fn namespaces(pid: &str) -> Value {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/ns"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if let Ok(meta) = fs::metadata(entry.path()) {
            found.insert(entry.file_name().to_string_lossy().into_owned(), meta.ino());
        }
    }
    json!(found)
}

/// The mount table, one object per line of mountinfo.
pub(crate) fn mounts(pid: &str) -> Value {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(mount_line).collect()
}

fn mount_line(line: &str) -> Option<Value> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let filesystem: Vec<&str> = filesystem.splitn(3, ' ').collect();
    Some(json!({
        "id": mount.first()?.parse::<u64>().ok()?,
        "parent": mount.get(1)?.parse::<u64>().ok()?,
        "device": mount.get(2)?,
        "root": mount.get(3)?,
        "point": mount.get(4)?,
        "options": mount.get(5)?.split(',').collect::<Vec<_>>(),
        "propagation": mount.get(6..)?,
        "fstype": filesystem.first()?,
        "source": filesystem.get(1)?,
        "super": filesystem.get(2)?.split(',').collect::<Vec<_>>(),
    }))
}

/// Whether the last mount at a point, which has to be one, has an option.
pub(crate) fn has_option(point: &str, option: &str) -> bool {
    let table = mounts("self");
    let all = table.as_array().map_or(&[][..], Vec::as_slice);
    let mount = all.iter().rev().find(|mount| mount["point"] == point);
    let options = mount.and_then(|mount| mount["options"].as_array());
    options.is_some_and(|options| options.iter().any(|word| word == option))
}

/// Whether what is at a path cannot be written to because of its mount.
pub(crate) fn read_only(path: &str) -> bool {
    const READ_ONLY: u64 = 1;
    // struct statfs: `f_flags` are its eleventh word.
    let mut facts = [0u8; 120];
    let Ok(mut name) = crate::act::c_string(path) else {
        return false;
    };
    let buffer = facts.as_mut_ptr() as usize;
    let got = raw::call_with(Sysno::statfs, [0, buffer, 0, 0, 0, 0], 0, &mut name);
    let flags = facts[80..88].try_into().map_or(0, u64::from_ne_bytes);
    got.is_ok() && flags & READ_ONLY != 0
}

/// One open descriptor: what it points to and what it is.
pub(crate) fn descriptor(fd: RawFd) -> Value {
    let path = format!("/proc/self/fd/{fd}");
    let target = fs::read_link(&path).map_or_else(
        |error| json!({ "error": errno_name(&error) }),
        |target| json!(target.to_string_lossy()),
    );
    let kind = fs::metadata(&path).map_or("unknown", |meta| {
        let kind = meta.file_type();
        match () {
            () if kind.is_dir() => "dir",
            () if kind.is_char_device() => "char",
            () if kind.is_fifo() => "pipe",
            () if kind.is_socket() => "socket",
            () if kind.is_file() => "file",
            () => "other",
        }
    });
    let device = fs::metadata(&path).map_or(0, |meta| meta.rdev());
    json!({
        "fd": fd,
        "target": target,
        "type": kind,
        "major": libc::major(device),
        "minor": libc::minor(device),
    })
}

/// Every descriptor that was open before this function opened one itself.
pub(crate) fn descriptors() -> Value {
    let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect();
    // The directory's own descriptor is closed by now: it no longer resolves.
    numbers
        .into_iter()
        .filter(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok())
        .map(descriptor)
        .collect()
}

pub(crate) fn is_terminal(fd: RawFd) -> bool {
    match fd {
        0 => std::io::stdin().is_terminal(),
        1 => std::io::stdout().is_terminal(),
        _ => std::io::stderr().is_terminal(),
    }
}

/// Name of the terminal on standard input.
pub(crate) fn terminal() -> Value {
    if !is_terminal(0) {
        return Value::Null;
    }
    let size = raw::window_size(0).unwrap_or((0, 0));
    let name = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    json!({ "name": name.to_string_lossy(), "rows": size.0, "columns": size.1 })
}

/// Field `index` (from 1, as in proc(5)) of /proc/self/stat.
pub(crate) fn stat_field(index: usize) -> Value {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field may hold blanks and parentheses: count from its end.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ')
        .nth(index.saturating_sub(3))
        .and_then(|word| word.trim().parse::<i64>().ok())
        .map_or(Value::Null, |number| json!(number))
}

/// The controlling terminal as a device number, 0 for none.
pub(crate) fn controlling_terminal() -> Value {
    stat_field(7)
}

/// Everything in /dev, below its subdirectories too.
pub(crate) fn devices(extra: &[&str]) -> Value {
    let mut found = BTreeMap::new();
    let mut open = vec!["/dev".to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path.clone());
            }
            found.insert(path.clone(), device(&path));
        }
    }
    for path in extra {
        found.insert((*path).to_owned(), device(path));
    }
    json!(found)
}

fn device(path: &str) -> Value {
    let mut facts = match describe(path) {
        Ok(facts) => facts,
        Err(error) => return json!({ "error": errno_name(&error) }),
    };
    // Opening a fifo would wait for its other end, a terminal might hang up.
    if facts["type"] == "char" || facts["type"] == "block" {
        let opened = fs::OpenOptions::new().read(true).open(path);
        facts["open"] = json!(opened.map_or_else(|error| errno_name(&error), |_| "ok".to_owned()));
    }
    facts
}

/// What reading a file gives: its size when it can be read, else the error.
pub(crate) fn peek(path: &str) -> Value {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => return json!(errno_name(&error)),
    };
    if meta.is_dir() {
        return match fs::read_dir(path) {
            Ok(entries) => json!({ "dir": entries.count() }),
            Err(error) => json!(errno_name(&error)),
        };
    }
    let mut first = [0u8; 64];
    let read = fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut first));
    let writable = match fs::OpenOptions::new().write(true).open(path) {
        Ok(_) => "ok".to_owned(),
        Err(error) => errno_name(&error),
    };
    match read {
        Ok(bytes) => json!({
            "bytes": bytes,
            "write": writable,
            "major": libc::major(meta.rdev()),
            "minor": libc::minor(meta.rdev()),
        }),
        Err(error) => json!(errno_name(&error)),
    }
}
