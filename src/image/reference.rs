//! `DIR[:TAG]@sha256:DIGEST`: which image of which layout.

use std::fmt;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use crate::error::{Error, Result};

/// An image of a layout on disk.
///
/// The directory ends at the first colon, as for skopeo and umoci.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    directory: PathBuf,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads `DIR[:TAG][@sha256:DIGEST]`. Without a digest it is a reference
    /// that [`super::open`] refuses, naming the digest to add.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn parse(text: &str) -> Result<Self> {
        let usage = |problem: String| {
            Error::Usage(format!(
                "{problem}; an image is named as DIR[:TAG]@sha256:DIGEST"
            ))
        };
        let (name, digest) = match text.rsplit_once('@') {
            Some((name, digest)) if digest.contains(':') => {
                (name, Some(Digest::parse(digest).map_err(usage)?))
            }
            _ => (text, None),
        };
        let (directory, tag) = match name.split_once(':') {
            Some((directory, tag)) => (directory, Some(tag)),
            None => (name, None),
        };
        if directory.is_empty() {
            return Err(usage(format!("{text:?} names no directory")));
        }
        if let Some(tag) = tag {
            // The separators and characters of org.opencontainers.image.ref.name.
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:@/+".contains(c);
            if tag.is_empty() || !tag.chars().all(allowed) {
                return Err(usage(format!(
                    "{tag:?} is no tag: it has letters, digits and -._:@/+"
                )));
            }
        }
        Ok(Self {
            directory: directory.into(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The directory of the layout.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name in the layout's index, if one is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// What the manifest or the index of all platforms must hash to.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same with a digest: what to write instead.
    pub(super) fn pinned(&self, tag: Option<&str>, digest: Digest) -> Self {
        let tag = tag.or(self.tag.as_deref());
        Self {
            directory: self.directory.clone(),
            tag: tag.map(str::to_owned),
            digest: Some(digest),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.directory.display())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parts(text: &str) -> (String, Option<String>, bool) {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.to_string(), text);
        let directory = reference.directory.display().to_string();
        (directory, reference.tag, reference.digest.is_some())
    }

    #[test]
    fn the_parts_of_a_reference() {
        assert_eq!(parts("a/b"), ("a/b".into(), None, false));
        assert_eq!(parts("/a:1.2"), ("/a".into(), Some("1.2".into()), false));
        let tag = Some("quay.io/x:y".to_owned());
        assert_eq!(
            parts(&format!("./a:quay.io/x:y@{DIGEST}")),
            ("./a".into(), tag, true)
        );
        assert_eq!(parts(&format!("a@b@{DIGEST}")), ("a@b".into(), None, true));
        assert_eq!(parts("a@b"), ("a@b".into(), None, false));
    }

    #[test]
    fn wrong_references_are_refused() {
        for wrong in [
            "",
            ":tag",
            "dir:",
            "dir:a b",
            "dir:\u{1b}[31m",
            "dir@sha256:",
            "dir@sha256:00",
            "dir@sha512:00",
            &format!("@{DIGEST}"),
            &format!("dir@{}", DIGEST.to_uppercase()),
        ] {
            assert!(Reference::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
