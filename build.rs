//! Turns `src/seccomp/syscalls.tbl` into tables for the target's architectures,
//! and the project's own profiles into filters.
//!
//! The compiler is the one that containers get: its modules are compiled into
//! this script as well. So a container with the default profile has a filter
//! that was ready before capsid was installed, and a mistake in a profile fails
//! the build.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use oci_spec::runtime::LinuxSeccomp;
use seccomp::architecture::X32_SYSCALL_BIT;
use seccomp::compile::{Asks, Program, Request};
use seccomp::encode::Instruction;
use seccomp::source;
use seccomp::tables::{Tables, Target};

#[path = "src/seccomp"]
#[allow(dead_code, unreachable_pub, reason = "the script uses a part of it")]
mod seccomp {
    pub(crate) mod alternatives;
    pub(crate) mod architecture;
    pub(crate) mod compile;
    pub(crate) mod condition;
    pub(crate) mod encode;
    pub(crate) mod multiplex;
    pub(crate) mod returns;
    pub(crate) mod rules;
    pub(crate) mod source;
    pub(crate) mod tables;
    pub(crate) mod tree;

    /// The tables that this run of the script has made.
    pub(crate) mod names {
        use std::sync::OnceLock;

        use super::tables::Tables;

        pub(crate) static MADE: OnceLock<Tables> = OnceLock::new();

        pub(crate) fn tables() -> &'static Tables {
            MADE.get().expect("the tables are made first")
        }
    }
}

/// What the compiler takes from the crate besides itself.
#[path = "src/error"]
#[allow(unreachable_pub, reason = "it is public in the crate")]
mod error {
    mod problem;

    pub(crate) use problem::{Problem, escape};
}

const TABLE: &str = "src/seccomp/syscalls.tbl";
const PROFILES: &str = "seccomp-profiles";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/seccomp");
    println!("cargo::rerun-if-changed={PROFILES}");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target architecture");
    let target = match arch.as_str() {
        "x86_64" => Target::X86_64,
        "aarch64" => Target::Aarch64,
        other => panic!("capsid supports x86_64 and aarch64, not {other}"),
    };
    let text = fs::read_to_string(TABLE).unwrap_or_else(|error| panic!("{TABLE}: {error}"));
    let tables = tables(text.leak(), target);
    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write(&directory, "syscall_tables.rs", &tables_source(&tables));
    seccomp::names::MADE
        .set(tables)
        .expect("the tables are made once");
    write(&directory, "profiles.rs", &profiles_source(&arch));
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The name of a row, and its number in each column.
type Row = (&'static str, Vec<Option<u32>>);

/// The tables of one target.
fn tables(text: &'static str, target: Target) -> Tables {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header = lines.next().expect("the table has a header");
    let positions: Vec<usize> = columns(target)
        .iter()
        .map(|name| position(header, name))
        .collect();
    let mut rows: Vec<Row> = lines.map(|line| row(line, &positions)).collect();
    rows.sort_unstable();
    for pair in rows.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{TABLE}: two rows of one name");
    }
    let mut starts = vec![0];
    let mut end = 0;
    for (name, _) in &rows {
        end += name.len();
        starts.push(u16::try_from(end).expect("all names fit 64 kB"));
    }
    let present = rows.iter().map(|(_, numbers)| {
        let bits = numbers.iter().rev();
        bits.fold(0, |bits, number| bits << 1 | u8::from(number.is_some()))
    });
    let numbers = (0..positions.len()).map(|column| column_of(&rows, column, target));
    Tables {
        target,
        names: rows
            .iter()
            .map(|(name, _)| *name)
            .collect::<String>()
            .leak(),
        starts: starts.leak(),
        present: present.collect::<Vec<_>>().leak(),
        columns: numbers.collect::<Vec<_>>().leak(),
    }
}

/// The columns that programs of a target can use, the native one first.
const fn columns(target: Target) -> &'static [&'static str] {
    match target {
        Target::X86_64 => &["x86_64", "x32", "x86"],
        Target::Aarch64 => &["aarch64", "arm"],
    }
}

fn position(header: &str, column: &str) -> usize {
    let mut names = header.split_whitespace();
    names
        .position(|name| name == column)
        .unwrap_or_else(|| panic!("{TABLE}: no column {column}"))
}

fn row(line: &'static str, positions: &[usize]) -> Row {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let number = |&position: &usize| match cells.get(position) {
        Some(&"-") => None,
        Some(cell) => Some(
            cell.parse()
                .unwrap_or_else(|_| panic!("{TABLE}: number in {line:?}")),
        ),
        None => panic!("{TABLE}: cells missing in {line:?}"),
    };
    (cells[0], positions.iter().map(number).collect())
}

/// The numbers of one column in order, each with its row.
fn column_of(rows: &[Row], column: usize, target: Target) -> &'static [(u32, u16)] {
    let name = columns(target)[column];
    let bit = if name == "x32" { X32_SYSCALL_BIT } else { 0 };
    let mut numbers: Vec<(u32, u16)> = rows
        .iter()
        .enumerate()
        .filter_map(|(row, (_, numbers))| {
            let row = u16::try_from(row).expect("there are fewer than 65536 rows");
            Some((numbers[column]? | bit, row))
        })
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{TABLE}: {name} has one number twice");
    }
    numbers.leak()
}

/// The Rust source of the tables.
fn tables_source(tables: &Tables) -> String {
    let columns = tables.columns.iter().map(|column| format!("&{column:?},"));
    format!(
        "/// Names and numbers of all system calls.\nstatic TABLES: Tables = Tables {{ \
         target: Target::{:?}, names: {:?}, starts: &{:?}, present: &{:?}, columns: &[{}] }};\n",
        tables.target,
        tables.names,
        tables.starts,
        tables.present,
        columns.collect::<String>()
    )
}

/// The Rust source of the project's own profiles: what is left of them, and
/// which filter they make, where no capability is granted that they speak of.
fn profiles_source(arch: &str) -> String {
    let mut capabilities = BTreeSet::new();
    let mut read = |name: &str| {
        let path = format!("{PROFILES}/{name}.json");
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let asked = RefCell::new(&mut capabilities);
        let granted = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            false
        };
        let resolved = source::resolve_for(arch, &bytes, &granted)
            .unwrap_or_else(|problems| panic!("{path}: {problems:?}"));
        assert!(resolved.notes.is_empty(), "{path}: {:?}", resolved.notes);
        resolved.profile
    };
    let floor = read("floor");
    let profiles = ["default", "strict"].map(|name| (name, read(name)));
    let mut text = String::new();
    let written =
        write!(text, "static FLOOR_RESOLVED: &str = {:?};", json(&floor)).and_then(|()| {
            write!(
                text,
                "static CAPABILITIES: &[&str] = &{:?};",
                Vec::from_iter(&capabilities)
            )
        });
    written.expect("writing to a string");
    for (name, profile) in profiles {
        let request = Request {
            profile: &profile,
            // It would add nothing: tests/profiles.rs holds them against it.
            floor: None,
            asks: Asks::Nobody,
        };
        let program = request
            .compile()
            .unwrap_or_else(|problems| panic!("{PROFILES}/{name}.json: {problems:?}"));
        filter_source(&mut text, name, &program).expect("writing to a string");
    }
    text
}

fn json(profile: &LinuxSeccomp) -> String {
    serde_json::to_string(profile).expect("a profile can be written")
}

fn filter_source(out: &mut String, name: &str, program: &Program) -> std::fmt::Result {
    let upper = name.to_uppercase();
    write!(
        out,
        "static {upper}: Compiled = Compiled {{ flags: {}, default: {}, instructions: &[",
        program.flags, program.default
    )?;
    for Instruction { code, jt, jf, k } in &program.instructions {
        write!(
            out,
            "Instruction {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},"
        )?;
    }
    writeln!(out, "] }};")
}
