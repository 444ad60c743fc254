use std::os::unix::fs::PermissionsExt;

use super::*;

/// A root in a directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("capsid-state-{}-{name}", std::process::id()));
        Self(path)
    }

    fn root(&self) -> Root {
        Root::open_or_create(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn record(id: &str) -> Record {
    serde_json::from_value(serde_json::json!({
        "format": FORMAT, "oci_version": "1.3.0", "id": id, "bundle": "/b", "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00.000000001Z", "owner": 0, "pid": 1, "start_time": 2,
        "cgroup": null, "namespaces": 0, "private_pid": true,
        "filter": { "profile": "none", "floor": false },
        "hardening": { "level": "baseline" }, "outcomes": [],
        "late_steps": { "first": 1, "of": 1, "steps": [], "program": "" },
    }))
    .unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn only_names_that_runc_accepts() {
    for id in ["a", "A_b+c.d-e", "...", "-x", ".hidden", &"x".repeat(255)] {
        assert!(check_id(id).is_ok(), "{id}");
    }
    for id in [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a b",
        "ä",
        "a\n",
        "a\0",
        &"x".repeat(256),
    ] {
        assert!(
            matches!(check_id(id), Err(Error::Life(Life::InvalidId))),
            "{id:?}"
        );
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let scratch = Scratch::new("modes");
    let root = scratch.root();
    assert_eq!(mode(&scratch.0), 0o700);
    // The umask belongs to the whole process, so other tests may see this one for a moment.
    let old = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let slot = root.reserve("a");
    let saved = slot
        .as_ref()
        .map(|slot| slot.container().save(&record("a")));
    nix::sys::stat::umask(old);
    saved.unwrap().unwrap();
    assert_eq!(mode(&scratch.0.join("a")), 0o711);
    assert_eq!(mode(&scratch.0.join("a/state.json")), 0o600);
}

#[test]
fn an_existing_container_is_left_alone() {
    let scratch = Scratch::new("exists");
    let root = scratch.root();
    let slot = root.reserve("a").unwrap();
    slot.container().save(&record("a")).unwrap();
    drop(slot.keep());
    assert!(matches!(root.reserve("a"), Err(Error::Life(Life::Exists))));
    assert_eq!(
        root.find("a").unwrap().load().unwrap().created,
        record("a").created
    );
}

#[test]
fn a_slot_that_is_not_kept_disappears() {
    let scratch = Scratch::new("slot");
    let root = scratch.root();
    let slot = root.reserve("a").unwrap();
    slot.container().save(&record("a")).unwrap();
    std::fs::create_dir(scratch.0.join("a/notify")).unwrap();
    std::fs::write(scratch.0.join("a/notify/notify.sock"), "").unwrap();
    assert!(slot.container().is_locked());
    drop(slot);
    assert!(matches!(
        root.find("a"),
        Err(Error::Life(Life::DoesNotExist))
    ));
    assert!(scratch.0.exists());
}

#[test]
fn removal_does_not_follow_links() {
    let scratch = Scratch::new("links");
    let root = scratch.root();
    let outside = scratch.0.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "").unwrap();
    let slot = root.reserve("a").unwrap();
    std::os::unix::fs::symlink(&outside, scratch.0.join("a/link")).unwrap();
    drop(slot);
    assert!(outside.join("precious").exists());
    assert!(!scratch.0.join("a").exists());
    std::os::unix::fs::symlink(&outside, scratch.0.join("b")).unwrap();
    assert!(matches!(
        root.find("b"),
        Err(Error::Life(Life::DoesNotExist))
    ));
}

#[test]
fn bad_records_name_the_way_out() {
    let scratch = Scratch::new("bad");
    let root = scratch.root();
    let slot = root.reserve("a").unwrap();
    let container = slot.container();
    assert!(matches!(
        container.load(),
        Err(Error::Life(Life::DoesNotExist))
    ));
    let whole = serde_json::to_string(&record("a")).unwrap();
    let other_format = whole.replace(&format!("\"format\":{FORMAT}"), "\"format\":7");
    let cases = [
        ("", "damaged"),
        (&whole[..whole.len() / 2], "damaged"),
        ("{}", "not a record"),
        (&other_format, "format 7"),
        ("{\"format\": 9}", "format 9"),
        (
            &whole.replace("\"id\":\"a\"", "\"id\":\"b\""),
            "another container",
        ),
    ];
    for (content, expected) in cases {
        std::fs::write(scratch.0.join("a/state.json"), content).unwrap();
        let text = container.load().unwrap_err().to_string();
        assert!(text.contains(expected), "{content}: {text}");
        assert!(text.contains("a/state.json"), "{text}");
        assert!(text.contains("capsid delete --force a"), "{text}");
    }
}

#[test]
fn the_lock_excludes_and_ends() {
    let scratch = Scratch::new("lock");
    let root = scratch.root();
    let held = root.reserve("a").unwrap().keep().unwrap();
    let container = root.find("a").unwrap();
    assert!(container.is_locked());
    let text = container
        .lock(Duration::from_millis(5))
        .unwrap_err()
        .to_string();
    assert!(text.contains("another capsid process"), "{text}");
    drop(held);
    let _lock = container.lock(Duration::ZERO).unwrap();
    assert!(root.find("a").unwrap().is_locked());
}

#[test]
fn a_lock_on_a_deleted_container_is_refused() {
    let scratch = Scratch::new("deleted");
    let root = scratch.root();
    drop(root.reserve("a").unwrap().keep());
    let stale = root.find("a").unwrap();
    root.find("a").unwrap().remove().unwrap();
    drop(root.reserve("a").unwrap().keep());
    assert!(matches!(
        stale.try_lock(),
        Err(Error::Life(Life::DoesNotExist))
    ));
    assert!(root.find("a").unwrap().try_lock().unwrap().is_some());
}

#[test]
fn the_list_has_directories_only() {
    let scratch = Scratch::new("list");
    let root = scratch.root();
    drop(root.reserve("b").unwrap().keep());
    drop(root.reserve("a").unwrap().keep());
    std::fs::write(scratch.0.join("file"), "").unwrap();
    std::fs::create_dir(scratch.0.join("not an id")).unwrap();
    assert_eq!(root.list().unwrap(), ["a", "b"]);
    assert!(
        Root::open_if_any(&scratch.0.join("none"))
            .unwrap()
            .is_none()
    );
}
