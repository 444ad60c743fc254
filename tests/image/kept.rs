//! The cache: shared, locked, private, and never half of anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use capsid::image::{Cache, Limits};
use nix::fcntl::{Flock, FlockArg};

use crate::archive::Archive;
use crate::store::{Store, names};

fn layer(text: &str) -> Archive {
    let mut layer = Archive::new();
    layer.file("a", text).directory("d");
    layer
}

#[test]
fn a_tree_is_made_once_and_shared_by_images_with_the_same_layers() {
    let store = Store::new();
    let manifest = store.plain(&[&layer("1")]);
    let first = store.open(&manifest).unwrap();
    fs::write(first.rootfs.join("mark"), "").unwrap();
    // The layers are not read again; the documents are.
    let blob = capsid::image::Digest::of(&layer("1").end());
    fs::remove_file(store.blob_path(&blob)).unwrap();
    let second = store.open(&manifest).unwrap();
    assert_eq!(first, second);
    assert!(second.rootfs.join("mark").exists());
    let other = store.open(&store.plain(&[&layer("2")])).unwrap();
    assert_ne!(other.rootfs, first.rootfs);
    assert_eq!(store.trees().len(), 2);
}

#[test]
fn what_was_interrupted_does_not_count_and_is_removed() {
    let store = Store::new();
    let images = store.path("cache/capsid/images");
    let good = store.open(&store.plain(&[&layer("1")])).unwrap();
    let key = names(&images).remove(0);
    // Killed while it unpacked this one, and another one.
    fs::rename(images.join(&key), images.join(format!("{key}.new"))).unwrap();
    fs::write(good.rootfs.parent().unwrap().join("left"), "").unwrap_err();
    for name in [
        "1-other.new/rootfs/d/e/f",
        "1-other.new/7/8",
        "1-other.new/2/x",
    ] {
        fs::create_dir_all(images.join(name)).unwrap();
    }
    fs::write(images.join("1-other.new/rootfs/d/3"), "").unwrap();
    let again = store.open(&store.plain(&[&layer("1")])).unwrap();
    assert_eq!(again.rootfs, good.rootfs);
    assert_eq!(fs::read_to_string(again.rootfs.join("a")).unwrap(), "1");
    assert_eq!(names(&images), [key]);
}

#[test]
fn what_another_process_unpacks_is_left_alone_and_waited_for() {
    let store = Store::new();
    let images = store.path("cache/capsid/images");
    let good = store.open(&store.plain(&[&layer("1")])).unwrap();
    let key = names(&images).remove(0);
    let new = images.join(format!("{key}.new"));
    fs::rename(images.join(&key), &new).unwrap();
    let held = fs::File::open(&new).unwrap();
    let held = Flock::lock(held, FlockArg::LockExclusive).unwrap();
    let path = store.path("cache");
    let manifest = store.plain(&[&layer("1")]);
    store.index(&[&manifest]);
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        #[allow(clippy::disallowed_methods, reason = "a test has threads")]
        let waiting = scope.spawn(|| {
            let layout = store.path("layout");
            let reference = format!("{}@{digest}", layout.display());
            let reference = capsid::image::Reference::parse(&reference).unwrap();
            let cache = Cache::open(&path).unwrap();
            capsid::image::open(&reference, &cache, Limits::default(), &mut |_, _| {
                panic!("it was unpacked a second time");
            })
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiting.is_finished());
        fs::write(new.join("rootfs/mark"), "").unwrap();
        fs::rename(&new, images.join(&key)).unwrap();
        drop(held);
        let image = waiting.join().unwrap().unwrap();
        assert_eq!(image.rootfs, good.rootfs);
        assert!(image.rootfs.join("mark").exists());
    });
}

#[test]
fn a_cache_that_others_could_change_is_refused() {
    let store = Store::new();
    let base = store.path("cache");
    let open = || {
        Cache::open(&base)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    open().unwrap();
    let images = base.join("capsid/images");
    assert_eq!(
        fs::metadata(&images).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    fs::set_permissions(&images, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(open().unwrap_err().contains("chmod go="));
    fs::remove_dir(&images).unwrap();
    let elsewhere = store.path("canary");
    symlink(&elsewhere, &images).unwrap();
    assert!(open().unwrap_err().contains("not a directory"));
    fs::remove_file(&images).unwrap();
    fs::create_dir(base.join("other")).unwrap();
    symlink("../other", &images).unwrap();
    assert!(open().unwrap_err().contains("not a directory"));
    fs::remove_file(&images).unwrap();
    if nix::unistd::geteuid().is_root() {
        let uid = Some(nix::unistd::Uid::from_raw(4711));
        nix::unistd::chown(&base, uid, None).unwrap();
        assert!(open().unwrap_err().contains("belongs to user 4711"));
    }
}

#[test]
fn what_is_missing_above_the_cache_is_made_for_the_caller_only() {
    let store = Store::new();
    let base = store.path("cache/a/b");
    Cache::open(&base).unwrap();
    for directory in ["cache/a", "cache/a/b", "cache/a/b/capsid"] {
        let mode = fs::metadata(store.path(directory))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700, "{directory}");
    }
}

#[test]
fn the_base_is_an_absolute_path() {
    let base = |cache: &'static str, home: &'static str| {
        let variable = move |name: &str| match name {
            "XDG_CACHE_HOME" => Some(cache.into()),
            "HOME" => Some(home.into()),
            _ => None,
        };
        Cache::base(variable).ok()
    };
    assert_eq!(base("/c", "/h"), Some(PathBuf::from("/c")));
    assert_eq!(base("relative", "/h"), Some(PathBuf::from("/h/.cache")));
    assert_eq!(base("", ""), None);
}
