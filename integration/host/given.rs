//! A user namespace for containers of root whose bundle has none: ids of their
//! own, files that keep theirs, and mounts that container root cannot undo.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::{Container, push};
use crate::needs::busybox;
use crate::roles::Test;

cases! {
    ROOT [RealRoot]: ids_are_its_own, files_keep_their_ids, devices_have_the_owners_asked_for,
        no_more_user_namespaces, exec_joins, many_at_once, a_killed_creation_frees_its_ids,
        reasons_for_none, low_ports, setuid_programs, below_closed_directories,
        the_policy_file_says_no, links_of_the_image;
    ROOT [RealRoot, Busybox]: the_hosts_root_is_out_of_reach, mounts_are_locked,
        an_overlay_is_none, a_database, standard_output_can_be_opened_again;
}

/// Where files are that say which container has which ids.
const REGISTRY: &str = "/run/capsid-ids";

fn grant<'t>(bundle: Bundle<'t>, names: &[&str]) -> Bundle<'t> {
    let names: Vec<_> = names.iter().map(|name| json!(name)).collect();
    bundle.edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            for name in &names {
                push(&mut config["process"]["capabilities"][set], name.clone());
            }
        }
    })
}

fn with_busybox(bundle: Bundle<'_>) -> Bundle<'_> {
    let program = busybox().unwrap_or_else(|| panic!("no busybox"));
    bundle.program("bin/busybox", fs::read(program).unwrap_or_default());
    bundle.link("bin/sh", "busybox");
    bundle
}

fn volume(test: &Test, name: &str) -> PathBuf {
    let dir = test.path(name);
    test.make_dir(&dir);
    dir
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

/// The first id outside, as the kernel tells it of both maps.
#[track_caller]
fn first_id(container: &Container<'_, '_>) -> u32 {
    let map = |kind: &str| {
        let path = format!("/proc/{}/{kind}_map", container.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let words: Vec<u32> = text
            .split_whitespace()
            .map(|n| n.parse().unwrap_or(7))
            .collect();
        assert!(
            matches!(words[..], [0, first, 65536] if first > 0),
            "{path}: {text}"
        );
        words[1]
    };
    assert_eq!(map("uid"), map("gid"));
    map("uid")
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path);
    let found = found.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.uid(), found.gid())
}

/// What `explain` says of the rule.
fn explained(bundle: &Bundle<'_>, options: &[&str]) -> String {
    bundle.save();
    let dir = bundle.dir.to_string_lossy().into_owned();
    let text = bundle
        .test
        .capsid(&["explain", &dir])
        .globally(options)
        .ok();
    let line = text
        .lines()
        .find(|line| line.trim().starts_with("userns: "));
    line.unwrap_or_else(|| panic!("no userns in {text}"))
        .to_owned()
}

fn ids_are_its_own(test: &Test) {
    let bundles = [(); 2].map(|()| Bundle::new(test).args(&["sleep"]));
    let containers = bundles.each_ref().map(Bundle::ready);
    let [one, other] = containers.each_ref().map(first_id);
    assert!(one.abs_diff(other) >= 65536, "{one} and {other}");
    for (container, first) in containers.iter().zip([one, other]) {
        assert_eq!(
            owner(Path::new(&format!("/proc/{}", container.pid()))),
            (first, first)
        );
        let rules = container.state()["capsid"]["rules"].clone();
        assert_eq!(rules[0]["outcome"], "enforced", "{rules}");
        let file = Path::new(REGISTRY).join(first.to_string());
        let holder = fs::read_to_string(&file).unwrap_or_default();
        assert!(holder.ends_with(container.id()), "{holder}");
    }
    containers.into_iter().for_each(Container::end);
    for first in [one, other] {
        assert!(
            !Path::new(REGISTRY).join(first.to_string()).exists(),
            "{first}"
        );
    }
}

fn files_keep_their_ids(test: &Test) {
    let data = volume(test, "data");
    let theirs = data.join("theirs");
    test.make_file(&theirs, "x");
    std::os::unix::fs::chown(&theirs, Some(1000), Some(1001)).unwrap_or_else(|e| panic!("{e}"));
    let small = json!({ "destination": "/small", "type": "tmpfs", "source": "tmpfs",
        "options": ["uid=5", "gid=6", "mode=700"] });
    let bundle = grant(Bundle::new(test), &["CAP_DAC_OVERRIDE"])
        .writable()
        .mount(small)
        .mount(bind(&data, "/small/data", &["rbind"]))
        .args(&["sleep"]);
    bundle.file("etc/own", "x");
    let container = bundle.ready();
    let stat = |path: &str| {
        let found = container.exec(&[], &["stat", path]).success().json();
        (found["uid"].as_u64(), found["gid"].as_u64())
    };
    let ids = |uid, gid| (Some(uid), Some(gid));
    assert_eq!(stat("/etc/own"), ids(0, 0));
    assert_eq!(stat("/small"), ids(5, 6));
    assert_eq!(stat("/small/data/theirs"), ids(1000, 1001));
    for path in ["/home/made", "/small/data/made"] {
        container.exec(&[], &["write", path, "text"]).success();
        assert_eq!(stat(path), ids(0, 0));
    }
    assert_eq!(owner(&data.join("made")), (0, 0));
    assert_eq!(owner(&bundle.rootfs().join("home/made")), (0, 0));
    // One file system seen from both sides: what the host writes is there at once.
    bundle.file("home/later", "of the host");
    assert_eq!(
        container.exec(&[], &["cat", "/home/later"]).text(),
        "of the host"
    );
    container.end();
    assert_eq!(
        owner(&bundle.rootfs().join("small")),
        (0, 0),
        "a mount point that was made"
    );
}

fn devices_have_the_owners_asked_for(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        config["linux"]["devices"] = json!([{ "path": "/dev/own", "type": "c", "major": 1,
            "minor": 7, "fileMode": 0o640, "uid": 5, "gid": 6 }]);
    });
    let container = bundle.ready();
    let found = container.exec(&[], &["stat", "/dev/own"]).success().json();
    assert_eq!(
        (&found["uid"], &found["gid"]),
        (&json!(5), &json!(6)),
        "{found}"
    );
    assert_eq!(
        (&found["mode"], &found["major"]),
        (&json!("0640"), &json!(1)),
        "{found}"
    );
    container
        .exec(&["--user", "5"], &["try-open", "/dev/own"])
        .success();
    assert_eq!(
        container
            .exec(&["--user", "9"], &["try-open", "/dev/own"])
            .text(),
        "EACCES"
    );
    container.end();
}

fn the_hosts_root_is_out_of_reach(test: &Test) {
    // Opened for writing, and nothing written.
    let script = "for file in /proc/sys/kernel/core_pattern /data/key; do \
                  (: >>$file) 2>/dev/null && echo open || echo closed; done; cat /data/key";
    let data = volume(test, "data");
    test.make_file(&data.join("key"), "secret");
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(data.join("key"), closed).unwrap_or_else(|error| panic!("{error}"));
    let bundle = with_busybox(Bundle::new(test))
        .edit(|config| config["linux"]["readonlyPaths"] = json!([]))
        .mount(bind(&data, "/data", &["rbind", "ro"]))
        .raw_args(&["/bin/sh", "-c", script]);
    // A volume of root's is container root's to read, and core_pattern nobody's.
    assert_eq!(bundle.run().text(), "closed\nclosed\nsecret");
    let without = bundle
        .run_call(&[])
        .globally(&["--relax", "userns"])
        .output();
    assert_eq!(without.text(), "open\nclosed\nsecret");
}

/// Whoever gets CAP_SYS_ADMIN later, as `exec` may give it.
fn mounts_are_locked(test: &Test) {
    let data = volume(test, "data");
    test.make_dir(&data.join("deep"));
    let bundle = with_busybox(Bundle::new(test))
        .edit(|config| {
            let relaxed = json!({ "dev.capsid.relax": "seccomp-default,seccomp-floor" });
            config["annotations"] = relaxed;
        })
        .mount(bind(&data, "/data", &["rbind", "ro"]))
        .args(&["sleep"]);
    let container = bundle.ready();
    let shell = |script: &str| {
        let words = ["/bin/busybox", "sh", "-c", script];
        container
            .exec_call(&["--cap", "CAP_SYS_ADMIN"], &words)
            .output()
    };
    shell("busybox mount -o remount,bind,rw /data")
        .failure()
        .says(&["ermission denied"]);
    shell("busybox umount -l /data")
        .failure()
        .says(&["Invalid argument"]);
    shell("echo x >/data/deep/made")
        .failure()
        .says(&["Read-only"]);
    // It has the capability: this much it may do.
    shell("busybox mount -t tmpfs tmpfs /tmp && busybox umount /tmp").success();
    container.end();
}

fn no_more_user_namespaces(test: &Test) {
    const FILE: &str = "/proc/sys/user/max_user_namespaces";
    let before = fs::read_to_string(FILE).unwrap_or_default();
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        config["annotations"] = json!({ "dev.capsid.relax": "seccomp-default,seccomp-floor" });
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let container = bundle.ready();
    assert_eq!(container.exec(&[], &["cat", FILE]).text(), "0");
    let unshare = ["syscall", "unshare", "0x10000000"];
    assert_eq!(container.exec(&[], &unshare).text(), "ENOSPC");
    let resource = ["--cap", "CAP_SYS_RESOURCE"];
    for (flags, said) in [(&[][..], "EACCES"), (&resource, "EROFS")] {
        let output = container.exec(flags, &["write", FILE, "9"]);
        assert_eq!(output.text(), said, "{flags:?}");
    }
    assert_eq!(
        fs::read_to_string(FILE).unwrap_or_default(),
        before,
        "the host's own"
    );
    container.end();
}

fn exec_joins(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let first = first_id(&container);
    let inside = container.exec_report(&[]);
    let link = fs::read_link(format!("/proc/{}/ns/user", container.pid()));
    let link = link.unwrap_or_else(|error| panic!("{error}"));
    let told = inside.at("/namespaces/user").to_string();
    let number: String = link
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    assert!(told.contains(&number), "{told} and {number}");
    inside.expect("/uids", json!([0, 0, 0, 0]));
    let flags = ["--detach", "--user", "1000:1001", "--pid-file"];
    let file = test.path("pid");
    let mut flags = flags.to_vec();
    let path = file.to_string_lossy().into_owned();
    flags.push(&path);
    container.exec(&flags, &["sleep"]).success();
    let pid = fs::read_to_string(&file).unwrap_or_default();
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert_eq!(owner(&process), (first + 1000, first + 1001));
    container
        .exec(&["--user", "70000"], &["exit", "0"])
        .failure();
    container.end();
}

fn standard_output_can_be_opened_again(test: &Test) {
    let script = "echo one >/dev/stdout; echo two >/dev/stderr";
    let bundle = with_busybox(Bundle::new(test))
        .raw_args(&["/bin/sh", "-c", script])
        .edit(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let piped = ["/bin/sh", "-c", "\"$@\" 2>&1 | cat", "sh"];
    let output = bundle.run_call(&[]).through(&piped).output();
    assert_eq!(output.text(), "one\ntwo");
    let sleeping = with_busybox(Bundle::new(test)).args(&["sleep"]);
    let container = sleeping.ready();
    let call = container.exec_call(&["--user", "7"], &["/bin/sh", "-c", script]);
    assert_eq!(call.through(&piped).output().text(), "one\ntwo");
    container.end();
}

fn many_at_once(test: &Test) {
    let bundles: Vec<_> = (0..50)
        .map(|_| Bundle::new(test).args(&["sleep"]))
        .collect();
    let calls: Vec<_> = bundles
        .iter()
        .map(|one| one.create_call(&[]).start())
        .collect();
    for mut call in calls {
        call.finish_ok();
    }
    let map = |bundle: &Bundle<'_>| {
        let pid = bundle.on(&["state"]).output().success().json()["pid"].to_string();
        fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default()
    };
    let mut maps: Vec<_> = bundles.iter().map(map).collect();
    maps.sort();
    maps.dedup();
    assert_eq!(maps.len(), 50, "{maps:?}");
    for bundle in &bundles {
        bundle.on(&["delete", "--force"]).ok();
    }
}

fn a_killed_creation_frees_its_ids(test: &Test) {
    let file = test.path("hook");
    let script = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; exec sleep 30",
        file.display()
    );
    let bundle = Bundle::new(test).args(&["sleep"]).edit(|config| {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        config["hooks"] = json!({ "createRuntime": [hook] });
    });
    let held = || -> Vec<String> {
        let files = fs::read_dir(REGISTRY).into_iter().flatten().flatten();
        let ours = files.filter(|file| {
            let holder = fs::read_to_string(file.path()).unwrap_or_default();
            holder.ends_with(&bundle.id)
        });
        ours.map(|file| file.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let mut creation = bundle.create_call(&[]).start();
    let script = format!("until test -e {}; do sleep 0.01; done", file.display());
    test.command(&["/bin/sh", "-c", &script]).ok();
    let before = held();
    assert_eq!(before.len(), 1, "{before:?}");
    creation.signal(nix::sys::signal::Signal::SIGKILL);
    creation.stop();
    // Nobody is left to end the hook.
    let script = format!("kill $(cat {})", file.display());
    test.command(&["/bin/sh", "-c", &script]).ok();
    bundle.on(&["delete", "--force"]).ok();
    // Where it looks first depends on the name alone: the same is free again.
    let again = bundle.edit(|config| config["hooks"] = json!({}));
    let container = again.create();
    assert_eq!(first_id(&container).to_string(), before[0]);
    container.end();
}

fn reasons_for_none(test: &Test) {
    let data = volume(test, "data");
    let node = data.join("disk");
    let device = ["mknod", "-m", "600", &node.to_string_lossy(), "b", "7", "0"].map(str::to_owned);
    test.command(&device).ok();
    let own = format!("/proc/{}/ns/net", std::process::id());
    let new = || Bundle::new(test);
    let network = |path: &str| {
        new()
            .without_namespace("network")
            .namespace(json!({ "type": "network", "path": path }))
    };
    for (bundle, said) in [
        (new(), "enforced (added, with the ids "),
        (
            new().without_namespace("pid"),
            "its pid namespace must be a new one",
        ),
        (
            new().without_namespace("ipc"),
            "its ipc namespace must be a new one",
        ),
        (
            new().without_namespace("network"),
            "CAP_NET_BIND_SERVICE means nothing in the host's",
        ),
        (
            network(&own),
            "the network namespace that it joins is the host's",
        ),
        (
            grant(new(), &["CAP_SYS_ADMIN"]),
            "which grants CAP_SYS_ADMIN",
        ),
        (
            grant(new(), &["CAP_SYS_TIME"]),
            "CAP_SYS_TIME means nothing in one",
        ),
        (
            new().edit(|config| config["process"]["user"]["gid"] = json!(65536)),
            "id 65536 is beyond",
        ),
        (
            new().edit(|config| {
                config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE",
            "priority": 4 })
            }),
            "its priority takes a privilege",
        ),
        (
            new().edit(|config| config["linux"]["rootfsPropagation"] = json!("rshared")),
            "its mounts are to appear on the host",
        ),
        (
            new().edit(|config| config["linux"]["sysctl"] = json!({ "kernel.msgmax": "8192" })),
            "kernel.msgmax is the host's root's to set",
        ),
        (
            new().edit(|config| config["hooks"] = json!({ "createContainer": [{ "path": "/x" }] })),
            "its createContainer hooks",
        ),
        (
            new().mount(bind(Path::new("/proc"), "/host", &["rbind"])),
            "its volume on /host is on a file system, or has one mounted below it",
        ),
        (
            new().mount(bind(&node, "/dev/disk", &["bind"])),
            "its volume on /dev/disk is a device node that not everybody may use",
        ),
        (
            new().mount(json!({ "destination": "/x", "type": "ext4", "source": "/dev/x" })),
            "only the host's root mounts ext4",
        ),
    ] {
        let line = explained(&bundle, &[]);
        assert!(line.contains(said), "{said}: {line}");
        if said.starts_with("enforced") {
            continue;
        }
        assert!(line.contains("podman --userns=auto"), "{line}");
        let call = bundle.create_call(&[]).globally(&["--hardening", "strict"]);
        call.output().code(1).says(&[said]);
        bundle.assert_nothing_left();
    }
    let compat = explained(&new(), &["--hardening", "compat"]);
    assert!(compat.contains("relaxed by level compat"), "{compat}");
    let relaxed = explained(&new(), &["--relax", "userns"]);
    assert!(relaxed.contains("relaxed by --relax"), "{relaxed}");
}

fn an_overlay_is_none(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    let dirs = ["upper", "work"].map(|name| volume(test, name).to_string_lossy().into_owned());
    let script = format!(
        "mount -t overlay -o lowerdir={rootfs},upperdir={},workdir={} overlay {rootfs}",
        dirs[0], dirs[1]
    );
    let output = bundle.run_call(&[]).in_view_of(&script).output().success();
    let map = &output.json()["uid_map"];
    assert!(!map.to_string().contains("65536"), "{map}");
    let dir = bundle.dir.to_string_lossy().into_owned();
    let explained = test.capsid(&["explain", &dir]).in_view_of(&script).ok();
    assert!(
        explained.contains("its root file system is an overlay"),
        "{explained}"
    );
}

fn low_ports(test: &Test) {
    let serving = Bundle::new(test).args(&["serve", "80", "hello"]);
    let mut container = serving.create();
    first_id(&container);
    container.start();
    container.wait_for("LISTENING");
    container.end();
    // In a network that is there already, and belongs to the host's root.
    let before = Bundle::new(test).args(&["sleep"]);
    let call = before.create_call(&[]).globally(&["--relax", "userns"]);
    call.output().success();
    let pid = before.on(&["state"]).output().success().json()["pid"].to_string();
    let joined = Bundle::new(test)
        .without_namespace("network")
        .namespace(json!({ "type": "network", "path": format!("/proc/{pid}/ns/net") }))
        .edit(|config| {
            config["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "0 7" });
        })
        .args(&["serve", "80", "hello"]);
    let mut container = joined.create();
    first_id(&container);
    // The other container of that network has not brought its loopback up yet.
    before.on(&["start"]).ok();
    container.start();
    container.wait_for("LISTENING");
    let sysctl = container.exec(&[], &["cat", "/proc/sys/net/ipv4/ping_group_range"]);
    assert_eq!(sysctl.text(), "0\t7");
    container.end();
    before.on(&["delete", "--force"]).ok();
}

fn setuid_programs(test: &Test) {
    let user = |bundle: Bundle<'_>, denied: bool| {
        let probe = fs::read(&test.machine.probe).unwrap_or_default();
        let program = bundle.program("bin/setuid", probe);
        let mode = fs::Permissions::from_mode(0o4755);
        fs::set_permissions(&program, mode).unwrap_or_else(|error| panic!("{error}"));
        bundle
            .edit(|config| {
                config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
                config["process"]["noNewPrivileges"] = json!(denied);
            })
            .raw_args(&["/bin/setuid", "report"])
            .run()
            .success()
            .json()["uids"]
            .clone()
    };
    assert_eq!(user(Bundle::new(test), false), json!([1000, 0, 0, 0]));
    assert_eq!(
        user(Bundle::new(test), true),
        json!([1000, 1000, 1000, 1000])
    );
}

/// As images of databases do it: root gives the volume away and becomes the user.
fn a_database(test: &Test) {
    let data = volume(test, "data");
    let script = "set -e\nbusybox mkdir -p /data/db\nbusybox chown -R 1000:1000 /data/db\n\
                  busybox chmod 700 /data/db\n\
                  busybox su user -s /bin/sh -c 'echo row >>/data/db/table; busybox id -u'\n\
                  busybox cat /data/db/table";
    let names = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_SETUID",
        "CAP_SETGID",
    ];
    let bundle = grant(with_busybox(Bundle::new(test)), &names)
        .mount(bind(&data, "/data", &["rbind"]))
        .raw_args(&["/bin/sh", "-c", script]);
    assert_eq!(bundle.run().text(), "1000\nrow");
    assert_eq!(owner(&data.join("db")), (1000, 1000));
    // The next container has other ids, and finds its rows.
    assert_eq!(bundle.run().text(), "1000\nrow\nrow");
    assert_eq!(owner(&data.join("db/table")), (1000, 1000));
}

/// Only root of the host gets to such a bundle: container root need not.
fn below_closed_directories(test: &Test) {
    let mut bundle = Bundle::new(test);
    let closed = volume(test, "closed");
    let inside = closed.join("bundle");
    fs::rename(&bundle.dir, &inside).unwrap_or_else(|error| panic!("{error}"));
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&closed, mode).unwrap_or_else(|error| panic!("{error}"));
    std::os::unix::fs::chown(&closed, Some(1000), Some(1000)).unwrap_or_else(|e| panic!("{e}"));
    bundle.dir = inside;
    let data = closed.join("data");
    test.make_dir(&data);
    let report = bundle.mount(bind(&data, "/data", &["bind"])).report();
    report.expect("/uids", json!([0, 0, 0, 0]));
    assert!(report.at("/uid_map").to_string().contains("65536"));
}

fn the_policy_file_says_no(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let policy = json!({ "userns": "off" });
    let output = crate::policy_file::obey(test, &bundle, &policy)
        .output()
        .success();
    assert!(!output.json()["uid_map"].to_string().contains("65536"));
}

/// Nothing can be made where the links lead, and so nothing mounted.
fn links_of_the_image(test: &Test) {
    let data = volume(test, "data");
    test.make_file(&data.join("file"), "seen");
    for (target, seen) in [("/var", true), ("/proc", false), ("/sys/fs", false)] {
        let bundle = Bundle::new(test)
            .mount(bind(&data, "/door/inner", &["bind"]))
            .writable()
            .args(&["cat", "/door/inner/file"]);
        bundle.link("door", target);
        let output = bundle.run();
        match seen {
            true => assert_eq!(output.text(), "seen"),
            false => drop(output.failure().says(&["on /door/inner", "mkdirat"])),
        }
    }
}
