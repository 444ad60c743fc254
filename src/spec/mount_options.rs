//! The words of a mount's `options`, turned into the kernel's own flags.
//!
//! Pure: the result says what to hand to `mount_setattr`, `fsconfig` and
//! `mount`; nothing here asks the kernel.

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE,
    MS_UNBINDABLE,
};
use oci_spec::runtime::Mount;

/// What a mount's options ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// A bind mount: `source` is a path, `type` means nothing.
    pub bind: bool,
    /// The bind mount brings the mounts below its source along.
    pub recursive_bind: bool,
    /// Change the mount that is already there instead of making one.
    pub remount: bool,
    /// `MOUNT_ATTR_*` to set on the mount itself.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear on the mount itself. With an access time mode in
    /// [`set`](Self::set) this has all of `MOUNT_ATTR__ATIME`, which the kernel
    /// insists on. `rw`, `dev`, `suid`, `exec` and their like appear here only
    /// for a remount: on a new bind mount they take back an earlier word of the
    /// list and never loosen what the source is mounted with.
    pub clear: u64,
    /// `MOUNT_ATTR_*` to set on the mount and all below it.
    pub recursive_set: u64,
    /// `MOUNT_ATTR_*` to clear on the mount and all below it.
    pub recursive_clear: u64,
    /// Propagation changes in the order given: `MS_PRIVATE | MS_REC` and so on,
    /// to be made after the mount is attached.
    pub propagation: Vec<u64>,
    /// Flags and `key=value` of the superblock itself, as `fsconfig` takes them.
    /// Empty for bind mounts: they share the superblock with their source.
    pub superblock: Vec<(String, Option<String>)>,
    /// Options of the file system, unknown to the VFS.
    pub data: Vec<String>,
    /// Map the mount's ids.
    pub idmap: Option<IdmapKind>,
    /// Fill a new tmpfs with what the directory it covers has (`tmpcopyup`).
    pub copy_up: bool,
}

/// Which mounts of a bind mount get their ids mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdmapKind {
    /// `idmap`: the mount itself.
    Plain,
    /// `ridmap`: the mount and all below it.
    Recursive,
}

/// What one word does.
#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    Bind { recursive: bool },
    Remount,
    Attr { attr: u64, on: bool },
    RecursiveAttr { attr: u64, on: bool },
    Atime { mode: u64, on: bool },
    RecursiveAtime { mode: u64, on: bool },
    Superblock { flag: usize, on: bool },
    ReadOnly(bool),
    Propagation(u64),
    CopyUp,
    Idmap(IdmapKind),
}

/// The superblock flags that `fsconfig` knows for every file system: the word
/// that sets one, and the word that clears it.
const SUPERBLOCK: [(&str, &str); 5] = [
    ("ro", "rw"),
    ("sync", "async"),
    ("dirsync", ""),
    ("mand", "nomand"),
    ("lazytime", "nolazytime"),
];

const RO: usize = 0;
const SYNC: usize = 1;
const DIRSYNC: usize = 2;
const MAND: usize = 3;
const LAZYTIME: usize = 4;

const fn attr(attr: u64, on: bool) -> Effect {
    Effect::Attr { attr, on }
}

const fn rattr(attr: u64, on: bool) -> Effect {
    Effect::RecursiveAttr { attr, on }
}

const fn atime(mode: u64, on: bool) -> Effect {
    Effect::Atime { mode, on }
}

const fn ratime(mode: u64, on: bool) -> Effect {
    Effect::RecursiveAtime { mode, on }
}

const fn sb(flag: usize, on: bool) -> Effect {
    Effect::Superblock { flag, on }
}

/// Every word the runtime specification lists, sorted by name.
///
/// `iversion` and `silent` with their opposites do nothing: `fsconfig` refuses
/// them for every file system. Since Linux 5.17 a file system that can count
/// inode versions always does, and `silent` concerns only the kernel's log.
const TABLE: [(&str, Effect); 62] = [
    ("async", sb(SYNC, false)),
    ("atime", atime(MOUNT_ATTR_NOATIME, false)),
    ("bind", Effect::Bind { recursive: false }),
    ("defaults", Effect::Nothing),
    ("dev", attr(MOUNT_ATTR_NODEV, false)),
    ("diratime", attr(MOUNT_ATTR_NODIRATIME, false)),
    ("dirsync", sb(DIRSYNC, true)),
    ("exec", attr(MOUNT_ATTR_NOEXEC, false)),
    ("idmap", Effect::Idmap(IdmapKind::Plain)),
    ("iversion", Effect::Nothing),
    ("lazytime", sb(LAZYTIME, true)),
    ("loud", Effect::Nothing),
    ("mand", sb(MAND, true)),
    ("noatime", atime(MOUNT_ATTR_NOATIME, true)),
    ("nodev", attr(MOUNT_ATTR_NODEV, true)),
    ("nodiratime", attr(MOUNT_ATTR_NODIRATIME, true)),
    ("noexec", attr(MOUNT_ATTR_NOEXEC, true)),
    ("noiversion", Effect::Nothing),
    ("nolazytime", sb(LAZYTIME, false)),
    ("nomand", sb(MAND, false)),
    ("norelatime", atime(MOUNT_ATTR_RELATIME, false)),
    ("nostrictatime", atime(MOUNT_ATTR_STRICTATIME, false)),
    ("nosuid", attr(MOUNT_ATTR_NOSUID, true)),
    ("nosymfollow", attr(MOUNT_ATTR_NOSYMFOLLOW, true)),
    ("private", Effect::Propagation(MS_PRIVATE)),
    ("ratime", ratime(MOUNT_ATTR_NOATIME, false)),
    ("rbind", Effect::Bind { recursive: true }),
    ("rdev", rattr(MOUNT_ATTR_NODEV, false)),
    ("rdiratime", rattr(MOUNT_ATTR_NODIRATIME, false)),
    ("relatime", atime(MOUNT_ATTR_RELATIME, true)),
    ("remount", Effect::Remount),
    ("rexec", rattr(MOUNT_ATTR_NOEXEC, false)),
    ("ridmap", Effect::Idmap(IdmapKind::Recursive)),
    ("rnoatime", ratime(MOUNT_ATTR_NOATIME, true)),
    ("rnodev", rattr(MOUNT_ATTR_NODEV, true)),
    ("rnodiratime", rattr(MOUNT_ATTR_NODIRATIME, true)),
    ("rnoexec", rattr(MOUNT_ATTR_NOEXEC, true)),
    ("rnorelatime", ratime(MOUNT_ATTR_RELATIME, false)),
    ("rnostrictatime", ratime(MOUNT_ATTR_STRICTATIME, false)),
    ("rnosuid", rattr(MOUNT_ATTR_NOSUID, true)),
    ("rnosymfollow", rattr(MOUNT_ATTR_NOSYMFOLLOW, true)),
    ("ro", Effect::ReadOnly(true)),
    ("rprivate", Effect::Propagation(MS_PRIVATE | MS_REC)),
    ("rrelatime", ratime(MOUNT_ATTR_RELATIME, true)),
    ("rro", rattr(MOUNT_ATTR_RDONLY, true)),
    ("rrw", rattr(MOUNT_ATTR_RDONLY, false)),
    ("rshared", Effect::Propagation(MS_SHARED | MS_REC)),
    ("rslave", Effect::Propagation(MS_SLAVE | MS_REC)),
    ("rstrictatime", ratime(MOUNT_ATTR_STRICTATIME, true)),
    ("rsuid", rattr(MOUNT_ATTR_NOSUID, false)),
    ("rsymfollow", rattr(MOUNT_ATTR_NOSYMFOLLOW, false)),
    ("runbindable", Effect::Propagation(MS_UNBINDABLE | MS_REC)),
    ("rw", Effect::ReadOnly(false)),
    ("shared", Effect::Propagation(MS_SHARED)),
    ("silent", Effect::Nothing),
    ("slave", Effect::Propagation(MS_SLAVE)),
    ("strictatime", atime(MOUNT_ATTR_STRICTATIME, true)),
    ("suid", attr(MOUNT_ATTR_NOSUID, false)),
    ("symfollow", attr(MOUNT_ATTR_NOSYMFOLLOW, false)),
    ("sync", sb(SYNC, true)),
    ("tmpcopyup", Effect::CopyUp),
    ("unbindable", Effect::Propagation(MS_UNBINDABLE)),
];

/// The names of [`TABLE`].
const NAMES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = TABLE[index].0;
        index += 1;
    }
    names
};

/// Every option that is not handed on to the file system, sorted: `mountOptions`
/// of the features document.
pub const KNOWN: &[&str] = &NAMES;

/// Set and cleared attributes of one `mount_setattr` call, while words are read.
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    /// The access time mode asked for; `None` leaves it as it is.
    atime: Option<u64>,
}

impl Attributes {
    /// The last word about an attribute wins.
    fn change(&mut self, attr: u64, on: bool) {
        let (to, from) = if on {
            (&mut self.set, &mut self.clear)
        } else {
            (&mut self.clear, &mut self.set)
        };
        *to |= attr;
        *from &= !attr;
    }

    /// Access time modes exclude each other, so they are one value and not bits.
    /// A negation leads back to relatime, the kernel's default, unless another
    /// mode was asked for since.
    fn change_atime(&mut self, mode: u64, on: bool) {
        if on {
            self.atime = Some(mode);
        } else if mode == MOUNT_ATTR_RELATIME {
            self.atime = self.atime.filter(|&asked| asked != mode);
        } else if self.atime.is_none_or(|asked| asked == mode) {
            self.atime = Some(MOUNT_ATTR_RELATIME);
        }
    }

    /// The `attr_set` and `attr_clr` of `mount_setattr`.
    fn finish(self) -> (u64, u64) {
        match self.atime {
            Some(mode) => (self.set | mode, self.clear | MOUNT_ATTR__ATIME),
            None => (self.set, self.clear),
        }
    }
}

/// Reads the options of a mount, and its type: `type: bind` alone is a bind
/// mount too, as crun reads it.
pub fn of(mount: &Mount) -> MountOptions {
    let options = mount.options().as_deref().unwrap_or_default();
    read(options, mount.typ().as_deref() == Some("bind"))
}

/// Reads mount options. The last word about a thing wins; words that are not in
/// [`KNOWN`] are the file system's.
pub fn parse(options: &[String]) -> MountOptions {
    read(options, false)
}

fn read(options: &[String], bind: bool) -> MountOptions {
    let mut asked = MountOptions {
        bind,
        ..MountOptions::default()
    };
    let mut own = Attributes::default();
    let mut below = Attributes::default();
    let mut superblock = [None; SUPERBLOCK.len()];
    for option in options.iter().filter(|option| !option.is_empty()) {
        let Ok(at) = TABLE.binary_search_by(|(name, _)| (*name).cmp(option)) else {
            asked.data.push(option.clone());
            continue;
        };
        match TABLE[at].1 {
            Effect::Nothing => {}
            Effect::Bind { recursive } => {
                asked.bind = true;
                asked.recursive_bind = recursive;
            }
            Effect::Remount => asked.remount = true,
            Effect::Attr { attr, on } => own.change(attr, on),
            Effect::RecursiveAttr { attr, on } => below.change(attr, on),
            Effect::Atime { mode, on } => own.change_atime(mode, on),
            Effect::RecursiveAtime { mode, on } => below.change_atime(mode, on),
            Effect::Superblock { flag, on } => superblock[flag] = Some(on),
            Effect::ReadOnly(on) => {
                own.change(MOUNT_ATTR_RDONLY, on);
                superblock[RO] = Some(on);
            }
            Effect::Propagation(change) => asked.propagation.push(change),
            Effect::CopyUp => asked.copy_up = true,
            Effect::Idmap(kind) => asked.idmap = Some(kind),
        }
    }
    if !asked.remount {
        own.clear = 0;
    }
    (asked.set, asked.clear) = own.finish();
    (asked.recursive_set, asked.recursive_clear) = below.finish();
    if !asked.bind {
        asked.superblock = superblock_flags(superblock, asked.remount);
    }
    asked
}

/// A new superblock starts with all flags clear, so only a remount names those to clear.
fn superblock_flags(
    asked: [Option<bool>; SUPERBLOCK.len()],
    remount: bool,
) -> Vec<(String, Option<String>)> {
    SUPERBLOCK
        .iter()
        .zip(asked)
        .filter_map(|((set, clear), asked)| match asked {
            Some(true) => Some(*set),
            Some(false) if remount => Some(*clear),
            _ => None,
        })
        .map(|name| (name.to_owned(), None))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str) -> MountOptions {
        parse(&options.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(
            KNOWN.windows(2).all(|pair| pair[0] < pair[1]),
            "binary search needs the order"
        );
    }

    #[test]
    fn knows_every_word_of_the_specification() {
        let words = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand \
            noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid \
            nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev \
            rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro \
            rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave \
            strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";
        for word in words.split_whitespace() {
            assert!(KNOWN.contains(&word), "{word}");
            assert!(parsed(word).data.is_empty(), "{word}");
        }
        assert_eq!(words.split_whitespace().count(), KNOWN.len());
    }

    #[test]
    fn attributes_set_and_the_last_word_wins() {
        let table: &[(&str, u64)] = &[
            ("ro", MOUNT_ATTR_RDONLY),
            ("ro rw", 0),
            ("rw ro", MOUNT_ATTR_RDONLY),
            (
                "nosuid nodev noexec",
                MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
            ),
            ("nosuid suid nodev dev noexec exec", 0),
            (
                "nosymfollow nodiratime",
                MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NODIRATIME,
            ),
            ("nosymfollow symfollow nodiratime diratime", 0),
        ];
        for (options, set) in table {
            let options = parsed(options);
            assert_eq!((options.set, options.clear), (*set, 0), "{options:?}");
        }
    }

    #[test]
    fn access_time_modes_exclude_each_other() {
        let table: &[(&str, Option<u64>)] = &[
            ("noatime", Some(MOUNT_ATTR_NOATIME)),
            ("strictatime", Some(MOUNT_ATTR_STRICTATIME)),
            ("relatime", Some(MOUNT_ATTR_RELATIME)),
            ("noatime strictatime", Some(MOUNT_ATTR_STRICTATIME)),
            ("strictatime relatime", Some(MOUNT_ATTR_RELATIME)),
            ("strictatime nostrictatime", Some(MOUNT_ATTR_RELATIME)),
            ("noatime nostrictatime", Some(MOUNT_ATTR_NOATIME)),
            ("atime", Some(MOUNT_ATTR_RELATIME)),
            ("strictatime atime", Some(MOUNT_ATTR_STRICTATIME)),
            ("relatime norelatime", None),
            ("nodiratime", None),
        ];
        for (words, mode) in table {
            let options = parsed(words);
            let set = options.set & MOUNT_ATTR__ATIME;
            let clear = options.clear & MOUNT_ATTR__ATIME;
            match mode {
                Some(mode) => assert_eq!((set, clear), (*mode, MOUNT_ATTR__ATIME), "{words}"),
                None => assert_eq!((set, clear), (0, 0), "{words}"),
            }
        }
        let recursive = parsed("rnoatime rstrictatime");
        assert_eq!(recursive.recursive_set, MOUNT_ATTR_STRICTATIME);
        assert_eq!(recursive.recursive_clear, MOUNT_ATTR__ATIME);
    }

    #[test]
    fn recursive_words_leave_the_plain_ones_alone() {
        let options =
            parsed("rbind rro rnosuid rnodev rnoexec rnosymfollow rnodiratime rdev rrw ro");
        assert_eq!(
            options.recursive_set,
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NODIRATIME
        );
        assert_eq!(
            options.recursive_clear,
            MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY
        );
        assert_eq!((options.set, options.clear), (MOUNT_ATTR_RDONLY, 0));
    }

    #[test]
    fn binds_have_no_superblock_and_never_loosen_their_source() {
        let options = parsed("rw exec sync bind");
        assert!(options.bind && !options.recursive_bind);
        assert_eq!((options.set, options.clear), (0, 0));
        assert!(options.superblock.is_empty());
        assert!(parsed("bind rbind").recursive_bind);
    }

    #[test]
    fn a_remount_clears_what_it_names() {
        let options = parsed("remount rw async suid");
        assert!(options.remount);
        assert_eq!(options.clear, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
        assert_eq!(
            options.superblock,
            [("rw".to_owned(), None), ("async".to_owned(), None)]
        );
        assert_eq!(parsed("remount bind rw").clear, MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn superblock_flags_and_data() {
        let options = parsed("ro sync dirsync mand lazytime silent iversion size=64k  mode=755");
        let names: Vec<&str> = options
            .superblock
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["ro", "sync", "dirsync", "mand", "lazytime"]);
        assert_eq!(options.data, ["size=64k", "mode=755"]);
        assert!(
            parsed("sync async lazytime nolazytime ro rw")
                .superblock
                .is_empty()
        );
    }

    #[test]
    fn each_recursive_word_sets_or_clears_its_attribute() {
        for (set, clear, attr) in [
            ("rro", "rrw", MOUNT_ATTR_RDONLY),
            ("rnosuid", "rsuid", MOUNT_ATTR_NOSUID),
            ("rnodev", "rdev", MOUNT_ATTR_NODEV),
            ("rnoexec", "rexec", MOUNT_ATTR_NOEXEC),
            ("rnodiratime", "rdiratime", MOUNT_ATTR_NODIRATIME),
            ("rnosymfollow", "rsymfollow", MOUNT_ATTR_NOSYMFOLLOW),
        ] {
            let (on, off) = (parsed(set), parsed(clear));
            assert_eq!((on.recursive_set, on.recursive_clear), (attr, 0), "{set}");
            assert_eq!(
                (off.recursive_set, off.recursive_clear),
                (0, attr),
                "{clear}"
            );
        }
    }

    #[test]
    fn propagation_keeps_its_order() {
        let kinds = [MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE];
        assert_eq!(parsed("private shared slave unbindable").propagation, kinds);
        let recursive = parsed("rprivate rshared rslave runbindable").propagation;
        assert_eq!(recursive, kinds.map(|kind| kind | MS_REC));
    }

    #[test]
    fn extensions() {
        assert!(parsed("tmpcopyup").copy_up);
        assert_eq!(parsed("bind idmap").idmap, Some(IdmapKind::Plain));
        assert_eq!(parsed("idmap ridmap").idmap, Some(IdmapKind::Recursive));
    }

    #[test]
    fn type_bind_is_a_bind_mount() {
        let mut mount = Mount::default();
        mount.set_typ(Some("bind".to_owned()));
        assert!(of(&mount).bind);
        mount.set_typ(Some("tmpfs".to_owned()));
        assert!(!of(&mount).bind);
    }
}
