//! `capsid audit`: events, read back.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Child, Stdio};
use std::time::{Duration, SystemTime};

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, ValueHint};
use syscalls::Sysno;

use super::cli::Global;
use super::{go_flags, hardening, options};
use crate::audit::reading::{Form, HEADER, LONGEST_LINE, Reading, Source, Wanted};
use crate::audit::{NAMES, Since};
use crate::error::{Error, Result};
use crate::log;
use crate::policy::{PolicyFile, Sink};

pub(crate) fn command() -> Command {
    Command::new("audit")
        .about("Show what was done with containers, and by whom")
        .long_about(
            "Show the events that root's policy file (/etc/capsid/policy.json, key audit) has\n\
             capsid write: create, start, exec, kill and delete of containers, each rule that\n\
             was given up (relax), what capsid refused (refusal) and system calls that a\n\
             filter was seen to deny (denial). Without FILE they are read where the policy\n\
             file has them written, for journald with journalctl. Lines that cannot be read\n\
             are counted and left out.",
        )
        .arg(
            Arg::new("action")
                .value_name("ACTION")
                .required(true)
                .value_parser(["show"])
                .help("What to do: show"),
        )
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(ValueParser::os_string())
                .value_hint(ValueHint::FilePath)
                .help("A file of events, or - for standard input"),
        )
        .arg(options::text(
            "id",
            "CONTAINER",
            "Only events of this container",
        ))
        .arg(
            options::text("event", "EVENT", "Only events of this kind: create, relax, start, exec,\nkill, delete, denial or refusal")
                .value_parser(NAMES)
                .hide_possible_values(true),
        )
        .arg(options::text(
            "since",
            "TIME",
            "Only events since then (2026-11-25T21:50:00, UTC) or so\nlong ago (90s, 30m, 12h, 7d)",
        ))
        .arg(options::format())
        .after_help(
            "Examples:\n  \
             capsid audit show --event refusal --since 7d\n  \
             zcat audit.log.2.gz | capsid audit show --id web -",
        )
}

/// Prints the events that are wanted.
pub(crate) fn run(_: &Global, matches: &ArgMatches) -> Result<u8> {
    let form = match options::wants_json(matches) {
        true => Form::Json,
        false => Form::Table,
    };
    let since = options::given(matches, "since");
    let wanted = Wanted {
        id: options::given(matches, "id"),
        event: options::given(matches, "event"),
        since: since.map(|text| since_of(&text)).transpose()?,
    };
    let file = matches.get_one::<OsString>("file").map(PathBuf::from);
    let sink = match file {
        Some(file) => Sink::File(file),
        None => hardening::file()?.map_or(Sink::Off, |file| file.audit.sink.clone()),
    };
    match sink {
        Sink::Off => Err(Error::Missing {
            doing: "show events".into(),
            missing: format!("{} has none written", PolicyFile::PATH),
            repair: "name a file of events, or have root set \"audit\" there".into(),
        }),
        Sink::File(path) if path == Path::new("-") => {
            show(Reading::new(wanted, form, Source::File), std::io::stdin())
        }
        Sink::File(path) => {
            let file = File::open(&path)
                .map_err(|error| Error::io("read", path.display(), Sysno::openat, &error))?;
            show(Reading::new(wanted, form, Source::File), file)
        }
        Sink::Journal => of_journal(wanted, form),
    }
}

/// A point in time, or how long ago.
fn since_of(text: &str) -> Result<Since> {
    let usage = |problem: String| Error::Usage(format!("--since: {problem}"));
    let ago = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let ago = ago.map(|days: u32| Duration::from_secs(u64::from(days) * 86_400));
    let Some(ago) = ago.or_else(|| go_flags::parse_duration(text).ok()) else {
        return Since::parse(text).map_err(usage);
    };
    let then = SystemTime::now().checked_sub(ago);
    Since::parse(&log::rfc3339_nanos(then.unwrap_or(SystemTime::UNIX_EPOCH))).map_err(usage)
}

/// Has journalctl read the journal, whose files are its own business.
fn of_journal(wanted: Wanted, form: Form) -> Result<u8> {
    let mut words: Vec<String> = [
        "--output=json",
        "--output-fields=CAPSID_JSON,_UID",
        "--all",
        "--no-pager",
        "--quiet",
        "SYSLOG_IDENTIFIER=capsid",
    ]
    .map(str::to_owned)
    .into();
    words.extend(wanted.id.iter().map(|id| format!("CAPSID_ID={id}")));
    words.extend(
        wanted
            .event
            .iter()
            .map(|event| format!("CAPSID_EVENT={event}")),
    );
    let since = wanted.since.as_ref();
    words.extend(since.map(|since| format!("--since={}", since.for_journal())));
    let mut journal = Child::new("journalctl");
    let missing = |what: String| Error::Missing {
        doing: "read the journal".into(),
        missing: what,
        repair: "look at what `journalctl CAPSID_EVENT=create` says".into(),
    };
    let mut journal = journal
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| missing(format!("journalctl cannot be run ({})", error.kind())))?;
    let output = journal.stdout.take();
    let shown = output.map_or(Ok(0), |output| {
        show(Reading::new(wanted, form, Source::Journal), output)
    });
    let ended = journal
        .wait()
        .map_err(|error| Error::io("wait for", "journalctl", Sysno::waitid, &error))?;
    match ended.success() {
        true => shown,
        false => shown.and(Err(missing(format!("journalctl: {ended}")))),
    }
}

/// Prints what is wanted of all lines.
fn show(mut reading: Reading, from: impl Read) -> Result<u8> {
    let failed = |error: std::io::Error| Error::io("read", "events", Sysno::read, &error);
    let printed = |error| Error::io("write to", "standard output", Sysno::write, &error);
    let mut from = BufReader::new(from);
    let mut out = std::io::stdout().lock();
    let mut header = reading.is_table();
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LONGEST_LINE as u64;
        let length = (&mut from)
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(failed)?;
        if std::mem::take(&mut header) {
            out.write_all(HEADER.as_bytes()).map_err(printed)?;
        }
        if length == 0 {
            break;
        }
        if let Some(text) = reading.line(&line) {
            out.write_all(text.as_bytes()).map_err(printed)?;
        }
    }
    out.flush().map_err(printed)?;
    if reading.damaged > 0 {
        let count = reading.damaged;
        log::tell(format!("{count} lines could not be read as events"));
    }
    Ok(0)
}
