//! Turns `src/seccomp/syscalls.tbl` into tables for the target's architectures.
//!
//! A seccomp filter is compiled on the way of every container start, so names
//! are looked up by binary search in data that needs neither a hash table built
//! at run time nor relocations: one string with all names, and their offsets.

use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

const TABLE: &str = "src/seccomp/syscalls.tbl";
/// Set in the numbers of x32 system calls, which share x86_64's `AUDIT_ARCH`.
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={TABLE}");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target architecture");
    let columns: &[&str] = match arch.as_str() {
        "x86_64" => &["x86_64", "x32", "x86"],
        "aarch64" => &["aarch64", "arm"],
        other => panic!("capsid supports x86_64 and aarch64, not {other}"),
    };
    let text = fs::read_to_string(TABLE).unwrap_or_else(|error| panic!("{TABLE}: {error}"));
    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let out = directory.join("syscall_tables.rs");
    fs::write(&out, tables(&text, columns)).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

/// The Rust source of all tables.
fn tables(text: &str, columns: &[&str]) -> String {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header = lines.next().expect("the table has a header");
    let positions: Vec<usize> = columns.iter().map(|name| position(header, name)).collect();
    let mut rows: Vec<(&str, Vec<Option<u32>>)> = lines.map(|line| row(line, &positions)).collect();
    rows.sort_unstable();
    for pair in rows.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{TABLE}: two rows of one name");
    }
    let mut source = String::new();
    write_names(&mut source, &rows).expect("writing to a string");
    for (column, name) in columns.iter().enumerate() {
        write_numbers(&mut source, &rows, column, name).expect("writing to a string");
    }
    source
}

fn position(header: &str, column: &str) -> usize {
    let mut names = header.split_whitespace();
    names
        .position(|name| name == column)
        .unwrap_or_else(|| panic!("{TABLE}: no column {column}"))
}

fn row<'a>(line: &'a str, positions: &[usize]) -> (&'a str, Vec<Option<u32>>) {
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

/// All names, sorted, and for each the set of columns in which it has a number.
fn write_names(out: &mut String, rows: &[(&str, Vec<Option<u32>>)]) -> std::fmt::Result {
    let names: String = rows.iter().map(|(name, _)| *name).collect();
    writeln!(
        out,
        "/// Names of all rows, in order.\nstatic NAMES: &str = {names:?};"
    )?;
    writeln!(
        out,
        "/// Where each row's name starts, and where the last one ends."
    )?;
    write!(out, "static STARTS: [u16; {}] = [0", rows.len() + 1)?;
    let mut start = 0;
    for (name, _) in rows {
        start += name.len();
        write!(out, ",{start}")?;
    }
    writeln!(
        out,
        "];\n/// Bit n: the row has a number in the n-th table."
    )?;
    write!(out, "static PRESENT: [u8; {}] = [", rows.len())?;
    for (_, numbers) in rows {
        let bits = numbers
            .iter()
            .rev()
            .fold(0, |bits, number| bits << 1 | u8::from(number.is_some()));
        write!(out, "{bits},")?;
    }
    writeln!(out, "];")
}

/// The numbers of one column in order, each with its row.
fn write_numbers(
    out: &mut String,
    rows: &[(&str, Vec<Option<u32>>)],
    column: usize,
    name: &str,
) -> std::fmt::Result {
    let bit = if name == "x32" { X32_SYSCALL_BIT } else { 0 };
    let mut numbers: Vec<(u32, usize)> = rows
        .iter()
        .enumerate()
        .filter_map(|(row, (_, numbers))| Some((numbers[column]? | bit, row)))
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{TABLE}: {name} has one number twice");
    }
    let upper = name.to_uppercase();
    writeln!(out, "/// Numbers of {name} with their rows, in order.")?;
    write!(
        out,
        "pub(super) static {upper}: [(u32, u16); {}] = [",
        numbers.len()
    )?;
    for (number, row) in numbers {
        write!(out, "({number},{row}),")?;
    }
    writeln!(out, "];")
}
