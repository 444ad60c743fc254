//! `--json-status`: the life of a sandbox as JSON lines, for programs.

use std::fs::File;
use std::io::Write;

use serde_json::{Value, json};
use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::execute::foreground::Ended;
use crate::sys::fd;

/// Where the lines go.
pub(super) struct Status {
    file: Option<File>,
}

/// How it ended.
pub(super) struct End<'a> {
    pub(super) ended: Ended,
    pub(super) code: u8,
    pub(super) timeout: bool,
    pub(super) out_of_memory: bool,
    /// Refused calls, each in one line.
    pub(super) refused: &'a [String],
}

impl Status {
    /// Takes over the descriptor of that number.
    pub(super) fn open(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else {
            return Ok(Self { file: None });
        };
        let refuse = |why: &str| Error::Usage(format!("--json-status {text:?}: {why}"));
        let number: i32 = text
            .parse()
            .map_err(|_| refuse("give the number of a descriptor"))?;
        if number <= 2 {
            return Err(refuse(
                "0, 1 and 2 are the program's; open another, as in 3>FILE",
            ));
        }
        let opened = fd::adopt(number).ok_or_else(|| refuse("this descriptor is not open"))?;
        Ok(Self {
            file: Some(opened.into()),
        })
    }

    pub(super) fn started(&mut self, id: &str, pid: i32) -> Result<()> {
        self.write(&json!({ "event": "started", "id": id, "pid": pid }))
    }

    pub(super) fn failed(&mut self, code: u8, message: &str) -> Result<()> {
        self.write(&json!({ "event": "failed", "exitCode": code, "message": message }))
    }

    pub(super) fn ended(&mut self, end: &End<'_>) -> Result<()> {
        let signal = match end.ended {
            Ended::Signal(number) => Value::from(number),
            Ended::Exit(_) => Value::Null,
        };
        self.write(&json!({
            "event": "ended",
            "exitCode": end.code,
            "signal": signal,
            "timeout": end.timeout,
            "outOfMemory": end.out_of_memory,
            "refused": end.refused,
        }))
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let written = file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| Error::io("write to", "--json-status", Sysno::write, &error))
    }
}
