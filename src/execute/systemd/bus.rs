//! A connection to a message bus: its address, who one is, calls and signals.
//!
//! One thread, blocking, with a deadline for everything together. Other
//! programs of the user are on the bus as well, and may send what they like:
//! an answer or a signal counts only when the bus says that it comes from the
//! very connection that was asked.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::wire::{self, Kind, LONGEST, Message, Method, PROLOGUE, Writer};

/// The bus itself, as a sender and as a destination.
const DAEMON: &str = "org.freedesktop.DBus";

/// Signals that come before the answer to a call are kept, this many of them.
const MOST_SIGNALS: usize = 64;

/// The longest line of the handshake; the bus's lines have some forty bytes.
const LONGEST_LINE: usize = 1024;

/// Where a bus is listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket in a file system.
    Path(PathBuf),
    /// A name of Linux's own, without a file.
    Abstract(Vec<u8>),
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection could not be made, or broke.
    Io(std::io::Error),
    /// The bus does not take this user.
    Rejected,
    /// What came is not D-Bus.
    Malformed,
    /// Nothing came in time.
    Timeout,
    /// The call was refused.
    Refused {
        /// The error's name: `org.freedesktop.DBus.Error.AccessDenied`.
        name: String,
        /// The other side's sentence.
        text: String,
    },
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Fault::Timeout,
            _ => Fault::Io(error),
        }
    }
}

impl From<wire::Malformed> for Fault {
    fn from(_: wire::Malformed) -> Self {
        Fault::Malformed
    }
}

/// What talking to a bus gives.
pub(super) type Answer<T> = Result<T, Fault>;

impl Address {
    /// The first address of a list like `unix:path=/run/user/1000/bus,guid=...;...`
    /// that is a Unix socket's.
    pub(super) fn parse(list: &OsStr) -> Option<Self> {
        let mut addresses = list.as_bytes().split(|b| *b == b';');
        addresses.find_map(|address| {
            let mut pairs = address.strip_prefix(b"unix:")?.split(|b| *b == b',');
            pairs.find_map(|pair| {
                if let Some(path) = pair.strip_prefix(b"path=") {
                    Some(Self::Path(OsString::from_vec(unescape(path)?).into()))
                } else {
                    let name = pair.strip_prefix(b"abstract=")?;
                    Some(Self::Abstract(unescape(name)?))
                }
            })
        })
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        match self {
            Self::Path(path) => UnixStream::connect(path),
            Self::Abstract(name) => {
                UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
            }
        }
    }
}

/// `%2f` is a slash.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// A connection that has a name on the bus.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    deadline: Instant,
    /// Signals that came while an answer was awaited.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn connect(address: &Address, patience: Duration) -> Answer<Self> {
        let mut bus = Self {
            stream: address.connect()?,
            serial: 0,
            deadline: Instant::now() + patience,
            signals: Vec::new(),
        };
        // Without a user id: the bus then takes the one the kernel tells it.
        // Inside a user namespace this process does not know that number.
        bus.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = bus.line()?;
            match line.split(|b| *b == b' ').next() {
                Some(b"DATA") => {}
                Some(b"OK") => break,
                _ => return Err(Fault::Rejected),
            }
        }
        bus.ask("Hello", "", Writer::default())?;
        Ok(bus)
    }

    /// Calls a method of the bus itself.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn ask(&mut self, member: &str, signature: &str, body: Writer) -> Answer<Message> {
        let method = Method {
            destination: DAEMON,
            path: "/org/freedesktop/DBus",
            interface: DAEMON,
            member,
        };
        self.call(&method, DAEMON, signature, body)
    }

    /// Calls a method and waits for its answer from `owner`, the connection
    /// that has the name called. A refusal may also come from the bus.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn call(
        &mut self,
        method: &Method<'_>,
        owner: &str,
        signature: &str,
        body: Writer,
    ) -> Answer<Message> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(serial, method, signature, body))?;
        loop {
            let message = self.receive()?;
            let sender = message.sender.as_deref();
            let asked = sender == Some(owner) || sender == Some(DAEMON);
            match message.kind {
                Kind::Signal => self.keep(message),
                Kind::Reply if message.reply_to == Some(serial) && sender == Some(owner) => {
                    return Ok(message);
                }
                Kind::Error if message.reply_to == Some(serial) && asked => {
                    return Err(refusal(message));
                }
                // Somebody else's: not an answer to this.
                _ => {}
            }
        }
    }

    fn keep(&mut self, signal: Message) {
        if self.signals.len() == MOST_SIGNALS {
            self.signals.remove(0);
        }
        self.signals.push(signal);
    }

    /// The next signal of a connection.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn signal(&mut self, owner: &str) -> Answer<Message> {
        loop {
            let message = if self.signals.is_empty() {
                self.receive()?
            } else {
                self.signals.remove(0)
            };
            if message.kind == Kind::Signal && message.sender.as_deref() == Some(owner) {
                return Ok(message);
            }
        }
    }

    /// Gives what comes next this long.
    pub(super) fn be_patient(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    /// What is left of the time, for the next read or write.
    fn hurry(&self) -> Answer<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::Timeout);
        }
        Ok(left)
    }

    /// Writes a whole message.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Answer<()> {
        self.stream.set_write_timeout(Some(self.hurry()?))?;
        Ok(self.stream.write_all(bytes)?)
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Answer<()> {
        while !buffer.is_empty() {
            // For each read: who sends a byte now and then does not hold this up for ever.
            self.stream.set_read_timeout(Some(self.hurry()?))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(Fault::Io(ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// One line of the handshake. Byte by byte, for what follows is not a line.
    fn line(&mut self) -> Answer<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < LONGEST_LINE {
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.push(byte[0]);
            if let Some(line) = line.strip_suffix(b"\r\n") {
                return Ok(line.to_vec());
            }
        }
        Err(Fault::Malformed)
    }

    /// The next message, whoever sent it.
    pub(super) fn receive(&mut self) -> Answer<Message> {
        loop {
            let mut prologue = [0; PROLOGUE];
            self.fill(&mut prologue)?;
            let (size, little) = wire::measure(&prologue)?;
            debug_assert!(size <= LONGEST);
            let mut bytes = vec![0; size];
            bytes[..PROLOGUE].copy_from_slice(&prologue);
            self.fill(&mut bytes[PROLOGUE..])?;
            // systemd writes as its machine does; so this is not from it.
            if little {
                return Ok(wire::parse(&bytes)?);
            }
        }
    }
}

fn refusal(message: Message) -> Fault {
    let text = match message.signature.starts_with('s') {
        true => wire::Reader::new(&message.body).text().unwrap_or_default(),
        false => "",
    };
    Fault::Refused {
        text: text.to_owned(),
        name: message.error.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(list: &str) -> Option<Address> {
        Address::parse(OsStr::new(list))
    }

    #[test]
    fn addresses_as_sessions_give_them() {
        let path = |text: &str| Some(Address::Path(text.into()));
        assert_eq!(
            address("unix:path=/run/user/7/bus"),
            path("/run/user/7/bus")
        );
        assert_eq!(address("unix:path=/a,guid=0123"), path("/a"));
        assert_eq!(address("unix:guid=0123,path=/a%20b"), path("/a b"));
        assert_eq!(address("tcp:host=h;unix:path=/a"), path("/a"));
        assert_eq!(
            address("unix:abstract=/tmp/x"),
            Some(Address::Abstract(b"/tmp/x".to_vec()))
        );
        for none in [
            "",
            "unix:",
            "unix:path=/a%2",
            "unix:path=/a%zz",
            "autolaunch:",
            "/a",
        ] {
            assert_eq!(address(none), None, "{none}");
        }
    }

    /// A bus that says what it is given to say.
    fn fake(words: &[u8]) -> Answer<Bus> {
        let name = format!("capsid-bus-{}-{}", std::process::id(), words.len());
        let listener = std::os::unix::net::UnixListener::bind_addr(
            &SocketAddr::from_abstract_name(&name).unwrap(),
        )
        .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(words).unwrap();
                // Until the client has gone.
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let address = Address::Abstract(name.clone().into_bytes());
            Bus::connect(&address, Duration::from_millis(300))
        })
    }

    #[test]
    fn a_bus_that_is_none_is_left_in_time() {
        assert!(matches!(
            fake(b"REJECTED EXTERNAL\r\n"),
            Err(Fault::Rejected)
        ));
        assert!(matches!(
            fake(b"OK 1\r\nnot D-Bus at all"),
            Err(Fault::Malformed)
        ));
        assert!(matches!(fake(&[b'x'; 2000]), Err(Fault::Malformed)));
        assert!(matches!(fake(b"DATA\r\n"), Err(Fault::Timeout)));
        assert!(matches!(fake(b"DATA\r\nOK 1\r\n"), Err(Fault::Timeout)));
    }
}
