//! Known ways out: one test or more for each class of `classes.txt`, named by
//! its CVE or by the class. Each must fail, and leave everything outside the
//! container as it was. The README beside this says how each was seen to succeed
//! where the defence is missing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::cases::Case;
use crate::roles::Test;

/// A fence that must hold. `peers` and `proofs` count no other failure as a way out.
macro_rules! holds {
    ($fence:expr, $($told:tt)+) => {
        if !$fence {
            panic!("escaped: {}", format_args!($($told)+));
        }
    };
}

mod caller;
mod calls;
mod descriptors;
mod kernel;
mod links;
mod procfs;
mod program_file;
mod races;
mod settings;
mod users;
mod views;
mod volumes;

/// All of them, as one group.
pub(crate) fn cases() -> Vec<Case> {
    [
        caller::cases(),
        calls::cases(),
        descriptors::cases(),
        kernel::cases(),
        links::cases(),
        procfs::cases(),
        program_file::cases(),
        races::cases(),
        settings::cases(),
        users::cases(),
        views::cases(),
        volumes::cases(),
    ]
    .concat()
}

/// Names, sizes and kinds of everything directly in a directory.
pub(crate) fn listing(dir: &Path) -> Vec<(String, u64, bool)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let meta = entry.path().symlink_metadata().ok()?;
            let size = if meta.is_file() { meta.len() } else { 0 };
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                size,
                meta.file_type().is_symlink(),
            ))
        })
        .collect();
    all.sort();
    all
}

/// A directory of the host with a file that nobody inside may read or change.
fn outside(test: &Test) -> PathBuf {
    let dir = test.path("outside");
    test.make_dir(&dir);
    test.make_file(&dir.join("canary"), "secret of the host");
    dir
}

fn untouched(bundle: &Bundle, dir: &Path) -> crate::runtime::Output {
    let before = listing(dir);
    let output = bundle.run();
    holds!(listing(dir) == before, "{} changed", dir.display());
    holds!(
        !output.stdout.contains("secret of the host"),
        "the canary was read: {output:?}"
    );
    bundle.assert_nothing_left();
    output
}
