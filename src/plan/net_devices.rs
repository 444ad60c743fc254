//! `linux.netDevices`: network interfaces of the host that the container gets.

use std::fmt;

use oci_spec::runtime::Spec;

use crate::error::{Problem, escape};
use crate::host::Facts;

/// One interface to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name in the runtime's network namespace.
    pub host: String,
    /// Its name in the container's, or a template with `%d` for a free number.
    pub inside: String,
}

/// The interfaces, in the order of their names on the host.
///
/// Only real root may: in a user namespace the kernel lets nobody take an
/// interface out of a network namespace that belongs to another one.
pub fn plan(spec: &Spec, facts: &Facts) -> Result<Vec<NetDevice>, Vec<Problem>> {
    let linux = spec.linux().as_ref();
    let listed = linux.and_then(|linux| linux.net_devices().as_ref());
    let mut devices: Vec<_> = listed
        .into_iter()
        .flatten()
        .map(|(host, device)| {
            let inside = device.name().as_ref().filter(|name| !name.is_empty());
            NetDevice {
                host: host.clone(),
                inside: inside.unwrap_or(host).clone(),
            }
        })
        .collect();
    devices.sort_by(|a, b| a.host.cmp(&b.host));
    if facts.is_real_root() {
        return Ok(devices);
    }
    let problems: Vec<_> = devices.iter().map(refused).collect();
    if problems.is_empty() {
        Ok(devices)
    } else {
        Err(problems)
    }
}

fn refused(device: &NetDevice) -> Problem {
    let at = format!("/linux/netDevices/{}", escape(&device.host));
    let text = "root of a user namespace cannot move a network interface of the host: have real root create \
                the container";
    Problem::new(at, text)
}

impl fmt::Display for NetDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, inside } = self;
        write!(
            f,
            "move the network interface {host} into the container as {inside}"
        )
    }
}
