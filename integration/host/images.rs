//! Root file systems as people have them: busybox alone, and a whole Debian.

use std::path::Path;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::needs::{busybox, debian_rootfs};
use crate::roles::Test;
use crate::runtime::Output;

cases! {
    ALL [Busybox]: busybox_shell, busybox_tools, script_with_interpreter;
    ALL [DebianRootfs]: debian_bash, debian_packages, debian_languages, debian_is_read_only, debian_exec;
}

fn with_busybox(test: &Test, script: &str) -> Output {
    let bundle = Bundle::new(test);
    let program = busybox().unwrap_or_else(|| panic!("no busybox"));
    let bytes = std::fs::read(program).unwrap_or_else(|error| panic!("read: {error}"));
    bundle.program("bin/busybox", bytes);
    bundle.link("bin/sh", "busybox");
    bundle.raw_args(&["/bin/sh", "-c", script]).run()
}

fn busybox_shell(test: &Test) {
    let script = "set -e; busybox id -u; busybox hostname; echo $((6 * 7)) | busybox tr 4 9";
    let output = with_busybox(test, script).success();
    assert_eq!(output.text(), "0\ncapsid-test\n92");
}

/// Pipes, background processes, a here document and a signal: a day in a shell's life.
fn busybox_tools(test: &Test) {
    let script = "busybox sleep 60 & busybox kill $!; wait $!; echo $?; \
                  busybox seq 100 | busybox awk '{ s += $1 } END { print s }'; \
                  busybox ps | busybox grep -c busybox";
    let output = with_busybox(test, script).success();
    let lines: Vec<_> = output.text().lines().collect();
    assert_eq!(lines[..2], ["143", "5050"]);
}

fn script_with_interpreter(test: &Test) {
    let output = with_busybox(
        test,
        "printf '#!/bin/sh\\necho from $0\\n' > /dev/shm/s; busybox chmod +x /dev/shm/s; \
         busybox sh /dev/shm/s",
    );
    assert_eq!(output.success().text(), "from /dev/shm/s");
}

/// A bundle on the shared, read-only Debian tree.
fn debian<'t>(test: &'t Test) -> Bundle<'t> {
    let rootfs = debian_rootfs().unwrap_or_else(|| panic!("no Debian"));
    Bundle::new(test).edit(|config| {
        config["root"] = json!({ "path": rootfs, "readonly": true });
        config["process"]["env"] = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"]);
    })
}

fn debian_run(test: &Test, script: &str) -> Output {
    debian(test)
        .raw_args(&["bash", "-c", script])
        .run()
        .success()
}

fn debian_bash(test: &Test) {
    let output = debian_run(
        test,
        "shopt -s nullglob; echo $BASH_VERSINFO; cat /etc/os-release",
    );
    assert!(output.text().contains("ID=debian"), "{}", output.text());
}

fn debian_packages(test: &Test) {
    let output = debian_run(
        test,
        "dpkg-query -W -f '${Status}\\n' | sort | uniq -c; apt-get --version",
    );
    assert!(
        output.text().contains("install ok installed"),
        "{}",
        output.text()
    );
    assert!(output.text().contains("apt "), "{}", output.text());
}

/// A language runtime, a pipeline over many files, a temporary directory.
fn debian_languages(test: &Test) {
    let script = "perl -e 'print join(q(,), map { $_ * $_ } 1..4), qq(\\n)'; \
                  tar cf - /etc 2>/dev/null | gzip | gzip -dc | tar tf - | grep -c etc/ ; \
                  TMPDIR=/dev/shm mktemp -d";
    let output = debian_run(test, script);
    let lines: Vec<_> = output.text().lines().collect();
    assert_eq!(lines[0], "1,4,9,16");
    assert!(
        lines[1].parse::<u32>().is_ok_and(|files| files > 50),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("/dev/shm/"), "{lines:?}");
}

fn debian_is_read_only(test: &Test) {
    let bundle = debian(test).raw_args(&["bash", "-c", "echo x > /etc/motd; touch /usr/bin/x"]);
    bundle.run().code(1).says(&["Read-only file system"]);
    let rootfs = debian_rootfs().unwrap_or_else(|| panic!("no Debian"));
    assert!(!Path::new(&rootfs).join("usr/bin/x").exists());
}

fn debian_exec(test: &Test) {
    let bundle = debian(test).raw_args(&["sleep", "60"]);
    let container = bundle.create();
    container.start();
    let output = container
        .exec_call(&[], &["bash", "-c", "echo $PPID; cat /proc/1/comm"])
        .output();
    assert_eq!(output.success().text(), "0\nsleep");
    container.end();
}
