//! What engines rely on and rarely say: silence, bare environments, files as they expect them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: commands_are_silent, no_environment_at_all, exec_reads_the_bundle_again,
        pid_file_under_any_umask;
}

/// go-runc reads both streams as one document, and CRI-O takes any word of `features` for its part.
fn commands_are_silent(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let says = |words: &[&str], json: bool| {
        let output = test.capsid(words).output().success();
        assert_eq!(output.stderr, "", "{words:?}");
        assert_eq!(output.stdout.is_empty(), !json, "{words:?}: {output:?}");
        if json {
            output.json();
        }
    };
    let dir = bundle.dir.to_string_lossy();
    let id = bundle.id.as_str();
    bundle.save();
    says(&["create", "--bundle", &dir, id], false);
    says(&["state", id], true);
    says(&["start", id], false);
    says(&["state", id], true);
    says(&["list", "--format", "json"], true);
    says(&["features"], true);
    says(&["kill", id, "KILL"], false);
    says(&["delete", "--force", id], false);
    says(&["delete", "--force", id], false);
    bundle.assert_nothing_left();
}

/// podman and CRI-O clear it, and conmon may have none.
fn no_environment_at_all(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    bundle
        .run_call(&[])
        .through(&["/usr/bin/env", "-i"])
        .output()
        .code(7);
    bundle.assert_nothing_left();
}

/// Without a process of its own, `exec` begins with what `config.json` says now.
fn exec_reads_the_bundle_again(test: &Test) {
    let who = |value: &str| {
        let env = json!([format!("WHO={value}")]);
        move |config: &mut Value| config["process"]["env"] = env
    };
    let bundle = Bundle::new(test).args(&["sleep"]).edit(who("first"));
    let container = bundle.ready();
    let edited = bundle.config.to_string().replace("WHO=first", "WHO=second");
    bundle.save_text(&edited);
    let output = container.exec(&[], &["env", "WHO"]).success();
    assert_eq!(output.stdout.trim(), "WHO=second");
    container.end();
}

/// Docker's and CRI-O's monitors read it as whoever they are.
fn pid_file_under_any_umask(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let file = test.path("pid");
    let call = bundle.create_call(&["--pid-file", &file.to_string_lossy()]);
    call.through_shell("umask 077").ok();
    let mode = fs::metadata(&file).map(|found| found.permissions().mode() & 0o777);
    assert_eq!(mode.ok(), Some(0o644));
    bundle.on(&["delete", "--force"]).ok();
    bundle.assert_nothing_left();
}
