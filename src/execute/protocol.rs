//! What parent and child say to each other: two small enums over one
//! SOCK_SEQPACKET pair, a descriptor beside them where needed. The end of one
//! side is the other's end of file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Call, Check, Failure};
use crate::sys::{self, socket};

/// What the child tells its parent.
#[derive(Debug)]
pub enum ToParent {
    /// Proceed once this process is in its cgroup, or in its resctrl class.
    AwaitCgroup,
    /// Trace this process, then proceed.
    AwaitTracer,
    /// Write the id maps of this process, then proceed.
    IdMaps,
    /// The joiner cloned the container's first process, which is to proceed; its
    /// pid in the parent's namespace.
    Cloned(i32),
    /// Move the network interfaces into this network namespace, then proceed.
    NetDevices(OwnedFd),
    /// The namespaces exist: run the prestart and createRuntime hooks, then proceed.
    RuntimeHooks,
    /// The master side of the container's terminal; proceed once it has its size.
    Console(OwnedFd),
    /// Everything is set up; the process waits for `start`.
    Created,
    /// A pidfd of the process that brings the listener.
    Messenger(OwnedFd),
    /// The filter is loaded; proceed once its listener is where it is to be.
    Listener(OwnedFd),
    /// The next call is execve(2): from here on the end of the socket means success.
    Executing,
    /// A step failed; the child ends.
    Failed {
        /// Its index among the steps that the child walks.
        step: u16,
        /// What failed.
        failure: Failure,
    },
}

/// Words that are no step number: no plan has so many steps.
const ID_MAPS: u16 = 0xffff;
const CLONED: u16 = 0xfffe;
const RUNTIME_HOOKS: u16 = 0xfffd;
const CONSOLE: u16 = 0xfffc;
const CREATED: u16 = 0xfffb;
const EXECUTING: u16 = 0xfffa;

const MESSENGER: u16 = 0xfff9;
const LISTENER: u16 = 0xfff8;
const AWAIT_CGROUP: u16 = 0xfff7;
const AWAIT_TRACER: u16 = 0xfff6;
const NET_DEVICES: u16 = 0xfff5;

const FRAME: usize = 8;

fn frame(word: u16, call: u16, number: i32) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..2].copy_from_slice(&word.to_ne_bytes());
    frame[2..4].copy_from_slice(&call.to_ne_bytes());
    frame[4..].copy_from_slice(&number.to_ne_bytes());
    frame
}

/// Sends one message to the parent; allocates nothing.
pub fn tell_parent(socket: BorrowedFd<'_>, message: &ToParent) -> sys::Result<()> {
    let (word, call, number, fd) = match message {
        ToParent::AwaitCgroup => (AWAIT_CGROUP, 0, 0, None),
        ToParent::AwaitTracer => (AWAIT_TRACER, 0, 0, None),
        ToParent::IdMaps => (ID_MAPS, 0, 0, None),
        ToParent::Cloned(pid) => (CLONED, 0, *pid, None),
        ToParent::RuntimeHooks => (RUNTIME_HOOKS, 0, 0, None),
        ToParent::NetDevices(fd) => (NET_DEVICES, 0, 0, Some(fd.as_fd())),
        ToParent::Console(fd) => (CONSOLE, 0, 0, Some(fd.as_fd())),
        ToParent::Created => (CREATED, 0, 0, None),
        ToParent::Messenger(fd) => (MESSENGER, 0, 0, Some(fd.as_fd())),
        ToParent::Listener(fd) => (LISTENER, 0, 0, Some(fd.as_fd())),
        ToParent::Executing => (EXECUTING, 0, 0, None),
        ToParent::Failed { step, failure } => (*step, failure.call.to_wire(), failure.errno, None),
    };
    socket::send(socket, &frame(word, call, number), fd)
}

/// Receives one message from the child; `None` when it is gone.
pub fn hear_child(socket: BorrowedFd<'_>) -> sys::Result<Option<ToParent>> {
    let mut bytes = [0u8; FRAME];
    let (size, fd) = match socket::receive(socket, &mut bytes) {
        Err(failure) if failure.is(libc::ECONNRESET) => return Ok(None),
        other => other?,
    };
    if size == 0 {
        return Ok(None);
    }
    if size != FRAME {
        return Err(Failure::check(Check::BadMessage));
    }
    let word = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let call = u16::from_ne_bytes([bytes[2], bytes[3]]);
    let number = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let fd = || fd.ok_or(Failure::check(Check::BadMessage));
    Ok(Some(match word {
        AWAIT_CGROUP => ToParent::AwaitCgroup,
        AWAIT_TRACER => ToParent::AwaitTracer,
        ID_MAPS => ToParent::IdMaps,
        CLONED => ToParent::Cloned(number),
        RUNTIME_HOOKS => ToParent::RuntimeHooks,
        NET_DEVICES => ToParent::NetDevices(fd()?),
        CONSOLE => ToParent::Console(fd()?),
        MESSENGER => ToParent::Messenger(fd()?),
        LISTENER => ToParent::Listener(fd()?),
        CREATED => ToParent::Created,
        EXECUTING => ToParent::Executing,
        step => ToParent::Failed {
            step,
            failure: Failure {
                call: Call::from_wire(call),
                errno: number,
            },
        },
    }))
}

/// Hands over the mount that a helper was to make, or tells why there is none.
pub fn tell_made(socket: BorrowedFd<'_>, made: &sys::Result<OwnedFd>) -> sys::Result<()> {
    match made {
        Ok(mount) => socket::send(socket, &frame(0, 0, 0), Some(mount.as_fd())),
        Err(Failure { call, errno }) => {
            socket::send(socket, &frame(0, call.to_wire(), *errno), None)
        }
    }
}

/// Receives it.
pub fn hear_made(socket: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    let mut bytes = [0u8; FRAME];
    let [_, _, a, b, number @ ..] = match socket::receive(socket, &mut bytes)? {
        (FRAME, Some(mount)) => return Ok(mount),
        (FRAME, None) => bytes,
        (0, _) => return Err(Failure::check(Check::PeerGone)),
        _ => return Err(Failure::check(Check::BadMessage)),
    };
    Err(Failure {
        call: Call::from_wire(u16::from_ne_bytes([a, b])),
        errno: i32::from_ne_bytes(number),
    })
}

/// Lets the child go on.
pub fn proceed(socket: BorrowedFd<'_>) -> sys::Result<()> {
    socket::send(socket, b"p", None)
}

/// The same, with a descriptor beside it.
pub fn proceed_with(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> sys::Result<()> {
    socket::send(socket, b"p", Some(fd))
}

/// Waits for [`proceed`]; the parent's end is a failure, for then nobody would
/// clean up after this process.
pub fn await_proceed(socket: BorrowedFd<'_>) -> sys::Result<()> {
    await_proceed_with(socket).map(drop)
}

/// The same, with a descriptor that may come beside it.
pub fn await_proceed_with(socket: BorrowedFd<'_>) -> sys::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    match socket::receive(socket, &mut byte)? {
        (1, beside) if byte == *b"p" => Ok(beside),
        (0, _) => Err(Failure::check(Check::PeerGone)),
        _ => Err(Failure::check(Check::BadMessage)),
    }
}

/// The same under a filter, which may deny recvmsg(2) but hardly read(2). Where
/// it does, the order that waiting keeps is given up.
pub fn await_proceed_filtered(socket: BorrowedFd<'_>) -> sys::Result<()> {
    let mut byte = [0u8; 1];
    match sys::fd::read(socket, &mut byte) {
        Ok(0) => Err(Failure::check(Check::PeerGone)),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use syscalls::Sysno;

    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (parent, child) = socket::pair().unwrap();
        let failure = Failure::of(Sysno::mount_setattr, libc::EPERM);
        tell_parent(child.as_fd(), &ToParent::Failed { step: 513, failure }).unwrap();
        tell_parent(child.as_fd(), &ToParent::Cloned(77)).unwrap();
        let (reader, _writer) = sys::fd::pipe().unwrap();
        tell_parent(child.as_fd(), &ToParent::Console(reader)).unwrap();
        drop(child);
        match hear_child(parent.as_fd()).unwrap() {
            Some(ToParent::Failed {
                step: 513,
                failure: heard,
            }) => assert_eq!(heard, failure),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            hear_child(parent.as_fd()).unwrap(),
            Some(ToParent::Cloned(77))
        ));
        assert!(matches!(
            hear_child(parent.as_fd()).unwrap(),
            Some(ToParent::Console(_))
        ));
        assert!(hear_child(parent.as_fd()).unwrap().is_none());
    }

    #[test]
    fn the_end_of_the_parent_stops_the_child() {
        let (parent, child) = socket::pair().unwrap();
        proceed(parent.as_fd()).unwrap();
        await_proceed(child.as_fd()).unwrap();
        drop(parent);
        let failure = await_proceed(child.as_fd()).unwrap_err();
        assert_eq!(failure, Failure::check(Check::PeerGone));
    }
}
