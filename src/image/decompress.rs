//! The tar stream inside a layer: plain, gzip or zstd.
//!
//! Both compressions may come in several pieces one after the other (pigz,
//! eStargz, zstd:chunked), and zstd with pieces to skip. The pieces' own
//! checksums are not looked at: both sides of a decoder are hashed with SHA-256.

use std::io::{self, BufRead, BufReader, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// The largest window of a zstd frame: memory that one header can ask for.
/// `zstd --ultra -22` makes 128 MiB; no builder of images does by default.
const LARGEST_WINDOW: u64 = 64 << 20;

/// A decoder on a source, which it reads to its end.
pub(super) enum Decoder<R> {
    /// Bytes as they are.
    Plain(BufReader<R>),
    /// See [`Gzip`].
    Gzip(Gzip<R>),
    /// See [`Zstd`].
    Zstd(Zstd<R>),
}

impl<R: Read> Decoder<R> {
    /// Nothing read yet.
    pub(super) fn new(source: R, compression: Compression) -> Self {
        let source = BufReader::with_capacity(64 << 10, source);
        match compression {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Gzip {
                source,
                inflater: None,
                members: 0,
            }),
            Compression::Zstd => {
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.set_max_window_size(LARGEST_WINDOW);
                Self::Zstd(Zstd {
                    source,
                    decoder,
                    frames: 0,
                })
            }
        }
    }

    /// The source; what was buffered of it is lost.
    pub(super) fn into_source(self) -> R {
        match self {
            Self::Plain(source) => source.into_inner(),
            Self::Gzip(gzip) => gzip.source.into_inner(),
            Self::Zstd(zstd) => zstd.source.into_inner(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(gzip) => gzip.read(buffer),
            Self::Zstd(zstd) => zstd.read(buffer),
        }
    }
}

fn corrupt(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Whether the source is at its end.
fn at_end(source: &mut impl BufRead) -> io::Result<bool> {
    Ok(source.fill_buf()?.is_empty())
}

fn skip(source: &mut impl BufRead, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut source.take(count), &mut io::sink())?;
    if skipped == count {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Members of a gzip file, one after the other.
pub(super) struct Gzip<R> {
    source: BufReader<R>,
    /// Inside a member.
    inflater: Option<Box<InflateState>>,
    members: usize,
}

impl<R: Read> Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(inflater) = &mut self.inflater else {
                // An empty file is no gzip file, but nothing must follow a member.
                if self.members > 0 && at_end(&mut self.source)? {
                    return Ok(0);
                }
                gzip_header(&mut self.source)?;
                self.members += 1;
                self.inflater = Some(InflateState::new_boxed(DataFormat::Raw));
                continue;
            };
            let input = self.source.fill_buf()?;
            let ended = input.is_empty();
            let result = inflate(inflater, input, buffer, MZFlush::None);
            self.source.consume(result.bytes_consumed);
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.inflater = None;
                    // Checksum and length.
                    skip(&mut self.source, 8).map_err(|_| corrupt("the gzip member is cut off"))?;
                }
                Ok(_) | Err(MZError::Buf) if ended && result.bytes_written == 0 => {
                    return Err(corrupt("the gzip member is cut off"));
                }
                Ok(_) | Err(MZError::Buf) => {}
                Err(_) => return Err(corrupt("this is not what gzip writes")),
            }
            if result.bytes_written > 0 {
                return Ok(result.bytes_written);
            }
        }
    }
}

fn gzip_header(source: &mut impl BufRead) -> io::Result<()> {
    const HEADER_CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let mut fixed = [0; 10];
    source
        .read_exact(&mut fixed)
        .map_err(|_| corrupt("there is no gzip header"))?;
    let flags = fixed[3];
    if fixed[..3] != [0x1f, 0x8b, 8] || flags & 0xe0 != 0 {
        return Err(corrupt("there is no gzip header"));
    }
    if flags & EXTRA != 0 {
        let mut length = [0; 2];
        source.read_exact(&mut length)?;
        skip(source, u16::from_le_bytes(length).into())?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let mut name = Vec::new();
            source.take(1 << 16).read_until(0, &mut name)?;
            if name.last() != Some(&0) {
                return Err(corrupt("the gzip header has no end"));
            }
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        skip(source, 2)?;
    }
    Ok(())
}

/// Frames of a zstd file, one after the other.
pub(super) struct Zstd<R> {
    source: BufReader<R>,
    decoder: Box<FrameDecoder>,
    frames: usize,
}

impl<R: Read> Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                if self.frames > 0 && at_end(&mut self.source)? {
                    return Ok(0);
                }
                self.frame()?;
                self.frames += 1;
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.source, one)
                    .map_err(|_| corrupt("this is not what zstd writes"))?;
            }
        }
    }

    /// Begins the next frame, or passes over one that is to be skipped.
    fn frame(&mut self) -> io::Result<()> {
        let mut magic = [0; 4];
        self.source
            .read_exact(&mut magic)
            .map_err(|_| corrupt("there is no zstd frame"))?;
        if u32::from_le_bytes(magic) & 0xffff_fff0 == 0x184d_2a50 {
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            return skip(&mut self.source, u32::from_le_bytes(length).into());
        }
        self.decoder
            .reset((&magic[..]).chain(&mut self.source))
            // ruzstd's own words for it would be four kilobytes of program.
            .map_err(|error| match error {
                FrameDecoderError::WindowSizeTooBig { .. } => {
                    corrupt("a zstd frame asks for a window of more than 64 MiB")
                }
                _ => corrupt("there is no zstd frame"),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | gzip -n`, and the same with a name.
    const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c\x4a\x06\x00\xc2\x41\x24\x35\x03\x00\x00\x00";
    const NAMED: &[u8] = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03n\x00\x4b\x4c\x4a\x06\x00\xc2\x41\x24\x35\x03\x00\x00\x00";
    /// `printf abc | zstd --no-check`: one raw block.
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc";
    const SKIPPED: &[u8] = b"\x53\x2a\x4d\x18\x02\x00\x00\x00zz";

    fn decode(bytes: &[u8], compression: Compression) -> Result<Vec<u8>, String> {
        let mut decoder = Decoder::new(bytes, compression);
        let mut text = Vec::new();
        // One byte at a time too: the state between calls is what goes wrong.
        let mut one = [0];
        loop {
            match decoder.read(&mut one) {
                Ok(0) => return Ok(text),
                Ok(_) => text.push(one[0]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn pieces_one_after_the_other_are_one_stream() {
        let gzip = |bytes: &[u8]| decode(bytes, Compression::Gzip).unwrap();
        assert_eq!(gzip(GZIP), b"abc");
        assert_eq!(gzip(&[GZIP, NAMED].concat()), b"abcabc");
        let zstd = |bytes: &[u8]| decode(bytes, Compression::Zstd).unwrap();
        assert_eq!(zstd(ZSTD), b"abc");
        assert_eq!(zstd(&[SKIPPED, ZSTD, ZSTD, SKIPPED].concat()), b"abcabc");
    }

    #[test]
    fn what_is_cut_off_or_has_a_tail_is_refused() {
        for (whole, compression) in [(NAMED, Compression::Gzip), (ZSTD, Compression::Zstd)] {
            for length in 0..whole.len() {
                let outcome = decode(&whole[..length], compression);
                assert!(outcome.is_err(), "{length} bytes, {compression:?}");
            }
            for tail in [&b"x"[..], &whole[..4], b"\0\0\0\0\0\0\0\0\0\0\0\0"] {
                let outcome = decode(&[whole, tail].concat(), compression);
                assert!(outcome.is_err(), "{tail:?} after it, {compression:?}");
            }
        }
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        let huge = b"\x28\xb5\x2f\xfd\x00\xa8\x19\x00\x00abc";
        let error = decode(huge, Compression::Zstd).unwrap_err();
        assert!(error.contains("a window of more than"), "{error}");
    }
}
