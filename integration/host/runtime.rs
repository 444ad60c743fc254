//! Running commands: always with a deadline, as the role, with output in files
//! (a detached container keeps writing to them after the command has ended).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::roles::{Role, Test};

/// How long any command may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long a detached process may take to print what a test waits for.
const GRACE: Duration = Duration::from_secs(3);

/// A command that has not been started.
pub(crate) struct Call<'t> {
    test: &'t Test,
    words: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<String>,
    dir: PathBuf,
    /// What root does before, in a mount namespace of the command's own.
    prepared: Option<String>,
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    shown: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) shown: String,
    /// Exit code; 128 and the signal number when a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Test {
    /// Any program, as the role.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Call<'_> {
        Call {
            test: self,
            words: words.iter().map(|word| word.as_ref().to_owned()).collect(),
            env: Vec::new(),
            stdin: None,
            dir: self.dir.clone(),
            prepared: None,
        }
    }

    /// The runtime with the role's state directory.
    pub(crate) fn capsid<S: AsRef<OsStr>>(&self, words: &[S]) -> Call<'_> {
        self.capsid_with(self.session.get().copied().unwrap_or_default(), words)
    }

    /// The same with these flags before its command.
    pub(crate) fn capsid_with<S: AsRef<OsStr>>(&self, flags: &[&str], words: &[S]) -> Call<'_> {
        let mut all = vec![
            self.machine.runtime.clone().into_os_string(),
            "--root".into(),
            self.state_root().into_os_string(),
        ];
        all.extend(flags.iter().map(|flag| OsString::from(*flag)));
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self.command(&all)
    }

    /// The probe on the host.
    pub(crate) fn probe<S: AsRef<OsStr>>(&self, words: &[S]) -> Call<'_> {
        let mut all = vec![self.machine.probe.clone().into_os_string()];
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self.command(&all)
    }

    /// What XDG_RUNTIME_DIR is for the role's commands.
    fn runtime_dir(&self) -> PathBuf {
        match self.session.get() {
            Some(_) => self.machine.session_dir(self.role),
            None => self.machine.role_dir(self.role).join("run"),
        }
    }

    /// A command in a mount namespace of its own, which a script of root changes
    /// before it becomes the role's.
    fn in_view(&self, script: &str, words: &[OsString]) -> Vec<OsString> {
        let who = self.who();
        let script = format!(
            "set -e\n{script}\nexec setpriv --reuid {} --regid {} --clear-groups -- \"$@\"",
            who.uid, who.gid
        );
        let before = ["unshare", "--mount", "/bin/sh", "-c", &script, "sh"];
        let before = before.iter().map(OsString::from);
        before.chain(words.iter().cloned()).collect()
    }

    /// A command under the filter that the test asked for, if it did.
    fn lacking(&self, words: Vec<OsString>) -> Vec<OsString> {
        let Some(what) = self.lacking.get() else {
            return words;
        };
        let probe = self.machine.probe.clone().into_os_string();
        let before = [probe, "lack".into()].into_iter();
        let what = what.iter().map(OsString::from);
        before.chain(what).chain(words).collect()
    }

    /// A command that begins in the cgroup of the role's callers, if they have
    /// one. Only root may move it there: the probe does, and becomes the role.
    fn entering(&self, words: &[OsString]) -> Vec<OsString> {
        let Some(cgroup) = self.caller_cgroup.get() else {
            return words.to_vec();
        };
        let who = self.who();
        let mut all = vec![
            self.machine.probe.clone().into_os_string(),
            "enter".into(),
            cgroup.clone().into_os_string(),
            who.uid.to_string().into(),
            who.gid.to_string().into(),
        ];
        all.extend_from_slice(words);
        all
    }
}

impl Call<'_> {
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.into(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = dir.to_owned();
        self
    }

    /// Options of capsid itself, for a command of the runtime.
    pub(crate) fn globally(mut self, options: &[&str]) -> Self {
        // After the program, --root and its value.
        let options = options.iter().map(OsString::from);
        self.words.splice(3..3, options);
        self
    }

    /// Has root run a script first, in a mount namespace that only this command
    /// is in: for what a role sees below /etc. Needs [`crate::cases::Need::RealRoot`].
    pub(crate) fn in_view_of(mut self, script: &str) -> Self {
        self.prepared = Some(script.to_owned());
        self
    }

    /// Puts words before the command: a shell, a terminal, strace.
    pub(crate) fn through<S: AsRef<OsStr>>(mut self, words: &[S]) -> Self {
        let mut all: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
        all.append(&mut self.words);
        self.words = all;
        self
    }

    /// A shell script that ends in `exec "$@"`: descriptors, umask, LISTEN_PID.
    pub(crate) fn through_shell(self, script: &str) -> Self {
        self.through(&["/bin/sh", "-c", &format!("{script}\nexec \"$@\""), "sh"])
    }

    pub(crate) fn start(self) -> Running {
        let test = self.test;
        let number = test.next();
        let file = |kind: &str| test.dir.join(format!("{number}.{kind}"));
        let (stdout, stderr, stdin) = (file("out"), file("err"), file("in"));
        for path in [&stdout, &stderr] {
            test.make_file(path, "");
        }
        let shown: Vec<_> = self
            .words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        let open = |path: &Path| {
            let file = File::options().append(true).open(path);
            file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let input = match &self.stdin {
            Some(text) => {
                test.make_file(&stdin, text);
                Stdio::from(File::open(&stdin).unwrap_or_else(|error| panic!("{error}")))
            }
            None => Stdio::null(),
        };
        let words = match &self.prepared {
            Some(script) => test.in_view(script, &self.words),
            None => test.entering(&self.words),
        };
        let words = test.lacking(words);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.dir)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", &test.dir)
            .stdin(input)
            .stdout(open(&stdout))
            .stderr(open(&stderr));
        if test.rootless() {
            command.env("XDG_RUNTIME_DIR", test.runtime_dir());
        }
        command.envs(self.env);
        let becomes = test.caller_cgroup.get().is_some() || self.prepared.is_some();
        if test.machine.root && test.role != Role::Root && !becomes {
            let who = test.who();
            // The standard library drops supplementary groups along with the uid.
            command.uid(who.uid).gid(who.gid);
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", shown.join(" ")));
        Running {
            child,
            shown: shown.join(" "),
            stdout,
            stderr,
        }
    }

    pub(crate) fn output(self) -> Output {
        self.start().wait()
    }

    /// Runs it, insists on exit code 0, gives standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.output().success().stdout
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything on standard output so far.
    pub(crate) fn so_far(&self) -> String {
        read(&self.stdout)
    }

    /// Waits for a text on standard output. It may come after the command has
    /// ended, from the container that the command detached.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut end = Instant::now() + DEADLINE;
        let mut ended = false;
        while !self.so_far().contains(text) {
            if !ended && self.ended() {
                ended = true;
                end = end.min(Instant::now() + GRACE);
            }
            if Instant::now() > end {
                self.stop();
                panic!(
                    "{}\n  never said {text:?}\n{}{}",
                    self.shown,
                    read(&self.stdout),
                    read(&self.stderr)
                );
            }
            sleep(Duration::from_millis(3));
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap_or_else(|error| panic!("kill {pid}: {error}"));
    }

    /// Ends the command itself; containers are ended by their bundle.
    pub(crate) fn stop(&mut self) {
        // It may have ended already, and then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for success, and keeps the output files in view.
    #[track_caller]
    pub(crate) fn finish_ok(&mut self) {
        self.finish().success();
    }

    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        self.finish()
    }

    #[track_caller]
    fn finish(&mut self) -> Output {
        let end = Instant::now() + DEADLINE;
        let mut pause = Duration::from_micros(500);
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < end => sleep(pause),
                other => {
                    self.stop();
                    panic!(
                        "{}\n  did not end within {DEADLINE:?} ({other:?})\nstdout: {}\nstderr: {}",
                        self.shown,
                        read(&self.stdout),
                        read(&self.stderr)
                    );
                }
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        let signal = || 128 + status.signal().unwrap_or(0);
        Output {
            shown: self.shown.clone(),
            code: status.code().unwrap_or_else(signal),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Output {
    #[track_caller]
    pub(crate) fn fail(&self, expected: &str) -> ! {
        panic!(
            "{}\n  expected {expected}\n  exit code {}\n  stdout: {}\n  stderr: {}",
            self.shown, self.code, self.stdout, self.stderr
        );
    }

    /// Insists on an exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        if self.code != code {
            self.fail(&format!("exit code {code}"));
        }
        self
    }

    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.code(0)
    }

    /// Insists on failure, whatever the code.
    #[track_caller]
    pub(crate) fn failure(self) -> Self {
        if self.code == 0 {
            self.fail("a failure");
        }
        self
    }

    /// Insists on every one of these texts on standard error.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        let said = self.words();
        for text in texts {
            if !said.contains(text) {
                self.fail(&format!("{text:?} on standard error"));
            }
        }
        self
    }

    /// Insists that none of these is on standard error.
    #[track_caller]
    pub(crate) fn never_says(self, texts: &[&str]) -> Self {
        let said = self.words();
        for text in texts {
            if said.contains(text) {
                self.fail(&format!("no {text:?} on standard error"));
            }
        }
        self
    }

    /// Standard output is JSON, and nothing else.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| self.fail(&format!("JSON on standard output ({error})")))
    }

    /// Standard error as a person reads it: the log format puts quotes into quotes.
    fn words(&self) -> String {
        self.stderr.replace("\\\"", "\"")
    }

    /// Standard output without blanks at its ends.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim()
    }
}
