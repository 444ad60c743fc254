//! What is wrong at a place of a JSON document. `build.rs` compiles this file too.

use serde_path_to_error::{Path, Segment};

/// One contradiction in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a JSON pointer: `/linux/namespaces/2/type`.
    pub at: String,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

impl Problem {
    /// A problem at a JSON pointer.
    pub fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            problem: problem.into(),
        }
    }
}

/// A field's path as a JSON pointer (RFC 6901).
pub fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&escape(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A key as one reference of a JSON pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
