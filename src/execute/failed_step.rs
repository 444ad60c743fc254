//! The error of a step that failed in the child, from its number and the plan.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;

use crate::error::{Check, Error, Failure};
use crate::plan::ProcessStep;

use super::hooks;

/// A step of a plan, for a message.
#[derive(Debug)]
pub struct Step {
    /// In words.
    pub words: String,
    /// Its index.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// It belongs to the last phase.
    pub last: bool,
}

/// The error of a failed step.
pub fn step_error(step: Step, program: &str, failure: Failure, output: Option<&mut File>) -> Error {
    use Check as C;
    let check = failure.call.as_check();
    if let Some(check @ (C::HookFailed | C::HookTimedOut)) = check {
        let outcome = match check {
            C::HookFailed => hooks::describe(std::process::ExitStatus::from_raw(failure.errno)),
            _ => check.sentence().to_owned(),
        };
        let outcome = output.map_or_else(
            || outcome.clone(),
            |file| hooks::with_output(&outcome, file),
        );
        let (which, path) = step
            .words
            .trim_start_matches("run ")
            .split_once(" (")
            .unwrap_or((&step.words, ""));
        return Error::Hook {
            which: which.to_owned(),
            path: path.trim_end_matches(')').into(),
            outcome,
        };
    }
    let of_program = step.words == ProcessStep::FindProgram.to_string()
        || (step.last && step.words.starts_with("execute "));
    if of_program {
        return Error::Program {
            program: program.to_owned(),
            failure,
        };
    }
    Error::Step {
        step: step.words,
        number: step.index + 1,
        of: step.of,
        failure,
    }
}

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

    use super::*;

    #[test]
    fn a_missing_program_has_the_words_that_engines_look_for() {
        let step = |words: &str| Step {
            words: words.into(),
            index: 4,
            of: 9,
            last: true,
        };
        let failure = Failure::check(Check::ProgramNotInPath);
        let error = step_error(step("execute nope"), "nope", failure, None);
        assert_eq!(
            error.to_string(),
            r#"exec: "nope": executable file not found in $PATH"#
        );
        let failure = Failure::of(Sysno::move_mount, libc::ENOENT);
        let error = step_error(step("bind /x on /y"), "nope", failure, None);
        assert_eq!(
            error.to_string(),
            "step 5 of 9: bind /x on /y: move_mount: absent (ENOENT)"
        );
    }
}
