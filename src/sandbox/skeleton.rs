//! What is in the root directory before anything is mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Directories, links and small files, by their path below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skeleton {
    entries: BTreeMap<PathBuf, Entry>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A directory that everyone may write: the top of an overlay takes its mode
    /// from it.
    Shared,
    /// A file with this content.
    File(String),
    /// A symbolic link to this.
    Link(PathBuf),
}

impl Skeleton {
    /// Each path and what is there, parents first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_path(), entry))
    }

    /// Puts something at an absolute path, with the directories above it.
    pub(super) fn put(&mut self, path: &Path, entry: Entry) {
        let below = path.strip_prefix("/").unwrap_or(path);
        for parent in below.ancestors().skip(1) {
            if !parent.as_os_str().is_empty() {
                let parent = self.entries.entry(parent.to_owned());
                parent.or_insert(Entry::Directory);
            }
        }
        if !below.as_os_str().is_empty() {
            self.entries.insert(below.to_owned(), entry);
        }
    }

    /// The link on the way to a path, if there is one: what is below it cannot
    /// be a mount point.
    pub(super) fn link_above(&self, path: &Path) -> Option<&Path> {
        let below = path.strip_prefix("/").unwrap_or(path);
        let link = |entry: &Path| matches!(self.entries.get(entry), Some(Entry::Link(_)));
        let found = below.ancestors().find(|above| link(above))?;
        self.entries
            .get_key_value(found)
            .map(|(path, _)| path.as_path())
    }
}
