//! Hooks that run in the runtime's own namespaces: prestart, createRuntime,
//! poststart, poststop.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use oci_spec::runtime::Hook;

use crate::error::{Error, Result};
use crate::sys;

/// What a hook may write before the rest is thrown away, in bytes.
const KEPT_OUTPUT: u64 = 4096;

/// Runs the hooks of one list in order; the first that fails ends it.
pub fn run_all(hooks: Option<&Vec<Hook>>, list: &str, state: &[u8]) -> Result<()> {
    let mut hooks = hooks.into_iter().flatten().enumerate();
    hooks.try_for_each(|(index, hook)| run(hook, &format!("{list} hook {index}"), state))
}

/// Runs one hook: the container's state on standard input, no environment but its own.
pub fn run(hook: &Hook, which: &str, state: &[u8]) -> Result<()> {
    let mut output = memory_file(which)?;
    let mut input = memory_file(which)?;
    let failed = |error: std::io::Error| Error::Hook {
        which: which.to_owned(),
        path: hook.path().clone(),
        outcome: error.to_string(),
    };
    input
        .write_all(state)
        .and_then(|()| input.rewind())
        .map_err(failed)?;
    let mut command = Command::new(hook.path());
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).env_clear();
    for entry in hook.env().iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(name, value);
    }
    command.stdin(Stdio::from(input));
    command.stdout(output.try_clone().map_err(failed)?);
    command.stderr(output.try_clone().map_err(failed)?);
    // A group of its own, so that a timeout ends all that it started.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let outcome = match wait(&mut child, hook.timeout()).map_err(failed)? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => describe(status),
        None => format!(
            "killed after its timeout of {} s",
            hook.timeout().unwrap_or(0)
        ),
    };
    Err(Error::Hook {
        which: which.to_owned(),
        path: hook.path().clone(),
        outcome: with_output(&outcome, &mut output),
    })
}

/// A file in memory: a hook can neither block nor end the runtime by what it
/// reads or leaves unread.
pub fn memory_file(purpose: &str) -> Result<File> {
    let fd: OwnedFd = sys::fd::memory_file(c"capsid-hook", 0)
        .map_err(|failure| Error::system("make a file in memory for", purpose, failure))?;
    Ok(File::from(fd))
}

/// The outcome and what the hook had to say.
pub fn with_output(outcome: &str, output: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read back is no reason to hide the outcome.
    let read = output
        .rewind()
        .and_then(|()| output.take(KEPT_OUTPUT).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    match (read, text.trim()) {
        (Ok(_), said) if !said.is_empty() => format!("{outcome}, output: {said}"),
        _ => outcome.to_owned(),
    }
}

/// A wait status in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn wait(child: &mut Child, timeout: Option<i64>) -> std::io::Result<Option<ExitStatus>> {
    let Some(seconds) = timeout else {
        return child.wait().map(Some);
    };
    let pid = i32::try_from(child.id()).unwrap_or(-1);
    let ended = sys::process::pidfd_open(pid).and_then(|pidfd| {
        sys::process::wait_readable(pidfd.as_fd(), Some(seconds.saturating_mul(1000)))
    });
    match ended {
        Ok(true) => child.wait().map(Some),
        Ok(false) => {
            let _ = sys::process::kill(-pid, libc::SIGKILL);
            child.wait()?;
            Ok(None)
        }
        Err(failure) => {
            let _ = sys::process::kill(-pid, libc::SIGKILL);
            child.wait()?;
            Err(std::io::Error::from_raw_os_error(failure.errno))
        }
    }
}

/// The state document of the runtime specification for a hook, whole.
pub fn document(state: &(Vec<u8>, Vec<u8>), pid: i32) -> Vec<u8> {
    [
        state.0.as_slice(),
        pid.to_string().as_bytes(),
        state.1.as_slice(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook =
            serde_json::json!({"path":"/bin/sh","args":["sh","-c",script],"env":["A=b"]});
        if let Some(timeout) = timeout {
            hook["timeout"] = timeout.into();
        }
        serde_json::from_value(hook).unwrap()
    }

    #[test]
    fn a_hook_reads_the_state_and_sees_only_its_own_environment() {
        let script = r#"read x; [ "$x" = '{"pid":1}' ] && [ "$A" = b ] && [ -z "$HOME" ]"#;
        run(
            &hook(script, None),
            "createRuntime hook 0",
            b"{\"pid\":1}\n",
        )
        .unwrap();
    }

    #[test]
    fn a_failure_carries_what_the_hook_said() {
        let error = run(
            &hook("echo it broke >&2; exit 3", None),
            "poststart hook 1",
            b"",
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("poststart hook 1 (/bin/sh): exit status 3, output: it broke"),
            "{text}"
        );
    }

    #[test]
    fn a_timeout_ends_the_hook_and_all_it_started() {
        let started = std::time::Instant::now();
        let error = run(
            &hook("sleep 60 & sleep 60", Some(1)),
            "poststop hook 0",
            b"",
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("killed after its timeout of 1 s"),
            "{error}"
        );
        assert!(started.elapsed().as_secs() < 20);
    }
}
