//! argv -> command -> exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    ExitCode::from(capsid::commands::cli::run(&args))
}
