//! Mounts: order, flags, sources, propagation, what is masked and what is read-only.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::contains;
use crate::roles::Test;

cases! {
    ALL []: root_is_read_only, root_is_writable, listed_order, relative_destination, missing_points_are_made,
        links_stay_inside, dotdot_stays_inside, bind_by_option, bind_source_relative, bind_file_on_new_file, bind_flags,
        last_option_wins, recursive_read_only, new_flags, propagation, unknown_option_is_data,
        data_on_bind_is_refused, tmpcopyup, tmpfs_options, root_propagation,
        outside_is_untouched;
    ROOT []: idmapped_bind, shared_root_propagation, volumes_are_cut_off_from_the_host;
}

/// A directory of the host with a file in it.
pub(crate) fn source(test: &Test, name: &str) -> std::path::PathBuf {
    let dir = test.path(name);
    test.make_dir(&dir);
    test.make_file(&dir.join("file"), "content of the host");
    dir
}

pub(crate) fn bind(source: &std::path::Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "none", "source": source, "options": options })
}

fn root_is_read_only(test: &Test) {
    let report = Bundle::new(test).report();
    assert!(contains(&report.mount("/")["options"], "ro"));
    let output = Bundle::new(test).run_probe(&["write", "/new", "x"]).code(1);
    assert_eq!(output.text(), "EROFS");
}

fn root_is_writable(test: &Test) {
    let bundle = Bundle::new(test).writable().args(&["write", "/new", "x"]);
    assert_eq!(bundle.run().success().text(), "ok");
    assert_eq!(
        std::fs::read_to_string(bundle.rootfs().join("new")).unwrap_or_default(),
        "x"
    );
}

fn listed_order(test: &Test) {
    let (first, second) = (source(test, "first"), source(test, "second"));
    test.make_dir(&first.join("sub"));
    let bundle = Bundle::new(test)
        .mount(bind(&first, "/var", &["bind"]))
        .mount(bind(&second, "/var/sub", &["bind"]))
        .mount(json!({ "destination": "/home", "type": "tmpfs", "source": "tmpfs" }))
        .mount(bind(&second, "/home", &["bind"]));
    let report = bundle.report_with(&["--peek", "/var/sub/file", "--peek", "/home/file"]);
    assert_eq!(report.member("peek", "/var/sub/file")["bytes"], 19);
    assert_eq!(report.member("peek", "/home/file")["bytes"], 19);
    // The other way round the later mount covers the earlier.
    let covered = Bundle::new(test)
        .mount(bind(&second, "/var/sub", &["bind"]))
        .mount(bind(&first, "/var", &["bind"]))
        .report_with(&["--peek", "/var/sub/file"]);
    assert_eq!(covered.member("peek", "/var/sub/file"), "ENOENT");
}

fn relative_destination(test: &Test) {
    let mount = json!({ "destination": "var", "type": "tmpfs", "source": "tmpfs" });
    let report = Bundle::new(test).mount(mount).report();
    assert!(report.is_mounted("/var"));
}

fn missing_points_are_made(test: &Test) {
    let dir = source(test, "dir");
    let bundle = Bundle::new(test)
        .mount(bind(&dir, "/a/b/c", &["bind"]))
        .mount(bind(&dir.join("file"), "/d/e", &["bind"]));
    let report = bundle.report_with(&["--peek", "/a/b/c/file", "--peek", "/d/e"]);
    assert_eq!(report.member("peek", "/a/b/c/file")["bytes"], 19);
    assert_eq!(report.member("peek", "/d/e")["bytes"], 19);
}

fn links_stay_inside(test: &Test) {
    let dir = source(test, "dir");
    let bundle = Bundle::new(test)
        .mount(bind(&dir, "/link/inner", &["bind"]))
        .args(&["cat", "/var/inner/file"]);
    bundle.link("link", "/var");
    assert_eq!(bundle.run().success().stdout, "content of the host");
    let outside = test.path("outside");
    test.make_dir(&outside);
    let bundle = Bundle::new(test)
        .mount(bind(&dir, "/link/inner", &["bind"]))
        .args(&["exit", "0"]);
    bundle.link("link", &outside);
    bundle.run();
    assert_eq!(
        std::fs::read_dir(&outside)
            .map(Iterator::count)
            .unwrap_or(9),
        0,
        "made on the host"
    );
}

fn dotdot_stays_inside(test: &Test) {
    let dir = source(test, "dir");
    let bundle = Bundle::new(test)
        .mount(bind(&dir, "/../../../../../../var", &["bind"]))
        .args(&["cat", "/var/file"]);
    assert_eq!(bundle.run().success().stdout, "content of the host");
}

fn bind_by_option(test: &Test) {
    let dir = source(test, "dir");
    for kind in [json!("bind"), json!("none"), json!("ext4"), Value::Null] {
        let mut mount = bind(&dir, "/var", &["rbind"]);
        mount["type"] = kind;
        if mount["type"].is_null() {
            mount
                .as_object_mut()
                .and_then(|object| object.remove("type"));
        }
        let output = Bundle::new(test)
            .mount(mount)
            .run_probe(&["cat", "/var/file"]);
        assert_eq!(output.success().stdout, "content of the host");
    }
}

fn bind_source_relative(test: &Test) {
    let bundle = Bundle::new(test).args(&["cat", "/var/file"]).mount(json!({
        "destination": "/var", "type": "bind", "source": "volume", "options": ["bind"]
    }));
    test.make_dir(&bundle.dir.join("volume"));
    test.make_file(&bundle.dir.join("volume/file"), "relative");
    assert_eq!(bundle.run().success().stdout, "relative");
}

fn bind_file_on_new_file(test: &Test) {
    let dir = source(test, "dir");
    let bundle = Bundle::new(test).mount(bind(&dir.join("file"), "/etc/new.conf", &["bind", "ro"]));
    let output = bundle.run_probe(&["cat", "/etc/new.conf"]).success();
    assert_eq!(output.stdout, "content of the host");
    // A directory onto a file, or the reverse, is an error in the words that Docker looks for.
    for (source, target) in [(dir.clone(), "/etc/passwd"), (dir.join("file"), "/etc")] {
        Bundle::new(test)
            .mount(bind(&source, target, &["bind"]))
            .run_call(&[])
            .output()
            .failure()
            .says(&[target, "not a directory"]);
    }
}

fn bind_flags(test: &Test) {
    let dir = source(test, "dir");
    let report = Bundle::new(test)
        .mount(bind(
            &dir,
            "/var",
            &["bind", "ro", "noexec", "nosuid", "nodev"],
        ))
        .report();
    for option in ["ro", "noexec", "nosuid", "nodev"] {
        assert!(
            report.has_option("/var", option),
            "{option}: {}",
            report.mount("/var")
        );
    }
    let output = Bundle::new(test)
        .mount(bind(&dir, "/var", &["bind", "ro"]))
        .run_probe(&["write", "/var/file", "x"]);
    assert_eq!(output.code(1).text(), "EROFS");
    let output = Bundle::new(test)
        .mount(bind(&dir, "/var", &["bind", "rw"]))
        .run_probe(&["write", "/var/file", "changed by the inside"]);
    assert_eq!(output.success().text(), "ok");
    // Volumes carry no devices and no setuid files unless asked to.
    let report = Bundle::new(test)
        .mount(bind(&dir, "/var", &["bind"]))
        .report();
    for option in ["nosuid", "nodev"] {
        assert!(
            report.has_option("/var", option),
            "{option}: {}",
            report.mount("/var")
        );
    }
}

fn last_option_wins(test: &Test) {
    let tmpfs = |options: &[&str]| json!({ "destination": "/var", "type": "tmpfs", "source": "tmpfs", "options": options });
    let report = Bundle::new(test)
        .mount(tmpfs(&["ro", "rw", "noexec", "exec", "nosuid"]))
        .report();
    assert!(
        report.has_option("/var", "rw")
            && !report.has_option("/var", "noexec")
            && report.has_option("/var", "nosuid")
    );
    let report = Bundle::new(test)
        .mount(tmpfs(&["rw", "ro", "defaults"]))
        .report();
    assert!(report.has_option("/var", "ro"));
}

fn recursive_read_only(test: &Test) {
    let dir = source(test, "dir");
    test.make_dir(&dir.join("sub"));
    let inner = json!({ "destination": "/var/sub", "type": "tmpfs", "source": "tmpfs" });
    let report = Bundle::new(test)
        .mount(bind(&dir, "/var", &["rbind", "rro"]))
        .mount(inner.clone())
        .report();
    assert!(report.has_option("/var", "ro"));
    let report = Bundle::new(test)
        .mount(json!({ "destination": "/dev/copy", "type": "bind", "source": "/dev", "options": ["rbind", "rro", "rnoexec", "rnosuid"] }))
        .report();
    let all = report.at("/mounts").as_array().cloned().unwrap_or_default();
    let copied: Vec<_> = all
        .iter()
        .filter(|mount| {
            mount["point"]
                .as_str()
                .is_some_and(|point| point.starts_with("/dev/copy"))
        })
        .collect();
    assert!(!copied.is_empty());
    for mount in copied {
        for option in ["ro", "noexec", "nosuid"] {
            assert!(contains(&mount["options"], option), "{option}: {mount}");
        }
    }
}

fn new_flags(test: &Test) {
    let tmpfs = |option: &str| json!({ "destination": "/var", "type": "tmpfs", "source": "tmpfs", "options": [option] });
    for option in [
        "async",
        "atime",
        "diratime",
        "noatime",
        "nodiratime",
        "norelatime",
        "nostrictatime",
        "relatime",
        "strictatime",
        "suid",
        "dev",
        "exec",
        "sync",
        "dirsync",
        "silent",
        "loud",
        "nosymfollow",
        "symfollow",
        "lazytime",
        "nolazytime",
        "iversion",
        "noiversion",
    ] {
        let report = Bundle::new(test).mount(tmpfs(option)).report();
        assert!(report.is_mounted("/var"), "{option}");
        if ["noatime", "nodiratime", "nosymfollow"].contains(&option) {
            assert!(
                report.has_option("/var", option),
                "{option}: {}",
                report.mount("/var")
            );
        }
    }
}

fn propagation(test: &Test) {
    let dir = source(test, "dir");
    for (option, field) in [
        ("private", None),
        ("rslave", None),
        ("unbindable", Some("unbindable")),
        ("rshared", Some("shared:")),
    ] {
        let report = Bundle::new(test)
            .mount(bind(&dir, "/var", &["rbind", option]))
            .report();
        let fields = report.mount("/var")["propagation"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = fields
            .iter()
            .filter_map(Value::as_str)
            .any(|text| field.is_some_and(|field| text.starts_with(field)));
        assert_eq!(found, field.is_some(), "{option}: {fields:?}");
    }
}

fn unknown_option_is_data(test: &Test) {
    let mount = json!({ "destination": "/var", "type": "tmpfs", "source": "tmpfs", "options": ["frobnicate=1"] });
    Bundle::new(test)
        .mount(mount)
        .run()
        .failure()
        .says(&["frobnicate"]);
}

fn data_on_bind_is_refused(test: &Test) {
    let dir = source(test, "dir");
    Bundle::new(test)
        .mount(bind(&dir, "/var", &["bind", "size=1m"]))
        .refused(&["size=1m"]);
}

fn tmpcopyup(test: &Test) {
    let bundle = Bundle::new(test).args(&["cat", "/var/deep/file"]).mount(json!({
        "destination": "/var", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=700"]
    }));
    test.make_dir(&bundle.rootfs().join("var/deep"));
    bundle.file("var/deep/file", "copied");
    bundle.link("var/evil", "/etc/shadow");
    assert_eq!(bundle.run().success().stdout, "copied");
    let bundle = bundle.args(&["stat", "/var/evil"]);
    assert_eq!(
        bundle.run().success().json()["link"],
        "/etc/shadow",
        "a link stays a link"
    );
}

fn tmpfs_options(test: &Test) {
    let mount = json!({ "destination": "/var", "type": "tmpfs", "source": "t", "options": ["mode=1750", "size=64k", "nosuid"] });
    let bundle = Bundle::new(test).mount(mount);
    let report = bundle.report_with(&["--dev", "/var"]);
    assert_eq!(report.member("dev", "/var")["mode"], "1750");
    assert!(
        report.has_option("/var", "size=64k"),
        "{}",
        report.mount("/var")
    );
}

fn root_propagation(test: &Test) {
    for (mode, field) in [
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
    ] {
        let report = Bundle::new(test)
            .edit(|config| config["linux"]["rootfsPropagation"] = json!(mode))
            .report();
        let fields = report.mount("/")["propagation"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let all: Vec<_> = fields.iter().filter_map(Value::as_str).collect();
        assert_eq!(all.join(" "), field, "{mode}");
    }
    Bundle::new(test)
        .edit(|config| config["linux"]["rootfsPropagation"] = json!("sideways"))
        .refused(&["rootfsPropagation"]);
}

fn shared_root_propagation(test: &Test) {
    let report = Bundle::new(test)
        .edit(|config| config["linux"]["rootfsPropagation"] = json!("shared"))
        .report();
    let fields = report.mount("/")["propagation"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(
        fields
            .iter()
            .filter_map(Value::as_str)
            .any(|text| text.starts_with("shared:")),
        "{fields:?}"
    );
}

fn outside_is_untouched(test: &Test) {
    let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = |text: &str| {
        text.lines()
            .filter(|line| line.contains(&*test.dir.to_string_lossy()))
            .count()
    };
    let bundle = Bundle::new(test).args(&["sleep"]);
    let before = ours(&table());
    let container = bundle.ready();
    assert_eq!(
        ours(&table()),
        before,
        "a mount of the container is visible on the host"
    );
    container.end();
    assert_eq!(ours(&table()), before);
}

fn idmapped_bind(test: &Test) {
    let dir = source(test, "dir");
    let map = json!([{ "containerID": 0, "hostID": 3_000_000, "size": 65_536 }]);
    let mut mount = bind(&dir, "/var", &["bind", "idmap"]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map.clone();
    let bundle = Bundle::new(test)
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map.clone();
        });
    let report = bundle.mount(mount).report_with(&["--dev", "/var/file"]);
    let file = report.member("dev", "/var/file");
    assert_eq!(
        (&file["uid"], &file["gid"]),
        (&json!(0), &json!(0)),
        "{file}"
    );
    let mut lonely = bind(&dir, "/var", &["bind"]);
    lonely["uidMappings"] = map;
    Bundle::new(test).mount(lonely).refused(&["Mappings"]);
}

/// Root of a user namespace may mount in its volumes, and the host must not see it.
fn volumes_are_cut_off_from_the_host(test: &Test) {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let volume = test.path("volume");
    test.make_dir(&volume);
    let none = None::<&str>;
    let attempt = |source: Option<&str>, kind: Option<&str>, flags: MsFlags| {
        mount(source, &volume, kind, flags, none).unwrap_or_else(|error| panic!("mount: {error}"));
    };
    attempt(Some("tmpfs"), Some("tmpfs"), MsFlags::empty());
    attempt(None, None, MsFlags::MS_SHARED);
    let point = volume.join("point");
    test.make_dir(&point);
    for options in [&["rbind"][..], &["rbind", "rshared"]] {
        let bundle = Bundle::new(test)
            .mount(bind(&volume, "/var", options))
            .namespace(json!({ "type": "user" }))
            .edit(|config| {
                let map = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65536 }]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
                for set in ["bounding", "effective", "permitted"] {
                    config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
                }
            })
            .args(&["mount-tmpfs", "/var/point"]);
        bundle.run().success();
        let seen = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let leaked = seen.contains(&format!(" {} ", point.display()));
        let _ = umount2(&point, MntFlags::MNT_DETACH);
        assert!(!leaked, "{options:?}: mounted on the host");
    }
    umount2(&volume, MntFlags::MNT_DETACH).unwrap_or_else(|error| panic!("umount: {error}"));
}
