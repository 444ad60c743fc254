//! Attributes and options of mounts in words.

use std::ffi::CStr;

use crate::plan::steps::Text;

/// `key=value` of a file system's option, or the key alone.
pub(super) fn option_text(key: &CStr, value: Option<&CStr>) -> String {
    match value {
        Some(value) => format!("{}={}", Text(key), Text(value)),
        None => Text(key).to_string(),
    }
}

const ATIME_MODES: u64 = libc::MOUNT_ATTR__ATIME;

/// The words of attributes that are set and cleared.
pub(super) fn attribute_names(set: u64, clear: u64) -> Vec<&'static str> {
    const FLAGS: [(u64, &str, &str); 6] = [
        (libc::MOUNT_ATTR_RDONLY, "ro", "rw"),
        (libc::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
        (libc::MOUNT_ATTR_NODEV, "nodev", "dev"),
        (libc::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
        (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let mut names = Vec::new();
    for (flag, on, off) in FLAGS {
        if set & flag != 0 {
            names.push(on);
        } else if clear & flag != 0 {
            names.push(off);
        }
    }
    if clear & ATIME_MODES != 0 {
        names.push(match set & ATIME_MODES {
            libc::MOUNT_ATTR_NOATIME => "noatime",
            libc::MOUNT_ATTR_STRICTATIME => "strictatime",
            _ => "relatime",
        });
    }
    names
}

/// The mount option of a set of propagation flags.
pub(in crate::plan) fn propagation_name(flags: u64) -> &'static str {
    let recursive = flags & libc::MS_REC != 0;
    match flags & !libc::MS_REC {
        libc::MS_SHARED => {
            if recursive {
                "rshared"
            } else {
                "shared"
            }
        }
        libc::MS_SLAVE => {
            if recursive {
                "rslave"
            } else {
                "slave"
            }
        }
        libc::MS_UNBINDABLE => {
            if recursive {
                "runbindable"
            } else {
                "unbindable"
            }
        }
        _ => {
            if recursive {
                "rprivate"
            } else {
                "private"
            }
        }
    }
}

/// `linux.rootfsPropagation` as flags.
pub(in crate::plan) fn propagation_flags(word: &str) -> Option<u64> {
    let (recursive, word) = match word.strip_prefix('r') {
        Some(rest) => (libc::MS_REC, rest),
        None => (0, word),
    };
    let flag = match word {
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some(flag | recursive)
}
