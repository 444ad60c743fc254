//! What capsid says while it works, and how it says that it failed.
//!
//! Three readers share these lines. containerd decodes every line of the JSON
//! log and fails on any that is not JSON; podman parses the whole file as *one*
//! object, so a failed invocation leaves exactly one line at the default level;
//! conmon reads standard error, so a failure is repeated there in plain words.
//! Standard error is also the container's own in `create` and `run`, and go-runc
//! mixes it into the output it parses of `state` and `ps`: warnings go there
//! only when a person is looking.

use std::fmt::{self, Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use syscalls::Sysno;

use crate::error::{Error, Result};

/// How a record is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=error msg="..."`, as logrus writes it.
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

struct Logger {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Opens the log for this process; only the first call has an effect.
///
/// Fails when `file` cannot be opened for appending. The file's descriptor is
/// close-on-exec.
pub fn open(file: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let file = match file {
        Some(path) => Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .custom_flags(libc::O_SYNC)
                .open(path)
                .map_err(|e| Error::io("open the log file", path.display(), Sysno::openat, &e))?,
        ),
        None => None,
    };
    LOGGER.get_or_init(|| Logger {
        file,
        format,
        debug,
    });
    Ok(())
}

/// Whether a person called, whatever standard error is.
static PERSON: AtomicBool = AtomicBool::new(false);

/// From now on warnings are shown on any standard error: the command is not one
/// that engines call and whose output they take apart.
pub fn for_a_person() {
    PERSON.store(true, Ordering::Relaxed);
}

/// Says what is being done; seen only with `--debug`.
pub fn debug(message: impl Display) {
    if let Some(logger) = LOGGER.get().filter(|logger| logger.debug) {
        logger.write(Level::Debug, &message.to_string());
    }
}

/// Says that something is not as it should be, though the command goes on.
///
/// Kept out of a JSON log unless `--debug` was given, and out of a standard
/// error that is not a terminal: see the head of this file.
pub fn warning(message: impl Display) {
    let Some(logger) = LOGGER.get() else { return };
    let read_by_people = match &logger.file {
        Some(_) => logger.format == Format::Text,
        None => io::stderr().is_terminal() || PERSON.load(Ordering::Relaxed),
    };
    if logger.debug || read_by_people {
        logger.write(Level::Warning, &message.to_string());
    }
}

/// Says what the caller asked to be told, on standard error.
pub fn tell(message: impl Display) {
    to_stderr(&format!("capsid: {}\n", Printable(&message.to_string())));
}

/// Says why the command failed: once in the log, once on standard error.
pub fn fatal(message: impl Display) {
    let message = message.to_string();
    let format = LOGGER.get().map_or(Format::Text, |logger| logger.format);
    let logged = LOGGER.get().is_some_and(|logger| logger.file.is_some());
    if let Some(logger) = LOGGER.get().filter(|_| logged || format == Format::Json) {
        logger.write(Level::Error, &message);
    }
    if logged || format == Format::Text {
        to_stderr(&format!("{}\n", Printable(&message)));
    }
}

impl Logger {
    /// One write call per record, so that two processes never share a line.
    fn write(&self, level: Level, message: &str) {
        let line = record(self.format, level, message, SystemTime::now());
        match &self.file {
            // Nobody is left to be told that the log cannot be written.
            Some(file) => drop((&mut &*file).write_all(line.as_bytes())),
            None => to_stderr(&line),
        }
    }
}

fn to_stderr(text: &str) {
    // eprint! would abort the program when the reader of the pipe is gone.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

fn record(format: Format, level: Level, message: &str, at: SystemTime) -> String {
    let (time, level) = (rfc3339_seconds(at), level.word());
    match format {
        Format::Json => {
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
        Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
    }
}

/// Text with its control characters made visible: what a container or a hook
/// wrote may be part of a message, and must not steer the reader's terminal.
struct Printable<'a>(&'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// `2026-11-22T01:44:28.123456789Z`: RFC 3339 with nanoseconds, UTC.
///
/// A time before 1970 is written as 1970.
pub fn rfc3339_nanos(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}Z", civil(since.as_secs()), since.subsec_nanos())
}

fn rfc3339_seconds(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}Z", civil(since.as_secs()))
}

/// Date and time of day of a count of seconds since 1970, in the Gregorian calendar.
fn civil(seconds: u64) -> String {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // 0000-03-01 is 719468 days before 1970-01-01; a year that begins in
    // March has its leap day last, so every month before it has a fixed place.
    let day = seconds / 86_400 + 719_468;
    let (era, day) = (day / DAYS_OF_400_YEARS, day % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_735_689_600, "2025-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(civil(seconds), text);
        }
    }

    #[test]
    fn nanoseconds_have_nine_digits() {
        let at = UNIX_EPOCH + Duration::new(1_735_689_600, 42);
        assert_eq!(rfc3339_nanos(at), "2025-01-01T00:00:00.000000042Z");
    }

    #[test]
    fn records() {
        let at = UNIX_EPOCH + Duration::from_secs(1_735_689_600);
        assert_eq!(
            record(Format::Json, Level::Error, "say \"no\"\n\u{1b}", at),
            "{\"level\":\"error\",\"msg\":\"say \\\"no\\\"\\n\\u001b\",\"time\":\"2025-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            record(Format::Text, Level::Warning, "say \"no\"", at),
            "time=\"2025-01-01T00:00:00Z\" level=warning msg=\"say \\\"no\\\"\"\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            Printable("a\u{1b}[2Jb\tc\nd\u{9b}").to_string(),
            "a\\u{1b}[2Jb\tc\nd\\u{9b}"
        );
    }
}
