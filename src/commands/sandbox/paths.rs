//! Paths of the host that are to be shown: what they are, and what they give away.

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::host::kernel;
use crate::host::userland::Found;
use crate::sandbox::Bind;
use crate::sys::fd;

use super::dangers;

/// Splits `PATH[:DEST]`, where DEST begins with a slash.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.rfind(":/") {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Which option shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    ReadOnly,
    Writable,
    Overlay,
    Upper,
}

impl Shown {
    fn option(self) -> &'static str {
        match self {
            Shown::ReadOnly => "--ro",
            Shown::Writable => "--rw",
            Shown::Overlay => "--overlay",
            Shown::Upper => "--overlay-upper",
        }
    }

    fn writable(self) -> bool {
        matches!(self, Shown::Writable | Shown::Upper)
    }
}

/// Where paths are looked up, and what must not be given away.
pub(super) struct Surroundings {
    /// The current directory.
    pub(super) here: PathBuf,
    /// Where capsid keeps the state of containers.
    pub(super) state: PathBuf,
    /// The caller is root of the machine.
    pub(super) root: bool,
    /// What the person should know.
    pub(super) warnings: Vec<String>,
}

impl Surroundings {
    /// Finds the file that `PATH[:DEST]` means, now: a link that is changed
    /// later leads nowhere else.
    pub(super) fn find(&mut self, text: &str, shown: Shown) -> Result<Bind> {
        let option = shown.option();
        let (path, destination) = split(text);
        if path.is_empty() {
            return Err(Error::Usage(format!("{option} {text:?}: no path is given")));
        }
        let written: PathBuf = self.here.join(path).components().collect();
        let failed = |call, error: &std::io::Error| {
            Error::io(format!("{option}: find"), written.display(), call, error)
        };
        let source =
            std::fs::canonicalize(&written).map_err(|error| failed(Sysno::openat, &error))?;
        let found = std::fs::metadata(&source).map_err(|error| failed(Sysno::statx, &error))?;
        // With .. behind a link, what was written says nothing about the place.
        let plain = written
            .components()
            .all(|part| part != Component::ParentDir);
        let same = if plain { &written } else { &source };
        // A file that everyone may read needs no owner inside.
        let for_all = !found.is_dir() && !shown.writable() && found.mode() & 0o004 != 0;
        let bind = Bind {
            destination: destination.map_or_else(|| same.clone(), PathBuf::from),
            writable: shown.writable(),
            directory: found.is_dir(),
            owner: (found.uid(), found.gid()),
            idmap: self.root && !for_all && can_idmap(&source),
            source,
        };
        if !bind.directory && matches!(shown, Shown::Overlay | Shown::Upper) {
            return Err(Error::Usage(format!("{option} {text:?}: not a directory")));
        }
        self.judge(&bind, option)?;
        Ok(bind)
    }

    /// Refuses what would undo the sandbox; notes what is dangerous.
    fn judge(&mut self, bind: &Bind, option: &str) -> Result<()> {
        let shown = bind.source.display();
        let refuse = |why: &str| Err(Error::Usage(format!("{option} {shown}: {why}")));
        if ["/proc", "/sys"]
            .iter()
            .any(|kernel| bind.source.starts_with(kernel))
        {
            return refuse("files of the kernel are not shown: they describe and control the host");
        }
        if bind.source == Path::new("/") || bind.source == Path::new("/dev") {
            return refuse("this would show the whole host; give a directory below it");
        }
        let state = std::fs::canonicalize(&self.state).unwrap_or_else(|_| self.state.clone());
        if state.starts_with(&bind.source) || bind.source.starts_with(&state) {
            return refuse("capsid keeps the state of sandboxes there; give another directory");
        }
        let mut notes = dangers::of(bind);
        notes
            .iter_mut()
            .for_each(|note| note.insert_str(0, &format!("{option} {shown}: ")));
        self.warnings.append(&mut notes);
        Ok(())
    }
}

/// File systems that can be mounted with other owners.
fn can_idmap(path: &Path) -> bool {
    /// ext4, xfs, btrfs, f2fs, vfat.
    const KNOWN: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x4d44];
    const TMPFS: i64 = 0x0102_1994;
    let opened = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path);
    let magic = opened
        .ok()
        .and_then(|file| fd::file_system(file.as_fd()).ok());
    let magic = magic.map_or(0, |(magic, _)| magic);
    let tmpfs = || kernel::running().is_some_and(|(version, _)| version >= (6, 3));
    KNOWN.contains(&magic) || (magic == TMPFS && tmpfs())
}

/// The directories of a kept layer, made where they are missing.
pub(super) fn make_layer(directory: &Path) -> Result<()> {
    for name in ["upper", "work"] {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::io(
                "--overlay-upper: make",
                path.display(),
                Sysno::mkdirat,
                &error,
            )
        })?;
    }
    Ok(())
}

/// What is at the top of another root, but for what is the sandbox's own.
pub(super) fn top(root: &Path) -> Result<Vec<(PathBuf, Found)>> {
    const OWN: [&str; 8] = [
        "dev", "home", "proc", "root", "run", "sys", "tmp", ".overlay",
    ];
    let failed = |error: std::io::Error| {
        Error::io("--rootfs: read", root.display(), Sysno::getdents64, &error)
    };
    let real = std::fs::canonicalize(root).map_err(failed)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&real).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        let source = real.join(&name);
        let what = if kind.is_symlink() {
            Found::Link(std::fs::read_link(&source).map_err(failed)?)
        } else if kind.is_dir() {
            Found::Directory(source)
        } else if kind.is_file() {
            Found::File(source)
        } else {
            continue;
        };
        found.push((Path::new("/").join(name), what));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}
