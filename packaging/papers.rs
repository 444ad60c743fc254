//! Man pages and shell completions, from the same definition as the parser.
//!
//! `papers DIR` writes `DIR/man/man1/*.1` and `DIR/completions/`: `capsid` for
//! bash, `_capsid` for zsh, `capsid.fish` for fish.

use std::fs;
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::{Generator, Shell};
use clap_mangen::Man;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: papers DIR");
        return ExitCode::FAILURE;
    };
    match man_pages(&dir.join("man/man1")).and_then(|()| completions(&dir.join("completions"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("papers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn man_pages(dir: &Path) -> io::Result<()> {
    create(dir)?;
    let mut top = capsid::commands::cli::definition();
    // Names the commands `capsid-run` and their usage `capsid run`.
    top.build();
    for command in top.get_subcommands() {
        man_page(dir, command.clone())?;
    }
    man_page(dir, top)
}

fn man_page(dir: &Path, command: Command) -> io::Result<()> {
    let man = Man::new(command)
        .manual("User Commands")
        .source(concat!("capsid ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render(&mut page)?;
    write(&dir.join(man.get_filename()), &page)
}

fn completions(dir: &Path) -> io::Result<()> {
    create(dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(
            shell,
            &mut capsid::commands::cli::definition(),
            "capsid",
            &mut script,
        );
        // bash looks a script up by the command's name alone.
        let name = match shell {
            Shell::Bash => "capsid".to_owned(),
            _ => shell.file_name("capsid"),
        };
        write(&dir.join(name), &script)?;
    }
    Ok(())
}

fn create(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::other(format!("create {}: {e}", dir.display())))
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(file, bytes).map_err(|e| Error::other(format!("write {}: {e}", file.display())))
}
