//! The digest that fs-verity has of a file, taken by reading it.
//!
//! It is that of kernel and `fsverity digest` with their defaults: SHA-256, blocks
//! of 4096 bytes, no salt. A tree of hashes over the blocks, then the hash of a
//! descriptor with its root and the file's size. So it is the same number whether
//! the kernel keeps the file to it or not.

use std::io::{self, Read};

use super::digest::Digest;

const BLOCK: usize = 4096;

/// The hashes of each level of the tree that are not yet in a whole block.
#[derive(Default)]
struct Levels(Vec<Vec<u8>>);

impl Levels {
    fn push(&mut self, level: usize, hash: &Digest) {
        if self.0.len() == level {
            self.0.push(Vec::with_capacity(BLOCK));
        }
        self.0[level].extend_from_slice(hash.bytes());
        if self.0[level].len() == BLOCK {
            self.close(level);
        }
    }

    /// Hashes a level's block, with zeros at its end, into the level above.
    fn close(&mut self, level: usize) {
        let mut block = std::mem::take(&mut self.0[level]);
        block.resize(BLOCK, 0);
        self.push(level + 1, &Digest::of(&block));
    }

    /// The one hash of the highest level; zeros for no block at all.
    fn root(mut self) -> [u8; 32] {
        let mut level = 0;
        while level < self.0.len() {
            let highest = level + 1 == self.0.len();
            if let (true, Ok(root)) = (highest, self.0[level].as_slice().try_into()) {
                return root;
            }
            if !self.0[level].is_empty() {
                self.close(level);
            }
            level += 1;
        }
        [0; 32]
    }
}

/// Reads a file to its end.
pub(super) fn digest(mut file: impl Read) -> io::Result<Digest> {
    let mut levels = Levels::default();
    let mut size = 0u64;
    let mut buffer = vec![0; 16 * BLOCK];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        size += filled as u64;
        let end = filled.next_multiple_of(BLOCK);
        buffer[filled..end].fill(0);
        for block in buffer[..end].chunks(BLOCK) {
            levels.push(0, &Digest::of(block));
        }
        if filled < buffer.len() {
            break;
        }
    }
    // struct fsverity_descriptor: version, SHA-256, 2^12, no salt, no signature.
    let mut descriptor = [0; 256];
    descriptor[..3].copy_from_slice(&[1, 1, 12]);
    descriptor[8..16].copy_from_slice(&size.to_le_bytes());
    descriptor[16..48].copy_from_slice(&levels.root());
    Ok(Digest::of(&descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of `fsverity digest`.
    #[test]
    fn digests_are_those_of_fs_verity() {
        const WHOLE: u64 = 4096 * 128;
        for (byte, size, expected) in [
            (
                b'a',
                0,
                "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
            ),
            (
                b'a',
                1,
                "bce75948b9e7510293f8f2720412af9697c1479281323f3f220623fb8e94b557",
            ),
            (
                b'b',
                4096,
                "3b824cd4c7037f30d8d7120b386494ab101f0f896f201eca33bc67cd98132d1c",
            ),
            (
                b'b',
                4097,
                "c6d5cc0703d262023822da09bfdf7bf3f2cc8d084bcac090bf6e9089a8d0e49f",
            ),
            (
                b'c',
                WHOLE,
                "fe69276b8ec8bb2f2a467a1d1c81deb6f04f37038fadc8073af7f2dedab767be",
            ),
            (
                b'c',
                WHOLE + 1,
                "706a464a8b687f13e4cab393fd99978928f9746b95804641855bc5bc35e45304",
            ),
            (
                b'd',
                WHOLE * 128 + 3 * 4096 + 5,
                "6f459d94ad90cc5ffffc36b64cbe8f6c3bf97979808262a066d378fb0348b69c",
            ),
        ] {
            let file = io::repeat(byte).take(size);
            assert_eq!(digest(file).unwrap().hex(), expected, "{size}");
        }
    }
}
