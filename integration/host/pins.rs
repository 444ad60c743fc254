//! Configurations and root file systems that must have a digest.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::audit::{entry, journal};
use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: what_has_its_digest_runs, what_was_changed_is_refused, exec_holds_the_configuration,
        a_digest_is_a_digest, explain_shows_what_is_demanded;
    ALL [RealRoot]: a_mismatch_is_written_down, mount_points_are_not_measured;
    ROOT []: a_root_that_is_swapped;
}

pub(crate) fn digest(test: &Test, path: &std::path::Path) -> String {
    test.capsid(&["digest", &path.to_string_lossy()])
        .ok()
        .trim()
        .to_owned()
}

fn what_has_its_digest_runs(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    let rootfs = digest(test, &bundle.rootfs());
    bundle.save();
    let config = digest(test, &bundle.dir.join("config.json"));
    let flags = ["--pin-config", &config, "--pin-rootfs", &rootfs];
    bundle.run_call(&flags).output().code(7);
    // What was run in it and is gone again is no change.
    assert_eq!(digest(test, &bundle.rootfs()), rootfs);
    let bundle = bundle.edit(|config| {
        config["annotations"] = json!({ "dev.capsid.digest.rootfs": rootfs });
    });
    bundle.run().code(7);
    bundle.assert_nothing_left();
}

/// Each of these is another tree.
fn what_was_changed_is_refused(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    let rootfs = bundle.rootfs();
    let file = bundle.file("etc/one", "content");
    let empty = bundle.file("etc/empty", "");
    symlink("one", rootfs.join("etc/link")).unwrap_or_else(|error| panic!("{error}"));
    fs::hard_link(&file, rootfs.join("etc/two")).unwrap_or_else(|error| panic!("{error}"));
    let good = digest(test, &rootfs);
    let refused = |what: &str| {
        let output = bundle.run_call(&["--pin-rootfs", &good]).output().code(1);
        let now = digest(test, &rootfs);
        assert_ne!(now, good, "{what}");
        output.says(&["--pin-rootfs", &good, &now, "rootfs"]);
        bundle.assert_nothing_left();
    };
    let put_back = || assert_eq!(digest(test, &rootfs), good);
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode));
    let old = fs::metadata(&file).map_or(0, |found| found.permissions().mode());
    mode(0o755).unwrap_or_else(|error| panic!("{error}"));
    refused("mode");
    mode(old).unwrap_or_else(|error| panic!("{error}"));
    put_back();
    test.make_file(&file, "Content");
    refused("content");
    test.make_file(&file, "content");
    put_back();
    test.make_file(&empty, "\0");
    refused("size");
    test.make_file(&empty, "");
    put_back();
    let link = rootfs.join("etc/link");
    fs::remove_file(&link)
        .and_then(|()| symlink("two", &link))
        .unwrap_or_else(|e| panic!("{e}"));
    refused("target");
    fs::remove_file(&link)
        .and_then(|()| symlink("one", &link))
        .unwrap_or_else(|e| panic!("{e}"));
    test.make_dir(&rootfs.join("etc/new"));
    refused("a directory more");
    fs::remove_dir(rootfs.join("etc/new")).unwrap_or_else(|error| panic!("{error}"));
    let two = rootfs.join("etc/two");
    fs::remove_file(&two).unwrap_or_else(|error| panic!("{error}"));
    refused("a name less");
    fs::copy(&file, &two).unwrap_or_else(|error| panic!("{error}"));
    test.give(&two);
    refused("a copy is no hard link");
    fs::remove_file(&two)
        .and_then(|()| fs::hard_link(&file, &two))
        .unwrap_or_else(|error| panic!("{error}"));
    put_back();
    let renamed = empty.with_file_name("emptz");
    fs::rename(&empty, &renamed).unwrap_or_else(|error| panic!("{error}"));
    refused("a name that comes at the same place");
    fs::rename(&renamed, &empty).unwrap_or_else(|error| panic!("{error}"));
    put_back();
    if test.machine.root {
        std::os::unix::fs::chown(&empty, Some(4243), None).unwrap_or_else(|e| panic!("{e}"));
        refused("an owner");
        std::os::unix::fs::chown(&empty, Some(test.who().uid), Some(4243))
            .unwrap_or_else(|e| panic!("{e}"));
        refused("a group");
        test.give(&empty);
        put_back();
        // It goes when the owner is set.
        let command = std::process::Command::new(&test.machine.probe)
            .arg("set-capability")
            .arg(&empty)
            .status();
        assert!(command.is_ok_and(|status| status.success()));
        refused("a capability");
        test.give(&empty);
        put_back();
    }
    bundle.run_call(&[]).output().code(7);
}

fn exec_holds_the_configuration(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle.save();
    let file = bundle.dir.join("config.json");
    let config = digest(test, &file);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let output = bundle
        .create_call(&["--pin-config", &wrong])
        .output()
        .code(1);
    output.says(&["--pin-config", &wrong, &config, "config.json"]);
    bundle.assert_nothing_left();
    let container = bundle.create_with(&["--pin-config", &config]);
    container.start();
    container.exec(&[], &["exit", "7"]).code(7);
    let mut changed: Value = bundle.config.clone();
    changed["process"]["noNewPrivileges"] = json!(false);
    test.make_file(&file, changed.to_string());
    container
        .exec(&[], &["exit", "7"])
        .code(255)
        .says(&[&config, "config.json"]);
    container.end();
}

fn a_digest_is_a_digest(test: &Test) {
    let bundle = Bundle::new(test);
    for wrong in ["sha256:", "0", "sha512:00"] {
        for flag in ["--pin-config", "--pin-rootfs"] {
            bundle
                .run_call(&[flag, wrong])
                .output()
                .code(1)
                .says(&[flag, wrong]);
        }
        let bundle = Bundle::new(test).edit(|config| {
            config["annotations"] = json!({ "dev.capsid.digest.rootfs": wrong });
        });
        bundle.refused(&["/annotations/dev.capsid.digest.rootfs", wrong]);
    }
}

/// The lines of `explain` about digests; a step holds the measured directory. What
/// `create` refuses `explain` refuses with the same words.
fn explain_shows_what_is_demanded(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "7"]);
    let rootfs = digest(test, &bundle.rootfs());
    let wrong = format!("sha256:{}", "0".repeat(64));
    bundle.save();
    let file = bundle.dir.join("config.json");
    let dir = bundle.dir.display().to_string();
    let explain = |flags: &[&str]| {
        test.capsid(&[&["explain"], flags, &[&dir]].concat())
            .output()
    };
    let line = |at: &std::path::Path, digest: &str, by: &str| {
        let at = at.display();
        format!("pin: {at} has the digest {digest}, as {by} demands\n")
    };
    let held = "is the directory that was measured";
    let plan = explain(&[]).success().stdout;
    assert!(plan.starts_with("hardening: "), "{plan}");
    assert!(!plan.contains("pin: ") && !plan.contains(held), "{plan}");
    let config = digest(test, &file);
    let both = explain(&["--pin-config", &config, "--pin-rootfs", &rootfs]);
    let both = both.success().stdout;
    let lines = [
        line(&file, &config, "--pin-config"),
        line(&bundle.rootfs(), &rootfs, "--pin-rootfs"),
    ];
    assert!(both.starts_with(&lines.concat()), "{both}");
    assert!(
        both.matches("pin: ").count() == 2 && both.contains(held),
        "{both}"
    );
    for flag in ["--pin-config", "--pin-rootfs"] {
        let said = explain(&[flag, &wrong]).code(1).says(&[flag, &wrong]);
        let create = bundle.create_call(&[flag, &wrong]).output().code(1);
        let why = |text: &str| text.split_once("its digest").map(|(_, why)| why.to_owned());
        assert!(why(&said.stderr).is_some(), "{said:?}");
        assert_eq!(why(&said.stderr), why(&create.stderr));
        assert_eq!(said.stdout, "");
    }
    let annotated = |digest: &str| {
        let bundle = Bundle::new(test).edit(|config| {
            config["annotations"] = json!({ "dev.capsid.digest.rootfs": digest });
        });
        bundle.save();
        let dir = bundle.dir.display().to_string();
        (test.capsid(&["explain", &dir]).output(), bundle.rootfs())
    };
    let (same, root_of_same) = annotated(&rootfs);
    let (other, root) = annotated(&wrong);
    let by = "the annotation dev.capsid.digest.rootfs";
    other.code(1).says(&[by, &wrong]);
    assert_eq!(digest(test, &root), rootfs);
    let shown = same.success().stdout;
    assert!(
        shown.starts_with(&line(&root_of_same, &rootfs, by)),
        "{shown}"
    );
    assert!(shown.contains(held), "{shown}");
    bundle.assert_nothing_left();
}

/// What is mounted there could be anything, and another thing tomorrow.
fn mount_points_are_not_measured(test: &Test) {
    let tree = test.path("tree");
    test.make_dir(&tree.join("sub/deep"));
    test.make_file(&tree.join("file"), "");
    let shown = tree.to_string_lossy();
    let measured = |view: &str| {
        let call = test.capsid(&["digest", &shown]);
        call.in_view_of(view).output()
    };
    measured(":").success();
    for (what, at) in [
        ("-t tmpfs tmpfs", "sub/deep"),
        ("--bind /etc/passwd", "file"),
    ] {
        let at = tree.join(at).display().to_string();
        let output = measured(&format!("mount {what} {at}")).code(1);
        output.says(&[&at, "cannot be measured", "mount point"]);
    }
}

fn a_mismatch_is_written_down(test: &Test) {
    let (socket, view) = journal(test);
    let bundle = Bundle::new(test);
    let wrong = format!("sha256:{}", "0".repeat(64));
    for flag in ["--pin-config", "--pin-rootfs"] {
        let call = bundle.run_call(&[flag, &wrong]);
        call.obeying(test, r#"{"audit":"journald"}"#, &view)
            .output()
            .code(1);
        let fields = entry(&socket);
        assert_eq!(fields[3].1, "refusal", "{fields:?}");
        let event = &fields[5].1;
        assert!(event.contains(&wrong) && event.contains(flag), "{event}");
    }
    bundle.assert_nothing_left();
}

/// A directory that takes the place of the measured one while capsid works is
/// noticed, or was never used: what runs is always the tree that was measured.
fn a_root_that_is_swapped(test: &Test) {
    let bundle = Bundle::new(test).args(&["ls", "/"]);
    let good = digest(test, &bundle.rootfs());
    let (root, evil) = (bundle.rootfs(), bundle.dir.join("evil"));
    // The same tree, and one file says that it is another.
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(&root)
        .arg(&evil)
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    test.make_file(&evil.join("evil"), "evil");
    let script = format!(
        "while :; do mv -T --exchange {0} {1} 2>/dev/null || \
         {{ mv {0} {0}.x; mv {1} {0}; mv {0}.x {1}; }}; done",
        root.display(),
        evil.display()
    );
    let mut swapping = test.command(&["/bin/sh", "-c", &script]).start();
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..60 {
        let output = bundle.run_call(&["--pin-rootfs", &good]).output();
        if output.code == 0 {
            ran += 1;
            assert!(!output.stdout.contains("evil"), "{output:?}");
        } else {
            refused += 1;
        }
    }
    swapping.stop();
    assert!(refused > 0, "{ran} ran");
}
