//! Moves network interfaces of the host into the container's network namespace,
//! and back if the container does not come to be.
//!
//! Addresses are lost in a move, so they are read before and given again. What
//! else is configured, such as routes and neighbours, is not the runtime's.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::own_namespace;
use super::parent::open_procfs;
use crate::error::{Error, Failure, Result};
use crate::log;
use crate::plan::net_devices::NetDevice;
use crate::plan::netlink::{self, Address, Link};
use crate::spec::namespaces::Kind;
use crate::sys::fd;
use crate::sys::{self, net, process};

/// Makes sure that each is there, before anything is done.
///
/// # Errors
/// [`Error::Missing`] names the first that is not.
pub fn check(devices: &[NetDevice]) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let own = routing()?;
    devices
        .iter()
        .try_for_each(|device| device_of(&own, device).map(drop))
}

/// A network namespace, and the way to ask the kernel about it.
#[derive(Debug)]
struct Place {
    namespace: OwnedFd,
    socket: OwnedFd,
}

/// An interface that was moved, and how it was.
#[derive(Debug)]
struct Moved {
    device: NetDevice,
    /// Its number in the container's namespace.
    index: i32,
    up: bool,
    addresses: Vec<Address>,
}

/// The interfaces that are in the container's namespace now.
#[derive(Debug)]
pub struct Borrowed {
    host: Place,
    inside: Place,
    moved: Vec<Moved>,
}

impl Borrowed {
    /// Moves all of them into a namespace; on failure none is there.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::System`], with the interface.
    pub fn take(devices: &[NetDevice], namespace: OwnedFd) -> Result<Self> {
        let own = own_namespace::open(open_procfs()?.as_fd(), Kind::Network)
            .map_err(|failure| Error::system("open", "the own network namespace", failure))?;
        refuse_same(&own, &namespace)?;
        let socket = routing_in(&own, &namespace)?;
        let mut all = Self {
            host: Place {
                namespace: own,
                socket: routing()?,
            },
            inside: Place { namespace, socket },
            moved: Vec::new(),
        };
        for device in devices {
            if let Err(error) = all.take_one(device) {
                all.give_back();
                return Err(error);
            }
        }
        Ok(all)
    }

    fn take_one(&mut self, device: &NetDevice) -> Result<()> {
        let failed = |failure| Error::system("move", words(device), failure);
        let link = device_of(&self.host.socket, device)?;
        // One of that name there is never touched: the kernel would notice it
        // only after the move.
        self.refuse_taken(device, &device.inside)?;
        // Found again by a name that nobody else gives: the number can change,
        // and of a template the kernel alone knows what becomes of it.
        let between = format!("capsid{}", link.index);
        self.refuse_taken(device, &between)?;
        let addresses = self.host.addresses(link.index).map_err(failed)?;
        self.host
            .send(&self.inside, link.index, &between)
            .map_err(failed)?;
        let index = self.inside.find(&between).map_err(failed)?.index;
        // From here on it is there, and has to come back if anything fails.
        self.moved.push(Moved {
            device: device.clone(),
            index,
            up: link.up,
            addresses: addresses.clone(),
        });
        let failed = |failure| Error::system("set up", words(device), failure);
        let rename = netlink::rename(index, &device.inside);
        net::ask(self.inside.socket.as_fd(), &rename).map_err(failed)?;
        self.inside
            .configure(index, true, &addresses)
            .map_err(failed)
    }

    /// Fails where the container's namespace has an interface of a name. No
    /// interface has that of a template.
    fn refuse_taken(&self, device: &NetDevice, name: &str) -> Result<()> {
        match self.inside.find(name) {
            Err(failure) if failure.is(libc::ENODEV) => Ok(()),
            Err(failure) => Err(Error::system("look for", words(device), failure)),
            Ok(_) => Err(Error::Missing {
                doing: device.to_string(),
                missing: format!(
                    "the container's network namespace has an interface {name} already"
                ),
                repair: format!(
                    "give linux.netDevices.{}.name another name, or a template such as eth%d",
                    device.host
                ),
            }),
        }
    }

    /// Moves all of them back: the container did not come to be. What cannot be
    /// moved back is said, and stays in the namespace.
    pub fn give_back(&mut self) {
        for moved in std::mem::take(&mut self.moved).into_iter().rev() {
            let outcome = self
                .inside
                .send(&self.host, moved.index, &moved.device.host)
                .and_then(|()| self.host.find(&moved.device.host))
                .and_then(|link| self.host.configure(link.index, moved.up, &moved.addresses));
            if let Err(failure) = outcome {
                log::warning(Error::system("move back", words(&moved.device), failure));
            }
        }
    }
}

impl Place {
    fn find(&self, name: &str) -> sys::Result<Link> {
        find(&self.socket, name)
    }

    fn send(&self, other: &Place, index: i32, name: &str) -> sys::Result<()> {
        let message = netlink::move_to(index, other.namespace.as_raw_fd(), name);
        net::ask(self.socket.as_fd(), &message)
    }

    fn configure(&self, index: i32, up: bool, addresses: &[Address]) -> sys::Result<()> {
        if up {
            net::ask(self.socket.as_fd(), &netlink::bring_up(index))?;
        }
        addresses
            .iter()
            .try_for_each(|address| net::ask(self.socket.as_fd(), &address.add(index)))
    }

    fn addresses(&self, index: i32) -> sys::Result<Vec<Address>> {
        let socket = self.socket.as_fd();
        net::send_request(socket, &netlink::list_addresses())?;
        let mut found = Vec::new();
        let mut buffer = vec![0; ANSWER];
        loop {
            let answer = answer(socket, &mut buffer)?;
            found.extend(netlink::addresses(answer, index));
            if netlink::is_last(answer) {
                return Ok(found);
            }
        }
    }
}

/// More than the kernel puts into one datagram (`NLMSG_GOODSIZE`), but for links
/// with very many virtual functions.
const ANSWER: usize = 64 * 1024;

fn answer<'b>(socket: BorrowedFd<'_>, buffer: &'b mut [u8]) -> sys::Result<&'b [u8]> {
    let length = net::receive_answer(socket, buffer)?;
    let answer = buffer.get(..length).unwrap_or_default();
    match netlink::error(answer) {
        None | Some(0) => Ok(answer),
        Some(errno) => Err(Failure::of(syscalls::Sysno::sendto, errno)),
    }
}

fn find(socket: &OwnedFd, name: &str) -> sys::Result<Link> {
    net::send_request(socket.as_fd(), &netlink::find(name))?;
    let mut buffer = vec![0; ANSWER];
    let answer = answer(socket.as_fd(), &mut buffer)?;
    Link::read(answer).ok_or(Failure::of(syscalls::Sysno::recvfrom, libc::EBADMSG))
}

fn device_of(socket: &OwnedFd, device: &NetDevice) -> Result<Link> {
    find(socket, &device.host).map_err(|failure| {
        if failure.is(libc::ENODEV) {
            return Error::Missing {
                doing: device.to_string(),
                missing: "the network namespace of capsid has no such interface".into(),
                repair: "see ip link; it may be in another container already".into(),
            };
        }
        Error::system("look for", words(device), failure)
    })
}

fn words(device: &NetDevice) -> String {
    format!("the network interface {} ({})", device.host, device.inside)
}

fn routing() -> Result<OwnedFd> {
    net::routing_socket().map_err(|failure| Error::system("open", "a routing socket", failure))
}

/// A socket of another network namespace: it stays there when the runtime is back.
fn routing_in(own: &OwnedFd, other: &OwnedFd) -> Result<OwnedFd> {
    let network = u64::from(libc::CLONE_NEWNET.cast_unsigned());
    let failed = |failure| Error::system("enter", "the container's network namespace", failure);
    process::join_namespace(other.as_fd(), network).map_err(failed)?;
    let socket = routing();
    let back = |failure| Error::system("return from", "the container's network namespace", failure);
    process::join_namespace(own.as_fd(), network).map_err(back)?;
    socket
}

/// To move an interface to where it is means to rename it on the host.
fn refuse_same(own: &OwnedFd, other: &OwnedFd) -> Result<()> {
    let stat = |namespace: &OwnedFd| {
        let stat = fd::stat(namespace.as_fd());
        let stat = stat.map(|stat| (stat.dev, stat.ino));
        stat.map_err(|failure| Error::system("look at", "a network namespace", failure))
    };
    if stat(own)? != stat(other)? {
        return Ok(());
    }
    Err(Error::Missing {
        doing: "move network interfaces into the container".into(),
        missing: "the path of its network namespace leads to that of capsid itself".into(),
        repair: "name another namespace in linux.namespaces, or leave out linux.netDevices".into(),
    })
}
