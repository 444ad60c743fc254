//! Which controllers a cgroup that is still to be made could have.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::cgroup::writable;

/// Why a controller does not reach a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// This level's `cgroup.controllers` does not list it; the level may be the mount itself.
    NotListed(PathBuf),
    /// This level lists it, and cannot hand it down: the error number that a
    /// write to its `cgroup.subtree_control` would have.
    NotHandedDown(PathBuf, Errno),
}

/// What keeps `controller` from a new cgroup below `parent`; `None` when nothing does.
///
/// Only looks. `parent` is an absolute path below `mount`; levels that do not
/// exist yet would be made, and hand down whatever they get.
pub fn obstacle(mount: &Path, parent: &Path, controller: &str) -> Option<Obstacle> {
    let below = parent.strip_prefix(mount).unwrap_or(Path::new(""));
    let mut level = mount.to_owned();
    let mut names = below.iter();
    loop {
        if !lists(&level.join("cgroup.controllers"), controller) {
            return Some(Obstacle::NotListed(level));
        }
        if !lists(&level.join("cgroup.subtree_control"), controller)
            && let Err(errno) = can_hand_down(&level)
        {
            return Some(Obstacle::NotHandedDown(level, errno));
        }
        level.push(names.next()?);
        if !level.exists() {
            return None;
        }
    }
}

fn lists(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_ascii_whitespace().any(|w| w == word))
}

fn can_hand_down(level: &Path) -> Result<(), Errno> {
    writable(&level.join("cgroup.subtree_control"))?;
    // The root of the whole hierarchy has no such file, and may have processes.
    let Ok(kind) = fs::read_to_string(level.join("cgroup.type")) else {
        return Ok(());
    };
    if kind.trim() != "domain" {
        return Err(Errno::EOPNOTSUPP);
    }
    match fs::read_to_string(level.join("cgroup.procs")) {
        Ok(processes) if !processes.is_empty() => Err(Errno::EBUSY),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain directories with files of the kernel's names and form.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let name = format!("capsid-controllers-{name}-{}", std::process::id());
            let tree = Self(std::env::temp_dir().join(name));
            tree.level("", "cpu memory pids", "cpu memory pids", "");
            fs::remove_file(tree.0.join("cgroup.type")).unwrap();
            tree
        }

        fn level(&self, path: &str, listed: &str, enabled: &str, processes: &str) {
            let level = self.0.join(path);
            fs::create_dir_all(&level).unwrap();
            for (file, text) in [
                ("controllers", listed),
                ("subtree_control", enabled),
                ("procs", processes),
                ("type", "domain\n"),
            ] {
                fs::write(level.join(format!("cgroup.{file}")), text).unwrap();
            }
        }

        fn obstacle(&self, parent: &str, controller: &str) -> Option<Obstacle> {
            obstacle(&self.0, &self.0.join(parent), controller)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_level_that_loses_a_controller_is_named() {
        let tree = Tree::new("levels");
        tree.level("user", "cpu memory pids", "memory pids", "");
        tree.level("user/session", "memory pids", "", "17\n");
        assert_eq!(
            tree.obstacle("", "io"),
            Some(Obstacle::NotListed(tree.0.clone()))
        );
        // Not handed down yet, and nothing against it.
        assert_eq!(tree.obstacle("user", "cpu"), None);
        assert_eq!(
            tree.obstacle("user/session", "cpu"),
            Some(Obstacle::NotListed(tree.0.join("user/session")))
        );
        assert_eq!(
            tree.obstacle("user/session", "memory"),
            Some(Obstacle::NotHandedDown(
                tree.0.join("user/session"),
                Errno::EBUSY
            ))
        );
        // A level that is not there yet.
        assert_eq!(tree.obstacle("user/new/deep", "memory"), None);
    }

    #[test]
    fn threaded_cgroups_hand_nothing_down() {
        let tree = Tree::new("threaded");
        tree.level("t", "pids", "", "");
        fs::write(tree.0.join("t/cgroup.type"), "threaded\n").unwrap();
        assert_eq!(
            tree.obstacle("t", "pids"),
            Some(Obstacle::NotHandedDown(tree.0.join("t"), Errno::EOPNOTSUPP))
        );
    }
}
