//! From when on events are wanted.

/// A point in time, as far as it was given: `2026-11-25`, `2026-11-25T21:50` or
/// `2026-11-25T21:50:00`, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since(String);

impl Since {
    /// Reads one of these forms, also with `Z` or a fraction of a second at its end.
    ///
    /// # Errors
    /// The sentence that says which forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = text.strip_suffix('Z').unwrap_or(text);
        let plain = plain.split('.').next().unwrap_or_default();
        let form = b"dddd-dd-ddTdd:dd:dd";
        let fits = plain.bytes().zip(form).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        });
        if fits && [10, 16, 19].contains(&plain.len()) {
            return Ok(Self(plain.to_owned()));
        }
        Err(format!(
            "{text:?} is no time: write 2026-11-25, 2026-11-25T21:50:00 (UTC), or how long ago: 90s, 30m, 12h, 7d"
        ))
    }

    /// Whether an RFC 3339 time in UTC is then or later.
    pub fn includes(&self, time: &str) -> bool {
        time >= self.0.as_str()
    }

    /// For `journalctl --since`.
    pub fn for_journal(&self) -> String {
        let (date, time) = self.0.split_at(10);
        let time = time.strip_prefix('T').unwrap_or("00:00");
        let seconds = if time.len() < 8 { ":00" } else { "" };
        format!("{date} {time}{seconds} UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_as_far_as_they_were_given() {
        for (text, journal) in [
            ("2026-11-25", "2026-11-25 00:00:00 UTC"),
            ("2026-11-25T21:50", "2026-11-25 21:50:00 UTC"),
            ("2026-11-25T21:50:07Z", "2026-11-25 21:50:07 UTC"),
            ("2026-11-25T21:50:07.000000042Z", "2026-11-25 21:50:07 UTC"),
        ] {
            let since = Since::parse(text).unwrap();
            assert_eq!(since.for_journal(), journal);
            assert!(since.includes("2026-11-25T21:50:07.000000000Z"), "{text}");
            assert!(!since.includes("2026-11-24T23:59:59.999999999Z"), "{text}");
        }
        for wrong in [
            "",
            "now",
            "2026",
            "2026-11-25 21:50",
            "2026-11-25T21",
            "x026-11-25",
        ] {
            assert!(Since::parse(wrong).is_err(), "{wrong}");
        }
    }
}
