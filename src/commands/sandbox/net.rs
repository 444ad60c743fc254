//! `--net`, `--connect` and `--listen`: what the program reaches, in types.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use syscalls::Sysno;

use crate::error::{Error, Result};
use crate::execute::pasta::{self, Passage};
use crate::plan::reach::Network;
use crate::sandbox::{Net, RESOLVER, Through, Way};

/// Everything but the host's own loopback.
const ANY: &str = "any";

/// The options as they were written.
pub(super) struct Written<'a> {
    pub(super) net: Option<&'a str>,
    pub(super) connect: &'a [String],
    pub(super) listen: &'a [String],
}

impl Written<'_> {
    /// Reads them; names are looked up now, by the host.
    ///
    /// # Errors
    /// [`Error::Usage`], and for a name that has no address [`Error::Missing`].
    pub(super) fn read(&self) -> Result<Net> {
        let through = !self.connect.is_empty() || !self.listen.is_empty();
        match self.net {
            None | Some("none") if through => Err(Error::Usage(
                "--connect and --listen are ways through --net pasta: give that too".into(),
            )),
            Some("host") if through => Err(Error::Usage(
                "--net host reaches everything: --connect and --listen go with --net pasta".into(),
            )),
            None | Some("none") => Ok(Net::None),
            Some("host") => Ok(Net::Host),
            Some("pasta") if !through => Err(Error::Usage(
                "--net pasta lets nothing through by itself: add --connect HOST:PORT, \
                 --connect any or --listen PORT"
                    .into(),
            )),
            Some("pasta") => {
                pasta::program()?;
                Ok(Net::Pasta(self.through()?))
            }
            Some(other) => Err(Error::Usage(format!(
                "--net {other:?}: give none, host or pasta"
            ))),
        }
    }

    fn through(&self) -> Result<Through> {
        let any = self.connect.iter().any(|text| text == ANY);
        let ways = self.connect.iter().filter(|text| *text != ANY);
        Ok(Through {
            any,
            connect: ways.map(|text| way(text)).collect::<Result<_>>()?,
            listen: self
                .listen
                .iter()
                .map(|text| port("--listen", text, text))
                .collect::<Result<_>>()?,
        })
    }
}

fn port(option: &str, whole: &str, text: &str) -> Result<u16> {
    let number = text.parse().ok().filter(|port| *port != 0);
    number.ok_or_else(|| {
        Error::Usage(format!(
            "{option} {whole:?}: a port is a number from 1 to 65535"
        ))
    })
}

/// `HOST:PORT`, where HOST is a name, an IPv4 address, or an IPv6 one in brackets.
fn way(text: &str) -> Result<Way> {
    let refuse = || {
        Error::Usage(format!(
            "--connect {text:?}: give HOST:PORT, [IPV6]:PORT, or any"
        ))
    };
    let (host, number) = text.rsplit_once(':').ok_or_else(refuse)?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    if host.is_empty() || (bracketed.is_none() && host.contains(':')) {
        return Err(refuse());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if !host.bytes().all(allowed) || host.starts_with('-') {
        return Err(refuse());
    }
    let addresses = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => look_up(host)?,
    };
    Ok(Way {
        host: host.to_owned(),
        addresses,
        port: port("--connect", text, number)?,
    })
}

/// Asks the host's getent(1): a static program cannot load what a machine is
/// configured to look names up with.
fn look_up(host: &str) -> Result<Vec<IpAddr>> {
    let output = Command::new("getent").args(["ahosts", host]).output();
    let output = output.map_err(|error| Error::io("run", "getent", Sysno::execve, &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = |line: &str| line.split_ascii_whitespace().next()?.parse().ok();
    let mut addresses: Vec<IpAddr> = text.lines().filter_map(first).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(Error::Missing {
            doing: format!("find the address of {host}"),
            missing: "this machine's resolver knows none".into(),
            repair: "give an address instead of a name".into(),
        });
    }
    Ok(addresses)
}

/// The addresses that are named: those of the host's loopback, or the others.
fn targets(through: &Through, loopback: bool) -> impl Iterator<Item = SocketAddr> {
    let ways = through.connect.iter().flat_map(|way| {
        let one = |address: &IpAddr| SocketAddr::new(*address, way.port);
        way.addresses.iter().map(one)
    });
    ways.filter(move |target| target.ip().is_loopback() == loopback)
}

/// What pasta passes; nothing without it.
pub(super) fn passage(net: &Net) -> Option<Passage> {
    let Net::Pasta(through) = net else {
        return None;
    };
    let mut out: Vec<u16> = targets(through, true).map(|target| target.port()).collect();
    out.sort_unstable();
    out.dedup();
    Some(Passage {
        out,
        into: through.listen.clone(),
        resolver: through.any.then_some(RESOLVER),
    })
}

/// What the kernel lets through to it.
pub(super) fn network(net: &Net) -> Option<Network> {
    let Net::Pasta(through) = net else {
        return None;
    };
    Some(Network {
        only: (!through.any).then(|| targets(through, false).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(net: Option<&str>, connect: &[&str], listen: &[&str]) -> Result<Net> {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (connect, listen) = (own(connect), own(listen));
        Written {
            net,
            connect: &connect,
            listen: &listen,
        }
        .read()
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        assert_eq!(read(None, &[], &[]).unwrap(), Net::None);
        assert_eq!(read(Some("host"), &[], &[]).unwrap(), Net::Host);
        for (net, connect, listen) in [
            (Some("pasta"), &[][..], &[][..]),
            (None, &["192.0.2.1:80"], &[]),
            (None, &[], &["80"]),
            (Some("host"), &["192.0.2.1:80"], &[]),
            (Some("bridge"), &[], &[]),
        ] {
            assert!(read(net, connect, listen).is_err(), "{net:?}");
        }
    }

    #[test]
    fn ways_are_read_or_refused() {
        let v4 = way("192.0.2.1:80").unwrap();
        assert_eq!(
            (v4.addresses[0].to_string().as_str(), v4.port),
            ("192.0.2.1", 80)
        );
        let v6 = way("[2001:db8::1]:443").unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("2001:db8::1", 443));
        for bad in [
            "",
            ":",
            "x",
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "::1:80",
            "[::1]",
            "-x:1",
            "a b:1",
        ] {
            assert!(way(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_goes_another_way_than_the_rest() {
        let through = Through {
            any: false,
            connect: vec![way("127.0.0.1:80").unwrap(), way("192.0.2.1:443").unwrap()],
            listen: vec![9],
        };
        let net = Net::Pasta(through);
        let passage = passage(&net).unwrap();
        assert_eq!((passage.out, passage.into), (vec![80], vec![9]));
        let only = network(&net).unwrap().only.unwrap();
        assert_eq!(only, ["192.0.2.1:443".parse().unwrap()]);
        assert!(passage.resolver.is_none());
    }
}
