//! What options show of the host's files, and what they refuse.

use std::fs;
use std::path::Path;

use crate::cases::cases;
use crate::roles::Test;
use crate::sandboxed::Sandbox;

cases! {
    ALL []: files_are_shown, the_current_directory, changes_are_thrown_away, changes_are_kept,
        another_root, a_saved_bundle, what_is_refused, what_is_dangerous_is_said,
        links_are_followed_once, a_profile_of_the_project;
    ALL [Runc]: a_saved_bundle_under_runc;
}

#[track_caller]
fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path, destination: &str) -> String {
    format!("{}:{destination}", path.display())
}

fn files_are_shown(test: &Test) {
    let sandbox = Sandbox::new(test);
    let data = sandbox.directory("data");
    let file = sandbox.file("data/file", "text");
    let out = sandbox.directory("out");
    let sandbox = sandbox.with(&["--ro", &shown(&data, "/data"), "--rw", &shown(&out, "/out")]);
    let sandbox = sandbox.with(&["--ro", "./data/file"]);
    let script = format!(
        "cat /data/file {}; echo x 2>/dev/null >>/data/file || echo not; \
         touch /data/new 2>/dev/null || echo nor; echo made >/out/file; mkdir /out/d; \
         chmod 700 /out/d; ln -s /etc/shadow /out/link",
        file.display()
    );
    let done = sandbox.sh(&script).success();
    assert_eq!(done.stdout, "texttextnot\nnor\n");
    assert_eq!(content(&out.join("file")), "made\n");
    let made = fs::metadata(out.join("d")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), test.who().uid);
    // Neither devices nor setuid programs by themselves.
    let options = sandbox
        .sh("grep -E ' /(out|data) ' /proc/self/mountinfo")
        .success();
    for line in options.stdout.lines() {
        assert!(line.contains("nosuid,nodev"), "{line}");
        assert_eq!(line.contains(" /data "), line.contains(" ro,"), "{line}");
    }
}

fn the_current_directory(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    sandbox.file("f", "here");
    let done = sandbox
        .sh("pwd; cat f; echo new >n; mkdir -p a/b; mv n a/b; ls ..")
        .success();
    let here = sandbox.dir.display();
    let name = sandbox
        .dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    assert_eq!(done.stdout, format!("{here}\nhere{name}\n"));
    assert_eq!(content(&sandbox.dir.join("a/b/n")), "new\n");
    let elsewhere = Sandbox::new(test).with(&["--cwd", "--chdir", "/usr"]);
    assert_eq!(elsewhere.sh("pwd").success().text(), "/usr");
    // A part of it may be shown read-only.
    let guarded = Sandbox::new(test);
    guarded.directory("keep");
    let guarded = guarded.with(&["--cwd", "--ro", "keep"]);
    guarded
        .sh("touch x && ! touch keep/x 2>/dev/null")
        .success();
}

fn changes_are_thrown_away(test: &Test) {
    let sandbox = Sandbox::new(test);
    let tree = sandbox.directory("tree");
    sandbox.file("tree/f", "old");
    sandbox.file("tree/g", "old");
    let sandbox = sandbox.with(&["--overlay", &shown(&tree, "/layered")]);
    let script =
        "cd /layered; cat f; echo new >f; rm g; mkdir d; touch d/x; cat f; ls; ls -A /.overlay";
    let done = sandbox.sh(script).success();
    assert_eq!(done.stdout, "oldnew\nd\nf\n");
    assert_eq!(content(&tree.join("f")), "old");
    assert!(tree.join("g").exists() && !tree.join("d").exists());
    // Also over the host's programs.
    let usr = Sandbox::new(test).with(&["--overlay", "/usr"]);
    let top = "touch /usr/new && ls /usr/new && test -x /usr/bin/env";
    usr.sh(top).success();
    assert!(!Path::new("/usr/new").exists());
}

fn changes_are_kept(test: &Test) {
    let sandbox = Sandbox::new(test);
    let tree = sandbox.directory("tree");
    sandbox.file("tree/f", "old");
    let over = shown(&tree, "/layered");
    let sandbox = sandbox.with(&["--overlay", &over, "--overlay-upper", "kept"]);
    sandbox.directory("kept");
    sandbox
        .sh("echo new >/layered/f; echo more >/layered/g")
        .success();
    assert_eq!(content(&tree.join("f")), "old");
    assert_eq!(content(&sandbox.dir.join("kept/upper/f")), "new\n");
    assert_eq!(
        sandbox.sh("cat /layered/f /layered/g").success().stdout,
        "new\nmore\n"
    );
    let inside = Sandbox::new(test);
    inside.directory("tree/kept");
    let inside = inside.with(&["--overlay", "tree", "--overlay-upper", "tree/kept"]);
    inside
        .run(&["true"])
        .code(125)
        .says(&["neither directory may be in the other"]);
    let none = Sandbox::new(test).with(&["--overlay-upper", "kept"]);
    none.run(&["true"])
        .code(125)
        .says(&["exactly one --overlay"]);
}

fn another_root(test: &Test) {
    let sandbox = Sandbox::new(test);
    for directory in ["root", "root/bin", "root/etc", "root/home", "root/proc"] {
        sandbox.directory(directory);
    }
    sandbox.file("root/etc/own", "its own");
    let probe = test.machine.role_dir(test.role).join("probe");
    fs::hard_link(probe, sandbox.dir.join("root/bin/probe"))
        .unwrap_or_else(|error| panic!("{error}"));
    let sandbox = sandbox.with(&["--rootfs", "root"]);
    let done = sandbox.run(&["/bin/probe", "cat", "/etc/own"]).success();
    assert!(done.stdout.contains("its own"), "{}", done.stdout);
    sandbox.run(&["/usr/bin/env"]).code(127);
    sandbox.run(&["/bin/probe", "write", "/etc/x", "y"]);
    assert!(!sandbox.dir.join("root/etc/x").exists());
}

fn saved<'t>(sandbox: Sandbox<'t>, script: &str) -> (Sandbox<'t>, String) {
    sandbox.file("f", "shown");
    let file = shown(&sandbox.dir.join("f"), "/data/f");
    let sandbox = sandbox.with(&["--ro", &file, "--bundle", "saved"]);
    sandbox.sh(script).success().says(&["capsid run --bundle"]);
    let bundle = sandbox.dir.join("saved").display().to_string();
    (sandbox, bundle)
}

fn a_saved_bundle(test: &Test) {
    let (sandbox, bundle) = saved(
        Sandbox::new(test),
        "id -u; cat /data/f; touch /x 2>/dev/null || echo not",
    );
    let done = sandbox
        .capsid(&["--cgroups=best-effort", "run", "--bundle", &bundle, "saved"])
        .output()
        .success();
    assert!(done.stdout.ends_with("\nshownnot\n"), "{}", done.stdout);
    let direct = Sandbox::new(test).sh("id -u").success();
    assert!(done.stdout.starts_with(&direct.stdout), "{}", done.stdout);
}

fn a_saved_bundle_under_runc(test: &Test) {
    // runc wants user 0 of the container to be somebody.
    let own = Sandbox::new(test).with(&["--user", "0"]);
    let (sandbox, bundle) = saved(own, "cat /data/f; touch /x 2>/dev/null || echo not");
    let state = sandbox.directory("runc").display().to_string();
    let id = format!("capsid-sandbox-{}-{}", std::process::id(), test.role.name());
    let file = sandbox.dir.join("saved/config.json");
    let mut config: serde_json::Value = serde_json::from_str(&content(&file)).unwrap_or_default();
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        // Older versions of runc know none of these.
        namespaces.retain(|namespace| namespace["type"] != "time");
    }
    // No group on this machine is the test's own.
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
    }
    fs::write(&file, config.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let done = test
        .command(&["runc", "--root", &state, "run", "--bundle", &bundle, &id])
        .output();
    assert_eq!(done.success().stdout, "shownnot\n");
}

fn what_is_refused(test: &Test) {
    let state = Sandbox::new(test).state.display().to_string();
    let above = test.dir.display().to_string();
    let cases: [(&[&str], &str); 21] = [
        (&["--ro", "/no/such"], "absent (ENOENT)"),
        (&["--ro", ""], "no path is given"),
        (&["--ro", "/"], "would show the whole host"),
        (&["--rw", "/dev"], "would show the whole host"),
        (&["--ro", "/proc/self"], "files of the kernel"),
        (&["--ro", "/sys"], "files of the kernel"),
        (&["--ro", "/usr:/"], "the root itself"),
        (&["--ro", "/usr:/proc/x"], "/proc is the sandbox's own"),
        (&["--ro", "/usr:/a/../../proc"], "has no .."),
        (&["--rw", &above], "capsid keeps the state"),
        (&["--ro", "/usr:/x", "--ro", "/etc:/x"], "given twice"),
        (&["--net", "some"], "give none, host or pasta"),
        (&["--memory", "lots"], "a number of bytes"),
        (&["--cpus", "0"], "at least 0.01"),
        (&["--pids", "-1"], "a number from 1"),
        (&["--timeout", "0"], "a time like 90s"),
        (&["--user", "root"], "give numbers"),
        (&["--tty", "maybe"], "auto, yes or no"),
        (&["--seccomp", "no-such-file"], "absent (ENOENT)"),
        (&["--relax", "no-such-rule"], "no-such-rule"),
        (&["--hostname", "a b"], "a host name has"),
    ];
    for (options, words) in cases {
        let sandbox = Sandbox::new(test).with(options);
        // The state directory that would be given away is the sandbox's own.
        let ended = sandbox.run(&["true"]).code(125);
        if !ended.stderr.replace("\\\"", "\"").contains(words) {
            ended.fail(&format!("{words:?} for {options:?} ({state})"));
        }
    }
    test.capsid(&["sandbox", "--no-such"])
        .output()
        .code(125)
        .says(&["unknown option"]);
    test.capsid(&["sandbox"])
        .output()
        .code(125)
        .says(&["no program is given"]);
}

fn what_is_dangerous_is_said(test: &Test) {
    let sandbox = Sandbox::new(test);
    let home = sandbox.directory("home");
    sandbox.directory("home/.ssh");
    sandbox.file("home/.bashrc", "");
    sandbox.directory("home/project");
    let shown = home.display().to_string();
    let says = |option: &str, path: &str| {
        let sandbox = Sandbox::new(test).with(&[option, path]);
        let call = sandbox.call(&["true"]).env("HOME", &home);
        call.output().success()
    };
    let ssh = format!("can read {shown}/.ssh");
    let start = format!("can change {shown}/.bashrc");
    says("--rw", &shown).says(&[&ssh, &start]);
    says("--ro", &shown)
        .says(&[&ssh])
        .never_says(&["can change"]);
    let project = format!("{shown}/project");
    says("--rw", &project).never_says(&["the program can"]);
}

fn links_are_followed_once(test: &Test) {
    let sandbox = Sandbox::new(test);
    let real = sandbox.directory("real");
    sandbox.file("real/f", "real");
    std::os::unix::fs::symlink(&real, sandbox.dir.join("link"))
        .unwrap_or_else(|error| panic!("{error}"));
    let through = Sandbox::new(test);
    let link = sandbox.dir.join("link");
    let through = through.with(&["--rw", &link.display().to_string()]);
    // Under the name that was given, and the real one is what is changed.
    let script = format!("cat {}/f; echo new >{}/f", link.display(), link.display());
    assert_eq!(through.sh(&script).success().stdout, "real");
    assert_eq!(content(&real.join("f")), "new\n");
    // With .. behind a link the place inside is the real one.
    let up = format!("{}/../real/f", link.display());
    let dotted = Sandbox::new(test).with(&["--ro", &up]);
    dotted
        .run(&["cat", &real.join("f").display().to_string()])
        .success();
}

fn a_profile_of_the_project(test: &Test) {
    let sandbox = Sandbox::new(test);
    sandbox.directory("project");
    sandbox.file("project/data", "of the project");
    let profile =
        "ro = [\"data:/data\"]\nrelax = []\nenv = [\"A=1\"]\nhostname = \"box\"\npids = 500\n";
    sandbox.file("project/sandbox.toml", profile);
    // Paths are relative to the file, and the command line has the last word.
    let sandbox = sandbox.global("--cgroups=best-effort");
    let sandbox = sandbox.with(&["--profile", "project/sandbox.toml", "--hostname", "other"]);
    let done = sandbox.sh("cat /data; echo; echo $A; hostname").success();
    assert_eq!(done.stdout, "of the project\n1\nother\n");
    sandbox.file("project/sandbox.toml", "ro = []\nreed = []\n");
    sandbox
        .run(&["true"])
        .code(125)
        .says(&["sandbox.toml", "unknown key \"reed\"", "line 2"]);
}
