//! Netlink messages to and from the kernel's routing, as bytes.
//! Source: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.

/// `struct nlmsghdr` in bytes.
const HEADER: usize = 16;

/// `struct ifinfomsg` in bytes.
const LINK: usize = 16;

/// `struct ifaddrmsg` in bytes.
const ADDRESS: usize = 8;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;

/// An attribute: length, kind, value, and zeros up to a multiple of four.
pub(super) fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// `struct nlmsghdr` and the body: a request with `NLM_F_*` besides.
pub(super) fn request(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + HEADER).unwrap_or(u32::MAX);
    let mut message = Vec::from(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    // All of them are below 0x1000.
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or(0);
    message.extend(flags.to_ne_bytes());
    // Sequence number and sender: the only message on its way.
    message.extend([1u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    message.extend(body);
    message
}

/// `struct ifinfomsg`: family, padding, type, index, flags, which flags to change.
fn link(index: i32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend([flags.to_ne_bytes(), flags.to_ne_bytes()].concat());
    body
}

/// Names end with a NUL byte.
fn name_attribute(body: &mut Vec<u8>, name: &str) {
    attribute(body, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
}

/// The question for the interface of a name; the answer is for [`Link::read`].
pub fn find(name: &str) -> Vec<u8> {
    let mut body = link(0, 0);
    name_attribute(&mut body, name);
    request(RTM_GETLINK, 0, &body)
}

/// Moves an interface to the network namespace of a descriptor of the sender, and
/// names it.
pub fn move_to(index: i32, namespace: i32, name: &str) -> Vec<u8> {
    let mut body = link(index, 0);
    name_attribute(&mut body, name);
    attribute(&mut body, IFLA_NET_NS_FD, &namespace.to_ne_bytes());
    request(RTM_SETLINK, libc::NLM_F_ACK, &body)
}

/// Names an interface; in a template the kernel puts a free number for `%d`.
pub fn rename(index: i32, name: &str) -> Vec<u8> {
    let mut body = link(index, 0);
    name_attribute(&mut body, name);
    request(RTM_SETLINK, libc::NLM_F_ACK, &body)
}

/// Brings an interface up.
pub fn bring_up(index: i32) -> Vec<u8> {
    let body = link(index, libc::IFF_UP.cast_unsigned());
    request(RTM_SETLINK, libc::NLM_F_ACK, &body)
}

/// The question for all addresses; the answers are for [`addresses`].
pub fn list_addresses() -> Vec<u8> {
    request(RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS])
}

/// What the kernel says of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: i32,
    /// `IFF_UP`.
    pub up: bool,
}

impl Link {
    /// From the answer to [`find`].
    pub fn read(answer: &[u8]) -> Option<Self> {
        let (kind, body) = messages(answer).next()?;
        let flags = i32::from_ne_bytes(four(body, 8)?);
        (kind == RTM_NEWLINK && body.len() >= LINK).then_some(Self {
            index: i32::from_ne_bytes(four(body, 4)?),
            up: flags & libc::IFF_UP != 0,
        })
    }
}

/// An address of an interface, without the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// The request that gives it to an interface.
    pub fn add(&self, index: i32) -> Vec<u8> {
        // The flags of one byte, and the scope of the whole world.
        let mut body = vec![self.family, self.prefix, 0, 0];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &self.attributes {
            attribute(&mut body, *kind, value);
        }
        attribute(&mut body, IFA_FLAGS, &self.flags.to_ne_bytes());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        request(RTM_NEWADDR, flags, &body)
    }
}

/// The permanent global addresses of an interface in a piece of the answer to
/// [`list_addresses`]: those that somebody gave it for good. The others come from
/// a router or a lease, or are made from the hardware's own.
pub fn addresses(answer: &[u8], index: i32) -> Vec<Address> {
    messages(answer)
        .filter(|(kind, _)| *kind == RTM_NEWADDR)
        .filter_map(|(_, body)| permanent_address(body, index))
        .collect()
}

fn permanent_address(body: &[u8], index: i32) -> Option<Address> {
    const IFA_F_PERMANENT: u32 = 0x80;
    // NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: what an
    // administrator can ask for; the others say how an address is.
    const KEPT: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
    let [family, prefix, short, scope] = four(body, 0)?;
    if scope != 0 || i32::from_ne_bytes(four(body, 4)?) != index {
        return None;
    }
    let all: Vec<_> = attributes(body.get(ADDRESS..)?).collect();
    let long = all.iter().find(|(kind, _)| *kind == IFA_FLAGS);
    let flags = match long {
        Some((_, value)) => u32::from_ne_bytes(four(value, 0)?),
        None => u32::from(short),
    };
    let wanted = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY];
    (flags & IFA_F_PERMANENT != 0).then(|| Address {
        family,
        prefix,
        flags: flags & KEPT,
        attributes: all
            .into_iter()
            .filter(|(kind, _)| wanted.contains(kind))
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect(),
    })
}

/// Whether this piece is the last of the answer to a question for a list.
pub fn is_last(answer: &[u8]) -> bool {
    messages(answer).any(|(kind, _)| kind == DONE || kind == ERROR)
}

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The error number of an answer, if it is one of refusal or acknowledgement.
pub fn error(answer: &[u8]) -> Option<i32> {
    let (kind, body) = messages(answer).next()?;
    let errno = i32::from_ne_bytes(four(body, 0)?).saturating_neg();
    (kind == ERROR).then_some(errno)
}

/// The messages of one datagram: kind and body.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    pieces(datagram, HEADER, |head| {
        let length = usize::try_from(u32::from_ne_bytes(four(head, 0)?)).ok()?;
        Some((length, u16::from_ne_bytes([*head.get(4)?, *head.get(5)?])))
    })
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    pieces(bytes, 4, |head| {
        let [a, b, c, d] = four(head, 0)?;
        Some((
            usize::from(u16::from_ne_bytes([a, b])),
            u16::from_ne_bytes([c, d]),
        ))
    })
}

/// Pieces that begin with their length and kind, each at a multiple of four.
fn pieces(
    mut rest: &[u8],
    header: usize,
    head: impl Fn(&[u8]) -> Option<(usize, u16)>,
) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = head(rest)?;
        let body = rest.get(header..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn four(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of an IPv4 address.
    fn told(index: i32, scope: u8, flags: u32) -> Vec<u8> {
        let mut body = vec![2, 24, 0x80, scope];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, IFA_ADDRESS, &[192, 0, 2, 9]);
        attribute(&mut body, 3, b"out\0");
        attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        request(RTM_NEWADDR, 0, &body)
    }

    #[test]
    fn permanent_global_addresses_are_kept_and_no_others() {
        let mut answer = told(7, 0, 0x280);
        answer.extend(told(7, 253, 0x80));
        answer.extend(told(7, 0, 0));
        answer.extend(told(8, 0, 0x80));
        let found = addresses(&answer, 7);
        assert_eq!(found.len(), 1);
        let again = found[0].add(3);
        assert_eq!(again[4..6], RTM_NEWADDR.to_ne_bytes());
        assert_eq!(again[16..20], [2, 24, 0, 0]);
        assert_eq!(again[20..24], 3i32.to_ne_bytes());
        let holds = |bytes: &[u8]| again.windows(bytes.len()).any(|part| part == bytes);
        assert!(holds(&[192, 0, 2, 9]));
        assert!(!holds(b"out"), "a label has the old name in it");
        assert!(holds(&[8, 0, 8, 0, 0, 2, 0, 0]), "NOPREFIXROUTE alone");
    }

    #[test]
    fn answers_are_read_and_cut_ones_do_no_harm() {
        let mut body = link(5, 1);
        name_attribute(&mut body, "eth0");
        let answer = request(RTM_NEWLINK, 0, &body);
        let expected = Link { index: 5, up: true };
        assert_eq!(Link::read(&answer), Some(expected));
        for length in 0..answer.len() {
            assert_eq!(Link::read(&answer[..length]), None, "{length}");
        }
        let refusal = request(ERROR, 0, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(error(&refusal), Some(libc::ENODEV));
        assert_eq!(Link::read(&refusal), None);
        assert_eq!(error(&answer), None);
        assert!(is_last(&request(DONE, 0, &[0; 4])));
    }

    #[test]
    fn a_move_says_where_to_and_what_as() {
        let message = move_to(4, 9, "in0");
        assert_eq!(message[4..6], RTM_SETLINK.to_ne_bytes());
        assert_eq!(message[20..24], 4i32.to_ne_bytes());
        let holds = |bytes: &[u8]| message.windows(bytes.len()).any(|part| part == bytes);
        assert!(holds(b"\x08\0\x03\0in0\0"));
        assert!(holds(&[8, 0, 28, 0, 9, 0, 0, 0]));
        let up = bring_up(4);
        assert_eq!(up[24..32], [1, 0, 0, 0, 1, 0, 0, 0]);
    }
}
