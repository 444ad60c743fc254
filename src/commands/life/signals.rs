//! Signals by name and number.

use nix::sys::signal::Signal;

use crate::error::{Error, Result};

/// The first real-time signal, as the C library of glibc systems and the
/// engines count; the kernel's first two serve threads there.
const RTMIN: i32 = 34;

/// The last signal of the kernel.
const LAST: i32 = 64;

/// Reads `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`, `SIGRTMAX-1`.
///
/// # Errors
/// [`Error::Usage`]: `unknown signal "X"`.
pub(super) fn parse(text: &str) -> Result<i32> {
    let unknown = || Error::Usage(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        // 0 only asks whether the process is there.
        return if (0..=LAST).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        name => name,
    };
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| unknown())
}

fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str| -> Option<i32> {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse().ok()
        }
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if !rest.starts_with('-') => RTMIN.checked_add(offset(rest)?)?,
        (_, Some(rest)) if !rest.starts_with('+') => LAST.checked_add(offset(rest)?)?,
        _ => return None,
    };
    (RTMIN..=LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_engines_use() {
        for (text, number) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Term", 15),
            ("IOT", 6),
            ("SIGCLD", 17),
            ("POLL", 29),
            ("winch", 28),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax", 64),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn others_are_unknown() {
        for text in [
            "",
            "SIG",
            "SIGNOPE",
            "65",
            "-1",
            "999999999999",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "9 ",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("unknown signal {text:?}"));
        }
    }
}
