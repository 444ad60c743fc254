//! Files and peers that a program was refused: collected, and put into words
//! with the option that would give them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::within::{Inside, Way};
use crate::error;

/// So many different ones are remembered: a program that tries paths without end
/// must not fill the runtime's memory.
const MOST: usize = 2048;

/// So many lines are shown.
const SHOWN: usize = 50;

/// So many programs are named in one line.
const PROGRAMS: usize = 3;

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A file, by its path inside.
    File(PathBuf),
    /// An address to connect or send to.
    Peer(SocketAddr),
    /// An address of its own.
    Own(SocketAddr),
    /// A socket without a path.
    Abstract(String),
}

/// What was wanted of it; what gives more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// To look at it.
    Look,
    /// To read it.
    Read,
    /// To execute it.
    Execute,
    /// To connect to it.
    Connect,
    /// To change it.
    Change,
    /// To make it.
    Make,
}

impl Want {
    /// Reading is not enough for it.
    pub(super) fn writes(self) -> bool {
        matches!(self, Want::Change | Want::Make)
    }

    fn verb(self) -> &'static str {
        match self {
            Want::Look => "look at",
            Want::Read => "read",
            Want::Execute => "execute",
            Want::Connect => "connect to",
            Want::Change => "change",
            Want::Make => "make",
        }
    }
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused.
    pub target: Target,
    /// What was wanted.
    pub want: Want,
    /// The error number.
    pub errno: i32,
    /// Where the file is on the host, if the sandbox does not have it.
    pub host: Option<OnHost>,
    /// Who wanted it.
    pub program: String,
}

/// A file of the host that the sandbox does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnHost {
    /// Its path there.
    pub path: PathBuf,
    /// The caller may read it.
    pub readable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    want: Want,
    errno: i32,
    host: Option<OnHost>,
    programs: BTreeSet<String>,
    count: u64,
}

/// All that a program was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    seen: BTreeMap<Target, Told>,
    /// How many more there were than are remembered.
    forgotten: u64,
}

impl Refusals {
    /// Adds one.
    pub fn add(&mut self, refusal: Refusal) {
        let Refusal {
            target,
            want,
            errno,
            host,
            program,
        } = refusal;
        if self.seen.len() >= MOST && !self.seen.contains_key(&target) {
            self.forgotten += 1;
            return;
        }
        let told = self.seen.entry(target).or_insert_with(|| Told {
            want,
            errno,
            host: None,
            programs: BTreeSet::new(),
            count: 0,
        });
        told.count += 1;
        if want > told.want {
            (told.want, told.errno) = (want, errno);
        }
        told.host = told.host.take().or(host);
        if told.programs.len() <= PROGRAMS {
            told.programs.insert(program);
        }
    }

    /// One line for each file and each peer, in order.
    pub fn lines(&self, inside: &Inside) -> Vec<String> {
        let shown = self.seen.iter().take(SHOWN);
        let mut lines: Vec<String> = shown
            .map(|(target, told)| told.line(target, inside))
            .collect();
        let more = self.seen.len().saturating_sub(SHOWN);
        match (more, self.forgotten) {
            (0, _) => {}
            (more, 0) => lines.push(format!("and {more} more")),
            // A file that is refused again counts again once nothing new is remembered.
            (more, forgotten) => lines.push(format!("and at least {more} more, {forgotten} times")),
        }
        lines
    }
}

impl Told {
    fn line(&self, target: &Target, inside: &Inside) -> String {
        let what = match target {
            Target::File(path) => format!("{} {}", self.want.verb(), path.display()),
            Target::Peer(address) => format!("connect to {address}"),
            Target::Own(address) => format!("listen on {address}"),
            Target::Abstract(name) => format!("connect to the abstract socket {name}"),
        };
        let times = match self.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let because = match &self.host {
            Some(_) => ": it is on this host and not inside",
            None => "",
        };
        let option = match self.way(target, inside) {
            Way::Options(options) => format!("; to allow it: {options}"),
            Way::None(why) => format!("; {why}"),
            Way::Unknown => String::new(),
        };
        format!(
            "{what} by {}, {times}: {}{because}{option}",
            self.programs(),
            error::errno_text(self.errno),
        )
    }

    fn programs(&self) -> String {
        let named = self.programs.iter().take(PROGRAMS).cloned();
        let mut names: Vec<String> = named.collect();
        if self.programs.len() > PROGRAMS {
            names.push("others".into());
        }
        match names.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
            None => "an unknown program".into(),
        }
    }

    /// What would allow it.
    fn way(&self, target: &Target, inside: &Inside) -> Way {
        match target {
            Target::File(path) => inside.way_to_file(path, self.want, self.host.as_ref()),
            Target::Peer(address) => inside.way_to_peer(*address),
            Target::Own(address) => inside.way_to_own(*address),
            Target::Abstract(_) => inside.way_to_abstract(),
        }
    }
}

/// The family and address in a socket's address; nothing that names none.
pub fn target_of_address(bytes: &[u8], own: bool) -> Option<Target> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let address: SocketAddr = match family {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            (octets, port()?).into()
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            (octets, port()?).into()
        }
        libc::AF_UNIX => return of_unix(&bytes[2..]),
        _ => return None,
    };
    Some(match own {
        true => Target::Own(address),
        false => Target::Peer(address),
    })
}

fn of_unix(name: &[u8]) -> Option<Target> {
    use std::os::unix::ffi::OsStrExt;
    match name.split_first()? {
        (0, rest) => Some(Target::Abstract(
            rest.escape_ascii().to_string().replace("\\x00", ""),
        )),
        _ => {
            let end = name
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len());
            let path = std::ffi::OsStr::from_bytes(&name[..end]);
            Some(Target::File(Path::new(path).to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str, want: Want, program: &str) -> Refusal {
        Refusal {
            target: Target::File(path.into()),
            want,
            errno: libc::EACCES,
            host: None,
            program: program.into(),
        }
    }

    #[test]
    fn each_file_has_one_line_in_order() {
        let mut all = Refusals::default();
        all.add(refusal("/b", Want::Read, "cat"));
        all.add(refusal("/a", Want::Look, "ls"));
        all.add(refusal("/b", Want::Change, "tee"));
        let lines = all.lines(&Inside::of_bundle());
        assert_eq!(
            lines,
            [
                "look at /a by ls, once: permission denied (EACCES)",
                "change /b by cat and tee, 2 times: permission denied (EACCES)",
            ]
        );
    }

    #[test]
    fn neither_lines_nor_memory_are_without_end() {
        let mut all = Refusals::default();
        for number in 0..MOST + 7 {
            all.add(refusal(&format!("/f{number:05}"), Want::Read, "find"));
        }
        assert_eq!(all.seen.len(), MOST);
        let lines = all.lines(&Inside::of_bundle());
        assert_eq!(lines.len(), SHOWN + 1);
        let last = lines.last().unwrap();
        assert_eq!(
            *last,
            format!("and at least {} more, 7 times", MOST - SHOWN)
        );
        let mut few = Refusals::default();
        for number in 0..SHOWN + 2 {
            few.add(refusal(&format!("/f{number}"), Want::Read, "find"));
        }
        assert_eq!(few.lines(&Inside::of_bundle())[SHOWN], "and 2 more");
    }

    #[test]
    fn many_programs_are_others() {
        let mut all = Refusals::default();
        for program in ["a", "b", "c", "d", "e"] {
            all.add(refusal("/x", Want::Read, program));
        }
        let line = &all.lines(&Inside::of_bundle())[0];
        assert!(
            line.starts_with("read /x by a, b, c and others, 5 times"),
            "{line}"
        );
    }

    #[test]
    fn addresses_are_read() {
        let family = |family: i32| u16::try_from(family).unwrap().to_ne_bytes();
        let mut v4 = family(libc::AF_INET).to_vec();
        v4.extend([1, 187, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        let peer = Target::Peer("192.0.2.7:443".parse().unwrap());
        assert_eq!(target_of_address(&v4, false), Some(peer));
        let mut v6 = family(libc::AF_INET6).to_vec();
        v6.extend([0, 80, 0, 0, 0, 0]);
        v6.extend([0; 15]);
        v6.extend([1, 0, 0, 0, 0]);
        let own = Target::Own("[::1]:80".parse().unwrap());
        assert_eq!(target_of_address(&v6, true), Some(own));
        let mut unix = family(libc::AF_UNIX).to_vec();
        unix.extend(b"/run/x.sock\0rest");
        let file = Target::File("/run/x.sock".into());
        assert_eq!(target_of_address(&unix, false), Some(file));
        let mut hidden = family(libc::AF_UNIX).to_vec();
        hidden.extend(b"\0name");
        let name = Target::Abstract("name".into());
        assert_eq!(target_of_address(&hidden, false), Some(name));
        // Cut short, of another family, to nowhere.
        for bytes in [&v4[..5], &v6[..20], &[0], &[0, 0], &[16, 0, 0, 0]] {
            assert_eq!(target_of_address(bytes, false), None, "{bytes:?}");
        }
    }
}
