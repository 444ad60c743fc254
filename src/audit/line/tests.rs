use super::*;
use crate::audit::reading::{Form, Reading, Source, Wanted};
use crate::policy::{Level, Rule};
use serde_json::{Value, json};
use std::path::Path;

fn origin() -> Origin {
    Origin {
        time: "2026-11-25T21:50:00.000000042Z".into(),
        uid: 0,
        login: Some(1000),
        caller: 77,
        program: Some("conmon".into()),
    }
}

fn event<'a>(id: &'a str, what: What<'a>) -> Event<'a> {
    Event {
        id,
        root: Some(Path::new("/run/capsid")),
        names: &[],
        config: None,
        what,
    }
}

fn outcome(rule: Rule, enforcement: Enforcement) -> Outcome {
    Outcome { rule, enforcement }
}

fn table(source: Source, line: &[u8]) -> (Option<String>, u64) {
    let mut reading = Reading::new(Wanted::default(), Form::Table, source);
    (reading.line(line), reading.damaged)
}

const HOSTILE: &str = "web\"}\n{\u{1b}[2J\u{9b}31m\u{202e}gpj\u{2028}\u{e0041}\\\u{7f}";

#[test]
fn a_container_that_was_created() {
    let rules = [
        outcome(Rule::Userns, Enforcement::Enforced("made".into())),
        outcome(Rule::Pids, Enforcement::Relaxed("--relax".into())),
        outcome(
            Rule::Memory,
            Enforcement::Unsupported("no controller".into()),
        ),
    ];
    let what = What::Create {
        pid: 78,
        bundle: Path::new("/b"),
        program: "sh",
        level: Level::Baseline,
        rules: &rules,
        rootfs: None,
    };
    let event = Event {
        names: &[("nerdctl/name", "web")],
        config: Some("sha256:ab"),
        ..event("c1", what)
    };
    let text = line(&event, &origin());
    assert!(text.ends_with("}\n") && text.starts_with(START));
    let value: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "time": "2026-11-25T21:50:00.000000042Z", "event": "create", "id": "c1",
        "root": "/run/capsid", "uid": 0, "loginuid": 1000, "caller": 77,
        "callerProgram": "conmon", "names": { "nerdctl/name": "web" }, "config": "sha256:ab",
        "pid": 78, "bundle": "/b", "program": "sh", "hardening": "baseline",
        "rules": { "userns": "enforced", "pids": "relaxed by --relax",
            "memory": "unsupported: no controller" },
    });
    assert_eq!(value, expected);
    let (row, _) = table(Source::File, text.as_bytes());
    let row = row.unwrap();
    assert!(
        row.starts_with("2026-11-25T21:50:00  create   0/1000 conmon 77 "),
        "{row}"
    );
    assert!(row.contains(" pids=\"relaxed by --relax\""), "{row}");
    assert!(
        row.contains("nerdctl/name=web") && !row.contains("userns"),
        "{row}"
    );
}

#[test]
fn hostile_text_is_one_line_and_acts_on_no_terminal() {
    let what = What::Refused {
        command: "create",
        why: HOSTILE,
    };
    let names = [("nerdctl/name", HOSTILE)];
    let event = Event {
        names: &names,
        ..event(HOSTILE, what)
    };
    let text = line(&event, &origin());
    let shown = text.trim_end_matches('\n');
    assert!(!shown.chars().any(acts), "{shown:?}");
    let value: Value = serde_json::from_str(&text).unwrap();
    for place in ["/id", "/why", "/names/nerdctl~1name"] {
        assert_eq!(value.pointer(place).unwrap(), HOSTILE);
    }
    let entry = String::from_utf8(journal_entry(&event, &text)).unwrap();
    let fields: Vec<&str> = entry
        .lines()
        .map(|field| field.split('=').next().unwrap())
        .collect();
    let expected = [
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
        "CAPSID_EVENT",
        "CAPSID_ID",
        "CAPSID_JSON",
    ];
    assert_eq!(fields, expected);
    let (row, damaged) = table(Source::File, text.as_bytes());
    let row = row.unwrap();
    assert_eq!(damaged, 0);
    assert!(!row.trim_end_matches('\n').chars().any(acts), "{row:?}");
}

#[test]
fn long_text_is_cut() {
    let long = "\u{1b}".repeat(100_000);
    let what = What::Refused {
        command: "run",
        why: &long,
    };
    let text = line(&event(&long, what), &origin());
    assert!(text.len() < 8 << 10, "{}", text.len());
    serde_json::from_str::<Value>(&text).unwrap();
}

#[test]
fn what_a_full_disk_cut_off_is_counted_and_hides_nothing_else() {
    let whole = line(&event("c1", What::Start { pid: 1 }), &origin());
    let cut = &whole[..40];
    assert_eq!(table(Source::File, cut.as_bytes()), (None, 1));
    let (row, damaged) = table(Source::File, format!("{cut}{whole}").as_bytes());
    assert!(row.unwrap().contains("start"));
    assert_eq!(damaged, 1);
    for wrong in [
        "{}",
        "[]",
        "null",
        r#"{"time":1,"event":"x","id":"y"}"#,
        "\u{0}",
    ] {
        assert_eq!(table(Source::File, wrong.as_bytes()), (None, 1), "{wrong}");
    }
    assert_eq!(table(Source::File, b"\xff\xfe"), (None, 1));
    assert_eq!(table(Source::File, b" \n"), (None, 0));
}

#[test]
fn the_journal_says_who_sent_an_event() {
    let text = line(&event("c1", What::Start { pid: 1 }), &origin());
    let entry = json!({ "_UID": "1000", "CAPSID_JSON": text, "__CURSOR": "x" });
    let (row, _) = table(Source::Journal, entry.to_string().as_bytes());
    assert!(row.unwrap().contains(" 1000 "));
    let mut reading = Reading::new(Wanted::default(), Form::Json, Source::Journal);
    let shown = reading.line(entry.to_string().as_bytes()).unwrap();
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&value["journalUid"], &value["id"]),
        (&json!(1000), &json!("c1"))
    );
    for wrong in [
        json!({ "CAPSID_JSON": text }),
        json!({ "_UID": "1000" }),
        json!({ "_UID": "1000,\"id\":\"x\"", "CAPSID_JSON": text }),
        json!({ "_UID": "1000", "CAPSID_JSON": null }),
    ] {
        let (row, damaged) = table(Source::Journal, wrong.to_string().as_bytes());
        assert_eq!((row, damaged), (None, 1), "{wrong}");
    }
}

#[test]
fn only_what_is_wanted_is_shown() {
    let wanted = Wanted {
        id: Some("c1".into()),
        event: Some("start".into()),
        since: None,
    };
    let mut reading = Reading::new(wanted, Form::Json, Source::File);
    let start = line(&event("c1", What::Start { pid: 1 }), &origin());
    assert_eq!(reading.line(start.as_bytes()).as_deref(), Some(&*start));
    for other in [
        event("c2", What::Start { pid: 1 }),
        event("c1", What::Kill { signal: 9 }),
    ] {
        assert_eq!(reading.line(line(&other, &origin()).as_bytes()), None);
    }
    assert_eq!(reading.damaged, 0);
}
