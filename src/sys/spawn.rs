//! Helper programs that the runtime starts by the standard library.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use syscalls::Sysno;

use super::{call_with_numbers, reg};

/// Has a program that is about to be started end with the runtime, however that ends.
pub fn end_with_parent(command: &mut Command) {
    let ask = || {
        let signal = [reg(libc::PR_SET_PDEATHSIG), reg(libc::SIGKILL), 0, 0, 0, 0];
        call_with_numbers(Sysno::prctl, signal)
            .map(drop)
            .map_err(|failure| io::Error::from_raw_os_error(failure.errno))
    };
    // SAFETY: between fork and exec the closure makes one system call with plain
    // numbers; it allocates nothing and takes no lock. The starter waits for exec,
    // so it is alive when the signal is set.
    unsafe { command.pre_exec(ask) };
}
