//! What is inside a sandbox, as far as it decides what would allow more.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

use super::refused::{OnHost, Want};
use super::{Bind, Net, Request};

/// What would allow something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Options.
    Options(String),
    /// Nothing, and why.
    None(&'static str),
    /// Somebody else made the configuration.
    Unknown,
}

const NO_OPTION: Way = Way::None("no option allows it");
const MODE: Way = Way::None("its owner and mode deny it, and no option changes them");

/// What a path inside leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A file system of the kernel: processes, devices.
    Kernel,
    /// Something of the host, as it is there.
    Host,
    /// A directory of the sandbox's own.
    Own,
    /// The root, in which nothing can be made.
    Root,
}

/// What a sandbox, or a bundle, has inside.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Somebody else's bundle: no option of a sandbox changes it.
    bundle: bool,
    mounts: Vec<(PathBuf, Place)>,
    binds: Vec<Bind>,
    net: Net,
    /// The home inside, and the caller's.
    home: Option<(PathBuf, PathBuf)>,
}

impl Inside {
    /// Of a sandbox, and where its caller has a home.
    pub fn of_sandbox(spec: &Spec, request: &Request, home: Option<PathBuf>) -> Self {
        let mounts = spec.mounts().iter().flatten().map(|mount| {
            let place = match mount.typ().as_deref() {
                Some("bind" | "overlay") => Place::Host,
                Some("tmpfs") if mount.destination() != Path::new("/dev") => Place::Own,
                _ => Place::Kernel,
            };
            (mount.destination().clone(), place)
        });
        let process = spec.process().as_ref();
        let env = process.and_then(|process| process.env().as_ref());
        let inner = env
            .into_iter()
            .flatten()
            .find_map(|one| one.strip_prefix("HOME="));
        Self {
            bundle: false,
            mounts: mounts.collect(),
            binds: request.binds.clone(),
            net: request.net.clone(),
            home: inner.map(PathBuf::from).zip(home),
        }
    }

    /// Of a bundle, of which nothing is known but that it is as its author wants it.
    pub fn of_bundle() -> Self {
        Self {
            bundle: true,
            ..Self::default()
        }
    }

    /// Where on the host a file could be that is not inside; none where what is
    /// there is what the host has, or nothing of the host could be.
    pub fn elsewhere(&self, path: &Path, want: Want) -> Vec<PathBuf> {
        let kernels = ["/proc", "/dev", "/sys"];
        let kernel = kernels.iter().any(|top| path.starts_with(top));
        if self.bundle || kernel || self.place(path) == Place::Host {
            return Vec::new();
        }
        let mut paths = vec![path.to_owned()];
        if let Some((inner, outer)) = &self.home
            && let Ok(below) = path.strip_prefix(inner)
            && inner != outer
        {
            paths.push(outer.join(below));
        }
        if want == Want::Make {
            // What is to be made is not there; its directory has to be.
            paths = paths
                .iter()
                .filter_map(|path| path.parent())
                .filter(|parent| parent.components().count() > 1)
                .map(Path::to_owned)
                .collect();
        }
        paths
    }

    fn place(&self, path: &Path) -> Place {
        let above = self.mounts.iter().filter(|(top, _)| path.starts_with(top));
        let nearest = above.max_by_key(|(top, _)| top.components().count());
        match nearest {
            Some((_, place)) => *place,
            None if path.starts_with("/sys") => Place::Kernel,
            None => Place::Root,
        }
    }

    /// The bind that an option gave, above a path.
    fn given(&self, path: &Path) -> Option<&Bind> {
        let above = self
            .binds
            .iter()
            .filter(|bind| path.starts_with(&bind.destination));
        above.max_by_key(|bind| bind.destination.components().count())
    }

    pub(super) fn way_to_file(&self, path: &Path, want: Want, host: Option<&OnHost>) -> Way {
        if self.bundle {
            return Way::Unknown;
        }
        let option = if want.writes() { "--rw" } else { "--ro" };
        if let Some(OnHost {
            path: there,
            readable,
        }) = host
        {
            if !readable {
                return Way::None("you cannot read it either");
            }
            // What is made needs its directory.
            let here = match want {
                Want::Make => path.parent().unwrap_or(path),
                _ => path,
            };
            return Way::Options(shown(option, there, here));
        }
        match self.place(path) {
            Place::Kernel => NO_OPTION,
            Place::Host if !want.writes() => MODE,
            Place::Host => match self.given(path) {
                Some(bind) if bind.writable => MODE,
                Some(bind) => {
                    let given = shown("--rw", &bind.source, &bind.destination);
                    Way::Options(format!("{given} instead of --ro"))
                }
                None => match top(path) {
                    Some(top) => Way::Options(format!("--overlay {}", top.display())),
                    None => NO_OPTION,
                },
            },
            Place::Own => MODE,
            Place::Root => match path.parent() {
                Some(parent) if want.writes() && may_be_replaced(parent) => {
                    let parent = parent.display();
                    Way::Options(format!("--tmpfs {parent}, or --rw {parent}"))
                }
                _ => NO_OPTION,
            },
        }
    }

    pub(super) fn way_to_peer(&self, address: SocketAddr) -> Way {
        let own = address.ip().is_loopback() || address.ip().is_unspecified();
        match &self.net {
            _ if self.bundle => Way::Unknown,
            Net::None if own => NO_OPTION,
            Net::None => Way::Options(format!(
                "--net pasta --connect {address} (TCP only), or --net host"
            )),
            Net::Pasta(_) => Way::Options(format!("--connect {address} (TCP only)")),
            Net::Host => {
                Way::None("this host does not reach it, or a rule of the kernel denies it")
            }
        }
    }

    pub(super) fn way_to_own(&self, address: SocketAddr) -> Way {
        match address.port() {
            _ if self.bundle => Way::Unknown,
            1..1024 => Way::None("ports below 1024 take a privilege that no sandbox has"),
            _ => NO_OPTION,
        }
    }

    pub(super) fn way_to_abstract(&self) -> Way {
        match &self.net {
            _ if self.bundle => Way::Unknown,
            Net::Host => Way::Options("--relax landlock".into()),
            Net::None | Net::Pasta(_) => NO_OPTION,
        }
    }
}

/// The option for a path of the host that is to be inside as another one, or the same.
fn shown(option: &str, there: &Path, here: &Path) -> String {
    match there == here {
        true => format!("{option} {}", there.display()),
        false => format!("{option} {}:{}", there.display(), here.display()),
    }
}

/// The first directory of a path that is a program's.
fn top(path: &Path) -> Option<PathBuf> {
    let first = path.components().nth(1)?;
    let top = Path::new("/").join(first);
    match top.to_str() {
        // What the others lead to.
        Some("/usr" | "/bin" | "/sbin" | "/lib" | "/lib64") => Some("/usr".into()),
        _ => None,
    }
}

/// A directory that is nothing of the sandbox's own frame.
fn may_be_replaced(directory: &Path) -> bool {
    let frame = ["/", "/etc", "/home", "/var"];
    !frame.iter().any(|one| directory == Path::new(one)) && !directory.starts_with("/etc")
}

/// A path without `.` and `..`, as far as that can be said without looking at links.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside() -> Inside {
        let mounts = [
            ("/usr", Place::Host),
            ("/data", Place::Host),
            ("/proc", Place::Kernel),
            ("/dev", Place::Kernel),
            ("/tmp", Place::Own),
            ("/home/sandbox", Place::Own),
        ];
        let data = Bind {
            source: "/srv/data".into(),
            destination: "/data".into(),
            writable: false,
            directory: true,
            owner: (0, 0),
            idmap: true,
        };
        Inside {
            bundle: false,
            mounts: mounts.map(|(path, place)| (path.into(), place)).into(),
            binds: vec![data],
            net: Net::None,
            home: Some(("/home/sandbox".into(), "/home/me".into())),
        }
    }

    fn way(path: &str, want: Want, host: Option<&str>) -> String {
        let host = host.map(|path| OnHost {
            path: path.into(),
            readable: true,
        });
        match inside().way_to_file(path.as_ref(), want, host.as_ref()) {
            Way::Options(options) => options,
            Way::None(why) => why.into(),
            Way::Unknown => "unknown".into(),
        }
    }

    #[test]
    fn the_option_gives_what_is_missing() {
        assert_eq!(way("/opt/x", Want::Read, Some("/opt/x")), "--ro /opt/x");
        assert_eq!(way("/opt/x", Want::Change, Some("/opt/x")), "--rw /opt/x");
        assert_eq!(way("/opt/d/new", Want::Make, Some("/opt/d")), "--rw /opt/d");
        assert_eq!(
            way(
                "/home/sandbox/.gitconfig",
                Want::Read,
                Some("/home/me/.gitconfig")
            ),
            "--ro /home/me/.gitconfig:/home/sandbox/.gitconfig"
        );
        assert_eq!(
            way("/data/x", Want::Change, None),
            "--rw /srv/data:/data instead of --ro"
        );
        assert_eq!(way("/usr/lib/x", Want::Make, None), "--overlay /usr");
        assert_eq!(
            way("/srv/x", Want::Make, None),
            "--tmpfs /srv, or --rw /srv"
        );
    }

    #[test]
    fn nothing_is_promised_that_no_option_gives() {
        for (path, want) in [
            ("/proc/sysrq-trigger", Want::Change),
            ("/dev/kmsg", Want::Read),
            ("/sys/power/state", Want::Change),
            ("/x", Want::Make),
            ("/etc/passwd", Want::Change),
        ] {
            assert_eq!(way(path, want, None), "no option allows it", "{path}");
        }
        for (path, want) in [("/data/x", Want::Read), ("/tmp/x", Want::Change)] {
            assert!(way(path, want, None).contains("mode"), "{path}");
        }
        let private = OnHost {
            path: "/etc/shadow".into(),
            readable: false,
        };
        let way = inside().way_to_file("/etc/shadow".as_ref(), Want::Read, Some(&private));
        assert_eq!(way, Way::None("you cannot read it either"));
    }

    #[test]
    fn only_what_is_not_the_hosts_can_be_missing() {
        let all = |path: &str, want| inside().elsewhere(path.as_ref(), want);
        assert_eq!(all("/opt/x", Want::Read), [Path::new("/opt/x")]);
        assert_eq!(
            all("/home/sandbox/x", Want::Read),
            [Path::new("/home/sandbox/x"), Path::new("/home/me/x")]
        );
        assert_eq!(all("/opt/d/x", Want::Make), [Path::new("/opt/d")]);
        for same in ["/usr/lib/x", "/data/x", "/proc/7", "/sys/x", "/dev/x"] {
            assert!(all(same, Want::Read).is_empty(), "{same}");
        }
        // Everything is below the root.
        assert!(all("/x", Want::Make).is_empty());
        let bundle = Inside::of_bundle();
        assert!(bundle.elsewhere("/opt/x".as_ref(), Want::Read).is_empty());
    }

    #[test]
    fn peers_need_a_network() {
        let none = inside();
        let address = "192.0.2.1:443".parse().unwrap();
        assert_eq!(
            none.way_to_peer(address),
            Way::Options("--net pasta --connect 192.0.2.1:443 (TCP only), or --net host".into())
        );
        assert_eq!(none.way_to_peer("127.0.0.1:1".parse().unwrap()), NO_OPTION);
        let through = Inside {
            net: Net::Pasta(super::super::Through::default()),
            ..inside()
        };
        assert_eq!(
            through.way_to_peer(address),
            Way::Options("--connect 192.0.2.1:443 (TCP only)".into())
        );
        assert!(matches!(
            none.way_to_own("0.0.0.0:80".parse().unwrap()),
            Way::None(_)
        ));
        assert_eq!(none.way_to_abstract(), NO_OPTION);
    }

    #[test]
    fn paths_are_made_plain() {
        for (given, right) in [
            ("/a/./b/../c", "/a/c"),
            ("/../../x", "/x"),
            ("/", "/"),
            ("/a//b/", "/a/b"),
        ] {
            assert_eq!(plain(given.as_ref()), Path::new(right), "{given}");
        }
    }
}
