//! Bundles and names that must be refused, in words that help, leaving nothing.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::roles::Test;

cases! {
    ALL []: no_config, not_json, null_config, wrong_types_name_the_field, wrong_enum_names_the_field,
        unknown_capability_is_a_warning, missing_rootfs, rootfs_is_a_file, no_root_at_all,
        args_empty, no_process, cwd_relative, bad_ids, long_path, nul_bytes, duplicate_namespace,
        duplicate_rlimit, namespace_path_missing, namespace_path_of_another_type,
        several_problems_at_once, missing_mount_source, mount_without_destination, sysctl_not_namespaced,
        hook_path_relative, annotation_key_empty, seccomp_unknown_action, symlinked_rootfs;
    RANGES []: overlapping_maps, empty_map_line, map_overflow, unmapped_uid;
    USERS []: foreign_ids_mapped;
}

fn no_config(test: &Test) {
    let bundle = Bundle::new(test);
    let dir = bundle.dir.to_string_lossy();
    let output = bundle.on(&["create", "--bundle", &dir]).output().code(1);
    output.says(&["config.json not found"]);
    bundle.assert_nothing_left();
    let gone = bundle.dir.join("gone");
    bundle
        .on(&["create", "--bundle", &gone.to_string_lossy()])
        .output()
        .code(1)
        .says(&["gone"]);
    bundle.assert_nothing_left();
}

/// `create` with this text as config.json.
#[track_caller]
fn refused_text(bundle: &Bundle, text: &str, says: &[&str]) {
    bundle.save_text(text);
    let dir = bundle.dir.to_string_lossy();
    bundle
        .on(&["create", "--bundle", &dir])
        .output()
        .code(1)
        .says(says);
    bundle.assert_nothing_left();
}

fn not_json(test: &Test) {
    let bundle = Bundle::new(test);
    refused_text(
        &bundle,
        "{\n  \"ociVersion\": \"1.0.2\",\n  \"root\": }\n",
        &["config.json", "line 3", "column"],
    );
    refused_text(&bundle, "", &["config.json"]);
    refused_text(&bundle, "[1, 2]", &["config.json"]);
    refused_text(&bundle, &"[".repeat(100_000), &["config.json"]);
}

fn null_config(test: &Test) {
    refused_text(&Bundle::new(test), "null", &["config", "null"]);
}

fn wrong_types_name_the_field(test: &Test) {
    for (pointer, value) in [
        ("/process/user/uid", json!("root")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4_294_967_296_u64)),
        ("/process/args", json!("/bin/sh")),
        ("/mounts", json!({})),
        ("/root/readonly", json!("yes")),
        ("/process/rlimits/0/soft", json!(-1)),
    ] {
        let bundle = Bundle::new(test).edit(|config| set(config, pointer, value));
        bundle.refused(&[pointer.rsplit('/').next().unwrap_or(pointer)]);
    }
}

fn wrong_enum_names_the_field(test: &Test) {
    for (pointer, value) in [
        ("/linux/namespaces/0/type", json!("nope")),
        ("/process/rlimits/0/type", json!("RLIMIT_NOPE")),
    ] {
        Bundle::new(test)
            .edit(|config| set(config, pointer, value))
            .refused(&[pointer]);
    }
}

/// Sets the value at a pointer that exists.
fn set(config: &mut Value, pointer: &str, value: Value) {
    match config.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => panic!("the base configuration has no {pointer}"),
    }
}

fn unknown_capability_is_a_warning(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            push(
                &mut config["process"]["capabilities"][set],
                json!("CAP_OF_THE_FUTURE"),
            );
        }
    });
    let bundle = bundle.args(&["report"]);
    let output = bundle.run().success();
    let kept = output.json()["capabilities"]["bnd"].clone();
    assert_eq!(
        kept,
        json!(["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"])
    );
    // Warnings go where people look: engines take standard error for output.
    let log = test.path("log");
    let dir = bundle.dir.to_string_lossy();
    let words = ["--log", &log.to_string_lossy(), "run", "--bundle", &dir];
    bundle.on(&words).output().success();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(
        text.contains("level=warning") && text.contains("CAP_OF_THE_FUTURE"),
        "{text}"
    );
}

fn missing_rootfs(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| config["root"]["path"] = json!("not-there"));
    let output = bundle.refused(&["not-there"]);
    output.never_says(&["no such file or directory"]);
}

fn rootfs_is_a_file(test: &Test) {
    let bundle =
        Bundle::new(test).edit(|config| config["root"]["path"] = json!("rootfs/bin/probe"));
    bundle.refused(&["probe"]);
}

fn no_root_at_all(test: &Test) {
    let without = Bundle::new(test).edit(|config| {
        config
            .as_object_mut()
            .and_then(|object| object.remove("root"));
    });
    without.refused(&["root"]);
    Bundle::new(test)
        .edit(|config| config["root"]["path"] = json!(""))
        .refused(&["root"]);
}

/// The directory given is the one used: a link that leads elsewhere is refused or followed
/// once, never half of each.
fn symlinked_rootfs(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let link = bundle.dir.join("link");
    std::os::unix::fs::symlink(bundle.rootfs(), &link).unwrap_or_else(|error| panic!("{error}"));
    let bundle = bundle.edit(|config| config["root"]["path"] = json!("link"));
    let output = bundle.run();
    assert!(
        output.code == 0 || output.code == 1 && output.stderr.contains("link"),
        "{output:?}"
    );
    bundle.assert_nothing_left();
}

fn args_empty(test: &Test) {
    Bundle::new(test).raw_args(&[]).refused(&["args"]);
    let without = Bundle::new(test).edit(|config| {
        config["process"]
            .as_object_mut()
            .and_then(|object| object.remove("args"));
    });
    without.refused(&["args"]);
}

fn no_process(test: &Test) {
    let without = Bundle::new(test).edit(|config| {
        config
            .as_object_mut()
            .and_then(|object| object.remove("process"));
    });
    without.refused(&["process"]);
}

fn cwd_relative(test: &Test) {
    for cwd in ["tmp", "", "./tmp"] {
        Bundle::new(test)
            .edit(|config| config["process"]["cwd"] = json!(cwd))
            .refused(&["cwd"]);
    }
}

fn bad_ids(test: &Test) {
    let mut bundle = Bundle::new(test).args(&["exit", "0"]);
    bundle.save();
    let good = bundle.id.clone();
    let long = "x".repeat(5000);
    for id in [
        "",
        ".",
        "..",
        "a/b",
        "../escape",
        "/abs",
        "a b",
        "a\nb",
        "ü",
        "a\\b",
        &long,
    ] {
        bundle.id = id.to_owned();
        let output = bundle.create_call(&[]).output().code(1);
        assert!(!output.stderr.is_empty());
        for command in ["state", "start", "delete", "kill"] {
            test.capsid(&[command, id]).output().failure();
        }
    }
    bundle.id = "../escape".to_owned();
    bundle
        .create_call(&[])
        .output()
        .says(&["invalid container ID format"]);
    assert!(!test.state_root().with_file_name("escape").exists());
    // Forced deletion of a name that is none must not reach outside either.
    let canary = test.machine.role_dir(test.role).join("run").join("canary");
    test.make_file(&canary, "alive");
    for id in ["../run/canary", "..", "../run"] {
        test.capsid(&["delete", "--force", id]).output();
        assert!(
            canary.exists(),
            "delete --force {id} left the state directory"
        );
    }
    let _ = fs::remove_file(canary);
    bundle.id = format!("{good}_+.-");
    bundle.run_call(&[]).output().success();
    bundle.id = good;
}

fn long_path(test: &Test) {
    for length in [4096, 65_535, 65_536, 65_537] {
        let path = format!("/{}", "d".repeat(length));
        Bundle::new(test)
            .edit(|config| config["process"]["cwd"] = json!(path))
            .run()
            .failure();
        let mount = json!({ "destination": path, "type": "tmpfs", "source": "tmpfs" });
        let bundle = Bundle::new(test).mount(mount);
        bundle.run().failure();
        bundle.assert_nothing_left();
        let named = json!({ "type": "network", "path": path });
        let bundle = Bundle::new(test)
            .without_namespace("network")
            .namespace(named);
        bundle.run().failure();
        bundle.assert_nothing_left();
    }
}

fn nul_bytes(test: &Test) {
    for (pointer, value) in [
        ("/process/args", json!(["/bin/probe", "a\u{0}b"])),
        ("/process/env", json!(["A=b\u{0}c"])),
        ("/process/cwd", json!("/tmp\u{0}x")),
        ("/hostname", json!("a\u{0}b")),
        ("/root/path", json!("root\u{0}fs")),
        ("/mounts/0/destination", json!("/proc\u{0}x")),
        ("/mounts/1/options", json!(["mode=755\u{0}x"])),
        ("/linux/maskedPaths", json!(["/proc/a\u{0}b"])),
    ] {
        let bundle = Bundle::new(test).edit(|config| set(config, pointer, value));
        bundle.refused(&[pointer.split('/').nth(1).unwrap_or(pointer)]);
    }
}

fn duplicate_namespace(test: &Test) {
    Bundle::new(test)
        .namespace(json!({ "type": "pid" }))
        .refused(&["/linux/namespaces/"]);
}

fn duplicate_rlimit(test: &Test) {
    let limit = json!({ "type": "RLIMIT_NOFILE", "hard": 512, "soft": 512 });
    let bundle = Bundle::new(test).edit(|config| push(&mut config["process"]["rlimits"], limit));
    bundle.refused(&["/process/rlimits/1", "RLIMIT_NOFILE"]);
}

fn namespace_path_missing(test: &Test) {
    let gone = json!({ "type": "ipc", "path": "/proc/self/ns/nothing" });
    let bundle = Bundle::new(test).without_namespace("ipc").namespace(gone);
    bundle
        .refused(&["/proc/self/ns/nothing"])
        .never_says(&["no such file or directory"]);
}

fn namespace_path_of_another_type(test: &Test) {
    let wrong = json!({ "type": "network", "path": "/proc/self/ns/ipc" });
    let bundle = Bundle::new(test)
        .without_namespace("network")
        .namespace(wrong);
    bundle.refused(&["/proc/self/ns/ipc"]);
}

fn several_problems_at_once(test: &Test) {
    let bundle = Bundle::new(test).edit(|config| {
        config["process"]["cwd"] = json!("relative");
        config["process"]["args"] = json!([]);
    });
    bundle.refused(&["cwd", "args"]);
}

fn missing_mount_source(test: &Test) {
    let source = test.path("never-made");
    let mount =
        json!({ "destination": "/tmp", "type": "bind", "source": source, "options": ["bind"] });
    // Docker and podman take "no such file or directory" for a missing program.
    Bundle::new(test)
        .mount(mount)
        .refused(&["never-made"])
        .never_says(&["no such file or directory"]);
}

fn mount_without_destination(test: &Test) {
    Bundle::new(test)
        .mount(json!({ "type": "tmpfs", "source": "tmpfs" }))
        .refused(&["destination"]);
}

fn sysctl_not_namespaced(test: &Test) {
    for (key, value) in [
        ("kernel.core_pattern", "|/bin/probe"),
        ("kernel/core_pattern", "x"),
        ("vm.panic_on_oom", "1"),
        ("kernel.hostname", "x"),
        ("fs.file-max", "1"),
        ("../sys/kernel.msgmax", "1"),
        ("net/../kernel/core_pattern", "x"),
    ] {
        let bundle =
            Bundle::new(test).edit(|config| config["linux"]["sysctl"] = json!({ key: value }));
        // A slash of the key is ~1 in a JSON pointer.
        bundle.refused(&[key.rsplit(['/', '.']).next().unwrap_or(key)]);
    }
    let host_network = Bundle::new(test)
        .without_namespace("network")
        .edit(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" }));
    host_network.refused(&["net.ipv4.ip_forward"]);
}

fn hook_path_relative(test: &Test) {
    let hooks = json!({ "createRuntime": [{ "path": "bin/probe" }] });
    Bundle::new(test)
        .edit(|config| config["hooks"] = hooks)
        .refused(&["/hooks/createRuntime/0/path"]);
}

fn annotation_key_empty(test: &Test) {
    Bundle::new(test)
        .edit(|config| config["annotations"] = json!({ "": "x" }))
        .refused(&["annotations"]);
}

fn seccomp_unknown_action(test: &Test) {
    let bundle = Bundle::new(test)
        .edit(|config| config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_MAYBE" }));
    bundle.refused(&["/linux/seccomp/defaultAction"]);
}

/// Replaces the maps of both kinds by these lines of (container, host, size).
fn mapped<'t>(test: &'t Test, lines: &[(u32, u64, u64)]) -> Bundle<'t> {
    let maps: Vec<Value> = lines
        .iter()
        .map(|(inside, outside, size)| json!({ "containerID": inside, "hostID": outside, "size": size }))
        .collect();
    let bundle = Bundle::new(test)
        .without_namespace("user")
        .namespace(json!({ "type": "user" }));
    bundle.edit(|config| {
        config["linux"]["uidMappings"] = json!(maps);
        config["linux"]["gidMappings"] = json!(maps);
    })
}

fn overlapping_maps(test: &Test) {
    mapped(test, &[(0, 1_000_000, 100), (50, 1_000_200, 100)]).refused(&["uidMappings"]);
    mapped(test, &[(0, 1_000_000, 100), (100, 1_000_050, 100)]).refused(&["uidMappings"]);
}

fn empty_map_line(test: &Test) {
    mapped(test, &[(0, 1_000_000, 0)]).refused(&["uidMappings"]);
    mapped(test, &[]).refused(&["uidMappings"]);
}

fn map_overflow(test: &Test) {
    mapped(test, &[(0, 4_294_967_290, 100)]).refused(&["uidMappings"]);
    mapped(test, &[(4_294_967_290, 1_000_000, 100)]).refused(&["uidMappings"]);
    let many: Vec<_> = (0..341u32)
        .map(|line| (line * 2, 1_000_000 + u64::from(line) * 2, 1))
        .collect();
    mapped(test, &many).refused(&["uidMappings"]);
}

fn unmapped_uid(test: &Test) {
    for user in [
        json!({ "uid": 500, "gid": 0 }),
        json!({ "uid": 0, "gid": 500 }),
    ] {
        let bundle = mapped(test, &[(0, 1_000_000, 100)]);
        bundle
            .edit(|config| config["process"]["user"] = user)
            .refused(&["500"]);
    }
}

fn foreign_ids_mapped(test: &Test) {
    for lines in [&[(0, 0, 1)][..], &[(0, 2_000_000, 10)], &[(0, 999_999, 2)]] {
        let bundle = mapped(test, lines);
        bundle.create_call(&[]).output().code(1);
        bundle.assert_nothing_left();
    }
}
