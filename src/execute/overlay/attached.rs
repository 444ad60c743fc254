//! An overlay of layers with mapped ids, on a kernel that takes no detached ones.
//!
//! Before Linux 6.15 the kernel wants layers by path, in the mount namespace of who
//! mounts the overlay. So a process attaches them in one that ends with it, on a file
//! system in memory, and hands back the overlay detached. Nothing of that is seen
//! outside, and however the process ends, nothing of it stays.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use crate::error::Failure;
use crate::execute::protocol;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};
use crate::sys::process::{self, Cloned};
use crate::sys::{Result, directory, guard, restrict, socket};

use super::DIRECTORY;

/// What the overlay is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'p> {
    /// The lower layers, the uppermost first, detached. They are used up.
    pub(super) lower: &'p [OwnedFd],
    /// The upper layer of one that can be written.
    pub(super) upper: Option<Upper<'p>>,
    /// Its options, each with a value or as a flag.
    pub(super) options: &'p [(CString, Option<CString>)],
    /// `MOUNT_ATTR_*` of its mount.
    pub(super) attributes: u64,
}

/// An upper layer and its work directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upper<'p> {
    /// The directory that both are in, detached. It is used up.
    pub(super) beside: &'p OwnedFd,
    /// The layer's name there.
    pub(super) layer: &'p CStr,
    /// The work directory's.
    pub(super) work: &'p CStr,
    /// Whose what the kernel makes there will be.
    pub(super) owner: u32,
}

/// All that the process needs: it allocates nothing.
struct Prepared<'p> {
    parts: &'p Parts<'p>,
    /// Names of the lower layers.
    names: Vec<CString>,
    /// Links to upper layer and work directory, by what they lead to.
    links: Option<[(&'static CStr, CString); 2]>,
    /// The overlay's options.
    options: CString,
}

/// In the stage: the directory with the upper layer, links to what is in there, a
/// layer that is empty, and the overlay. Names of lower layers are numbers.
const BESIDE: &CStr = c"b";
const UPPER: &CStr = c"u";
const WORK: &CStr = c"w";
const EMPTY: &CStr = c"e";
const MERGED: &CStr = c"m";

/// How much of the options mount(2) reads: a page, and the last byte is NUL.
const PAGE: usize = 4096;

/// Makes it, detached.
pub(super) fn make(parts: &Parts<'_>) -> Result<OwnedFd> {
    let prepared = prepare(parts)?;
    let (ours, theirs) = socket::pair()?;
    let namespace = u64::from(libc::CLONE_NEWNS.cast_unsigned());
    let pid = match process::clone(namespace, None)? {
        Cloned::Child => {
            guard::forbid();
            let made = stage().and_then(|stage| assemble(&prepared, stage.as_fd()));
            let told = protocol::tell_made(theirs.as_fd(), &made);
            process::exit(i32::from(told.is_err()))
        }
        Cloned::Parent { pid, .. } => pid,
    };
    // So that its end is heard.
    drop(theirs);
    let made = protocol::hear_made(ours.as_fd());
    process::wait(pid, 0)?;
    made
}

fn prepare<'p>(parts: &'p Parts<'p>) -> Result<Prepared<'p>> {
    let text =
        |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Failure::of(Sysno::mount, libc::EINVAL));
    let mut options = b"lowerdir=".to_vec();
    let mut names = Vec::with_capacity(parts.lower.len());
    for number in 0..parts.lower.len() {
        let name = number.to_string().into_bytes();
        if number > 0 {
            options.push(b':');
        }
        options.extend_from_slice(&name);
        names.push(text(name)?);
    }
    let links = match &parts.upper {
        Some(upper) => {
            options.extend_from_slice(b",upperdir=u,workdir=w,index=off");
            let below = |name: &CStr| text([b"b/", name.to_bytes()].concat());
            Some([(UPPER, below(upper.layer)?), (WORK, below(upper.work)?)])
        }
        None if parts.lower.len() == 1 => {
            // Without an upper layer the kernel wants two.
            options.extend_from_slice(b":e");
            None
        }
        None => None,
    };
    for (key, value) in parts.options {
        options.push(b',');
        options.extend_from_slice(key.to_bytes());
        if let Some(value) = value {
            options.push(b'=');
            options.extend_from_slice(value.to_bytes());
        }
    }
    if options.len() >= PAGE {
        return Err(Failure::of(Sysno::mount, libc::E2BIG));
    }
    Ok(Prepared {
        parts,
        names,
        links,
        options: text(options)?,
    })
}

/// A file system in memory, as the working directory. It covers `/proc`, which is a
/// mount wherever capsid runs: only that has to be cut off from those of the host.
fn stage() -> Result<OwnedFd> {
    let covered = fd::open(At::Cwd, c"/proc", DIRECTORY, Resolve::ANY)?;
    let private = Attributes {
        propagation: libc::MS_PRIVATE,
        ..Attributes::default()
    };
    mount::set_attributes(covered.as_fd(), &private, false)?;
    let context = mount::open_file_system(c"tmpfs")?;
    mount::configure(context.as_fd(), c"mode", Some(c"700"))?;
    let stage = mount::make_mount(context.as_fd(), 0)?;
    mount::attach(stage.as_fd(), covered.as_fd())?;
    fd::change_directory(stage.as_fd())?;
    Ok(stage)
}

fn assemble(prepared: &Prepared<'_>, stage: BorrowedFd<'_>) -> Result<OwnedFd> {
    let parts = prepared.parts;
    for (name, tree) in prepared.names.iter().zip(parts.lower) {
        attach(stage, name, tree)?;
    }
    for name in [EMPTY, MERGED] {
        directory::mkdir(stage, name, 0o755)?;
    }
    if let Some(upper) = &parts.upper {
        attach(stage, BESIDE, upper.beside)?;
        for (name, target) in prepared.links.iter().flatten() {
            directory::symlink(target, stage, name)?;
        }
        // As the host's root it could make nothing where that has no id, and the
        // kernel would mount it read-only without a word.
        restrict::set_file_system_ids(upper.owner)?;
    }
    mount::mount_file_system(c"overlay", MERGED, &prepared.options)?;
    let made = mount::clone_tree(At::Cwd, MERGED, false)?;
    let attributes = Attributes {
        set: parts.attributes,
        clear: libc::MOUNT_ATTR__ATIME,
        ..Attributes::default()
    };
    mount::set_attributes(made.as_fd(), &attributes, false)?;
    Ok(made)
}

fn attach(stage: BorrowedFd<'_>, name: &CStr, tree: &OwnedFd) -> Result<()> {
    directory::mkdir(stage, name, 0o755)?;
    let point = fd::open(At::Dir(stage), name, DIRECTORY, Resolve::BENEATH_SAME_MOUNT)?;
    mount::attach(tree.as_fd(), point.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(
        layers: usize,
        upper: bool,
        others: &[(CString, Option<CString>)],
    ) -> Result<String> {
        let open = || fd::open(At::Cwd, c"/", DIRECTORY, Resolve::ANY);
        let lower: Result<Vec<OwnedFd>> = (0..layers).map(|_| open()).collect();
        let beside = open()?;
        let upper = upper.then_some(Upper {
            beside: &beside,
            layer: c"diff,a:b",
            work: c"capsid-7",
            owner: 7,
        });
        let parts = Parts {
            lower: &lower?,
            upper,
            options: others,
            attributes: 0,
        };
        let prepared = prepare(&parts)?;
        Ok(prepared.options.to_string_lossy().into_owned())
    }

    #[test]
    fn options_have_short_names_only() {
        let others = [
            (c"metacopy".into(), Some(c"on".into())),
            (c"userxattr".into(), None),
        ];
        assert_eq!(
            options(3, true, &others).unwrap(),
            "lowerdir=0:1:2,upperdir=u,workdir=w,index=off,metacopy=on,userxattr"
        );
        assert_eq!(options(2, false, &[]).unwrap(), "lowerdir=0:1");
        assert_eq!(options(1, false, &[]).unwrap(), "lowerdir=0:e");
    }

    #[test]
    fn as_many_layers_as_the_kernel_takes_fit() {
        assert!(options(500, true, &[]).unwrap().len() < 2100);
        let long = (c"xino".into(), CString::new(vec![b'x'; 4080]).ok());
        let failure = options(1, true, &[long]).unwrap_err();
        assert_eq!(failure, Failure::of(Sysno::mount, libc::E2BIG));
    }
}
