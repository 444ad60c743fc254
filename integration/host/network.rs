//! The network that the tests are in: their own, so that nothing they do reaches
//! the machine's, with addresses that stand for other machines.

use std::io;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// An address of another machine, as far as a sandbox can tell.
pub(crate) const ELSEWHERE: &str = "198.51.100.1";

/// Another one.
pub(crate) const ELSEWHERE_TOO: &str = "198.51.100.2";

/// What makes this network: a route that pasta takes for the way out.
const COMMANDS: [&str; 8] = [
    "link set lo up",
    "address add 198.51.100.1/32 dev lo",
    "address add 198.51.100.2/32 dev lo",
    "link add out type veth peer name beyond",
    "address add 192.0.2.2/24 dev out",
    "link set out up",
    "link set beyond up",
    "route add default via 192.0.2.1 dev out",
];

/// Enters a network of its own; what is missing for that comes back as words.
///
/// # Errors
/// It was entered and could not be made ready.
pub(crate) fn enter() -> io::Result<Option<String>> {
    if !Path::new("/dev/net/tun").exists() {
        return Ok(Some("this kernel has no /dev/net/tun".into()));
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Ok(Some("iproute2 is not installed".into()));
    }
    unshare(CloneFlags::CLONE_NEWNET)?;
    for words in COMMANDS {
        let output = Command::new("ip").args(words.split(' ')).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Ok(Some(format!("ip {words}: {said}")));
        }
    }
    // Everybody may open it on most machines.
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/dev/net", tmpfs, MsFlags::empty(), None::<&str>)?;
    let mode = Mode::from_bits_truncate(0o666);
    mknod("/dev/net/tun", SFlag::S_IFCHR, mode, makedev(10, 200))?;
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        "/dev/net/tun",
        mode,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )?;
    Ok(None)
}
