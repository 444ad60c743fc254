//! `probe report`: one JSON document with everything a process can see of its container.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use serde_json::{Value, json};
use syscalls::Sysno;

use crate::act::{errno_name, say};
use crate::{Outcome, raw, view};

pub(crate) fn print(options: &[&str]) -> Outcome {
    let asked = |flag: &str| -> Vec<&str> {
        options
            .windows(2)
            .filter(|pair| pair[0] == flag)
            .map(|pair| pair[1])
            .collect()
    };
    // First of all: nothing this program opens may be taken for a leak.
    let fds = view::descriptors();
    let mut document = identity();
    let parts = [
        json!({ "fds": fds, "mounts": view::mounts("self"), "dev": view::devices(&asked("--dev")) }),
        surroundings(),
        scheduling(),
        limits(),
        json!({
            "sysctl": asked("--sysctl").into_iter().map(|key| (key.to_owned(), sysctl(key))).collect::<BTreeMap<_, _>>(),
            "peek": asked("--peek").into_iter().map(|path| (path.to_owned(), view::peek(path))).collect::<BTreeMap<_, _>>(),
        }),
    ];
    for part in parts {
        if let (Value::Object(all), Value::Object(more)) = (&mut document, part) {
            all.extend(more);
        }
    }
    say(&document.to_string());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn argv() -> Vec<String> {
    std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}

/// `/proc/self/environ` keeps order and duplicates, which libc's view may not.
pub(crate) fn environment() -> Vec<String> {
    match fs::read("/proc/self/environ") {
        Ok(bytes) => bytes
            .split(|byte| *byte == 0)
            .filter(|entry| !entry.is_empty())
            .map(|entry| String::from_utf8_lossy(entry).into_owned())
            .collect(),
        Err(_) => std::env::vars_os()
            .map(|(key, value)| {
                let entry = [key.as_bytes(), b"=", value.as_bytes()].concat();
                String::from_utf8_lossy(&entry).into_owned()
            })
            .collect(),
    }
}

/// The lines of /proc/self/status.
pub(crate) fn status() -> BTreeMap<String, String> {
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

fn numbers(text: Option<&String>) -> Vec<i64> {
    text.map(|text| {
        text.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    })
    .unwrap_or_default()
}

fn identity() -> Value {
    let status = status();
    let number = |key: &str| numbers(status.get(key)).first().copied();
    let sets = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| {
        let mask = status.get(&format!("Cap{set}")).map_or("", String::as_str);
        (set.to_lowercase(), capabilities(mask))
    });
    json!({
        "argv": argv(),
        "env": environment(),
        "cwd": view::cwd(),
        // real, effective, saved, file system
        "uids": numbers(status.get("Uid")),
        "gids": numbers(status.get("Gid")),
        "groups": numbers(status.get("Groups")),
        "umask": status.get("Umask"),
        "capabilities": BTreeMap::from(sets),
        "no_new_privs": number("NoNewPrivs"),
        "seccomp": number("Seccomp"),
        "seccomp_filters": number("Seccomp_filters"),
        "pid": std::process::id(),
        "ppid": view::stat_field(4),
        "pgid": view::stat_field(5),
        "sid": view::stat_field(6),
        "controlling_terminal": view::controlling_terminal(),
        "tty": view::terminal(),
        "threads": number("Threads"),
    })
}

/// Names by capability number, from linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capabilities(mask: &str) -> Vec<String> {
    let mask = u64::from_str_radix(mask, 16).unwrap_or(0);
    (0..64)
        .filter(|bit| mask & (1 << bit) != 0)
        .map(|bit: usize| {
            let name = CAPABILITIES
                .get(bit)
                .map_or_else(|| bit.to_string(), |name| (*name).to_owned());
            format!("CAP_{name}")
        })
        .collect()
}

fn text(path: &str) -> Value {
    match fs::read_to_string(path) {
        Ok(text) => json!(text.trim_end()),
        Err(error) => json!({ "error": errno_name(&error) }),
    }
}

fn sysctl(key: &str) -> Value {
    text(&format!("/proc/sys/{}", key.replace('.', "/")))
}

fn surroundings() -> Value {
    json!({
        "namespaces": view::namespaces("self"),
        "hostname": text("/proc/sys/kernel/hostname"),
        "domainname": text("/proc/sys/kernel/domainname"),
        "cgroup": text("/proc/self/cgroup"),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        "timens_offsets": text("/proc/self/timens_offsets"),
        "monotonic": raw::clock(libc::CLOCK_MONOTONIC),
        "boottime": raw::clock(libc::CLOCK_BOOTTIME),
        "apparmor": text("/proc/self/attr/apparmor/current"),
        "loopback_up": loopback_up(),
        "session_keyring": session_keyring(),
        "exe": fs::read_link("/proc/self/exe").map_or(Value::Null, |path| json!(path.to_string_lossy())),
    })
}

fn loopback_up() -> Option<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // struct ifreq: a name of 16 bytes, then the flags.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    raw::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request).ok()?;
    Some(u16::from_ne_bytes([request[16], request[17]]) & 1 == 1)
}

/// Serial number of the session keyring (KEYCTL_GET_KEYRING_ID 0, session -3).
fn session_keyring() -> Value {
    let session = usize::MAX - 2;
    match raw::call(Sysno::keyctl, [0, session, 0, 0, 0, 0]) {
        Ok(serial) => json!(serial),
        Err(errno) => json!({ "error": errno.name() }),
    }
}

fn scheduling() -> Value {
    let mut attributes = [0u8; 56];
    let got = raw::call_with(
        Sysno::sched_getattr,
        [0, 0, 56, 0, 0, 0],
        1,
        &mut attributes,
    );
    let word = |at: usize| {
        u32::from_ne_bytes([
            attributes[at],
            attributes[at + 1],
            attributes[at + 2],
            attributes[at + 3],
        ])
    };
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let scheduler = got.is_ok().then(|| {
        json!({
            "policy": word(4),
            "flags": long(8),
            "nice": word(16).cast_signed(),
            "priority": word(20),
            "runtime": long(24),
            "deadline": long(32),
            "period": long(40),
        })
    });
    // IOPRIO_WHO_PROCESS is 1; the class stands above bit 13.
    let priority = raw::call(Sysno::ioprio_get, [1, 0, 0, 0, 0, 0]).ok();
    let mut cpus = [0u8; 128];
    let length =
        raw::call_with(Sysno::sched_getaffinity, [0, 128, 0, 0, 0, 0], 2, &mut cpus).unwrap_or(0);
    let affinity: Vec<usize> = (0..length * 8)
        .filter(|cpu| cpus[cpu / 8] & (1 << (cpu % 8)) != 0)
        .collect();
    json!({
        "scheduler": scheduler,
        "ioprio": priority.map(|value| json!({ "class": value >> 13, "level": value & 7 })),
        "personality": raw::call(Sysno::personality, [0xffff_ffff, 0, 0, 0, 0, 0]).ok(),
        "affinity": affinity,
    })
}

/// Names by resource number, from asm-generic/resource.h.
const LIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

fn limits() -> Value {
    let mut found = BTreeMap::new();
    for (resource, name) in LIMITS.iter().enumerate() {
        let mut pair = [0u8; 16];
        if raw::call_with(Sysno::prlimit64, [0, resource, 0, 0, 0, 0], 3, &mut pair).is_ok() {
            let half = |at: usize| {
                let mut bytes = [0u8; 8];
                bytes.copy_from_slice(&pair[at..at + 8]);
                u64::from_ne_bytes(bytes)
            };
            found.insert(format!("RLIMIT_{name}"), [half(0), half(8)]);
        }
    }
    json!({ "rlimits": found })
}
