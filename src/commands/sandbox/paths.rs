//! Paths of the host that are to be shown: what they are, and what they give away.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::sandbox::Bind;

/// Splits `PATH[:DEST]`, where DEST begins with a slash.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.rfind(":/") {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Finds the file that `PATH[:DEST]` means, now: a link that is changed later
/// leads nowhere else.
pub(super) fn bind(text: &str, writable: bool, here: &Path) -> Result<Bind> {
    let option = if writable { "--rw" } else { "--ro" };
    let (path, destination) = split(text);
    if path.is_empty() {
        return Err(Error::Usage(format!("{option} {text:?}: no path is given")));
    }
    let written: PathBuf = here.join(path).components().collect();
    let failed = |call, error: &std::io::Error| {
        Error::io(format!("{option}: find"), written.display(), call, error)
    };
    let source = std::fs::canonicalize(&written).map_err(|error| failed(Sysno::openat, &error))?;
    let found = std::fs::metadata(&source).map_err(|error| failed(Sysno::statx, &error))?;
    // With .. behind a link, what was written says nothing about the place.
    let plain = written
        .components()
        .all(|part| part != Component::ParentDir);
    let same = if plain { &written } else { &source };
    Ok(Bind {
        destination: destination.map_or_else(|| same.clone(), PathBuf::from),
        writable,
        directory: found.is_dir(),
        owner: (found.uid(), found.gid()),
        idmap: false,
        source,
    })
}

/// Refuses what would undo the sandbox; says what is dangerous.
pub(super) fn dangers(bind: &Bind, state: &Path) -> Result<Vec<String>> {
    let shown = bind.source.display();
    let option = if bind.writable { "--rw" } else { "--ro" };
    let refuse = |why: &str| Err(Error::Usage(format!("{option} {shown}: {why}")));
    for kernel in ["/proc", "/sys"] {
        if bind.source.starts_with(kernel) {
            return refuse("files of the kernel are not shown: they describe and control the host");
        }
    }
    if bind.source == Path::new("/") || bind.source == Path::new("/dev") {
        return refuse("this would show the whole host; give a directory below it");
    }
    let state = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    if state.starts_with(&bind.source) || bind.source.starts_with(&state) {
        return refuse("capsid keeps the state of sandboxes there; give another directory");
    }
    Ok(Vec::new())
}
