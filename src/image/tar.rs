//! Reading tar: ustar, GNU and pax headers, one entry after the other.
//!
//! Tar has several ways to say the same thing, and readers that disagree about
//! them see different files in one archive. So what is ambiguous is refused:
//! two long names for one entry, data where there can be none, anything but
//! zeros after the end. What makes a path good is for who applies it to say.

use std::io::{self, Read};

mod pax;

const BLOCK: usize = 512;
/// The longest extended header; the same as in Go's reader, which most tools use.
const LONGEST_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data follows.
    File,
    /// Another name for an entry that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A character or block device.
    Device,
    /// A named pipe.
    Fifo,
}

/// When a file was changed last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Since 1970.
    pub seconds: i64,
    /// Below a second.
    pub nanoseconds: u32,
}

/// One entry, with all its headers taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name as it stands there.
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// How many bytes of data follow.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// When it was changed last.
    pub modified: Time,
}

/// What extended headers said of the next entry.
#[derive(Default)]
struct Extension {
    pax: Option<pax::Records>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// A tar archive on its way.
pub struct Reader<R> {
    source: R,
    /// Data of the current entry that nobody has read yet.
    left: u64,
    /// Zeros after that data.
    padding: u64,
}

fn wrong<T>(problem: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, problem.into()))
}

impl<R: Read> Reader<R> {
    /// At the first entry.
    pub fn new(source: R) -> Self {
        Self {
            source,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry; what is left of the one before is passed over.
    ///
    /// # Errors
    /// What the source says, and for what is not tar `InvalidData` with a sentence.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        let mut extended = false;
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else {
                if extended {
                    return wrong("the archive ends between an extended header and its entry");
                }
                return Ok(None);
            };
            let size = number(&header[124..136], "size")?;
            self.expect(size)?;
            match header[156] {
                kind @ (b'x' | b'g' | b'L' | b'K') => {
                    let text = self.extension()?;
                    extended |= kind != b'g';
                    extension.add(kind, text)?;
                }
                kind => {
                    let entry = entry(&header, kind, extension)?;
                    self.expect(entry.size)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Data of the current entry; nothing at its end.
    ///
    /// # Errors
    /// What the source says; `UnexpectedEof` when the archive is cut off.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.source.read(&mut buffer[..most])? {
            0 => wrong("the archive ends in the middle of a file"),
            length => {
                self.left -= length as u64;
                Ok(length)
            }
        }
    }

    /// Reads the source to its end, after [`Reader::next_entry`] found no more entries.
    ///
    /// # Errors
    /// What the source says; `InvalidData` when something is hidden there.
    pub fn finish(mut self) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let length = self.source.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if buffer[..length].iter().any(|byte| *byte != 0) {
                return wrong("there is data after the end of the archive");
            }
        }
    }

    fn expect(&mut self, size: u64) -> io::Result<()> {
        if size > i64::MAX.cast_unsigned() {
            return wrong("an entry is larger than any file can be");
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        let passed = io::copy(&mut (&mut self.source).take(rest), &mut io::sink())?;
        // Some writers leave out the padding of the last file.
        if passed < self.left {
            return wrong("the archive ends in the middle of a file");
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header with a good checksum, or nothing at the end.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut header = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut header[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return wrong("the archive ends in the middle of a header"),
                length => filled += length,
            }
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = |value: fn(u8) -> i64| {
            let inside = |at: usize| (148..156).contains(&at);
            let bytes = header.iter().enumerate();
            bytes
                .map(|(at, byte)| value(if inside(at) { b' ' } else { *byte }))
                .sum::<i64>()
        };
        let stated = number(&header[148..156], "checksum")?;
        // Old writers summed signed bytes.
        let sums = [sum(i64::from), sum(|byte| byte.cast_signed().into())];
        if !sums.contains(&stated.cast_signed()) {
            return wrong("a header has a wrong checksum: this is not a tar archive, or damaged");
        }
        Ok(Some(header))
    }

    /// All data of an extended header.
    fn extension(&mut self) -> io::Result<Vec<u8>> {
        if self.left > LONGEST_EXTENSION {
            return wrong(format!(
                "an extended header has {} bytes, {LONGEST_EXTENSION} at most",
                self.left
            ));
        }
        let mut text = Vec::new();
        (&mut self.source).take(self.left).read_to_end(&mut text)?;
        if (text.len() as u64) < self.left {
            return wrong("the archive ends in the middle of an extended header");
        }
        self.left = 0;
        Ok(text)
    }
}

impl Extension {
    fn add(&mut self, kind: u8, text: Vec<u8>) -> io::Result<()> {
        let twice = match kind {
            // What it says of all entries is comments, in images.
            b'g' => {
                if pax::read(&text)?.names_or_sizes() {
                    return wrong("a global header gives all entries the same name or size");
                }
                false
            }
            b'x' => self.pax.replace(pax::read(&text)?).is_some(),
            b'L' => self.long_path.replace(until_nul(&text).to_vec()).is_some(),
            _ => self.long_link.replace(until_nul(&text).to_vec()).is_some(),
        };
        if twice {
            return wrong("an entry has two extended headers of one kind");
        }
        Ok(())
    }
}

/// Puts together what header and extended headers say.
fn entry(header: &[u8; BLOCK], flag: u8, extension: Extension) -> io::Result<Entry> {
    let pax = extension.pax.unwrap_or_default();
    let one = |pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, plain: Vec<u8>| match (pax, gnu) {
        (Some(_), Some(_)) => wrong("an entry has a long name of GNU's kind and one of pax"),
        (Some(name), None) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(plain),
    };
    let path = one(pax.path, extension.long_path, plain_path(header))?;
    let link = until_nul(&header[157..257]).to_vec();
    let link = one(pax.link, extension.long_link, link)?;
    let size = match pax.size {
        Some(size) => size,
        None => number(&header[124..136], "size")?,
    };
    let kind = kind(flag, &path)?;
    if size > 0 && kind != Kind::File {
        return wrong(format!("a {kind:?} has data"));
    }
    let modified = match pax.modified {
        Some(time) => time,
        None => Time {
            seconds: signed_number(&header[136..148], "mtime")?,
            nanoseconds: 0,
        },
    };
    Ok(Entry {
        kind,
        path,
        link,
        size,
        // Some writers put the type's bits there too.
        mode: u32::try_from(number(&header[100..108], "mode")? & 0o7777).unwrap_or(0),
        modified,
    })
}

fn kind(flag: u8, path: &[u8]) -> io::Result<Kind> {
    let directory = path.ends_with(b"/");
    Ok(match flag {
        b'0' | b'7' if directory => {
            return wrong("the name of a regular file ends with a slash");
        }
        // Before 1988 a directory was a file whose name ends with a slash.
        0 if directory => Kind::Directory,
        b'0' | b'7' | 0 => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return wrong("sparse files are not supported; make the layer without --sparse"),
        other => {
            return wrong(format!(
                "an entry is of the unknown type {:?}",
                char::from(other)
            ));
        }
    })
}

/// Name and, in ustar, prefix.
fn plain_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    // GNU's magic goes on with a blank and has other things there.
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

fn until_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == 0);
    &text[..end.unwrap_or(text.len())]
}

fn number(field: &[u8], what: &str) -> io::Result<u64> {
    match u64::try_from(signed_number(field, what)?) {
        Ok(value) => Ok(value),
        Err(_) => wrong(format!("the {what} of an entry is negative")),
    }
}

/// Octal digits, or GNU's binary form, which the highest bit announces.
fn signed_number(field: &[u8], what: &str) -> io::Result<i64> {
    let bad = || wrong(format!("the {what} of an entry is no number"));
    let value = if field[0] & 0x80 != 0 {
        // Bit 6 is the sign.
        let start = if field[0] & 0x40 != 0 { -1 } else { 0 };
        let first = i128::from(field[0] & 0x7f) | (start << 7);
        let rest = field[1..].iter();
        rest.fold(first, |value, byte| (value << 8) | i128::from(*byte))
    } else {
        let text = until_nul(field).trim_ascii();
        if text.iter().any(|byte| !matches!(byte, b'0'..=b'7')) {
            return bad();
        }
        let digits = text.iter();
        digits.fold(0, |value, byte| (value << 3) | i128::from(byte - b'0'))
    };
    i64::try_from(value).or_else(|_| bad())
}

#[cfg(test)]
mod tests;
