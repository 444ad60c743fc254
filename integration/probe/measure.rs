//! What `integration/compare/run` puts side by side: a line for each property,
//! its name and what was found, with a tab between.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use serde_json::Value;
use syscalls::{Errno, Sysno};

use crate::act::{c_string, errno_name, say};
use crate::filter::{self, Call};
use crate::{Outcome, raw, report, view};

/// AF_MAX: families are the numbers below.
const FAMILIES: usize = 46;
/// A description that no other key of the caller has.
const KEY: &str = "capsid-probe";

/// What says something of the host, or of others on it.
const SECRETS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What changes the host.
const CONTROLS: &[&str] = &[
    "/proc/irq/default_smp_affinity",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/keys/maxkeys",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/power/state",
];

/// Calls that open much of the kernel, with arguments that it would look at.
const DOORS: &[(Sysno, [usize; 6])] = &[
    (Sysno::io_uring_setup, [1, 0, 0, 0, 0, 0]),
    (Sysno::bpf, [5, 0, 0, 0, 0, 0]),
    (Sysno::perf_event_open, [0; 6]),
    (Sysno::userfaultfd, [1, 0, 0, 0, 0, 0]),
    (Sysno::keyctl, [0; 6]),
    (Sysno::add_key, [0; 6]),
    (Sysno::mount, [0; 6]),
    (Sysno::fsopen, [0; 6]),
    (Sysno::unshare, [0x1000_0000, 0, 0, 0, 0, 0]),
    (Sysno::clone3, [0; 6]),
    (Sysno::setns, [0, 0x1000_0000, 0, 0, 0, 0]),
    (Sysno::pidfd_getfd, [0; 6]),
    (Sysno::open_by_handle_at, [0; 6]),
    (Sysno::process_vm_readv, [0; 6]),
    (Sysno::vmsplice, [0; 6]),
];

/// Everything, in the order of the table. The words are the host's namespaces,
/// as `namespaces` prints them.
pub(crate) fn print(host: &[&str]) -> Outcome {
    // First of all: nothing this program opens may be taken for a leak.
    let fds = view::descriptors();
    let status = report::status();
    let field = |key: &str| status.get(key).cloned().unwrap_or_default();
    row("`NoNewPrivs`", &field("NoNewPrivs"));
    row(
        "`Seccomp`: mode, filters",
        &format!("{}, {}", field("Seccomp"), field("Seccomp_filters")),
    );
    capabilities(&status);
    row("ids: inside, outside, how many", &id_map());
    row("namespaces of the caller", &shared_namespaces(host));
    namespaces_inside();
    row("32-bit calls", &calls_of_32_bits());
    files();
    surroundings(fds.as_array().map_or(0, Vec::len));
    row("controlling terminal", terminal(host));
    volume();
    // Last: a thread of this process gets one more filter.
    filters()?;
    Ok(ExitCode::SUCCESS)
}

fn row(name: &str, value: &str) {
    let value = if value.is_empty() { "none" } else { value };
    say(&format!("{name}\t{value}"));
}

fn words(all: &[&str]) -> String {
    all.join(" ")
}

fn answer<T>(result: io::Result<T>) -> String {
    result.map_or_else(|error| errno_name(&error), |_| "yes".to_owned())
}

fn capabilities(status: &BTreeMap<String, String>) {
    let count = |set: &str| {
        let mask = status.get(&format!("Cap{set}"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.map_or(0, u64::count_ones).to_string()
    };
    let counts = ["Eff", "Bnd", "Inh", "Amb"].map(count);
    row(
        "capabilities: effective, bounding, inheritable, ambient",
        &counts.join(", "),
    );
}

/// Blanks made single, lines separated by commas.
fn id_map() -> String {
    let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let lines = text.lines();
    let lines: Vec<String> = lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.join(", ")
}

fn shared_namespaces(host: &[&str]) -> String {
    let own = view::namespaces("self");
    let shared = host.iter().filter_map(|word| {
        let (kind, inode) = word.split_once('=')?;
        // What is for the next process is not where this one is.
        (!kind.ends_with("_for_children")).then_some(())?;
        (own[kind].as_u64()?.to_string() == inode).then_some(kind)
    });
    words(&shared.collect::<Vec<_>>())
}

fn namespaces_inside() {
    // In a process of its own: this one must stay where it is.
    let own = std::env::current_exe();
    let made = own.and_then(|own| {
        let words = ["syscall", "unshare", "0x10000000"];
        Command::new(own).args(words).output()
    });
    let made = made.map_or_else(
        |error| errno_name(&error),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    row("a user namespace inside", made.trim_end_matches(" 0"));
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces");
    row(
        "`max_user_namespaces`",
        limit.as_deref().unwrap_or("?").trim(),
    );
}

fn calls_of_32_bits() -> String {
    let own = std::env::current_exe();
    let output = own.and_then(|own| Command::new(own).args(["int80", "20"]).output());
    match output {
        Err(error) => errno_name(&error),
        Ok(output) => match output.status.signal() {
            Some(libc::SIGSYS) => "end the process".to_owned(),
            Some(_) => "not of this kernel".to_owned(),
            None if output.stdout.starts_with(b"returned 42949") => "an error".to_owned(),
            None => "work".to_owned(),
        },
    }
}

fn files() {
    let readable = SECRETS.iter().copied().filter(|path| {
        let found = view::peek(path);
        let bytes = found["bytes"].as_u64().or(found["dir"].as_u64());
        bytes.is_some_and(|some| some > 0)
    });
    row(
        "of the host, can be read",
        &words(&readable.collect::<Vec<_>>()),
    );
    let writable = CONTROLS.iter().copied().filter(|path| {
        let mut options = fs::OpenOptions::new();
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        options.write(true).custom_flags(flags).open(path).is_ok()
    });
    row(
        "of the host, can be opened to write",
        &words(&writable.collect::<Vec<_>>()),
    );
}

fn surroundings(descriptors: usize) {
    let most = fs::read_to_string("/sys/fs/cgroup/pids.max");
    row("`pids.max`", most.as_deref().unwrap_or("not seen").trim());
    let mut core = [0u8; 16];
    let got = raw::call_with(Sysno::prlimit64, [0, 4, 0, 0, 0, 0], 3, &mut core);
    let unlimited = core[8..] == [0xff; 8];
    row(
        "core files",
        match got {
            Ok(_) if core[8..] == [0; 8] => "none",
            Ok(_) if unlimited => "unlimited",
            Ok(_) => "limited",
            Err(_) => "?",
        },
    );
    row("the caller's key is found", &key_is_found());
    row(
        "descriptors besides 0, 1, 2",
        &descriptors.saturating_sub(3).to_string(),
    );
    let profile = fs::read_to_string("/proc/self/attr/apparmor/current");
    row("AppArmor", profile.as_deref().unwrap_or("none").trim());
    row(
        "root file system",
        if view::read_only("/") {
            "read-only"
        } else {
            "writable"
        },
    );
}

/// Where terminals are: the file system, which is another one for terminals of its own.
const TERMINALS: &str = "terminals";

fn terminal(host: &[&str]) -> &'static str {
    let place = fs::metadata("/proc/self/fd/0").map_or(0, |meta| meta.dev());
    match view::controlling_terminal() {
        none if none == 0 => "none",
        _ if host.contains(&format!("{TERMINALS}={place}").as_str()) => "the caller's",
        _ => "its own",
    }
}

/// Looks in the session keyring for what [`keyed`] put there (KEYCTL_SEARCH).
fn key_is_found() -> String {
    let session = usize::MAX - 2;
    let (mut kind, mut name) = (*b"user\0", format!("{KEY}\0").into_bytes());
    let name = name.as_mut_ptr() as usize;
    let found = raw::call_with(Sysno::keyctl, [10, session, 0, name, 0, 0], 2, &mut kind);
    match found {
        Ok(_) => "yes".to_owned(),
        Err(errno) => errno.name().unwrap_or("?").to_owned(),
    }
}

/// What `/volume` brings: options of the mount, a setuid program, a disk.
fn volume() {
    let options = ["nosuid", "nodev"].into_iter();
    let options = options.filter(|word| view::has_option("/volume", word));
    row("a volume's flags", &words(&options.collect::<Vec<_>>()));
    let gained = Command::new("/volume/setuid").arg("report").output();
    let gained = gained.map(|output| {
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        found["uids"][1] != found["uids"][0]
    });
    let gained = match gained {
        Ok(true) => "changes its user".to_owned(),
        Ok(false) => "changes nothing".to_owned(),
        Err(error) => errno_name(&error),
    };
    row("a volume's setuid program", &gained);
    row(
        "a volume's node of a disk opens",
        &answer(fs::File::open("/volume/disk")),
    );
}

fn call(nr: Sysno, args: [usize; 6]) -> Call {
    (i64::from(nr.id()), args)
}

fn filters() -> Result<(), String> {
    // The kernel itself makes these, for its own tracers, and shows them to no filter.
    let traced = |nr: &Sysno| !matches!(nr.name(), "uretprobe" | "uprobe");
    let every: Vec<Call> = Sysno::iter()
        .filter(traced)
        .map(|nr| match nr {
            // AF_UNIX: no filter has a reason to deny 0, the family of none.
            Sysno::socket | Sysno::socketpair => call(nr, [1, 1, 0, 0, 0, 0]),
            _ => call(nr, [0; 6]),
        })
        .collect();
    let sockets = |nr| (0..FAMILIES).map(move |family| call(nr, [family, 3, 0, 0, 0, 0]));
    let doors = DOORS.iter().map(|(nr, args)| call(*nr, *args));
    let tiocsti = call(Sysno::ioctl, [0, 0x5412, 0, 0, 0, 0]);
    let mut all = every.clone();
    all.extend(sockets(Sysno::socket));
    all.extend(sockets(Sysno::socketpair));
    all.extend(doors);
    all.push(tiocsti);
    // A filter may deny the question itself: then there is no row.
    let found = filter::answers(all)?;
    let let_through =
        |found: &[Option<Errno>]| found.iter().filter(|errno| errno.is_none()).count();
    let (calls, rest) = found.split_at(every.len());
    let (socket, rest) = rest.split_at(FAMILIES);
    let (pair, rest) = rest.split_at(FAMILIES);
    let (doors, terminal) = rest.split_at(DOORS.len());
    row(
        &format!("system calls denied, of {}", every.len()),
        &(calls.len() - let_through(calls)).to_string(),
    );
    row(
        "families for `socket`, `socketpair`, of 46",
        &format!("{}, {}", let_through(socket), let_through(pair)),
    );
    let open: Vec<&str> = DOORS
        .iter()
        .zip(doors)
        .filter(|(_, errno)| errno.is_none())
        .map(|((nr, _), _)| nr.name())
        .collect();
    let open = match open.len() {
        count if count == DOORS.len() => format!("all {count}"),
        _ => words(&open),
    };
    row("calls that reach the kernel", &open);
    let typing = let_through(terminal) > 0;
    row(
        "TIOCSTI reaches the kernel",
        if typing { "yes" } else { "no" },
    );
    Ok(())
}

/// The namespaces of this process and the place of its terminals, as `measure` takes them.
pub(crate) fn namespaces() -> Outcome {
    let all = view::namespaces("self");
    let all = all.as_object().into_iter().flatten();
    let mut all: Vec<String> = all.map(|(kind, inode)| format!("{kind}={inode}")).collect();
    let terminals = fs::metadata("/dev/pts").map_or(0, |meta| meta.dev());
    all.push(format!("{TERMINALS}={terminals}"));
    say(&all.join(" "));
    Ok(ExitCode::SUCCESS)
}

/// Becomes a command in a new session keyring with a key in it.
pub(crate) fn keyed(command: &str, args: &[&str]) -> Outcome {
    // KEYCTL_JOIN_SESSION_KEYRING with no name, and a user key in it.
    raw::call(Sysno::keyctl, [1, 0, 0, 0, 0, 0]).map_err(|errno| format!("keyctl: {errno}"))?;
    let (mut kind, mut name) = (c_string("user")?, c_string(KEY)?);
    let mut payload = *b"secret";
    let (name, data) = (name.as_mut_ptr() as usize, payload.as_mut_ptr() as usize);
    let session = usize::MAX - 2;
    let args_of_key = [0, name, data, payload.len(), session, 0];
    raw::call_with(Sysno::add_key, args_of_key, 0, &mut kind)
        .map_err(|errno| format!("add_key: {errno}"))?;
    let error = Command::new(command).args(args).exec();
    Err(format!("{command}: {error}"))
}
