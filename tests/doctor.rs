//! `capsid doctor` from outside: the real binary, as root and as an ordinary
//! user, in mount namespaces where pieces of the machine are hidden.
//!
//! Without root, only what an ordinary user can see is tested.

#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot do without must be there"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// An ordinary user without subordinate ids on every machine.
const NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// A directory of one test with a copy of the binary that everybody may run.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("capsid-doctor-{test}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_capsid"), dir.join("capsid")).unwrap();
        Self(dir)
    }

    /// Runs a shell script in a mount namespace of its own; `$D` is this
    /// directory and `$N` what goes before a command of an ordinary user.
    fn shell(&self, script: &str) -> Report {
        Report::of(&mut self.command(script))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", script]);
        command.env("D", &self.0).env("N", NOBODY);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What doctor said as JSON, and its exit code.
struct Report {
    json: Value,
    code: i32,
}

impl Report {
    fn of(command: &mut Command) -> Self {
        command.env_remove("XDG_RUNTIME_DIR").env_remove("USER");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let json = serde_json::from_slice(&output.stdout);
        let report = Self {
            json: json.unwrap_or_else(|error| panic!("{error}: {said}")),
            code: output.status.code().unwrap(),
        };
        assert_eq!(said, "", "{}", report.json);
        report.is_consistent();
        report
    }

    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.findings().iter().find(|one| one["name"] == name)
    }

    /// Checks the status of a finding, and that what it says has all these words.
    fn says(&self, name: &str, status: &str, words: &[&str]) {
        let finding = self.find(name);
        let finding = finding.unwrap_or_else(|| panic!("no {name}: {}", self.json));
        assert_eq!(finding["status"], status, "{finding}");
        for word in words {
            assert!(finding.to_string().contains(word), "no {word:?}: {finding}");
        }
    }

    /// What holds for every report, whatever the machine.
    fn is_consistent(&self) {
        let mut missing = false;
        for finding in self.findings() {
            let status = finding["status"].as_str().unwrap();
            assert!(["ok", "degraded", "missing"].contains(&status), "{finding}");
            missing |= status == "missing";
            for field in ["group", "name", "found", "means"] {
                assert_ne!(finding[field].as_str().unwrap(), "", "{field}: {finding}");
            }
            // Whoever is told of a fault is told what to do about it, and nobody else.
            assert_eq!(finding["repair"].is_null(), status == "ok", "{finding}");
        }
        assert_eq!(self.json["ready"], !missing, "{}", self.json);
        assert_eq!(self.code, i32::from(missing), "{}", self.json);
        let mut names: Vec<_> = self.findings().iter().map(|f| f["name"].as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a thing is said twice: {names:?}");
    }
}

/// Whether this is root, who can hide things; says so otherwise.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped, for the tests do not run as root");
    }
    root
}

#[test]
fn people_and_programs_are_told_the_same() {
    let bin = env!("CARGO_BIN_EXE_capsid");
    let report = Report::of(Command::new(bin).args(["doctor", "--json"]));
    let mut text = Command::new(bin);
    text.arg("doctor")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("USER");
    let output = text.output().unwrap();
    assert_eq!(output.status.code(), Some(report.code));
    let text = String::from_utf8(output.stdout).unwrap();
    for finding in report.findings() {
        let part = |field: &str| finding[field].as_str().unwrap_or_default();
        let line = format!(
            "{:<9} {}: {}\n",
            part("status"),
            part("name"),
            part("found")
        );
        assert!(text.contains(&line), "no {line:?} in {text}");
        assert!(text.contains(part("repair")), "{finding}: {text}");
    }
    for name in [
        "version",
        "openat2",
        "mode",
        "state directory",
        "self-protection",
        "policy",
    ] {
        assert!(report.find(name).is_some(), "{name}: {text}");
    }
    assert_eq!(
        text.lines().last().unwrap().contains("will work"),
        report.code == 0
    );
}

/// Everything that a careless probe would leave: cgroups, mounts, directories.
fn traces() -> String {
    let script = "cat /proc/self/mountinfo; \
                  find /sys/fs/cgroup -type d 2>/dev/null | sort; \
                  ls -d /tmp/capsid-65534 /run/capsid /run/user/65534 2>/dev/null; \
                  cut -f 1,2,4 /proc/cgroups";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nothing_is_left_behind() {
    if !is_root("nothing_is_left_behind") {
        return;
    }
    let place = Place::new("traces");
    let state = place.0.join("state");
    let before = traces();
    place.shell("exec $D/capsid doctor --json");
    place.shell("exec $N $D/capsid doctor --json");
    let report = place.shell("exec $D/capsid --root $D/state/deep doctor --json");
    report.says("state directory", "ok", &["state/deep"]);
    assert!(!state.exists());
    // Other tests make cgroups beside: only doctor's own names would be new here.
    let new: Vec<String> = traces()
        .lines()
        .filter(|line| !before.contains(*line))
        .filter(|line| {
            line.ends_with("/ID") || line.contains("65534") || line.contains("capsid-doctor")
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(new, Vec::<String>::new());
}

#[test]
fn missing_ids_leave_containers_with_one_user() {
    if !is_root("missing_ids_leave_containers_with_one_user") {
        return;
    }
    let place = Place::new("ids");
    let none = place.shell("for f in subuid subgid; do mount --bind /dev/null /etc/$f; done; exec $N $D/capsid doctor --json");
    none.says(
        "subordinate ids",
        "degraded",
        &["/etc/subuid", "usermod --add-subuids"],
    );
    let root = place.shell("exec $D/capsid doctor --json");
    root.says("mapping", "ok", &["root"]);
    assert!(root.find("subordinate ids").is_none());
}

/// Gives the ordinary user ranges.
const RANGES: &str = "echo 65534:100000:65536 >$D/ranges; chmod 644 $D/ranges; \
                      for f in subuid subgid; do mount --bind $D/ranges /etc/$f; done; ";

#[test]
fn programs_without_their_rights_are_found() {
    if !is_root("programs_without_their_rights_are_found")
        || !PathBuf::from("/usr/bin/newuidmap").exists()
    {
        return;
    }
    let place = Place::new("programs");
    let name = "newuidmap and newgidmap";
    let run = |hide: &str, run: &str| {
        place.shell(&format!("{RANGES}{hide}exec {run} $D/capsid doctor --json"))
    };
    let whole = run("", NOBODY);
    whole.says("subordinate ids", "ok", &["users 65536 from 100000"]);
    whole.says(name, "ok", &["/usr/bin/newuidmap"]);
    let plain = "cp /usr/bin/newgidmap $D/plain; chmod 755 $D/plain; mount --bind $D/plain /usr/bin/newgidmap; ";
    run(plain, NOBODY).says(
        name,
        "missing",
        &["/usr/bin/newgidmap is neither", "chmod 4755"],
    );
    let nosuid = "mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin; ";
    run(nosuid, NOBODY).says(name, "missing", &["nosuid", "remount"]);
    let powerless = format!("{NOBODY} --no-new-privs");
    run("", &powerless).says(name, "missing", &["no_new_privs"]);
}

#[test]
fn every_kind_of_cgroup_machine_is_told_apart() {
    if !is_root("every_kind_of_cgroup_machine_is_told_apart") {
        return;
    }
    let place = Place::new("cgroups");
    let gone = "umount -R -l /sys/fs/cgroup; ";
    let none = place.shell(&format!("{gone}exec $D/capsid doctor --json"));
    none.says(
        "mode",
        "missing",
        &["no cgroup file system", "mount -t cgroup2"],
    );
    none.says("place", "missing", &["no cgroup2 file system is mounted"]);
    assert_eq!(none.code, 1);
    let v2 = place.shell(&format!(
        "{gone}mount -t cgroup2 none /sys/fs/cgroup; exec $D/capsid doctor --json"
    ));
    v2.says("mode", "ok", &["cgroup v2"]);
    v2.says("place", "ok", &["/sys/fs/cgroup"]);
    for controller in ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"] {
        assert!(v2.find(controller).is_some(), "{controller}");
    }
    let user = place.shell(&format!(
        "{gone}mount -t cgroup2 none /sys/fs/cgroup; exec $N $D/capsid doctor --json"
    ));
    user.says(
        "place",
        "missing",
        &[
            "no write access to /sys/fs/cgroup",
            "EACCES",
            "Delegate=yes",
        ],
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.contains(" - cgroup ") && mounts.contains("/sys/fs/cgroup/unified ") {
        let hybrid = place.shell("exec $D/capsid doctor --json");
        hybrid.says("mode", "degraded", &["hybrid", "unified_cgroup_hierarchy"]);
        let v1 = place.shell("umount -l /sys/fs/cgroup/unified; exec $D/capsid doctor --json");
        v1.says("mode", "missing", &["v1 only"]);
    }
}

#[test]
fn a_controller_is_as_the_kernel_lists_it() {
    if !is_root("a_controller_is_as_the_kernel_lists_it") {
        return;
    }
    let place = Place::new("controllers");
    let mount = "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; ";
    let list = "cat /sys/fs/cgroup/cgroup.controllers >$D/list; ";
    let report = place.shell(&format!("{mount}{list}exec $D/capsid doctor --json"));
    let list = fs::read_to_string(place.0.join("list")).unwrap();
    for controller in ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"] {
        match (
            list.split_whitespace().any(|word| word == controller),
            controller,
        ) {
            (true, _) => report.says(controller, "ok", &[]),
            (false, "cpu" | "memory" | "pids") => {
                report.says(controller, "missing", &["cgroup_no_v1="])
            }
            (false, _) => report.says(controller, "degraded", &["cgroup_no_v1="]),
        }
    }
}

#[test]
fn hidden_parts_of_proc_and_sys_are_no_crash() {
    if !is_root("hidden_parts_of_proc_and_sys_are_no_crash") {
        return;
    }
    let place = Place::new("hidden");
    let sysctl = "mount -t tmpfs none /proc/sys; ";
    let root = place.shell(&format!("{sysctl}exec $D/capsid doctor --json"));
    root.says("version", "degraded", &["procfs does not show it"]);
    root.says("user", "ok", &["the sysctls are hidden"]);
    // In a new user namespace a procfs would show what is covered here.
    let user = place.shell(&format!("{sysctl}exec $N $D/capsid doctor --json"));
    user.says(
        "procfs",
        "missing",
        &["EPERM", "where the one outside is masked"],
    );
    let no_sys = place.shell("umount -R -l /sys; exec $D/capsid doctor --json");
    no_sys.says("modules", "degraded", &["/sys/kernel/security/lsm"]);
    no_sys.says("mode", "missing", &["no cgroup file system"]);
    for caller in ["", "$N "] {
        let no_proc = place.shell(&format!(
            "umount -R -l /proc; exec {caller}$D/capsid doctor --json"
        ));
        no_proc.says("version", "degraded", &["procfs"]);
        no_proc.says("place", "missing", &["/proc/self/cgroup"]);
        no_proc.says("self-protection", "missing", &["/proc"]);
    }
}

#[test]
fn forbidden_user_namespaces_are_named_with_their_sysctl() {
    if !is_root("forbidden_user_namespaces_are_named_with_their_sysctl") {
        return;
    }
    let place = Place::new("userns");
    // The sysctl is one of the user namespace that it is written in.
    let script = "exec unshare --user --map-root-user sh -ec \
                  'echo 0 >/proc/sys/user/max_user_namespaces; exec $D/capsid doctor --json'";
    let report = place.shell(script);
    report.says(
        "user",
        "degraded",
        &[
            "user.max_user_namespaces is 0",
            "sysctl user.max_user_namespaces=",
        ],
    );
    assert_eq!(report.json["in_user_namespace"], true);
    let powerless = "exec setpriv --bounding-set -all --inh-caps -all --ambient-caps -all $D/capsid doctor --json";
    let report = place.shell(powerless);
    report.says(
        "mount and pid",
        "missing",
        &["clone3", "EPERM", "CAP_SYS_ADMIN"],
    );
}

#[test]
fn a_state_directory_that_cannot_be_used_is_missing() {
    if !is_root("a_state_directory_that_cannot_be_used_is_missing") {
        return;
    }
    let place = Place::new("state");
    let own = place.shell(
        "mount -t tmpfs -o mode=755 none /run; cp $D/capsid /run/copy; \
         mount -t tmpfs -o mode=755 none /tmp; exec $N /run/copy doctor --json",
    );
    own.says("state directory", "missing", &["XDG_RUNTIME_DIR", "--root"]);
}

/// The example's bundle with a limit of processes and a script, below `$D`.
fn bundle(place: &Place, script: &str) {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello");
    let copy = Command::new("cp")
        .args(["-a", example])
        .arg(place.0.join("bundle"))
        .status();
    assert!(copy.unwrap().success());
    let file = place.0.join("bundle/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["args"] = serde_json::json!(["/bin/sh", "-c", script]);
    config["linux"]["resources"] =
        serde_json::json!({"pids": {"limit": 7}, "cpu": {"shares": 512}});
    fs::write(&file, config.to_string()).unwrap();
}

fn output(place: &Place, script: &str) -> (i32, String, String) {
    let output = place.command(script).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn best_effort_says_what_is_lost_and_still_stops_a_fork_bomb() {
    if !is_root("best_effort_says_what_is_lost_and_still_stops_a_fork_bomb") {
        return;
    }
    let place = Place::new("best-effort");
    // Each line is one more process; the shell ends at the first that cannot be.
    bundle(
        &place,
        "i=0; while [ $i -lt 30 ]; do sleep 20 & i=$((i+1)); echo $i; done",
    );
    fs::create_dir(place.0.join("state")).unwrap();
    fs::set_permissions(place.0.join("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let gone = "umount -R -l /sys/fs/cgroup; ";
    let capsid = "exec $N $D/capsid --root $D/state";
    let (code, _, refused) = output(
        &place,
        &format!("{gone}{capsid} run --bundle $D/bundle box"),
    );
    assert_eq!(code, 1);
    assert!(
        refused.contains("no cgroup2 file system is mounted"),
        "{refused}"
    );
    let explain = format!("{gone}{capsid} --cgroups=best-effort explain $D/bundle");
    let (code, plan, said) = output(&place, &explain);
    assert_eq!(code, 0, "{said}");
    for line in [
        "cgroup: no cgroup of its own: no cgroup2 file system is mounted\n",
        "warning: not in force: pids.max 7, cpu.weight ",
        "warning: in place of pids.max 7: RLIMIT_NPROC 7",
        "set RLIMIT_NPROC to 7:7\n",
    ] {
        assert!(plan.contains(line), "no {line:?} in {plan}");
    }
    let run = format!("{gone}{capsid} --cgroups=best-effort run --bundle $D/bundle box");
    let (code, counted, said) = output(&place, &run);
    // The shell is one of the seven.
    assert_eq!(counted.lines().last(), Some("6"), "{counted}{said}");
    assert_ne!(code, 0);
    assert!(said.contains("fork"), "{said}");
    fs::remove_dir(place.0.join("state")).unwrap();
}
