//! Commands that do one thing and say how it went: `ok`, or the error's name.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};
use syscalls::{Errno, Sysno};

use crate::{Outcome, raw, report, view};

/// A number from the command line.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text}: not a number that fits"))
}

/// A line on standard output, at once: tests wait for it.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // A closed standard output must not change what is tried next.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// The name of an error number: `EPERM`.
pub(crate) fn errno_name(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| {
            Errno::new(number)
                .name()
                .map_or_else(|| number.to_string(), str::to_owned)
        },
    )
}

/// `ok` and exit code 0, or the error's name and exit code 1.
pub(crate) fn named<T>(result: io::Result<T>) -> Outcome {
    match result {
        Ok(_) => {
            say("ok");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            say(&errno_name(&error));
            Ok(ExitCode::FAILURE)
        }
    }
}

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ABRT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("TERM", libc::SIGTERM),
];

fn as_arg(number: i32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(crate) fn signal_self(name: &str) -> Outcome {
    let known = SIGNALS.iter().find(|(known, _)| *known == name);
    let signal = match known {
        Some((_, number)) => *number,
        None => number(name)?,
    };
    let pid = std::process::id() as usize;
    raw::call(Sysno::kill, [pid, as_arg(signal), 0, 0, 0, 0])
        .map_err(|errno| format!("kill: {errno}"))?;
    Err(format!("signal {name} did not end this process"))
}

/// Listens on loopback, and says a text to the first that connects.
pub(crate) fn serve(port: &str, text: &str) -> Outcome {
    let port: u16 = number(port)?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port));
    let listener = listener.map_err(|error| format!("bind: {error}"))?;
    say("LISTENING");
    let (mut connection, _) = listener.accept().map_err(|e| format!("accept: {e}"))?;
    std::io::Write::write_all(&mut connection, text.as_bytes())
        .map_err(|error| format!("write: {error}"))?;
    // The network ends with this process: not before the other side has it all.
    connection
        .shutdown(std::net::Shutdown::Write)
        .and_then(|()| connection.read_to_end(&mut Vec::new()))
        .map_err(|error| format!("waiting for the other side: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn sleep(seconds: u64) -> Outcome {
    say("READY");
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(ExitCode::SUCCESS)
}

/// Blocks signals and takes them one by one: blocked, they reach even the first
/// process of a pid namespace. TERM ends it with 42, HUP with 41, anything else is printed.
pub(crate) fn sleep_trap() -> Outcome {
    let mut set = u64::MAX.to_ne_bytes();
    let block = as_arg(libc::SIG_BLOCK);
    raw::call_with(Sysno::rt_sigprocmask, [block, 0, 0, 8, 0, 0], 1, &mut set)
        .map_err(|errno| format!("rt_sigprocmask: {errno}"))?;
    say("READY");
    loop {
        let mut set = u64::MAX.to_ne_bytes();
        match raw::call_with(Sysno::rt_sigtimedwait, [0, 0, 0, 8, 0, 0], 0, &mut set) {
            Ok(signal) if signal == as_arg(libc::SIGTERM) => return Ok(ExitCode::from(42)),
            Ok(signal) if signal == as_arg(libc::SIGWINCH) => {
                let size = raw::window_size(0).unwrap_or((0, 0));
                say(&format!("WINCH {}x{}", size.0, size.1));
            }
            // The terminal is gone: nobody is left to ask this program to end.
            Ok(signal) if signal == as_arg(libc::SIGHUP) => return Ok(ExitCode::from(41)),
            Ok(signal) => say(&format!("SIGNAL {signal}")),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("rt_sigtimedwait: {errno}")),
        }
    }
}

pub(crate) fn cat(file: &str) -> Outcome {
    match fs::read(file) {
        Ok(content) => {
            let _ = io::stdout().write_all(&content);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => named::<()>(Err(error)),
    }
}

/// Opens without creating: whether a control file may be written is the question.
pub(crate) fn write(file: &str, text: &str) -> Outcome {
    let existing = fs::symlink_metadata(file).is_ok();
    let mut options = fs::OpenOptions::new();
    options.write(true).create(!existing);
    named(
        options
            .open(file)
            .and_then(|mut open| open.write_all(text.as_bytes())),
    )
}

/// Opens without truncating or creating.
pub(crate) fn append(file: &str, text: &str) -> Outcome {
    let open = fs::OpenOptions::new().append(true).open(file);
    named(open.and_then(|mut open| open.write_all(text.as_bytes())))
}

/// Connects to an abstract socket of the network namespace.
pub(crate) fn abstract_connect(name: &str) -> Outcome {
    let address = SocketAddr::from_abstract_name(name);
    named(address.and_then(|address| UnixStream::connect_addr(&address)))
}

pub(crate) fn try_open(file: &str) -> Outcome {
    named(fs::File::open(file).and_then(|mut open| open.read(&mut [0u8; 1])))
}

pub(crate) fn env(name: &str) -> Outcome {
    match std::env::var_os(name) {
        Some(value) => say(&format!("{name}={}", value.to_string_lossy())),
        None => say(&format!("{name} is not set")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Type, device number, mode and owner of a file, without following a link.
pub(crate) fn describe(path: &str) -> io::Result<Value> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let word = match () {
        () if kind.is_symlink() => "link",
        () if kind.is_dir() => "dir",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    Ok(json!({
        "type": word,
        "major": libc::major(meta.rdev()),
        "minor": libc::minor(meta.rdev()),
        "mode": format!("{:04o}", meta.mode() & 0o7777),
        "uid": meta.uid(),
        "gid": meta.gid(),
        "size": meta.size(),
        "inode": meta.ino(),
        "link": fs::read_link(path).ok().map(|to| to.to_string_lossy().into_owned()),
    }))
}

pub(crate) fn stat(file: &str) -> Outcome {
    match describe(file) {
        Ok(facts) => {
            say(&facts.to_string());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => named::<()>(Err(error)),
    }
}

pub(crate) fn list(dir: &str) -> Outcome {
    match fs::read_dir(dir) {
        Ok(entries) => {
            let mut names: Vec<String> = entries
                .filter_map(Result::ok)
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            say(&json!(names).to_string());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => named::<()>(Err(error)),
    }
}

pub(crate) fn c_string(text: &str) -> Result<Vec<u8>, String> {
    CString::new(text)
        .map(CString::into_bytes_with_nul)
        .map_err(|_| format!("{text:?}: has a NUL byte"))
}

pub(crate) fn print_call(result: Result<usize, Errno>) -> Outcome {
    match result {
        Ok(value) => {
            say(&format!("ok {value}"));
            Ok(ExitCode::SUCCESS)
        }
        Err(errno) => {
            say(errno.name().unwrap_or("unnamed error"));
            Ok(ExitCode::FAILURE)
        }
    }
}

pub(crate) fn mknod(path: &str, kind: &str, major: &str, minor: &str) -> Outcome {
    let kind = match kind {
        "b" => libc::S_IFBLK,
        "c" => libc::S_IFCHR,
        _ => libc::S_IFIFO,
    };
    let device = libc::makedev(number(major)?, number(minor)?);
    let device = usize::try_from(device).map_err(|_| "device number too large".to_owned())?;
    let mut path = c_string(path)?;
    // AT_FDCWD is -100: the calls take it as a sign-extended word.
    let here = usize::MAX - 99;
    let mode = (kind | 0o600) as usize;
    print_call(raw::call_with(
        Sysno::mknodat,
        [here, 0, mode, device, 0, 0],
        1,
        &mut path,
    ))
}

/// Opens the root directory of the file system that a file is on by its number,
/// past every directory in between: `shocker`, the attack on Docker of 2014.
pub(crate) fn shocker(file: &str) -> Outcome {
    let open = fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
    // struct file_handle: eight bytes, of the type that has inode and generation.
    let mut handle = [0u8; 16];
    handle[0] = 8;
    handle[4] = 1;
    handle[8] = 2;
    let fd = raw::fd_arg(std::os::fd::AsRawFd::as_raw_fd(&open));
    print_call(raw::call_with(
        Sysno::open_by_handle_at,
        [fd, 0, 0, 0, 0, 0],
        1,
        &mut handle,
    ))
}

/// What a hook of a vendor does: mounts something into the container's root.
pub(crate) fn mount_tmpfs(dir: &str) -> Outcome {
    let mut kind = c_string("tmpfs")?;
    let mut target = c_string(dir)?;
    let kind = kind.as_mut_ptr() as usize;
    print_call(raw::call_with(
        Sysno::mount,
        [kind, 0, kind, 0, 0, 0],
        1,
        &mut target,
    ))
}

/// Starts children that wait, until the kernel refuses or `count` are alive.
pub(crate) fn fork(count: u32) -> Outcome {
    for made in 0..count {
        match raw::fork() {
            Ok(Some(_)) => {}
            Ok(None) => {
                std::thread::sleep(Duration::from_secs(3600));
                return Ok(ExitCode::SUCCESS);
            }
            Err(errno) => {
                say(&format!(
                    "{made} {}",
                    errno.name().unwrap_or("unnamed error")
                ));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    say(&format!("{count} ok"));
    Ok(ExitCode::SUCCESS)
}

/// As an OCI hook: records everything it was given, then waits and ends as told.
pub(crate) fn hook(file: &str, code: &str, seconds: &str) -> Outcome {
    let mut input = String::new();
    io::stdin()
        .read_to_string(&mut input)
        .map_err(|error| format!("standard input: {error}"))?;
    let record = json!({
        "stdin": input,
        "state": serde_json::from_str::<Value>(&input).unwrap_or(Value::Null),
        "argv": report::argv(),
        "env": report::environment(),
        "cwd": view::cwd(),
        "pid": std::process::id(),
        "namespaces": view::namespaces("self"),
        "fds": view::descriptors(),
        "root": describe("/").unwrap_or(Value::Null),
        "mounts": view::mounts("self"),
        "start": fs::read_to_string("/proc/uptime").unwrap_or_default(),
    });
    let line = format!("{record}\n");
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut open| open.write_all(line.as_bytes()))
        .map_err(|error| format!("{file}: {error}"))?;
    let _ = writeln!(io::stderr(), "probe hook says {code}");
    std::thread::sleep(Duration::from_secs(number(seconds)?));
    Ok(ExitCode::from(number::<u8>(code)?))
}

/// What a socket-activated service sees, and an answer on the first socket.
pub(crate) fn listen() -> Outcome {
    let count: i32 = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let kinds: Vec<Value> = (3..3 + count).map(view::descriptor).collect();
    say(&json!({
        "LISTEN_FDS": std::env::var("LISTEN_FDS").ok(),
        "LISTEN_PID": std::env::var("LISTEN_PID").ok(),
        "LISTEN_FDNAMES": std::env::var("LISTEN_FDNAMES").ok(),
        "pid": std::process::id(),
        "passed": kinds,
        "fds": view::descriptors(),
    })
    .to_string());
    if count > 0 {
        let listener = raw::inherited(3);
        let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(listener));
        let (mut peer, _) = listener
            .accept()
            .map_err(|error| format!("accept: {error}"))?;
        peer.write_all(b"hello from the container\n")
            .map_err(|error| format!("write: {error}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The terminal as the program sees it; then window changes until TERM.
pub(crate) fn console() -> Outcome {
    let size = raw::window_size(0);
    say(&json!({
        "tty": view::terminal(),
        "isatty": [view::is_terminal(0), view::is_terminal(1), view::is_terminal(2)],
        "rows": size.map_or(0, |size| size.0),
        "columns": size.map_or(0, |size| size.1),
        "console": describe("/dev/console").unwrap_or(Value::Null),
        "stdin": view::descriptor(0),
        "controlling": view::controlling_terminal(),
        "sid_is_own": raw::call(Sysno::getsid, [0; 6]) == Ok(std::process::id() as usize),
    })
    .to_string());
    sleep_trap()
}

/// What a service does when it is ready: one datagram to NOTIFY_SOCKET.
pub(crate) fn notify(text: &str) -> Outcome {
    let socket =
        std::env::var("NOTIFY_SOCKET").map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
    let sender =
        std::os::unix::net::UnixDatagram::unbound().map_err(|error| format!("socket: {error}"))?;
    named(sender.send_to(text.as_bytes(), socket))?;
    sleep_trap()
}
