//! Host-side helpers that need raw descriptors: the receiver of a console or
//! pidfd socket, and a terminal for a foreground run.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use serde_json::json;
use syscalls::Sysno;

use crate::act::{c_string, number, say};
use crate::{Outcome, raw};

fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options
        .windows(2)
        .find(|pair| pair[0] == name)
        .map(|pair| pair[1])
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let (rows, columns) = text
        .split_once('x')
        .ok_or_else(|| format!("{text}: not ROWSxCOLUMNS"))?;
    Ok((number(rows)?, number(columns)?))
}

/// Listens, says READY, takes one descriptor and describes it. A terminal is
/// then relayed to standard output until its other side is gone.
pub(crate) fn receive(socket: &str, options: &[&str]) -> Outcome {
    let listener = UnixListener::bind(socket).map_err(|error| format!("{socket}: {error}"))?;
    say("READY");
    let (stream, _) = listener
        .accept()
        .map_err(|error| format!("accept: {error}"))?;
    let (payload, mut descriptors) = raw::receive_fd(&stream)?;
    let count = descriptors.len();
    let Some(descriptor) = descriptors.pop() else {
        return Err(format!("{} bytes came without a descriptor", payload.len()));
    };
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let target = std::fs::read_link(&path).unwrap_or_default();
    let meta = std::fs::metadata(&path).map_err(|error| format!("{path}: {error}"))?;
    let info = path.replace("/fd/", "/fdinfo/");
    let window = raw::window_size(descriptor.as_raw_fd()).ok();
    say(&json!({
        "payload": String::from_utf8_lossy(&payload),
        "descriptors": count,
        "target": target.to_string_lossy(),
        "char": meta.file_type().is_char_device(),
        "major": libc::major(meta.rdev()),
        "minor": libc::minor(meta.rdev()),
        "number": pty_number(&descriptor),
        "rows": window.map(|window| window.0),
        "columns": window.map(|window| window.1),
        "fdinfo": std::fs::read_to_string(info).unwrap_or_default(),
    })
    .to_string());
    match window {
        Some(_) => relay(File::from(descriptor), options),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn pty_number(descriptor: &OwnedFd) -> Option<u32> {
    let mut number = [0u8; 4];
    raw::ioctl(descriptor.as_raw_fd(), libc::TIOCGPTN, &mut number).ok()?;
    Some(u32::from_ne_bytes(number))
}

/// Copies a terminal's output; the options act once the program has said something.
fn relay(mut terminal: File, options: &[&str]) -> Outcome {
    let mut buffer = [0u8; 4096];
    let mut acted = false;
    // EIO is how a pty says that its other side is closed.
    while let Ok(length) = terminal.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&buffer[..length])
            .map_err(|error| format!("standard output: {error}"))?;
        out.flush()
            .map_err(|error| format!("standard output: {error}"))?;
        drop(out);
        if !acted {
            acted = true;
            if let Some(text) = option(options, "--resize") {
                let (rows, columns) = size(text)?;
                raw::set_window_size(terminal.as_raw_fd(), rows, columns)
                    .map_err(|errno| format!("TIOCSWINSZ: {errno}"))?;
            }
            if let Some(text) = option(options, "--input") {
                terminal
                    .write_all(text.as_bytes())
                    .map_err(|error| format!("terminal: {error}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command on a new terminal of the given size and ends as it ends.
pub(crate) fn pty(text: &str, options: &[&str]) -> Outcome {
    let (rows, columns) = size(text)?;
    let split = options
        .iter()
        .position(|word| *word == "--")
        .ok_or("no -- before the command")?;
    let (options, command) = (&options[..split], &options[split + 1..]);
    let io = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let leader = File::options()
        .read(true)
        .write(true)
        .open("/dev/ptmx")
        .map_err(io("/dev/ptmx"))?;
    raw::ioctl(leader.as_raw_fd(), libc::TIOCSPTLCK, &mut [0u8; 4])
        .map_err(|errno| format!("TIOCSPTLCK: {errno}"))?;
    raw::set_window_size(leader.as_raw_fd(), rows, columns)
        .map_err(|errno| format!("TIOCSWINSZ: {errno}"))?;
    let leader = OwnedFd::from(leader);
    let number = pty_number(&leader).ok_or("TIOCGPTN failed")?;
    let name = format!("/dev/pts/{number}");
    // As the leader of a session the probe would keep it for itself.
    let follower = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(&name)
        .map_err(io("/dev/pts"))?;
    let again = || follower.try_clone().map_err(io("dup"));
    let own = std::env::current_exe().map_err(io("own program"))?;
    let mut child = Command::new(own)
        .arg("pty-child")
        .args(command)
        .stdin(Stdio::from(again()?))
        .stdout(Stdio::from(again()?))
        .stderr(Stdio::from(again()?))
        .spawn()
        .map_err(io("spawn"))?;
    drop(follower);
    relay(File::from(leader), options)?;
    let status = child.wait().map_err(io("wait"))?;
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(98);
    Ok(ExitCode::from(code))
}

/// Makes the terminal on standard input its controlling one, then becomes the command.
pub(crate) fn pty_child(command: &str, args: &[&str]) -> Outcome {
    raw::call(Sysno::setsid, [0; 6]).map_err(|errno| format!("setsid: {errno}"))?;
    let request = usize::try_from(libc::TIOCSCTTY).unwrap_or(usize::MAX);
    raw::call(Sysno::ioctl, [0, request, 0, 0, 0, 0])
        .map_err(|errno| format!("TIOCSCTTY: {errno}"))?;
    let error = Command::new(command).args(args).exec();
    Err(format!("{command}: {error}"))
}

/// Listens on an abstract socket of the network namespace until it is ended.
pub(crate) fn abstract_listen(name: &str) -> Outcome {
    let listening = SocketAddr::from_abstract_name(name)
        .and_then(|address| UnixListener::bind_addr(&address))
        .map_err(|error| format!("{name}: {error}"))?;
    say("READY");
    for connection in listening.incoming() {
        drop(connection);
    }
    Ok(ExitCode::SUCCESS)
}

/// The service manager's end of NOTIFY_SOCKET: prints every datagram.
pub(crate) fn notify_listen(socket: &str) -> Outcome {
    let receiver = UnixDatagram::bind(socket).map_err(|error| format!("{socket}: {error}"))?;
    say("READY");
    let mut buffer = [0u8; 4096];
    loop {
        let length = receiver
            .recv(&mut buffer)
            .map_err(|error| format!("recv: {error}"))?;
        say(&json!({ "datagram": String::from_utf8_lossy(&buffer[..length]) }).to_string());
    }
}

/// Has the kernel keep a file to its digest, from here on (`FS_IOC_ENABLE_VERITY`): that of
/// SHA-256 with blocks of 4096 bytes, after a salt.
pub(crate) fn enable_verity(file: &str, salt: &str) -> Outcome {
    const ENABLE: usize = 0x4080_6685;
    /// `struct fsverity_enable_arg`.
    #[repr(C)]
    struct Enable {
        version: u32,
        algorithm: u32,
        block_size: u32,
        salt_size: u32,
        salt: usize,
        signature_size: u32,
        reserved: u32,
        signature: usize,
        more: [u64; 11],
    }
    let opened = File::open(file).map_err(|error| format!("{file}: {error}"))?;
    let request = Enable {
        version: 1,
        algorithm: 1,
        block_size: 4096,
        salt_size: number(&salt.len().to_string())?,
        salt: salt.as_ptr().addr(),
        signature_size: 0,
        reserved: 0,
        signature: 0,
        more: [0; 11],
    };
    let fd = number(&opened.as_raw_fd().to_string())?;
    let at = (&raw const request).addr();
    raw::call(Sysno::ioctl, [fd, ENABLE, at, 0, 0, 0])
        .map_err(|errno| format!("{file}: FS_IOC_ENABLE_VERITY: {errno}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Gives a file CAP_NET_RAW, permitted and effective.
pub(crate) fn set_capability(file: &str) -> Outcome {
    // struct vfs_cap_data: VFS_CAP_REVISION_2 and VFS_CAP_FLAGS_EFFECTIVE, permitted, inheritable.
    let data = [0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le);
    let (path, name) = (c_string(file)?, c"security.capability");
    let at = [path.as_ptr().addr(), name.as_ptr().addr()];
    let value = (&raw const data).addr();
    raw::call(
        Sysno::setxattr,
        [at[0], at[1], value, size_of_val(&data), 0, 0],
    )
    .map_err(|errno| format!("{file}: security.capability: {errno}"))?;
    Ok(ExitCode::SUCCESS)
}
