//! Golden sandboxes: the configuration and the root directory that options and
//! facts come to, word for word.
//!
//! `tests/sandbox/NAME.txt` is what becomes of the case of that name below.
//! `UPDATE=1 cargo test --test sandbox` writes them anew; their diff is the diff
//! in what a sandbox is.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its material is not there"
)]

use std::fs;
use std::path::{Path, PathBuf};

use capsid::host::userland::{Found, Userland};
use capsid::host::{Facts, Subordinate};
use capsid::sandbox::{self, Bind, Entry, Limits, Net, Overlay, Request, Sandbox, Tmpfs};
use capsid::spec::bundle::Bundle;
use capsid::spec::template;
use capsid::spec::validate::{Caller, validate};

/// An ordinary user, or root.
fn facts(root: bool) -> Facts {
    Facts {
        uid: if root { 0 } else { 1000 },
        gid: if root { 0 } else { 100 },
        privileged: root,
        in_user_namespace: false,
        may_set_groups: true,
        read_only_sysctls: false,
        landlock: Some(7),
        capabilities: if root { u64::MAX } else { 0 },
        subordinate: Subordinate::default(),
        offered: None,
    }
}

/// A machine with 8 GiB whose /bin is a link.
fn userland() -> Userland {
    Userland {
        files: vec![
            ("/usr", Found::Directory("/usr".into())),
            ("/bin", Found::Link("usr/bin".into())),
            ("/lib", Found::Link("usr/lib".into())),
            ("/etc/ld.so.cache", Found::File("/etc/ld.so.cache".into())),
            (
                "/etc/resolv.conf",
                Found::File("/run/systemd/resolve/stub-resolv.conf".into()),
            ),
            ("/etc/ssl/certs", Found::Directory("/etc/ssl/certs".into())),
        ],
        user_name: Some("alice".into()),
        environment: vec![
            ("LANG".into(), "C.UTF-8".into()),
            ("TERM".into(), "xterm".into()),
        ],
        memory: 8 << 30,
        swap: 1 << 30,
        open_files: 524_288,
        oom_score_adj: 0,
        umask: 0o022,
        time_namespaces: true,
        process: 7,
    }
}

fn request(command: &[&str]) -> Request {
    Request {
        command: command.iter().map(ToString::to_string).collect(),
        ..Request::default()
    }
}

fn bind(source: &str, destination: &str, writable: bool) -> Bind {
    Bind {
        source: source.into(),
        destination: destination.into(),
        writable,
        directory: true,
        owner: (1000, 100),
        idmap: true,
    }
}

fn build(request: &Request, root: bool) -> Result<Sandbox, String> {
    sandbox::build(request, &userland(), &facts(root)).map_err(|error| error.to_string())
}

/// Everything in one text. What is made must also be valid.
fn text(request: &Request, root: bool) -> String {
    let made = build(request, root).unwrap();
    let bundle = Bundle {
        dir: "/bundle".into(),
        spec: made.spec.clone(),
        warnings: Vec::new(),
    };
    let valid = validate(bundle, Caller { privileged: root }).unwrap();
    assert_eq!(valid.warnings(), [""; 0]);
    let mut text = String::new();
    for default in &made.defaults {
        text += &format!("{}: {}\n", default.what, default.why);
    }
    text += "\n";
    for (path, entry) in made.skeleton.entries() {
        let path = path.display();
        text += &match entry {
            Entry::Directory => format!("{path}/\n"),
            Entry::Shared => format!("{path}/ for everyone\n"),
            Entry::Link(target) => format!("{path} -> {}\n", target.display()),
            Entry::File(content) => format!("{path}: {content:?}\n"),
        };
    }
    text + "\n" + &template::to_json(&made.spec) + "\n"
}

#[track_caller]
fn golden(name: &str, request: &Request, root: bool) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sandbox/{name}.txt"));
    let text = text(request, root);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == text,
        "{} differs; UPDATE=1 writes it anew",
        file.display()
    );
}

#[test]
fn an_ordinary_user_without_options() {
    golden("user", &request(&["id"]), false);
}

#[test]
fn root_without_options() {
    golden("root", &request(&["id"]), true);
}

#[test]
fn everything_at_once() {
    let everything = Request {
        binds: vec![
            bind("/home/alice/project", "/home/alice/project", true),
            bind("/srv/data", "/data", false),
        ],
        tmpfs: vec![Tmpfs {
            destination: "/scratch".into(),
            size: Some(1 << 20),
        }],
        overlays: vec![
            Overlay {
                lower: bind("/usr", "/usr", false),
                upper: None,
            },
            Overlay {
                lower: bind("/opt", "/opt", false),
                upper: Some(bind("/srv/kept", "/srv/kept", true)),
            },
        ],
        net: Net::Host,
        env: vec![("LANG".into(), "de".into()), ("A".into(), "b=c".into())],
        user: Some((5, Some(6))),
        hostname: Some("box".into()),
        directory: Some("/data".into()),
        limits: Limits {
            memory: Some(1 << 30),
            cpus: Some(1500),
            pids: Some(100),
        },
        terminal: true,
        ..request(&["make", "-j2"])
    };
    golden("everything", &everything, false);
    golden("everything-of-root", &everything, true);
}

#[test]
fn another_root_brings_its_own_etc() {
    let other = Request {
        rootfs: Some(vec![
            ("/etc".into(), Found::Directory("/srv/root/etc".into())),
            ("/lib".into(), Found::Link("usr/lib".into())),
            ("/usr".into(), Found::Directory("/srv/root/usr".into())),
            ("/var".into(), Found::Link("/elsewhere".into())),
        ]),
        ..request(&["sh"])
    };
    golden("rootfs", &other, false);
}

/// A saved bundle is run by runtimes that look layers up by their whole path.
#[test]
fn layers_of_a_saved_bundle_have_whole_paths() {
    let saved = Request {
        overlays: vec![Overlay {
            lower: bind("/opt", "/opt", false),
            upper: None,
        }],
        place: Some(PathBuf::from("/saved")),
        ..request(&["sh"])
    };
    let made = build(&saved, false).unwrap();
    let mounts = made.spec.mounts().as_ref().unwrap();
    let overlay = mounts
        .iter()
        .find(|one| one.typ().as_deref() == Some("overlay"))
        .unwrap();
    let options = overlay.options().as_ref().unwrap();
    let lower = "lowerdir=/saved/rootfs/.overlay/0/lower";
    assert!(options.iter().any(|option| option == lower), "{options:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let with = |destination: &str| Request {
        binds: vec![bind("/srv/data", destination, false)],
        ..request(&["id"])
    };
    for (destination, words) in [
        ("/", "the root itself cannot be replaced"),
        ("/proc", "/proc is the sandbox's own"),
        ("/proc/self", "/proc is the sandbox's own"),
        ("/dev/shm/x", "/dev is the sandbox's own"),
        ("/sys", "/sys is the sandbox's own"),
        ("/.overlay/0", "/.overlay is the sandbox's own"),
        ("data", "begins with / and has no .."),
        ("/a/../proc", "begins with / and has no .."),
        ("/bin/x", "/bin is a link inside"),
        ("/var/tmp/x", "/var/tmp is a link inside"),
    ] {
        let refused = build(&with(destination), false).unwrap_err();
        assert!(refused.contains(words), "{destination}: {refused}");
    }
    let deep = "/d".repeat(65);
    assert!(
        build(&with(&deep), false)
            .unwrap_err()
            .contains("directories deep")
    );
    let twice = Request {
        tmpfs: vec![Tmpfs {
            destination: "/data".into(),
            size: None,
        }],
        ..with("/data")
    };
    assert!(
        build(&twice, false)
            .unwrap_err()
            .contains("/data is given twice")
    );
    for hostname in ["", "a b", "a/b", &"x".repeat(65)] {
        let named = Request {
            hostname: Some(hostname.into()),
            ..request(&["id"])
        };
        assert!(build(&named, false).is_err(), "{hostname:?}");
    }
    let relative = Request {
        directory: Some("x".into()),
        ..request(&["id"])
    };
    assert!(build(&relative, false).is_err());
    let large = Request {
        user: Some((65_536, None)),
        ..request(&["id"])
    };
    assert!(build(&large, true).is_err());
    assert!(build(&large, false).is_ok());
}

/// Root of the machine is in no sandbox, whoever asks.
#[test]
fn host_root_is_never_mapped() {
    for user in [None, Some((0, None)), Some((1000, Some(0)))] {
        let asked = Request {
            user,
            ..request(&["id"])
        };
        for root in [true, false] {
            let made = build(&asked, root).unwrap();
            let linux = made.spec.linux().as_ref().unwrap();
            let lists = [linux.uid_mappings(), linux.gid_mappings()];
            for mapping in lists.into_iter().flatten().flatten() {
                assert_ne!(mapping.host_id(), 0);
            }
        }
    }
}

/// A name from /etc/passwd is written into the sandbox's own.
#[test]
fn a_strange_name_is_not_taken_over() {
    for name in ["a:0", "a\nroot", "../x", "", "root", "nobody"] {
        let strange = Userland {
            user_name: Some(name.into()),
            ..userland()
        };
        let made = sandbox::build(&request(&["id"]), &strange, &facts(false)).unwrap();
        let passwd = made
            .skeleton
            .entries()
            .find(|(path, _)| *path == Path::new("etc/passwd"));
        let Some((_, Entry::File(text))) = passwd else {
            panic!("no passwd");
        };
        assert!(
            text.starts_with("sandbox:x:1000:100::/home/sandbox:/bin/sh\n"),
            "{text}"
        );
    }
}
