//! What a network that somebody attaches from outside may be used for.
//!
//! Kept by the kernel's policy routing inside the network namespace: a rule for
//! each address and port leads to the routes, and a last one refuses whatever is
//! left. Only CAP_NET_ADMIN of the namespace's owner could change them.
//! Source: linux/fib_rules.h, linux/rtnetlink.h.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::netlink::{attribute, request};

/// A network that somebody attaches to the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// TCP only, and only to these; `None` for everything.
    pub only: Option<Vec<SocketAddr>>,
}

/// One rule, as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// What it says: `None` refuses the rest of a protocol family.
    target: Option<SocketAddr>,
    /// AF_INET or AF_INET6.
    family: u8,
    /// The netlink message.
    message: Vec<u8>,
}

/// The first rule's priority: after that of the local addresses, 0, and before
/// that of the main table, 32766.
const FIRST: u32 = 100;

/// The priority of the rule that refuses.
const LAST: u32 = 32_000;

impl Network {
    /// The rules, in the order in which the kernel looks at them.
    pub fn rules(&self) -> Vec<RouteRule> {
        let Some(only) = &self.only else {
            return Vec::new();
        };
        let allowed = only
            .iter()
            .zip(FIRST..LAST)
            .map(|(target, at)| RouteRule::new(Some(*target), family(target.ip()), at));
        let refused = [libc::AF_INET, libc::AF_INET6]
            .map(|family| RouteRule::new(None, narrow(family), LAST));
        allowed.chain(refused).collect()
    }
}

fn family(address: IpAddr) -> u8 {
    narrow(match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    })
}

/// Protocol families are below 256.
fn narrow(family: i32) -> u8 {
    u8::try_from(family).unwrap_or(0)
}

impl RouteRule {
    fn new(target: Option<SocketAddr>, family: u8, priority: u32) -> Self {
        const FRA_DST: u16 = 1;
        const FRA_PRIORITY: u16 = 6;
        const FRA_TABLE: u16 = 15;
        const FRA_IP_PROTO: u16 = 22;
        const FRA_DPORT_RANGE: u16 = 24;
        const FR_ACT_TO_TBL: u8 = 1;
        const FR_ACT_PROHIBIT: u8 = 8;
        const RT_TABLE_MAIN: u8 = 254;
        const TCP: u8 = 6;
        let (length, table, action) = match target {
            Some(target) if target.is_ipv4() => (32, RT_TABLE_MAIN, FR_ACT_TO_TBL),
            Some(_) => (128, RT_TABLE_MAIN, FR_ACT_TO_TBL),
            None => (0, 0, FR_ACT_PROHIBIT),
        };
        // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved
        // bytes, action, flags.
        let mut body = vec![family, length, 0, 0, table, 0, 0, action, 0, 0, 0, 0];
        let mut add = |kind, value: &[u8]| attribute(&mut body, kind, value);
        add(FRA_PRIORITY, &priority.to_ne_bytes());
        if let Some(target) = target {
            match target.ip() {
                IpAddr::V4(address) => add(FRA_DST, &address.octets()),
                IpAddr::V6(address) => add(FRA_DST, &address.octets()),
            }
            add(FRA_TABLE, &u32::from(RT_TABLE_MAIN).to_ne_bytes());
            add(FRA_IP_PROTO, &[TCP]);
            let port = target.port().to_ne_bytes();
            add(FRA_DPORT_RANGE, &[port, port].concat());
        }
        Self {
            target,
            family,
            message: message(&body),
        }
    }

    /// The request.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Whether a kernel without this protocol family does the same.
    pub fn only_refuses(&self) -> bool {
        self.target.is_none()
    }
}

/// RTM_NEWRULE, with an acknowledgement.
fn message(body: &[u8]) -> Vec<u8> {
    const RTM_NEWRULE: u16 = 32;
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    request(RTM_NEWRULE, flags, body)
}

impl fmt::Display for RouteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match i32::from(self.family) {
            libc::AF_INET => "IPv4",
            _ => "IPv6",
        };
        match self.target {
            Some(target) => write!(f, "let TCP to {target} out"),
            None => write!(f, "refuse everything else that would go out over {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_laid_out_as_the_kernel_reads_them() {
        let target = "192.0.2.7:443".parse().unwrap();
        let network = Network {
            only: Some(vec![target]),
        };
        let rules = network.rules();
        assert_eq!(rules.len(), 3);
        let message = rules[0].message();
        assert_eq!(message.len() % 4, 0);
        let length = u32::try_from(message.len()).unwrap();
        assert_eq!(message[..4], length.to_ne_bytes());
        assert_eq!(message[4..6], 32u16.to_ne_bytes());
        // Family, prefix length, table, action.
        assert_eq!(message[16..28], [2, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0]);
        let holds = |bytes: &[u8]| message.windows(bytes.len()).any(|part| part == bytes);
        assert!(holds(&[8, 0, 1, 0, 192, 0, 2, 7]), "the address");
        let port = 443u16.to_ne_bytes();
        assert!(holds(&[8, 0, 24, 0, port[0], port[1], port[0], port[1]]));
        // What is left is prohibited, which connect(2) reports as EACCES.
        assert_eq!(
            rules[1].message()[16..28],
            [2, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]
        );
        assert_eq!(rules[2].message()[16], 10);
        assert_eq!(Network::default().rules(), []);
    }
}
