//! Real programs in sandboxes: builds, version control, and what lives on a terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cases::cases;
use crate::needs::toolchain;
use crate::roles::Test;
use crate::sandboxed::Sandbox;

cases! {
    ALL [RealRoot, Toolchain, Compiler]: cargo_offline;
    ALL [Compiler]: a_c_project, a_static_program;
    ALL [Git]: a_clone;
    ALL [Tmux]: jobs_of_a_shell, interrupts, a_pager, tmux_inside;
    ALL [Tmux, Vim]: an_editor;
}

/// A crate with a dependency and a build script, and no network to get anything from.
fn cargo_offline(test: &Test) {
    let sandbox = Sandbox::new(test);
    for directory in ["src", "half", "half/src", "toolchain"] {
        sandbox.directory(directory);
    }
    let package = |name: &str, more: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n{more}")
    };
    sandbox.file(
        "Cargo.toml",
        &package("whole", "[dependencies]\nhalf = { path = \"half\" }\n"),
    );
    sandbox.file("half/Cargo.toml", &package("half", ""));
    sandbox.file("half/src/lib.rs", "pub fn half(n: u32) -> u32 { n / 2 }\n");
    sandbox.file(
        "build.rs",
        "fn main() { println!(\"cargo:rustc-env=WHOLE=84\"); }\n",
    );
    let main = "fn main() { println!(\"{}\", half::half(env!(\"WHOLE\").parse().unwrap())); }\n\
                #[test]\nfn halves() { assert_eq!(half::half(6), 3); }\n";
    sandbox.file("src/main.rs", main);
    // Where rustup keeps it only root may look: shown to the role by a mount
    // that the command alone has.
    let place = sandbox.dir.join("toolchain");
    let real = toolchain().unwrap_or_else(|| panic!("no toolchain"));
    let view = format!("mount --bind {} {}", real.display(), place.display());
    let sandbox = sandbox.with(&["--cwd", "--ro", &format!("{}:/toolchain", place.display())]);
    let sandbox = sandbox.with(&["--env", "PATH=/toolchain/bin:/usr/bin:/bin"]);
    let sandbox = sandbox.with(&[
        "--env",
        "CARGO_HOME=/tmp/cargo",
        "--env",
        "CARGO_TERM_COLOR=never",
    ]);
    let words = ["cargo", "run", "--offline", "--quiet"];
    let output = sandbox.call(&words).in_view_of(&view).output();
    assert_eq!(output.success().text(), "42");
    sandbox.assert_nothing_left();
    assert!(sandbox.dir.join("target/debug/whole").exists());
}

/// Directories, an archive, a generated header, dependencies by the compiler, an install.
fn a_c_project(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    for directory in ["src", "lib"] {
        sandbox.directory(directory);
    }
    sandbox.file("lib/half.c", "int half(int n) { return n / 2; }\n");
    sandbox.file("src/main.c", "#include <stdio.h>\n#include <math.h>\n#include \"made.h\"\nint half(int);\n\
                  int main(void) { printf(\"%d %.0f\\n\", half(WHOLE), sqrt(WHOLE + 16)); return 0; }\n");
    let rules = "CFLAGS = -O2 -g -flto -pipe -MMD -Iout\nall: out/program\nout:\n\tmkdir -p $@\n\
                 out/made.h: | out\n\techo '#define WHOLE 84' >$@\nout/%.o: src/%.c out/made.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n\
                 out/libhalf.a: lib/half.c | out\n\t$(CC) $(CFLAGS) -c -o out/half.o $< && gcc-ar rcs $@ out/half.o\n\
                 out/program: out/main.o out/libhalf.a\n\t$(CC) $(CFLAGS) -o $@ $^ -lm && strip $@\n\
                 install: all\n\tinstall -D -m 755 out/program root/bin/program && cp -a root copy && tar cf copy.tar copy\n\
                 clean:\n\trm -rf out\n";
    sandbox.file("Makefile", rules);
    sandbox
        .run(&["make", "-j3", "--output-sync", "install"])
        .success();
    assert_eq!(sandbox.run(&["copy/bin/program"]).success().text(), "42 10");
    sandbox.run(&["make", "-s", "clean"]).success();
    assert!(!sandbox.dir.join("out").exists());
}

fn a_static_program(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    sandbox.file(
        "main.c",
        "#include <stdio.h>\nint main(void) { puts(\"42\"); return 3; }\n",
    );
    sandbox
        .run(&["gcc", "-static", "-o", "main", "main.c"])
        .success();
    let program = sandbox.dir.join("main");
    // Alone in a root of its own: nothing of the host is there.
    sandbox.directory("root");
    fs::rename(&program, sandbox.dir.join("root/main")).unwrap_or_else(|error| panic!("{error}"));
    let root = sandbox.dir.join("root").display().to_string();
    let alone = Sandbox::new(test).with(&["--rootfs", &root]);
    assert_eq!(alone.run(&["/main"]).code(3).text(), "42");
}

fn a_clone(test: &Test) {
    let sandbox = Sandbox::new(test);
    let (source, out) = (sandbox.directory("source"), sandbox.directory("out"));
    let shown = |path: &Path, inside: &str| format!("{}:{inside}", path.display());
    let name = "git config --global user.name a; git config --global user.email a@b; set -e; ";
    let make = format!(
        "{name} git init -q /source; cd /source; echo 1 >f; git add f; git commit -qm one; git tag v1"
    );
    let author = Sandbox::new(test).with(&["--rw", &shown(&source, "/source")]);
    author.sh(&make).success();
    let copy = format!(
        "{name} git clone -q /source /out/copy; cd /out/copy; git checkout -qb topic; echo 2 >f; git commit -qam two; \
         git rebase -q v1; git diff --stat v1 | tail -1; git fsck --strict 2>&1 | grep -c error || true; git log --oneline | wc -l"
    );
    let cloner = Sandbox::new(test).with(&[
        "--ro",
        &shown(&source, "/source"),
        "--rw",
        &shown(&out, "/out"),
    ]);
    let output = cloner.sh(&copy).success();
    let lines: Vec<_> = output.stdout.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        ["1 file changed, 1 insertion(+), 1 deletion(-)", "0", "2"]
    );
}

/// A terminal that a person could sit at: a window of tmux, run by the role.
struct Window<'t> {
    test: &'t Test,
    socket: PathBuf,
}

impl<'t> Window<'t> {
    #[track_caller]
    fn of(sandbox: &Sandbox<'t>, test: &'t Test, program: &[&str]) -> Self {
        let socket = sandbox.dir.join("tmux");
        let window = Self { test, socket };
        let words = sandbox.words(&["sandbox"], program);
        let runtime = test.machine.runtime.display().to_string();
        let mut all = vec!["new-session", "-d", "-x", "80", "-y", "24", "--", &runtime];
        all.extend(words.iter().map(String::as_str));
        window.tmux(&all, Some(&sandbox.dir));
        window
    }

    #[track_caller]
    fn tmux(&self, words: &[&str], dir: Option<&Path>) -> String {
        let socket = self.socket.display().to_string();
        let mut all = vec!["tmux", "-f", "/dev/null", "-S", &socket];
        all.extend(words);
        let call = self.test.command(&all).env("SHELL", "/bin/sh");
        dir.into_iter().fold(call, |call, dir| call.dir(dir)).ok()
    }

    #[track_caller]
    fn keys(&self, keys: &[&str]) {
        let mut words = vec!["send-keys"];
        words.extend(keys);
        self.tmux(&words, None);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"], None)
            .trim_end()
            .to_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.press_until(&[], |screen| screen.contains(text), text);
    }

    /// Presses keys again and again: one may come between two programs that
    /// have the terminal, and then nobody gets it.
    #[track_caller]
    fn press_until(&self, keys: &[&str], is: impl Fn(&str) -> bool, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            if !keys.is_empty() {
                self.keys(keys);
            }
            let again = Instant::now() + Duration::from_millis(500);
            while Instant::now() < again {
                if is(&self.screen()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let screen = self.screen();
            assert!(
                Instant::now() < end,
                "no {wanted:?} on the screen:\n{screen}"
            );
        }
    }

    /// Waits until the program, and with it the window, is gone.
    #[track_caller]
    fn ended(&self, sandbox: &Sandbox<'_>) {
        let end = Instant::now() + Duration::from_secs(15);
        while !sandbox.left().is_empty() {
            assert!(Instant::now() < end, "it goes on: {}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        let socket = self.socket.display().to_string();
        // It has ended by itself where all went well.
        self.test
            .command(&["tmux", "-S", &socket, "kill-server"])
            .output();
    }
}

fn shell<'t>(test: &'t Test) -> (Sandbox<'t>, Window<'t>) {
    let sandbox = Sandbox::new(test).with(&["--env", "PS1=shell> "]);
    let window = Window::of(&sandbox, test, &["bash", "--norc", "--noprofile", "-i"]);
    window.wait_for("shell>");
    (sandbox, window)
}

fn jobs_of_a_shell(test: &Test) {
    let (sandbox, window) = shell(test);
    window.keys(&["sleep 500", "Enter"]);
    window.press_until(&["C-z"], |screen| screen.contains("Stopped"), "Stopped");
    window.keys(&["bg; jobs", "Enter"]);
    window.wait_for("Running");
    window.keys(&["fg", "Enter"]);
    window.press_until(&["C-c"], |screen| screen.ends_with("shell>"), "a prompt");
    window.keys(&["echo code $? jobs $(jobs | wc -l)", "Enter"]);
    window.wait_for("code 130 jobs 0");
    window.keys(&["C-d"]);
    window.ended(&sandbox);
}

fn interrupts(test: &Test) {
    let (sandbox, window) = shell(test);
    // Only what is in the foreground: not the shell, not capsid.
    window.keys(&["echo begun; cat | cat", "Enter"]);
    window.wait_for("\nbegun");
    window.press_until(&["C-c"], |screen| screen.ends_with("shell>"), "a prompt");
    window.keys(&["stty size; tty; echo alive", "Enter"]);
    window.wait_for("24 80\n/dev/pts/0\nalive");
    // A line that a program reads, and the end of its input.
    window.keys(&["echo ready; cat >/tmp/f", "Enter"]);
    window.wait_for("\nready");
    window.keys(&["typed", "Enter"]);
    window.wait_for("\ntyped");
    window.keys(&["C-d"]);
    window.keys(&["wc -c /tmp/f", "Enter"]);
    window.wait_for("6 /tmp/f");
    window.keys(&["exit", "Enter"]);
    window.ended(&sandbox);
}

fn a_pager(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    let text: String = (1..=500).map(|line| format!("line {line}.\n")).collect();
    sandbox.file("text", &text);
    let window = Window::of(&sandbox, test, &["less", "text"]);
    window.wait_for("line 23.");
    window.keys(&["G"]);
    window.wait_for("line 500.");
    window.keys(&["/line 77", "Enter"]);
    window.keys(&["g", "n"]);
    window.wait_for("line 77.");
    // A shell that it starts has the terminal too.
    window.keys(&["!echo from below $((6 * 7))", "Enter"]);
    window.wait_for("from below 42");
    window.keys(&["Enter", "q"]);
    window.ended(&sandbox);
}

fn an_editor(test: &Test) {
    let sandbox = Sandbox::new(test).with(&["--cwd"]);
    sandbox.file("text", "first\n");
    let window = Window::of(&sandbox, test, &["vim", "-u", "NONE", "text"]);
    window.wait_for("first");
    window.keys(&["o", "second", "Escape"]);
    window.wait_for("second");
    window.keys(&[":r !id -u", "Enter"]);
    window.keys(&[":w", "Enter"]);
    window.wait_for("written");
    window.keys(&[":q", "Enter"]);
    window.ended(&sandbox);
    let text = fs::read_to_string(sandbox.dir.join("text")).unwrap_or_default();
    assert!(
        text.starts_with("first\nsecond\n") && text.lines().count() == 3,
        "{text}"
    );
}

/// Its server leaves the session and listens on a socket.
fn tmux_inside(test: &Test) {
    let script = "export SHELL=/bin/sh; t='tmux -f /dev/null'; $t new-session -d -x 80 -y 24 && \
                  $t send-keys 'echo inside $((6 * 7))' Enter && \
                  for i in $(seq 100); do $t capture-pane -p | grep 'inside 42' && break; sleep 0.05; done; \
                  $t kill-server";
    let output = Sandbox::new(test).sh(script).success();
    assert!(output.text().ends_with("inside 42"), "{}", output.stdout);
}
