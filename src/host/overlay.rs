//! What an overlay is made of, as mountinfo tells it.
//!
//! Mountinfo shows what whoever mounted it wrote. Where that does not lead to the
//! layers beyond doubt, the overlay cannot be made again, and the reason is told.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::mountinfo::{self, Mount};

/// An overlay, to be made again of the same layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// The lower directories, the uppermost first.
    pub lower: Vec<CString>,
    /// The upper directory of one that can be written.
    pub upper: Option<PathBuf>,
    /// Its options, each with a value or as a flag.
    pub options: Vec<(CString, Option<CString>)>,
    /// Options of its mount.
    pub flags: Vec<String>,
}

/// Options that mean the same for an overlay of the same layers.
const COPIED: [&[u8]; 9] = [
    b"default_permissions",
    b"fsync",
    b"metacopy",
    b"redirect_dir",
    b"userxattr",
    b"uuid",
    b"verity",
    b"volatile",
    b"xino",
];

type Understood<T> = Result<T, String>;

/// The layers of the overlay that is mounted on an open directory.
///
/// # Errors
/// What is in the way, as the end of a sentence.
pub fn layers(directory: &impl AsRawFd) -> Understood<Layers> {
    let number = directory.as_raw_fd();
    let unknown = |error: std::io::Error| format!("cannot be found in mountinfo ({error})");
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).map_err(unknown)?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id = id.and_then(|id| id.trim().parse().ok());
    let path = std::fs::read_link(format!("/proc/self/fd/{number}")).map_err(unknown)?;
    let mounts = mountinfo::read().map_err(|error| error.to_string())?;
    let mount = mounts.iter().find(|mount| Some(mount.id) == id);
    let mount = mount.ok_or("cannot be found in mountinfo")?;
    if mount.point != path || mount.root != Path::new("/") {
        return Err("is a directory of an overlay, and not all of it".into());
    }
    let below = |other: &Mount| other.point != path && other.point.starts_with(&path);
    if let Some(other) = mounts.iter().find(|other| below(other)) {
        return Err(format!(
            "is an overlay with a mount below it ({})",
            other.point.display()
        ));
    }
    let layers = of(mount)?;
    let options = &mount.options;
    let says_off = |name: &str| contains(options, format!("{name}=off").as_bytes());
    let by_default = |name: &str| {
        let path = format!("/sys/module/overlay/parameters/{name}");
        std::fs::read_to_string(path).is_ok_and(|word| word.trim() == "Y") && !says_off(name)
    };
    if layers.upper.is_some() {
        if let Some(name) = ["index", "nfs_export"]
            .into_iter()
            .find(|name| by_default(name))
        {
            return Err(format!("is an overlay with the option {name}"));
        }
        let flags = layers.flags.iter().any(|word| word == "ro");
        if flags || contains(options, b"ro") {
            return Err("is an overlay with an upper layer that is read-only already".into());
        }
    }
    Ok(layers)
}

fn contains(options: &[u8], word: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|one| one == word)
}

fn of(mount: &Mount) -> Understood<Layers> {
    if mount.kind != "overlay" {
        return Err(format!("is of a kind that is not known ({})", mount.kind));
    }
    let mut layers = Layers {
        lower: Vec::new(),
        upper: None,
        options: Vec::new(),
        flags: mount.flags.split(',').map(str::to_owned).collect(),
    };
    for option in mount.options.split(|byte| *byte == b',') {
        let mut parts = option.splitn(2, |byte| *byte == b'=');
        let key = parts.next().unwrap_or_default();
        let value = parts.next().map(mountinfo::path);
        match (key, value) {
            (b"ro" | b"rw" | b"workdir", _) => {}
            (b"upperdir", Some(one)) => {
                directory(&one)?;
                layers.upper = Some(one);
            }
            (b"lowerdir", Some(list)) => {
                let list = list.as_os_str().as_bytes();
                for one in list.split(|byte| *byte == b':') {
                    let one = std::ffi::OsStr::from_bytes(one);
                    layers.lower.push(directory(Path::new(one))?);
                }
            }
            (b"lowerdir+", Some(one)) => layers.lower.push(directory(&one)?),
            (b"index" | b"nfs_export", Some(value)) if value == Path::new("off") => {}
            (key, value) if COPIED.contains(&key) => {
                let value = value.map(|value| value.into_os_string().into_vec());
                let (key, value) = (CString::new(key), value.map(CString::new).transpose());
                match (key, value) {
                    (Ok(key), Ok(value)) => layers.options.push((key, value)),
                    _ => return Err(not_understood(Path::new("an option with a NUL"))),
                }
            }
            (key, _) => {
                let key = String::from_utf8_lossy(key);
                return Err(format!("is an overlay with the option {key}"));
            }
        }
    }
    Ok(layers)
}

/// A layer by its path. Relative to a directory that nobody knows any more, of a
/// process's own descriptors, or with the escapes of overlayfs: it could be any.
fn directory(path: &Path) -> Understood<CString> {
    let bytes = path.as_os_str().as_bytes();
    let plain = path.is_absolute()
        && !path.starts_with("/proc")
        && !path.starts_with("/dev/fd")
        && path != Path::new("/");
    match CString::new(bytes) {
        Ok(text) if plain && !bytes.contains(&b'\\') => Ok(text),
        _ => Err(not_understood(path)),
    }
}

fn not_understood(layer: &Path) -> String {
    format!(
        "is an overlay, and mountinfo does not show where its layer {:?} is",
        PathBuf::from(layer)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &str) -> Understood<Layers> {
        let line = format!("9 1 0:5 / /m rw,nodev,relatime - overlay overlay {options}\n");
        of(&mountinfo::parse(line.as_bytes())[0])
    }

    #[test]
    fn layers_and_options_are_those_of_the_mount() {
        let found = parsed("ro,lowerdir=/a\\040b:/c,redirect_dir=follow,userxattr,index=off");
        let found = found.unwrap();
        assert_eq!(found.lower, [c"/a b".to_owned(), c"/c".to_owned()]);
        assert_eq!(
            found.options,
            [
                (c"redirect_dir".to_owned(), Some(c"follow".to_owned())),
                (c"userxattr".to_owned(), None)
            ]
        );
        assert_eq!(found.flags, ["rw", "nodev", "relatime"]);
        let written = parsed("rw,lowerdir=/a,upperdir=/u,workdir=/w").unwrap();
        assert_eq!(written.upper, Some("/u".into()));
        let each = parsed("ro,lowerdir+=/a\\072,lowerdir+=/b:c").unwrap();
        assert_eq!(each.lower, [c"/a:".to_owned(), c"/b:c".to_owned()]);
    }

    #[test]
    fn what_could_be_any_directory_is_none() {
        for options in [
            "ro,lowerdir=l/A:l/B",
            "ro,lowerdir=/a::/data",
            "ro,lowerdir=/a\\134:b:/c",
            "ro,lowerdir+=/proc/self/fd/4,lowerdir+=/b",
            "ro,lowerdir+=/,lowerdir+=/",
            "ro,lowerdir+=/a,datadir+=/b",
            "ro,lowerdir=/a:/b,nfs_export=on",
            "ro,context=x,lowerdir=/a:/b",
            "rw,lowerdir=/a,upperdir=u,workdir=w",
        ] {
            let why = parsed(options).unwrap_err();
            assert!(why.starts_with("is an overlay"), "{options}: {why}");
        }
    }
}
