//! One line on a terminal while an image is unpacked.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);

/// The line; nothing where standard error is no terminal. It is gone when this is.
pub struct Line {
    /// What is unpacked, without characters that steer a terminal.
    name: String,
    last: Option<Instant>,
    terminal: bool,
}

impl Line {
    /// Nothing shown yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.escape_debug().to_string(),
            last: None,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Shows how far it is, ten times a second at most.
    pub fn show(&mut self, done: u64, total: u64) {
        if !self.terminal || self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.last = Some(Instant::now());
        // A terminal that is gone is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r{}\x1b[K",
            text(&self.name, done, total)
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn text(name: &str, done: u64, total: u64) -> String {
    let percent = (u128::from(done) * 100)
        .checked_div(u128::from(total))
        .unwrap_or(100);
    let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
    format!(
        "unpacking {name}: {percent} %, {} of {} MB",
        megabytes(done),
        megabytes(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        assert_eq!(
            text("x", 1_250_000, 5_000_000),
            "unpacking x: 25 %, 1.2 of 5.0 MB"
        );
        assert_eq!(text("x", 0, 0), "unpacking x: 100 %, 0.0 of 0.0 MB");
        assert_eq!(Line::new("a\x1b[2J").name, "a\\u{1b}[2J");
    }
}
