//! What a person asked for, in types.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccomp;

use crate::host::userland::Found;

/// What was asked of the sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Files and directories of the host.
    pub binds: Vec<Bind>,
    /// Empty private directories.
    pub tmpfs: Vec<Tmpfs>,
    /// Directories of the host with a private layer over them.
    pub overlays: Vec<Overlay>,
    /// Another root than the host's programs: what is at its top.
    pub rootfs: Option<Vec<(PathBuf, Found)>>,
    /// Where the bundle is, for runtimes that find layers by their whole path;
    /// without it they are found inside.
    pub place: Option<PathBuf>,
    /// What it reaches.
    pub net: Net,
    /// Variables besides the clean ones.
    pub env: Vec<(String, String)>,
    /// User and group inside.
    pub user: Option<(u32, Option<u32>)>,
    /// The host name inside.
    pub hostname: Option<String>,
    /// The directory in which the program begins.
    pub directory: Option<PathBuf>,
    /// Limits that were asked for.
    pub limits: Limits,
    /// A terminal of its own.
    pub terminal: bool,
}

/// A file or directory of the host that is visible inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Its path on the host, without any link in it.
    pub source: PathBuf,
    /// Its path inside.
    pub destination: PathBuf,
    /// It may be changed.
    pub writable: bool,
    /// It is a directory.
    pub directory: bool,
    /// User and group it belongs to.
    pub owner: (u32, u32),
    /// Its file system can be mounted with other owners.
    pub idmap: bool,
}

/// A directory of the host that looks as if it could be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// What is below.
    pub lower: Bind,
    /// Where changes are kept; without it they end with the sandbox.
    pub upper: Option<Bind>,
}

/// An empty private directory in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its path inside.
    pub destination: PathBuf,
    /// The most it holds, in bytes.
    pub size: Option<u64>,
}

/// What the program reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Net {
    /// Its own loopback.
    #[default]
    None,
    /// All that the host reaches.
    Host,
    /// What pasta lets through.
    Pasta(Through),
}

/// The ways through pasta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Through {
    /// To everything but the host's own loopback.
    pub any: bool,
    /// To these.
    pub connect: Vec<Way>,
    /// From the host's loopback to these ports inside.
    pub listen: Vec<u16>,
}

/// A place to connect to, over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// As it was written: a name or an address.
    pub host: String,
    /// What the host says that the name's addresses are.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways: Vec<String> = Vec::new();
        if self.any {
            ways.push("out to everything but the host's loopback".into());
        }
        let named = self.connect.iter();
        ways.extend(named.map(|way| format!("out to {} port {} over TCP", way.host, way.port)));
        let listening = self.listen.iter();
        ways.extend(listening.map(|port| format!("in from the host's loopback, port {port}")));
        write!(
            f,
            "a network of its own, and through pasta {}",
            ways.join(", ")
        )
    }
}

/// Limits that a person asked for; the others have defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub cpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// The system calls that are allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Seccomp {
    /// The project's `strict.json`.
    #[default]
    Strict,
    /// The project's `default.json`.
    Default,
    /// A profile of the person's own.
    Own(Box<LinuxSeccomp>),
}
