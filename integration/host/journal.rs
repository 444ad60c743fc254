//! Events in the journal of a real systemd: what `journalctl` says of them, and what
//! `capsid audit show` makes of that. Root reads, whoever wrote.

use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;
use crate::runtime::Call;

cases! {
    RANGES [Systemd, RealRoot]: a_life_in_the_journal;
    RANGED [Systemd, RealRoot]: whose_event_it_is;
}

/// The policy file, in a mount namespace of the command's own: journalctl needs the rest of /etc.
const VIEW: &str = "mkdir -p /etc/capsid\n\
    mount -t tmpfs -o mode=0755 tmpfs /etc/capsid\n\
    echo '{\"audit\":{\"journald\":true,\"required\":true},\"allowRelaxation\":false}' \
    >/etc/capsid/policy.json";

fn obeying(call: Call<'_>) -> crate::runtime::Output {
    call.in_view_of(VIEW).output()
}

#[track_caller]
fn of_root(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    assert_eq!(said, "", "{words:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The entries with this field, oldest first, once the journal has taken what was sent.
#[track_caller]
fn entries(field: &str) -> Vec<Value> {
    of_root(&["journalctl", "--sync"]);
    let text = of_root(&["journalctl", "--quiet", "--output=json", "--all", field]);
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(read).collect()
}

/// What root is shown of a container.
#[track_caller]
fn shown(test: &Test, id: &str, options: &[&str]) -> String {
    let script = format!("{VIEW}\nexec \"$@\"");
    let runtime = test.machine.runtime.display().to_string();
    let words = [
        "unshare", "--mount", "/bin/sh", "-ec", &script, "sh", &runtime,
    ];
    let show = ["audit", "show", "--id", id];
    of_root(&[&words[..], &show, options].concat())
}

fn field<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

fn a_life_in_the_journal(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let id = &*bundle.id;
    obeying(bundle.create_call(&[])).success();
    obeying(bundle.on(&["start"])).success();
    let exec = ["exec", "--user", "7:8", id, "/bin/probe", "exit", "0"];
    obeying(test.capsid(&exec)).success();
    obeying(test.capsid(&exec).globally(&["--hardening", "compat"])).code(255);
    obeying(test.capsid(&["kill", id, "KILL"])).success();
    obeying(bundle.on(&["delete", "--force"])).success();
    bundle.assert_nothing_left();
    let expected = [
        "create", "relax", "start", "exec", "refusal", "kill", "delete",
    ];
    let entries = entries(&format!("CAPSID_ID={id}"));
    let mut kinds: Vec<&str> = entries.iter().map(|e| field(e, "CAPSID_EVENT")).collect();
    // One for each rule that the bundle gives up, which differs from role to role.
    kinds.dedup();
    assert_eq!(kinds, expected);
    let uid = test.who().uid.to_string();
    for entry in &entries {
        let kind = field(entry, "CAPSID_EVENT");
        assert_eq!(field(entry, "MESSAGE"), format!("capsid {kind} {id}"));
        assert_eq!(field(entry, "SYSLOG_IDENTIFIER"), "capsid", "{entry}");
        let noticed = ["relax", "refusal"].contains(&kind);
        assert_eq!(field(entry, "PRIORITY"), if noticed { "5" } else { "6" });
        assert_eq!(field(entry, "_UID"), uid, "{entry}");
        assert_eq!(field(entry, "_TRANSPORT"), "journal", "{entry}");
        let event: Value = serde_json::from_str(field(entry, "CAPSID_JSON")).unwrap_or_default();
        assert_eq!(event["event"], kind, "{entry}");
        assert_eq!(event["id"], id, "{entry}");
        assert_eq!(event["uid"].to_string(), uid, "{entry}");
    }
    let table = shown(test, id, &[]);
    let mut rows = table.lines();
    let head: Vec<&str> = rows.next().unwrap_or_default().split_whitespace().collect();
    let columns = ["TIME", "EVENT", "UID", "CALLER", "CONTAINER", "DETAILS"];
    assert_eq!(head, columns, "{table}");
    assert_eq!(rows.clone().count(), entries.len(), "{table}");
    for (row, entry) in rows.zip(&entries) {
        let event: Value = serde_json::from_str(field(entry, "CAPSID_JSON")).unwrap_or_default();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[0], &field(&event, "time")[..19], "{row}");
        assert_eq!(cells[1], field(entry, "CAPSID_EVENT"), "{row}");
        assert_eq!(cells[2].split('/').next(), Some(&*uid), "{row}");
        assert!(row.contains(&format!(" {id} ")), "{row}");
    }
    assert!(table.contains(" user=7:8"), "{table}");
    assert!(table.contains(" signal=9"), "{table}");
    // What journalctl is asked to choose.
    let only = |options: &[&str]| shown(test, id, options).lines().count() - 1;
    assert_eq!(only(&["--event", "exec"]), 1);
    assert_eq!(only(&["--since", "1h"]), entries.len());
    assert_eq!(only(&["--since", "2099-01-01T00:00:00"]), 0);
    let text = shown(test, id, &["--event", "refusal", "--format", "json"]);
    let refusal: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(refusal["journalUid"].to_string(), uid, "{text}");
    assert_eq!(refusal["command"], "exec", "{text}");
    denied_calls(test);
}

/// A call that the filter denied is an entry, too.
fn denied_calls(test: &Test) {
    let bundle = Bundle::new(test).args(&["calls", "mount 0 0 0 0 0"]);
    obeying(bundle.run_call(&["--report-denials"])).success();
    bundle.assert_nothing_left();
    let entries = entries(&format!("CAPSID_ID={}", bundle.id));
    let denial = entries
        .iter()
        .find(|entry| field(entry, "CAPSID_EVENT") == "denial");
    let denial = denial.map_or("", |entry| field(entry, "CAPSID_JSON"));
    assert!(denial.contains("\"call\":\"mount\""), "{entries:#?}");
    let table = shown(test, &bundle.id, &["--event", "denial"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains(" call=mount"), "{table}");
}

/// Anybody can send the journal an event. Who did is the journal's word, and not the event's.
fn whose_event_it_is(test: &Test) {
    let id = format!("forged-{}", std::process::id());
    let event = json!({
        "time": "2026-11-26T00:00:00.000000000Z", "event": "delete", "id": id, "uid": 0, "caller": 1,
        "callerProgram": "systemd"
    });
    let entry = format!(
        "MESSAGE=capsid delete {id}\nSYSLOG_IDENTIFIER=capsid\nCAPSID_EVENT=delete\nCAPSID_ID={id}\n\
         _UID=0\nCAPSID_JSON={event}\n"
    );
    let call = test.command(&["logger", "--journald"]).stdin(&entry);
    call.output().success();
    assert_eq!(entries(&format!("CAPSID_ID={id}")).len(), 1);
    let table = shown(test, &id, &[]);
    let cells = table.lines().nth(1).unwrap_or_default().split_whitespace();
    let uid = test.who().uid.to_string();
    assert_eq!(cells.clone().nth(2), Some(&*uid), "{table}");
}
