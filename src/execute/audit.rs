//! Events, written where the policy file says.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use syscalls::Sysno;

use crate::audit::{self, Event, Origin};
use crate::error::{Error, Failure, Result};
use crate::host;
use crate::policy::Sink;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::{signal, socket};

/// Where the journal takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How long a journal that does not read may keep a container waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who calls; `time` is now, in RFC 3339.
pub fn origin(time: String) -> Origin {
    let text = |path: &str| {
        let text = host::text(path);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        (!text.is_empty()).then(|| text.to_owned())
    };
    let caller = signal::parent();
    // The number that means nobody.
    let login = text("/proc/self/loginuid").and_then(|login| login.parse().ok());
    Origin {
        time,
        uid: nix::unistd::getuid().as_raw(),
        login: login.filter(|login| *login != u32::MAX),
        caller,
        program: text(&format!("/proc/{caller}/comm")),
    }
}

/// Writes events down. `Ok(false)`: there is a file, and an ordinary user may not
/// write to it.
///
/// # Errors
/// [`Error::Missing`] for a file that others could write; [`Error::System`].
pub fn write(sink: &Sink, origin: &Origin, events: &[Event<'_>]) -> Result<bool> {
    let lines: Vec<String> = events
        .iter()
        .map(|event| audit::line(event, origin))
        .collect();
    match sink {
        Sink::Off => Ok(true),
        Sink::File(path) => append(path, &lines),
        Sink::Journal => {
            let journal = connect()?;
            for (event, line) in events.iter().zip(&lines) {
                send(&journal, &audit::journal_entry(event, line))?;
            }
            Ok(true)
        }
    }
}

/// Appends lines, each with one write(2): O_APPEND makes it the whole line or, on
/// a full disk, its beginning. The file is opened anew each time, so it may be
/// renamed at any time to begin another.
fn append(path: &Path, lines: &[String]) -> Result<bool> {
    let failed =
        |doing: &'static str| move |failure: Failure| Error::system(doing, path.display(), failure);
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Usage(format!("{}: a NUL in a path", path.display())))?;
    // Whoever put a pipe in its place must not make capsid wait.
    let flags =
        libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match fd::open_mode(At::Cwd, &name, flags, 0o600, Resolve::NO_MAGICLINKS) {
        Err(failure) if matches!(failure.errno, libc::EACCES | libc::EROFS) && !is_root() => {
            return Ok(false);
        }
        opened => opened.map_err(failed("write events to"))?,
    };
    let found = fd::stat(file.as_fd()).map_err(failed("look at"))?;
    let own = nix::unistd::geteuid().as_raw();
    if !found.is(libc::S_IFREG) || found.uid != own || found.mode & 0o022 != 0 {
        return Err(Error::Missing {
            doing: format!("write events to {}", path.display()),
            missing: format!("it must be a regular file of user {own} that nobody else may write"),
            repair: "remove it, and capsid makes it anew".into(),
        });
    }
    for line in lines {
        let written =
            fd::write(file.as_fd(), line.as_bytes()).map_err(failed("write events to"))?;
        if written < line.len() {
            // So that the next one begins a line; if that fails too, it is found all the same.
            let _ = fd::write(file.as_fd(), b"\n");
            return Err(failed("write events to")(Failure::of(
                Sysno::write,
                libc::ENOSPC,
            )));
        }
    }
    Ok(true)
}

/// Root of the machine, who is to see that its file cannot be written.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root() && !host::in_user_namespace()
}

fn connect() -> Result<UnixDatagram> {
    let failed =
        |call| move |error: io::Error| Error::io("reach the journal at", JOURNAL, call, &error);
    let journal = UnixDatagram::unbound().map_err(failed(Sysno::socket))?;
    let patient = journal.set_write_timeout(Some(PATIENCE));
    patient.map_err(failed(Sysno::setsockopt))?;
    journal.connect(JOURNAL).map_err(failed(Sysno::connect))?;
    Ok(journal)
}

/// Sends an entry; one that is too large for a datagram as a sealed file in memory.
fn send(journal: &UnixDatagram, entry: &[u8]) -> Result<()> {
    let failed = |failure| Error::system("write an event to", "the journal", failure);
    match journal.send(entry) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
            send_in_memory(journal, entry).map_err(failed)
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Err(failed(Failure::of(Sysno::sendto, errno)))
        }
    }
}

fn send_in_memory(journal: &UnixDatagram, entry: &[u8]) -> crate::sys::Result<()> {
    let file = fd::memory_file(c"capsid-event", libc::MFD_ALLOW_SEALING)?;
    let mut rest = entry;
    while !rest.is_empty() {
        let written = fd::write(file.as_fd(), rest)?;
        rest = &rest[written..];
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    fd::seal(file.as_fd(), seals)?;
    socket::send(journal.as_fd(), &[], Some(file.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_no_datagram_can_carry_goes_by_descriptor() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let entry = vec![b'x'; 3 << 20];
        send(&ours, &entry).unwrap();
        let (size, file) = socket::receive(theirs.as_fd(), &mut [0; 16]).unwrap();
        let file = file.expect("a descriptor comes along");
        let seals = fd::seals(file.as_fd()).unwrap();
        assert_eq!((size, seals & libc::F_SEAL_WRITE), (0, libc::F_SEAL_WRITE));
        let mut read = Vec::new();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        std::fs::File::open(path)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, entry);
        send(&ours, b"small").unwrap();
        let mut buffer = [0; 16];
        let (size, file) = socket::receive(theirs.as_fd(), &mut buffer).unwrap();
        assert!(file.is_none());
        assert_eq!(&buffer[..size], b"small");
    }
}
