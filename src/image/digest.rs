//! SHA-256 digests: their text, and readers that hash what passes through them.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Reads `sha256:` and 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(hex) = text.strip_prefix("sha256:") else {
            return Err(format!("{text:?} is not a sha256 digest"));
        };
        let wrong =
            || format!("{text:?} is no digest: 64 digits 0-9 or a-f must follow \"sha256:\"");
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if hex.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let value = |at: usize| digit(pair[at]).ok_or_else(wrong);
            *byte = value(0)? << 4 | value(1)?;
        }
        Ok(Self(bytes))
    }

    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of all that a source has.
    ///
    /// # Errors
    /// That of the source.
    pub fn read(source: impl Read) -> io::Result<Self> {
        let mut hashing = Hashing::new(source);
        io::copy(&mut hashing, &mut io::sink())?;
        Ok(hashing.finish().1)
    }

    /// A digest that somebody else has taken.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits: safe as a file name, whatever was in the document.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes and counts what is read through it.
pub(super) struct Hashing<R> {
    source: R,
    hash: Sha256,
    count: u64,
}

impl<R: Read> Hashing<R> {
    /// Nothing read yet.
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            hash: Sha256::new(),
            count: 0,
        }
    }

    /// Hashes bytes that do not come from the source.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// How many bytes came through.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The source, the digest of what came through.
    pub(super) fn finish(self) -> (R, Digest) {
        (self.source, Digest(self.hash.finalize().into()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.hash.update(&buffer[..length]);
        self.count += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn known_digests_and_their_text() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::parse(ABC), Ok(Digest::of(b"abc")));
        let mut hashing = Hashing::new(&b"abc"[..]);
        io::copy(&mut hashing, &mut io::sink()).unwrap();
        assert_eq!(hashing.count(), 3);
        assert_eq!(hashing.finish().1, Digest::of(b"abc"));
    }

    #[test]
    fn only_the_one_spelling_is_a_digest() {
        for wrong in [
            "",
            "sha256:",
            &ABC[7..],
            &ABC[..70],
            &format!("{ABC}0"),
            &ABC.to_uppercase(),
            &ABC.replace("ba78", "BA78"),
            &ABC.replace("ba78", "../."),
            &ABC.replace("sha256", "sha512"),
        ] {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
    }
}
