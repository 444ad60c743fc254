//! The host's programs: `/usr`, what leads there, and a few files of `/etc`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::mounts::{Kind, bind};
use super::skeleton::Entry;
use super::{Maker, Net, Through};
use crate::host::userland::Found;

/// The address at which pasta answers questions of names.
pub const RESOLVER: &str = "169.254.1.1";

/// Names are looked up in the files below, and with a network also by DNS.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";

impl Maker<'_> {
    /// The mounts of the host's programs.
    pub(super) fn system(&mut self) -> Vec<Mount> {
        if let Some(top) = &self.request.rootfs {
            return self.shown(top.iter().map(|(path, found)| (path.as_path(), found)));
        }
        self.note(
            "/usr, /bin, /lib and what else leads to the host's programs, read-only",
            "programs and libraries work, and cannot be changed",
        );
        self.note(
            "of /etc only the dynamic loader's cache, certificates, time zone, alternatives and \
             a few tables",
            "the rest describes the machine and its users",
        );
        let userland = self.userland;
        let files = userland.files.iter();
        self.shown(files.map(|(path, found)| (Path::new(*path), found)))
    }

    fn shown<'f>(&mut self, files: impl Iterator<Item = (&'f Path, &'f Found)>) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for (path, found) in files {
            if path == Path::new("/etc/resolv.conf") && self.request.net != Net::Host {
                continue;
            }
            match found {
                Found::Link(target) => self.skeleton.put(path, Entry::Link(target.clone())),
                Found::Directory(source) => {
                    self.skeleton.put(path, Entry::Directory);
                    mounts.push(bind(source, path, Kind::ReadOnly));
                }
                Found::File(source) => {
                    self.skeleton.put(path, Entry::File(String::new()));
                    mounts.push(bind(source, path, Kind::ReadOnly));
                }
            }
        }
        mounts
    }

    /// How names are looked up behind pasta: those that were given have their
    /// addresses already, the others are asked for where everything is open.
    fn names_through(&mut self, through: &Through, hosts: &mut String) {
        for way in &through.connect {
            let named = way.host.parse::<IpAddr>().is_err();
            let addresses = way.addresses.iter().filter(|_| named);
            hosts.extend(addresses.map(|address| format!("{address} {}\n", way.host)));
        }
        if through.any {
            let text = format!("nameserver {RESOLVER}\n");
            self.skeleton
                .put(Path::new("/etc/resolv.conf"), Entry::File(text));
        }
    }

    /// Files of `/etc` that are made up.
    pub(super) fn made_up(&mut self) {
        if self.request.rootfs.is_some() {
            // The other root brings its own.
            return;
        }
        let name = self.request.hostname.as_deref().unwrap_or("sandbox");
        let mut hosts = format!("127.0.0.1 localhost {name}\n::1 localhost {name}\n");
        if let Net::Pasta(through) = &self.request.net {
            self.names_through(through, &mut hosts);
        }
        let files: [(&str, String); 5] = [
            ("/etc/passwd", self.account.passwd()),
            ("/etc/group", self.account.group()),
            ("/etc/hosts", hosts),
            ("/etc/hostname", format!("{name}\n")),
            ("/etc/nsswitch.conf", NSSWITCH.to_owned()),
        ];
        for (path, text) in files {
            self.skeleton.put(&PathBuf::from(path), Entry::File(text));
        }
        self.note(
            "passwd, group, hosts and nsswitch.conf of /etc are made up",
            "the program has a name and a home, and learns of no other user",
        );
    }
}
