//! A user namespace for containers of root whose root file system is an overlay, as
//! engines make them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::needs::busybox;
use crate::roles::Test;
use crate::runtime::{Call, Output};

cases! {
    ROOT [RealRoot]: layers_that_are_only_read, programs_of_the_layers, reasons_for_none;
    ROOT [RealRoot, Busybox]: layers_that_are_written, layers_in_memory, the_engine_sees_it,
        a_killed_creation_gives_the_mount_back, options_are_the_same, a_late_refusal_is_undone,
        a_record_that_cannot_be_used,
        reasons_for_none_all_the_same;
}

/// A mount of the engine's: gone when the test is.
struct Mounted(PathBuf);

impl Mounted {
    #[track_caller]
    fn new(test: &Test, options: &str, point: &Path) -> Self {
        Self::by(
            test,
            "mount -t overlay -o \"$1\" overlay \"$2\"",
            options,
            point,
        )
    }

    #[track_caller]
    fn by(test: &Test, script: &str, options: &str, point: &Path) -> Self {
        let point_text = point.to_string_lossy();
        let words = ["/bin/sh", "-ec", script, "sh", options, &*point_text];
        test.command(&words).ok();
        Self(point.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let point = self.0.as_os_str();
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(point)
            .status();
    }
}

/// The bundle's files become a layer; its root file system an empty directory.
fn layers(bundle: &Bundle<'_>) -> (PathBuf, PathBuf) {
    let layer = |name: &str| bundle.dir.join(name);
    fs::rename(bundle.rootfs(), layer("base")).unwrap_or_else(|error| panic!("{error}"));
    for name in ["rootfs", "patch"] {
        bundle.test.make_dir(&layer(name));
    }
    (layer("base"), layer("patch"))
}

/// Everything of the container goes, and the engine's mount stays.
#[track_caller]
fn end(bundle: &Bundle<'_>) {
    bundle.on(&["delete", "--force"]).ok();
    assert!(!test_state(bundle).exists(), "its state directory");
}

fn test_state(bundle: &Bundle<'_>) -> PathBuf {
    bundle.test.state_root().join(&bundle.id)
}

fn read_only<'t>(bundle: &Bundle<'t>, patch: &Path, base: &Path) -> Mounted {
    let options = format!("nodev,lowerdir={}:{}", patch.display(), base.display());
    Mounted::new(bundle.test, &options, &bundle.rootfs())
}

fn own(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap_or_else(|error| panic!("{error}"));
}

fn mode(path: &Path, mode: u32) {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a process is in a user namespace of the kind.
fn is_given(pid: i64) -> bool {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default();
    map.split_whitespace().next_back() == Some("65536")
}

/// Whether the kernel is at least this one.
fn since(version: [u32; 2]) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let release: [u32; 2] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    release >= version
}

/// A kernel from 6.15 on takes the layers as descriptors; to others they have the
/// names that capsid gives them.
#[track_caller]
fn has_layers(test: &Test, options: &str) {
    let named = test.lacking.get().is_some() || !since([6, 15]);
    assert_eq!(options.contains("lowerdir=0"), named, "{options}");
}

/// What `explain` says of the rule.
#[track_caller]
fn explained(bundle: &Bundle<'_>) -> String {
    bundle.save();
    let dir = bundle.dir.to_string_lossy().into_owned();
    let text = bundle.test.capsid(&["explain", &dir]).ok();
    let line = text
        .lines()
        .find(|line| line.trim().starts_with("userns: "));
    line.unwrap_or_else(|| panic!("no userns in {text}"))
        .to_owned()
}

pub(crate) fn layers_that_are_only_read(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    bundle.file("etc/gone", "x");
    bundle.file("etc/below", "of the base");
    let (base, patch) = layers(&bundle);
    test.make_dir(&patch.join("etc"));
    let theirs = patch.join("etc/theirs");
    test.make_file(&theirs, "x");
    own(&theirs, 1000, 1001);
    let closed = patch.join("etc/closed");
    test.make_file(&closed, "secret");
    mode(&closed, 0o600);
    let gone = patch.join("etc/gone").to_string_lossy().into_owned();
    test.command(&["mknod", &gone, "c", "0", "0"]).ok();
    let data = test.path("data");
    test.make_dir(&data);
    let _mounted = read_only(&bundle, &patch, &base);
    let bundle = bundle.mount(
        json!({ "destination": "/home", "type": "bind", "source": data,
        "options": ["rbind"] }),
    );
    let container = bundle.ready();
    assert!(is_given(container.pid()));
    let stat = |path: &str| {
        let found = container.exec(&[], &["stat", path]).success().json();
        (found["uid"].as_u64(), found["gid"].as_u64())
    };
    assert_eq!(stat("/etc/theirs"), (Some(1000), Some(1001)));
    assert_eq!(stat("/etc/closed"), (Some(0), Some(0)));
    assert_eq!(
        container.exec(&[], &["cat", "/etc/closed"]).text(),
        "secret"
    );
    assert_eq!(
        container.exec(&[], &["cat", "/etc/below"]).text(),
        "of the base"
    );
    let user = ["--user", "1000"];
    assert_eq!(
        container.exec(&user, &["try-open", "/etc/closed"]).text(),
        "EACCES"
    );
    assert_eq!(
        container.exec(&[], &["try-open", "/etc/gone"]).text(),
        "ENOENT"
    );
    container
        .exec(&[], &["write", "/home/made", "text"])
        .success();
    assert_eq!(
        fs::metadata(data.join("made"))
            .map(|found| found.uid())
            .ok(),
        Some(0)
    );
    let report = container.exec_report(&[]);
    assert_eq!(report.mount("/")["fstype"], "overlay");
    assert!(report.has_option("/", "nodev"), "{}", report.mount("/"));
    has_layers(test, &report.mount("/")["super"].to_string());
    end(&bundle);
}

pub(crate) fn programs_of_the_layers(test: &Test) {
    let bundle = Bundle::new(test)
        .edit(|config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["process"]["noNewPrivileges"] = json!(false);
        })
        .raw_args(&["/bin/setuid", "report"]);
    let (base, patch) = layers(&bundle);
    test.make_dir(&patch.join("bin"));
    let program = patch.join("bin/setuid");
    test.make_file(&program, fs::read(&test.machine.probe).unwrap_or_default());
    mode(&program, 0o4755);
    let _mounted = read_only(&bundle, &patch, &base);
    let report = bundle.run().success().json();
    assert_eq!(report["uids"], json!([1000, 0, 0, 0]));
    assert!(report["uid_map"].to_string().contains("65536"), "{report}");
}

pub(crate) fn reasons_for_none(test: &Test) {
    let case = |script: &str, bundle: Bundle<'_>, said: &str| {
        let (base, patch) = layers(&bundle);
        test.make_dir(&bundle.dir.join("upper"));
        test.make_dir(&bundle.dir.join("work"));
        let dir = bundle.dir.to_string_lossy().into_owned();
        let script = format!("cd \"$1\"\n{script}");
        let _mounted = Mounted::by(test, &script, &dir, &bundle.rootfs());
        drop((base, patch));
        let line = explained(&bundle);
        assert!(
            line.contains(said) && line.contains("podman --userns=auto"),
            "{said}: {line}"
        );
        // It runs, and as it did before.
        let container = bundle.create();
        assert!(!is_given(container.pid()), "{said}");
        end(&bundle);
    };
    let new = || Bundle::new(test).args(&["sleep"]);
    let over = "mount -t overlay overlay \"$2\" -o";
    let upper = format!("{over} lowerdir=$1/base,upperdir=$1/upper,workdir=$1/work");
    case(&upper, new(), "is an overlay that can be written");
    let relative = format!("{over} lowerdir=patch:base");
    case(
        &relative,
        new(),
        "mountinfo does not show where its layer \"patch\" is",
    );
    let below = format!("{over} lowerdir=$1/patch:$1/base\nmount -t tmpfs tmpfs \"$2/home\"");
    case(&below, new(), "is an overlay with a mount below it");
    let part = "mkdir whole patch/part; mv base/* patch/part/\n\
                mount -t overlay overlay whole -o lowerdir=$1/patch:$1/base\n\
                mount --bind whole/part \"$2\"; umount -l whole";
    case(
        part,
        new(),
        "is a directory of an overlay, and not all of it",
    );
    pinned(test);
}

/// What was measured is what must be run.
fn pinned(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    let (base, patch) = layers(&bundle);
    let _mounted = read_only(&bundle, &patch, &base);
    bundle.save();
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    let digest = test.capsid(&["digest", &rootfs]).ok();
    let report = bundle
        .run_call(&["--pin-rootfs", digest.trim()])
        .output()
        .success();
    assert!(!report.json()["uid_map"].to_string().contains("65536"));
}

/// What an engine has: a mount namespace, an overlay that it can write in it, and a
/// policy file that wants a user namespace for it.
pub(crate) struct Engine<'t> {
    bundle: Bundle<'t>,
    holder: std::process::Child,
    /// Where the layers are.
    place: PathBuf,
    /// What its commands run under.
    under: Vec<String>,
}

impl<'t> Engine<'t> {
    /// A script makes the layers at $place, and options come before those of theirs.
    #[track_caller]
    fn new(bundle: Bundle<'t>, script: &str, mount: &str) -> Self {
        let program = busybox().unwrap_or_else(|| panic!("no busybox"));
        bundle.program("bin/busybox", fs::read(program).unwrap_or_default());
        bundle.link("bin/sh", "busybox");
        let (test, dir) = (bundle.test, bundle.dir.to_string_lossy().into_owned());
        layers(&bundle);
        let etc = bundle.dir.join("etc");
        test.make_dir(&etc.join("capsid"));
        test.make_file(&etc.join("capsid/policy.json"), r#"{"userns": "overlay"}"#);
        let script = format!(
            "cd {dir}\nplace={dir}/place\nmkdir $place\n{script}\nmv base $place/\n\
             mkdir $place/upper $place/work\n\
             cp /etc/passwd /etc/group etc/\nmount --bind etc /etc\n{mount}\n\
             echo ready >{dir}/ready\nexec sleep 600"
        );
        let holder = std::process::Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-ec",
                &script,
            ])
            .spawn()
            .unwrap_or_else(|error| panic!("unshare: {error}"));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !bundle.dir.join("ready").exists() {
            assert!(std::time::Instant::now() < end, "no mounts by {script}");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let place = bundle.dir.join("place");
        Self {
            bundle,
            holder,
            place,
            under: Vec::new(),
        }
    }

    /// With words before each of its commands.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(crate) fn written(bundle: Bundle<'t>, script: &str) -> Self {
        Self::new(
            bundle,
            script,
            "mount -t overlay overlay rootfs -o \
             lowerdir=$place/base,upperdir=$place/upper,workdir=$place/work",
        )
    }

    /// The command where the engine is.
    fn has<'c>(&self, call: Call<'c>) -> Call<'c> {
        let pid = self.holder.id().to_string();
        let call = call.through(&["nsenter", "-t", &pid, "-m", "--"]);
        call.through(&self.under)
    }

    /// What the engine itself does, with its mount as $1 and its layers as $2.
    fn does(&self, script: &str) -> Output {
        let (rootfs, place) = (self.bundle.rootfs(), &self.place);
        let (rootfs, place) = (rootfs.to_string_lossy(), place.to_string_lossy());
        let words = ["/bin/sh", "-c", script, "sh", &*rootfs, &*place];
        self.has(self.bundle.test.command(&words)).output()
    }

    /// What is said of it.
    #[track_caller]
    fn explained(&self) -> String {
        self.bundle.save();
        let dir = self.bundle.dir.to_string_lossy().into_owned();
        self.has(self.bundle.test.capsid(&["explain", &dir])).ok()
    }

    #[track_caller]
    fn start(&self) {
        let mut creation = self.has(self.bundle.create_call(&[])).start();
        creation.finish_ok();
        self.has(self.bundle.on(&["start"])).ok();
    }

    fn exec(&self, flags: &[&str], script: &str) -> Output {
        let mut words = vec!["exec"];
        words.extend(flags);
        words.extend([&*self.bundle.id, "/bin/sh", "-c", script]);
        self.has(self.bundle.test.capsid(&words)).output()
    }

    #[track_caller]
    fn is_given(&self) -> bool {
        let state = self
            .has(self.bundle.on(&["state"]))
            .output()
            .success()
            .json();
        is_given(state["pid"].as_i64().unwrap_or(0))
    }

    /// Ends the container; then nothing of it is left that the engine could trip on.
    #[track_caller]
    fn delete(&self) {
        self.has(self.bundle.on(&["delete", "--force"])).ok();
        self.does("echo x >$1/home/later && rm $1/home/later")
            .success();
        let left = self.does("ls -A $2").success();
        assert_eq!(left.text(), "base\nupper\nwork");
        self.does(
            "umount $1 && mount -t overlay overlay $1 \
                   -o lowerdir=$2/base,upperdir=$2/upper,workdir=$2/work",
        )
        .success();
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // While its mount namespace is there: the bundle's own drop is not in it.
        let _ = self.has(self.bundle.on(&["delete", "--force"])).output();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub(crate) fn writing(test: &Test) -> Bundle<'_> {
    let bundle = Bundle::new(test)
        .writable()
        .args(&["sleep"])
        .edit(|config| {
            config["process"]["noNewPrivileges"] = json!(false);
            for set in ["bounding", "effective", "permitted"] {
                for name in [
                    "CAP_CHOWN",
                    "CAP_DAC_OVERRIDE",
                    "CAP_FOWNER",
                    "CAP_SETUID",
                    "CAP_SETGID",
                ] {
                    crate::container::push(
                        &mut config["process"]["capabilities"][set],
                        json!(name),
                    );
                }
            }
        });
    let theirs = bundle.file("etc/theirs", "of the base\n");
    own(&theirs, 1000, 1001);
    mode(&theirs, 0o600);
    bundle.file("etc/gone", "x");
    bundle
}

pub(crate) fn layers_that_are_written(test: &Test) {
    // As systemd leaves it: what is mounted in a copy of the namespace is here too.
    as_on_a_plain_directory(writing(test), "mount --make-rshared /");
}

pub(crate) fn layers_in_memory(test: &Test) {
    let script = "mount -t tmpfs tmpfs $place";
    if since([6, 3]) {
        return as_on_a_plain_directory(writing(test), script);
    }
    // The kernel cannot map the ids of a tmpfs.
    runs_without(&Engine::written(writing(test), script), "mount_setattr");
}

/// The container is created all the same, what is in the way is said, and nothing of
/// the engine's has changed.
#[track_caller]
pub(crate) fn runs_without(engine: &Engine<'_>, said: &str) {
    let text = engine.explained();
    let said = format!("is an overlay that cannot be made anew ({said}");
    assert!(text.contains(&said), "{said}: {text}");
    engine.start();
    assert!(!engine.is_given());
    engine.does("echo x >$1/home/made").success();
    let left = engine.does("ls -A $2; grep -c ' /proc ' /proc/mounts");
    assert_eq!(left.text(), "base\nupper\nwork\n1");
}

fn as_on_a_plain_directory(bundle: Bundle<'_>, script: &str) {
    let engine = Engine::written(bundle, script);
    engine.start();
    assert!(engine.is_given());
    let inside = "set -e\ncat=/bin/busybox\nbusybox id -u\n\
                  echo x >/etc/made\nbusybox mkdir /etc/dir\nbusybox chown 7:8 /etc/dir\n\
                  busybox su user -s /bin/sh -c 'echo more >>/etc/theirs'\n\
                  busybox rm /etc/gone\nbusybox cat /etc/theirs\n\
                  busybox cp /bin/probe /bin/setuid\nbusybox chmod 4755 /bin/setuid\n\
                  busybox stat -c '%u:%g %a' /etc/made /etc/dir /etc/theirs /bin/setuid";
    let seen = "0\nof the base\nmore\n0:0 644\n7:8 755\n1000:1001 600\n0:0 4755";
    assert_eq!(engine.exec(&[], inside).success().text(), seen);
    let mounted = engine.exec(&[], "busybox grep ' / overlay ' /proc/mounts");
    has_layers(engine.bundle.test, mounted.success().text());
    let on_disk = engine.does(
        "cd $2/upper && stat -c '%u:%g %a' etc/made etc/dir etc/theirs bin/setuid && \
         stat -c '%F %t:%T' etc/gone",
    );
    let owners = "0:0 644\n7:8 755\n1000:1001 600\n0:0 4755\ncharacter special file 0:0";
    assert_eq!(on_disk.success().text(), owners);
    let program = [
        "exec",
        "--user",
        "1000:1000",
        &engine.bundle.id,
        "/bin/setuid",
        "report",
    ];
    let report = engine.has(engine.bundle.test.capsid(&program)).output();
    assert_eq!(report.success().json()["uids"], json!([1000, 0, 0, 0]));
    engine
        .does("echo x >$1/etc/hosts")
        .failure()
        .says(&["Read-only"]);
    engine.delete();
    assert_eq!(engine.does("cat $1/etc/theirs").text(), "of the base\nmore");
    let left = engine.does("grep -c ' /proc ' /proc/mounts");
    assert_eq!(left.text(), "1", "where layers were attached");
}

/// Options of the engine's that say how its layers are to be read are the container's.
pub(crate) fn options_are_the_same(test: &Test) {
    let options = ["redirect_dir=on", "metacopy=on", "volatile"];
    let mount = format!(
        "mount -t overlay overlay rootfs -o {},\
         lowerdir=$place/base,upperdir=$place/upper,workdir=$place/work,noatime,nodev",
        options.join(",")
    );
    let engine = Engine::new(writing(test), ":", &mount);
    engine.start();
    assert!(engine.is_given(), "{}", engine.explained());
    let mounted = engine.exec(&[], "busybox grep ' / overlay ' /proc/mounts");
    let mounted = mounted.success();
    // Newer kernels call it so.
    let words = mounted.text().replace("fsync=volatile", "volatile");
    let words = words.replace(' ', ",");
    for word in options.iter().chain(&["rw", "noatime", "nodev"]) {
        assert!(words.split(',').any(|one| one == *word), "{word}: {words}");
    }
    engine.has(engine.bundle.on(&["delete", "--force"])).ok();
}

/// What the kernel refuses when the engine's mount is read-only already.
fn a_late_refusal_is_undone(test: &Test) {
    if !since([6, 15]) {
        // It is asked before anything is changed.
        return;
    }
    let engine = Engine::written(writing(test), ":");
    // FSCONFIG_CMD_CREATE: EINVAL
    test.lacking.get_or_init(|| ["fsconfig", "1", "6", "22"]);
    let creation = engine.has(engine.bundle.create_call(&[]));
    creation.output().failure().says(&[
        "map the ids (--relax userns leaves that out) of the overlay",
        "EINVAL",
    ]);
    engine.does("echo x >$1/home/made").success();
    assert_eq!(engine.does("ls -A $2").text(), "base\nupper\nwork");
    assert!(!test_state(&engine.bundle).exists(), "its state directory");
}

/// `commit`, `diff` and `cp` look through the engine's own mount, which has looked
/// before.
pub(crate) fn the_engine_sees_it(test: &Test) {
    let engine = Engine::written(writing(test), ":");
    engine.start();
    let look = |said: &str| assert_eq!(engine.does("ls $1/home").success().text(), said);
    look("");
    engine.exec(&[], "echo x >/home/one").success();
    look("one");
    let later = "busybox sleep 1; echo x >/home/two; busybox touch /tmp/done";
    engine.exec(&["--detach"], later).success();
    look("one");
    engine
        .does("until test -e $2/upper/tmp/done; do sleep 0.05; done")
        .success();
    engine.has(engine.bundle.on(&["pause"])).ok();
    look("one\ntwo");
    engine.has(engine.bundle.on(&["resume"])).ok();
    let later = "busybox sleep 1; busybox rm /home/one; busybox touch /tmp/again";
    engine.exec(&["--detach"], later).success();
    look("one\ntwo");
    engine
        .does("until test -e $2/upper/tmp/again; do sleep 0.05; done")
        .success();
    engine.has(engine.bundle.on(&["delete", "--force"])).ok();
    look("two");
}

pub(crate) fn a_killed_creation_gives_the_mount_back(test: &Test) {
    let file = test.path("hook");
    let script = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; exec sleep 30",
        file.display()
    );
    let bundle = writing(test).edit(|config| {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        config["hooks"] = json!({ "createRuntime": [hook] });
    });
    let mut engine = Engine::written(bundle, ":");
    let mut creation = engine.has(engine.bundle.create_call(&[])).start();
    let until = format!("until test -e {}; do sleep 0.01; done", file.display());
    engine.does(&until).success();
    engine.does("touch $1/x").failure().says(&["Read-only"]);
    creation.signal(nix::sys::signal::Signal::SIGKILL);
    creation.stop();
    // Nobody is left to end it.
    engine
        .does(&format!("kill $(cat {})", file.display()))
        .success();
    engine.delete();
    // The next one has it all again.
    engine.bundle.config["hooks"] = json!({});
    engine.start();
    assert!(engine.is_given());
    engine.delete();
}

/// What another version has made is undone as far as its record tells.
fn a_record_that_cannot_be_used(test: &Test) {
    let engine = Engine::written(writing(test), ":");
    engine.start();
    let file = test_state(&engine.bundle).join("state.json");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}"));
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    record["format"] = json!(9999);
    fs::write(&file, record.to_string()).unwrap_or_else(|error| panic!("{error}"));
    engine
        .has(engine.bundle.on(&["state"]))
        .output()
        .failure()
        .says(&["another version"]);
    let range = format!("/run/capsid-ids/{}", record["ids"]);
    assert!(Path::new(&range).exists(), "{range}");
    engine.delete();
    assert!(!Path::new(&range).exists(), "{range} was left behind");
}

pub(crate) fn reasons_for_none_all_the_same(test: &Test) {
    let over = "mount -t overlay overlay rootfs -o";
    let layers = "upperdir=$place/upper,workdir=$place/work";
    for (mount, said) in [
        (
            format!("cd $place; {over} lowerdir=base,{layers}").replace("rootfs", "../rootfs"),
            "mountinfo does not show where its layer \"base\" is",
        ),
        (
            format!("{over} lowerdir=$place/base,{layers},index=on"),
            "is an overlay with the option index",
        ),
        (
            format!("{over} lowerdir=$place/base,{layers}; mount -o remount,bind,ro rootfs"),
            "with an upper layer that is read-only already",
        ),
    ] {
        let engine = Engine::new(writing(test), ":", &mount);
        let text = engine.explained();
        assert!(text.contains(said), "{said}: {text}");
        let strict = engine
            .bundle
            .create_call(&[])
            .globally(&["--hardening", "strict"]);
        engine.has(strict).output().failure().says(&[said]);
        let left = engine.does("ls -A $2").success();
        assert_eq!(left.text(), "base\nupper\nwork");
    }
}
