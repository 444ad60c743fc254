//! What validation found, and the checks that every kind of value shares.

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::Problem;

/// The longest path the kernel takes, in bytes, without the ending NUL.
pub(super) const PATH_LIMIT: usize = 4095;

/// The longest of all other strings, in bytes: the kernel takes less for most
/// of them, and none of them is longer in earnest.
const STRING_LIMIT: usize = 65_535;

/// The most problems that are listed: beyond, a list helps nobody, and engines
/// pass on only the first few kilobytes.
const LISTED: usize = 64;

/// Problems and warnings, in the order found.
pub(super) struct Findings {
    problems: Vec<Problem>,
    more: usize,
    warnings: Vec<String>,
}

impl Findings {
    /// None so far, but for warnings from reading the file.
    pub(super) fn new(warnings: Vec<String>) -> Self {
        Self {
            problems: Vec::new(),
            more: 0,
            warnings,
        }
    }

    /// Something that contradicts itself, the specification or the kernel.
    pub(super) fn problem(&mut self, at: impl Display, problem: impl Into<String>) {
        if self.problems.len() < LISTED {
            self.problems.push(Problem::new(at.to_string(), problem));
        } else {
            self.more += 1;
        }
    }

    /// Something that works, but perhaps not as meant.
    pub(super) fn warning(&mut self, at: impl Display, warning: impl Display) {
        self.warnings.push(format!("{at}: {warning}"));
    }

    /// The warnings if there are no problems.
    pub(super) fn into_result(mut self) -> Result<Vec<String>, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        if self.more > 0 {
            self.problems
                .push(Problem::new("", format!("and {} more problems", self.more)));
        }
        Err(self.problems)
    }

    /// A string the kernel will read up to its first NUL: with one inside, what
    /// was checked and what takes effect would differ.
    pub(super) fn c_string(&mut self, at: impl Display, value: &str) {
        self.limited(at, value, STRING_LIMIT);
    }

    /// The same with a limit in bytes.
    pub(super) fn limited(&mut self, at: impl Display, value: &str, limit: usize) {
        if value.as_bytes().contains(&0) {
            self.problem(at, "contains a NUL byte");
        } else if value.len() > limit {
            self.problem(
                at,
                format!("{} bytes long; the limit is {limit}", value.len()),
            );
        }
    }

    /// A string that is written to a kernel file, where a line is a command.
    pub(super) fn line(&mut self, at: impl Display, value: &str) {
        if value.contains('\n') {
            self.problem(at, "contains a line break");
        } else {
            self.c_string(at, value);
        }
    }

    /// A path that is not empty, has no NUL and is short enough for the kernel.
    pub(super) fn path(&mut self, at: impl Display, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            self.problem(at, "must not be empty");
        } else if bytes.contains(&0) {
            self.problem(at, "contains a NUL byte");
        } else if bytes.len() > PATH_LIMIT {
            self.problem(
                at,
                format!("{} bytes long; the limit is {PATH_LIMIT}", bytes.len()),
            );
        }
    }

    /// Such a path that starts with a slash.
    pub(super) fn absolute(&mut self, at: impl Display, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        if !bytes.is_empty() && bytes[0] != b'/' {
            self.problem(at, format!("{:?} must be an absolute path", shown(path)));
        } else {
            self.path(at, path);
        }
    }
}

/// As much of a path as helps to recognise it.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().take(80).collect()
}
