//! `capsid sandbox`: a call that is put together, and what the probe sees inside.

use std::path::PathBuf;

use crate::container::Report;
use crate::roles::Test;
use crate::runtime::{Call, Output};

/// A sandbox that has not been started.
pub(crate) struct Sandbox<'t> {
    test: &'t Test,
    global: Vec<String>,
    options: Vec<String>,
    /// A directory of the test that belongs to the role: where commands begin.
    pub(crate) dir: PathBuf,
    /// A state directory of its own: other tests have sandboxes at the same time.
    pub(crate) state: PathBuf,
}

impl<'t> Sandbox<'t> {
    /// Without any option.
    pub(crate) fn new(test: &'t Test) -> Self {
        let number = test.next();
        let dir = test.path(&format!("caller-{number}"));
        test.make_dir(&dir);
        Self {
            test,
            global: Vec::new(),
            options: Vec::new(),
            dir,
            state: test.path(&format!("state-{number}")),
        }
    }

    /// Adds an option, with its value if it has one.
    pub(crate) fn with<S: AsRef<str>>(mut self, words: &[S]) -> Self {
        self.options
            .extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Adds an option of capsid itself, which stands before the command.
    pub(crate) fn global(mut self, word: &str) -> Self {
        self.global.push(word.to_owned());
        self
    }

    /// A file in the caller's directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.join(name);
        self.test.make_file(&path, content);
        path
    }

    /// A directory in the caller's directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        self.test.make_dir(&path);
        path
    }

    /// A call of the command `before` (`sandbox`, `explain sandbox`) for a program.
    pub(crate) fn words(&self, before: &[&str], program: &[&str]) -> Vec<String> {
        let mut words = vec!["--root".to_owned(), self.state.display().to_string()];
        words.extend(self.global.iter().cloned());
        words.extend(before.iter().map(ToString::to_string));
        words.extend(self.options.iter().cloned());
        if !program.is_empty() {
            words.push("--".into());
            words.extend(program.iter().map(ToString::to_string));
        }
        words
    }

    /// The call that runs a program.
    pub(crate) fn call(&self, program: &[&str]) -> Call<'t> {
        self.test
            .capsid(&self.words(&["sandbox"], program))
            .dir(&self.dir)
    }

    /// Runs a program to its end. Nothing may be left of the sandbox.
    #[track_caller]
    pub(crate) fn run(&self, program: &[&str]) -> Output {
        let output = self.call(program).output();
        self.assert_nothing_left();
        output
    }

    /// Runs a script of the host's shell.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-c", script])
    }

    /// What `explain sandbox` prints.
    #[track_caller]
    pub(crate) fn explained(&self, program: &[&str]) -> String {
        let words = self.words(&["explain", "sandbox"], program);
        self.test.capsid(&words).dir(&self.dir).ok()
    }

    /// Shows the probe as /probe, for what a shell cannot see or do.
    pub(crate) fn with_probe(self) -> Self {
        let probe = self.test.machine.role_dir(self.test.role).join("probe");
        let shown = format!("{}:/probe", probe.display());
        self.with(&["--ro", &shown])
    }

    /// What `probe report` prints inside.
    #[track_caller]
    pub(crate) fn report(self, options: &[&str]) -> Report {
        let mut words = vec!["/probe", "report"];
        words.extend_from_slice(options);
        Report(self.with_probe().run(&words).success().json())
    }

    /// Insists that no sandbox of this role is left in its state directory.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Another command on the same sandboxes.
    pub(crate) fn capsid(&self, words: &[&str]) -> Call<'t> {
        let state = self.state.display().to_string();
        let mut all = vec!["--root", &state];
        all.extend_from_slice(words);
        self.test.capsid(&all)
    }

    /// The sandboxes of this test's state directory.
    pub(crate) fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.state).into_iter().flatten();
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("sandbox-")).collect()
    }
}
