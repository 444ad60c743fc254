//! The table of docs/hardening.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use oci_spec::runtime::LinuxSeccomp;

#[path = "exploits.rs"]
mod exploits;

use crate::judge::{ALLOW, Filters, native, program, resolved, vectors};
use crate::{file, profiles};
use exploits::List;

/// What Docker grants where nobody asks for more or less.
const DOCKER: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

fn docker_capabilities() -> BTreeSet<String> {
    DOCKER.map(str::to_owned).into()
}

/// A line of the table.
struct Line {
    name: String,
    errno: String,
    counts: [usize; 3],
    blocked: Vec<String>,
    blocked_anyway: usize,
}

fn line(name: &str, stack: &[&LinuxSeccomp], list: &List) -> Line {
    let native = native();
    let programs: Vec<_> = stack.iter().map(|profile| program(profile)).collect();
    let filters = Filters(programs.iter().map(Vec::as_slice).collect());
    let mut counts = [0; 3];
    for (name, &nr) in &native {
        let all = vectors(stack, name);
        let allowed = all.iter().filter(|&&args| filters.judge(nr, args) == ALLOW);
        let column = match allowed.count() {
            0 => 2,
            count if count == all.len() => 0,
            _ => 1,
        };
        counts[column] += 1;
    }
    let blocked = list.blocked(&filters, &native, &[0]);
    let high = [0, 1 << 32, 1 << 63, 0xffff_ffff << 32];
    Line {
        name: name.to_owned(),
        errno: match stack[0].default_errno_ret() {
            Some(1) => "EPERM".to_owned(),
            Some(38) => "ENOSYS".to_owned(),
            Some(errno) => errno.to_string(),
            None if stack[0].default_action().to_string() == "SCMP_ACT_ALLOW" => "-".to_owned(),
            None => "EPERM".to_owned(),
        },
        counts,
        blocked: blocked.into_iter().map(str::to_owned).collect(),
        blocked_anyway: list.blocked(&filters, &native, &high).len(),
    }
}

/// The project's profiles, the engines', and one of these above the floor.
fn lines(list: &List) -> Vec<Line> {
    let granted = docker_capabilities();
    let read = |text: &str| resolved(text, &granted).profile;
    let own = profiles();
    let mut lines: Vec<_> = own
        .iter()
        .map(|(name, text)| line(&format!("`{name}.json`"), &[&read(text)], list))
        .collect();
    let engines = [
        ("Docker", "docker"),
        ("podman", "podman"),
        ("containerd 1.6.20", "containerd"),
    ];
    for (name, file_name) in engines {
        let profile = read(&file(&format!("tests/seccomp/{file_name}.json")));
        lines.push(line(name, &[&profile], list));
    }
    let podman = read(&file("tests/seccomp/podman.json"));
    let floor = read(&own["floor"]);
    lines.push(line("podman, above `floor.json`", &[&podman, &floor], list));
    lines
}

fn section(list: &List, lines: &[Line]) -> String {
    let n = list.exploits.len();
    let header = format!(
        "| profile | default | allowed | conditional | denied | blocks of {n} | the same with high bits |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let rows = lines.iter().map(|line| {
        let [allowed, conditional, denied] = line.counts;
        let (name, errno, blocked) = (&line.name, &line.errno, line.blocked.len());
        let anyway = line.blocked_anyway;
        format!(
            "| {name} | {errno} | {allowed} | {conditional} | {denied} | {blocked} | {anyway} |\n"
        )
    });
    let table = rows.fold(header, |table, row| table + &row);
    let default = lines.iter().find(|line| line.name == "`default.json`");
    let blocked = &default.unwrap().blocked;
    let open = list
        .exploits
        .iter()
        .filter(|row| !blocked.contains(&row.id));
    let open: Vec<_> = open.map(|row| row.id.as_str()).collect();
    include_str!("section.md")
        .replace("{table}\n", &table)
        .replace("{n}", &n.to_string())
        .replace("{calls}", &native().len().to_string())
        .replace("{open}", &open.join(",\n"))
}

#[test]
fn the_table_of_the_papers_is_what_the_profiles_do() {
    const BEGIN: &str = "<!-- profiles: begin -->\n";
    const END: &str = "<!-- profiles: end -->";
    let list = List::read();
    assert_eq!(list.exploits.len(), 67);
    let lines = lines(&list);
    for line in lines.iter().filter(|line| line.name.starts_with('`')) {
        let (blocked, anyway) = (line.blocked.len(), line.blocked_anyway);
        assert_eq!(blocked, anyway, "{}: high bits pass it", line.name);
    }
    let wanted = section(&list, &lines);
    let paper = file("docs/hardening.md");
    let (before, rest) = paper.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if found == wanted {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "docs/hardening.md is not up to date, run with UPDATE=1:\n{wanted}"
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hardening.md");
    fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
}
