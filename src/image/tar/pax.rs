//! Records of pax extended headers.

use std::io;

use super::{Time, wrong};

/// What of a header's records matters here. Owners, access times and extended
/// attributes (`SCHILY.xattr.*`, capabilities among them) are left out.
#[derive(Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<Time>,
}

impl Records {
    /// Whether the next entry would be another one without these records.
    pub(super) fn names_or_sizes(&self) -> bool {
        self.path.is_some() || self.link.is_some() || self.size.is_some()
    }
}

/// Reads `LENGTH KEY=VALUE\n`, as often as there is one.
pub(super) fn read(mut text: &[u8]) -> io::Result<Records> {
    let mut records = Records::default();
    while !text.is_empty() {
        let Some((record, rest)) = split(text) else {
            return wrong("a pax header is damaged");
        };
        text = rest;
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
            return wrong("a record of a pax header has no value");
        };
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => records.path = name(value)?,
            b"linkpath" => records.link = name(value)?,
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if size.is_none() {
                    return wrong("the size in a pax header is no number");
                }
                records.size = size;
            }
            b"mtime" => {
                let Some(time) = time(value) else {
                    return wrong("the mtime in a pax header is no time");
                };
                records.modified = Some(time);
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return wrong("sparse files are not supported; make the layer without --sparse");
            }
            _ => {}
        }
    }
    Ok(records)
}

/// The first record without its length and line end, and what comes after.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = text.iter().position(|byte| *byte == b' ')?;
    let digits = &text[..blank];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let record = text.get(blank + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &text[length..]))
}

/// A name; an empty one takes back what an earlier record said.
fn name(value: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return wrong("a name in a pax header has a NUL in it");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// Seconds with a fraction, also before 1970.
fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Time {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        });
    }
    Some(Time {
        seconds,
        nanoseconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        let parts = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(parts("7"), Some((7, 0)));
        assert_eq!(parts("7.25"), Some((7, 250_000_000)));
        assert_eq!(parts("7.1234567891"), Some((7, 123_456_789)));
        assert_eq!(parts("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(parts("-0.5"), Some((-1, 500_000_000)));
        for wrong in ["", "x", "1.x", "1.-5", "99999999999999999999"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for wrong in [
            "13 path=abc\n",
            "1 path=abc\n",
            "0 path=abc\n",
            "99999999999999999999999 path=abc\n",
            "+11 path=ab\n",
            " 11 path=ab\n",
            "11 path=ab",
            "9 nothing\n",
            "11 path=ab\nxx",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        let good = read(b"11 path=ab\n11 path=cd\n").unwrap();
        assert_eq!(good.path.as_deref(), Some(&b"cd"[..]));
        assert!(good.names_or_sizes());
        assert!(read(b"10 path=a\0\n").is_err());
        assert!(read(b"22 GNU.sparse.major=1\n").is_err());
    }
}
