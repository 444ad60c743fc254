//! A writer of tar archives that writes whatever it is told, also what no
//! honest writer would. Shared by the tests and the fuzz target.

pub(crate) const BLOCK: usize = 512;

/// An archive under construction.
#[derive(Clone, Default)]
pub(crate) struct Archive(Vec<u8>);

/// The fields of a header.
#[derive(Clone)]
pub(crate) struct Header<'a> {
    pub(crate) flag: u8,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) magic: &'a [u8; 8],
    pub(crate) prefix: &'a [u8],
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self {
            flag: b'0',
            name: b"",
            link: b"",
            mode: 0o644,
            size: 0,
            mtime: 1_000_000_000,
            magic: b"ustar\x0000",
            prefix: b"",
        }
    }
}

fn put(block: &mut [u8], at: usize, most: usize, text: &[u8]) {
    let length = text.len().min(most);
    block[at..at + length].copy_from_slice(&text[..length]);
}

fn octal(block: &mut [u8], at: usize, width: usize, value: u64) {
    let text = format!("{value:0width$o}\0", width = width - 1);
    put(block, at, width, text.as_bytes());
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A header, without the data it announces.
    pub(crate) fn header(&mut self, header: &Header<'_>) -> &mut Self {
        let mut block = [0; BLOCK];
        put(&mut block, 0, 100, header.name);
        octal(&mut block, 100, 8, header.mode.into());
        octal(&mut block, 108, 8, 0);
        octal(&mut block, 116, 8, 0);
        octal(&mut block, 124, 12, header.size);
        octal(&mut block, 136, 12, header.mtime);
        block[156] = header.flag;
        put(&mut block, 157, 100, header.link);
        put(&mut block, 257, 8, header.magic);
        put(&mut block, 345, 155, header.prefix);
        self.block(block)
    }

    /// A header as it is, with its checksum made right.
    pub(crate) fn block(&mut self, mut block: [u8; BLOCK]) -> &mut Self {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        octal(&mut block, 148, 7, sum.into());
        self.raw(&block)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Data, and zeros up to the next block.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw(bytes);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// An entry of any type, with data.
    pub(crate) fn entry(&mut self, flag: u8, name: &str, link: &str, data: &[u8]) -> &mut Self {
        self.header(&Header {
            flag,
            name: name.as_bytes(),
            link: link.as_bytes(),
            size: data.len() as u64,
            ..Header::default()
        })
        .data(data)
    }

    pub(crate) fn file(&mut self, name: &str, data: &str) -> &mut Self {
        self.entry(b'0', name, "", data.as_bytes())
    }

    pub(crate) fn directory(&mut self, name: &str) -> &mut Self {
        self.mode(b'5', name, 0o755)
    }

    pub(crate) fn symlink(&mut self, name: &str, text: &str) -> &mut Self {
        self.entry(b'2', name, text, b"")
    }

    pub(crate) fn hard_link(&mut self, name: &str, to: &str) -> &mut Self {
        self.entry(b'1', name, to, b"")
    }

    /// An empty entry with these permission bits.
    pub(crate) fn mode(&mut self, flag: u8, name: &str, mode: u32) -> &mut Self {
        let name = name.as_bytes();
        self.header(&Header {
            flag,
            name,
            mode,
            ..Header::default()
        })
    }

    /// A pax header: records for the next entry, or for all (`g`).
    pub(crate) fn pax(&mut self, flag: u8, records: &[(&str, &str)]) -> &mut Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            text.extend_from_slice(format!("{length}{rest}").as_bytes());
        }
        let text = String::from_utf8(text).unwrap();
        self.entry(flag, "PaxHeaders/x", "", text.as_bytes())
    }

    /// A long name (`L`) or link (`K`) of GNU's kind.
    pub(crate) fn gnu(&mut self, flag: u8, name: &str) -> &mut Self {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.entry(flag, "././@LongLink", "", &text)
    }

    /// The archive with its end: two blocks of zeros.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    /// The archive as far as it goes.
    pub(crate) fn open_end(&self) -> Vec<u8> {
        self.0.clone()
    }
}

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    // Checksum and length, which nobody reads.
    packed.extend([0; 8]);
    packed
}
