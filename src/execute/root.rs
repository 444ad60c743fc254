//! The root phase: everything below the container's root, by descriptor.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Check, Failure};
use crate::plan::mounts::{MountStep, What};
use crate::plan::steps::DeviceStep;
use crate::plan::{BindSource, RootStep};
use crate::sys::directory;
use crate::sys::fd::{self, At, Resolve};
use crate::sys::mount::{self, Attributes};
use crate::sys::{Result, process, restrict};

use super::child::Walk;
use super::lookup::{self, Make};
use super::protocol::ToParent;
use super::{caller_root, copy_up, fence, hooks_inside, secrets, staged};

/// Carries out one step.
pub fn step(walk: &mut Walk<'_>, step: &RootStep) -> Result<()> {
    match step {
        RootStep::ExpectNamespaceRoot => caller_root::expect(walk.handles.procfs.as_fd()),
        RootStep::Propagation(flags) => mount::set_propagation(c"/", *flags),
        RootStep::PrivateParent(path) => mount::set_propagation(path, libc::MS_PRIVATE),
        RootStep::OpenSource(index) => open_source(walk, *index),
        RootStep::AttachRoot { path } => staged::attach_root(walk, path),
        RootStep::AttachMapped { path, source } => staged::attach_mapped(walk, path, *source),
        RootStep::AttachInherited => staged::attach_inherited(walk),
        RootStep::ExpectRoot { dev, ino } => {
            let found = fd::stat(root_of(walk)?)?;
            match (found.dev, found.ino) == (*dev, *ino) {
                true => Ok(()),
                false => Err(Failure::check(Check::RootReplaced)),
            }
        }
        RootStep::BecomeRoot => become_root(),
        RootStep::Mount(step) => mount_one(walk, step),
        RootStep::Device(device) => make_device(root_of(walk)?, device),
        RootStep::Link {
            target,
            directory,
            name,
            replace,
        } => link(root_of(walk)?, target, directory, name, *replace),
        RootStep::Console { size, uid } => console(walk, *size, *uid),
        RootStep::Terminal { size, uid } => terminal(walk, *size, *uid),
        RootStep::NamedTerminal => staged::name_terminal(walk),
        RootStep::RuntimeHooks => walk.ask(&ToParent::RuntimeHooks),
        RootStep::Hook(hook) => hooks_inside::run(walk, hook),
        RootStep::Sysctl { file, value } => walk.write_proc(file, value.to_bytes()),
        RootStep::Mask(path) => mask(walk, path),
        RootStep::ReadonlyPath(path) => make_readonly(root_of(walk)?, path),
        RootStep::ReadonlyMount(path) => {
            make_mount_readonly(lookup::open(root_of(walk)?, path)?.as_fd())
        }
        RootStep::ReadonlyRoot => make_mount_readonly(root_of(walk)?),
        RootStep::Pivot => pivot(root_of(walk)?),
        RootStep::MoveRoot => move_root(walk),
        RootStep::WorkingDirectory(path) => {
            // What hinders here hinders entering it too, which is where it is told.
            let _made = lookup::open_or_make(root_of(walk)?, path, Make::Directory);
            Ok(())
        }
        RootStep::Secrets(step) => secrets::put(walk, step),
        RootStep::Fence(step) => fence::step(walk, step),
        RootStep::RootPropagation(flags) => mount::set_propagation(c"/", *flags),
        RootStep::MountPropagation { path, flags } => {
            propagate(lookup::open(root_of(walk)?, path)?.as_fd(), *flags)
        }
    }
}

fn make_mount_readonly(mount: BorrowedFd<'_>) -> Result<()> {
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attributes::default()
    };
    mount::set_attributes(mount, &attributes, false)
}

/// A joined user namespace need not map 0; the process then stays who it is.
fn become_root() -> Result<()> {
    match restrict::set_gid(0).and_then(|()| restrict::set_uid(0)) {
        Err(failure) if failure.is(libc::EINVAL) => Ok(()),
        other => other,
    }
}

fn root_of<'w>(walk: &'w Walk<'_>) -> Result<BorrowedFd<'w>> {
    match &walk.root {
        Some(root) => Ok(root.as_fd()),
        None => Err(Failure::of(syscalls::Sysno::openat2, libc::EBADF)),
    }
}

fn open_source(walk: &mut Walk<'_>, index: usize) -> Result<()> {
    let tree = source_tree(&walk.plan.sources[index])?;
    walk.handles.sources[index] = Some(tree);
    Ok(())
}

/// A detached copy of what is to be bound.
pub fn source_tree(source: &BindSource) -> Result<OwnedFd> {
    if !source.plain {
        return mount::clone_tree(At::Cwd, &source.path, source.recursive);
    }
    let found = fd::open(At::Cwd, &source.path, libc::O_PATH, Resolve::NO_LINKS)?;
    mount::clone_tree_of(found.as_fd(), source.recursive)
}

fn mount_one(walk: &mut Walk<'_>, step: &MountStep) -> Result<()> {
    let root = root_of(walk)?;
    let (tree, make) = match &step.what {
        What::FileSystem { kind, options } => {
            if step.layers_inside() {
                // They are then found from the container's own root.
                fd::change_directory(root)?;
            }
            (make_file_system(kind, options, step)?, Make::Directory)
        }
        What::Bind(index) => {
            let source = walk.handles.sources[*index].as_ref();
            let source = source.ok_or(Failure::of(syscalls::Sysno::open_tree, libc::EBADF))?;
            let directory = fd::stat(source.as_fd())?.is(libc::S_IFDIR);
            (
                fd::duplicate_above(source.as_fd(), 0)?,
                if directory {
                    Make::Directory
                } else {
                    Make::File
                },
            )
        }
    };
    let target = target(root, step, make)?;
    staged::give_away(tree.as_fd(), step)?;
    if step.copy_up {
        copy_up::copy_tree(target.as_fd(), tree.as_fd())?;
    }
    set_attributes(tree.as_fd(), step)?;
    attach(tree.as_fd(), target.as_fd())?;
    let mut changes = step.propagation.iter();
    changes.try_for_each(|flags| propagate(tree.as_fd(), *flags))
}

fn propagate(tree: BorrowedFd<'_>, flags: u64) -> Result<()> {
    let attributes = Attributes {
        propagation: flags & !libc::MS_REC,
        ..Attributes::default()
    };
    mount::set_attributes(tree, &attributes, flags & libc::MS_REC != 0)
}

/// The kernel's EINVAL has many reasons. Engines have words for one of them.
fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let directory = |file| Ok(fd::stat(file)?.is(libc::S_IFDIR));
    match mount::attach(tree, target) {
        Err(failure) if failure.is(libc::EINVAL) && directory(tree)? != directory(target)? => {
            Err(Failure::check(Check::DirectoryAndFile))
        }
        other => other,
    }
}

fn make_file_system(
    kind: &CStr,
    options: &[(std::ffi::CString, Option<std::ffi::CString>)],
    step: &MountStep,
) -> Result<OwnedFd> {
    let context = mount::open_file_system(kind)?;
    for (key, value) in options {
        mount::configure(context.as_fd(), key, value.as_deref())?;
    }
    let late = if step.copy_up {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    mount::make_mount(context.as_fd(), step.set & !late)
}

fn target(root: BorrowedFd<'_>, step: &MountStep, make: Make) -> Result<OwnedFd> {
    if step.plain_target {
        return lookup::open_or_make_plain(root, &step.target, make);
    }
    if !step.plain_directory {
        let target = lookup::open_or_make(root, &step.target, make)?;
        return match covers_procfs(&target, &step.target)? {
            true => Err(Failure::check(Check::LinkToMountPoint)),
            false => Ok(target),
        };
    }
    match lookup::open_plain_directory(root, &step.target) {
        Err(failure) if failure.is(libc::ENOENT) => {
            drop(lookup::open_or_make(root, &step.target, make)?);
            lookup::open_plain_directory(root, &step.target)
        }
        Err(failure) if matches!(failure.errno, libc::ELOOP | libc::ENOTDIR) => {
            Err(Failure::check(Check::NotRealDirectory))
        }
        other => other,
    }
}

/// Whether a link of the image leads from elsewhere to a file of procfs: validation
/// lets nobody mount there by name, for labels and masks act on what is there
/// (CVE-2019-16884, CVE-2023-27561).
fn covers_procfs(target: &OwnedFd, path: &CStr) -> Result<bool> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let by_name = path.to_bytes() == b"/proc" || path.to_bytes().starts_with(b"/proc/");
    Ok(!by_name && fd::file_system(target.as_fd())?.0 == PROC_SUPER_MAGIC)
}

fn set_attributes(tree: BorrowedFd<'_>, step: &MountStep) -> Result<()> {
    let change = |set, clear, recursive| {
        if set == 0 && clear == 0 {
            return Ok(());
        }
        let attributes = Attributes {
            set,
            clear,
            ..Attributes::default()
        };
        mount::set_attributes(tree, &attributes, recursive)
    };
    if matches!(step.what, What::Bind(_)) {
        let stat = fd::stat(tree)?;
        let device = stat.is(libc::S_IFCHR) || stat.is(libc::S_IFBLK);
        let volume = if device { 0 } else { step.volume };
        change(step.set | volume, step.clear, false)?;
    } else if step.copy_up {
        change(step.set & libc::MOUNT_ATTR_RDONLY, 0, false)?;
    }
    change(step.recursive_set, step.recursive_clear, true)
}

fn make_device(root: BorrowedFd<'_>, device: &DeviceStep) -> Result<()> {
    let (directory, name) = lookup::open_parent(root, &device.path)?;
    let number = libc::makedev(device.major, device.minor);
    if device.bind {
        return bind_device(directory.as_fd(), name, device, number);
    }
    match directory::mknod(directory.as_fd(), name, device.mode, number) {
        Err(failure) if failure.is(libc::EEXIST) => {
            let there = fd::open(
                At::Dir(directory.as_fd()),
                name,
                libc::O_PATH | libc::O_NOFOLLOW,
                Resolve::ANY,
            )?;
            return expect_device(there.as_fd(), device.mode & libc::S_IFMT, number);
        }
        other => other?,
    }
    if (device.uid, device.gid) != (0, 0) {
        directory::chown_at(directory.as_fd(), name, device.uid, device.gid)?;
    }
    Ok(())
}

/// Binds the host's own node, after a look at what it really is.
fn bind_device(
    directory: BorrowedFd<'_>,
    name: &CStr,
    device: &DeviceStep,
    number: u64,
) -> Result<()> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let host = fd::open(At::Cwd, &device.path, flags, Resolve::ANY)?;
    expect_device(host.as_fd(), device.mode & libc::S_IFMT, number)?;
    match directory::mknod(directory, name, libc::S_IFREG | 0o644, 0) {
        Err(failure) if !failure.is(libc::EEXIST) => return Err(failure),
        _ => {}
    }
    let target = fd::open(At::Dir(directory), name, flags, Resolve::ANY)?;
    if fd::stat(target.as_fd())?.is(libc::S_IFLNK) {
        return Err(Failure::check(Check::WrongDevice));
    }
    let tree = mount::clone_tree_of(host.as_fd(), false)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

/// Type and number, by descriptor: a symbolic link or another device in its
/// place is an attack (CVE-2025-31133, CVE-2026-88265).
fn expect_device(node: BorrowedFd<'_>, kind: u32, number: u64) -> Result<()> {
    let stat = fd::stat(node)?;
    let right = stat.is(kind) && (kind == libc::S_IFIFO || stat.rdev == number);
    if right {
        Ok(())
    } else {
        Err(Failure::check(Check::WrongDevice))
    }
}

fn link(
    root: BorrowedFd<'_>,
    target: &CStr,
    directory: &CStr,
    name: &CStr,
    replace: bool,
) -> Result<()> {
    let directory = lookup::open_or_make(root, directory, Make::Directory)?;
    if replace {
        match directory::unlink(directory.as_fd(), name) {
            Err(failure) if !failure.is(libc::ENOENT) => return Err(failure),
            _ => {}
        }
    }
    match directory::symlink(target, directory.as_fd(), name) {
        Err(failure) if failure.is(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// Opens a pseudoterminal of the container's own devpts and sends its master
/// to the runtime. The peer is opened from the master, not by path (CVE-2025-52565).
fn terminal(walk: &mut Walk<'_>, size: Option<(u16, u16)>, uid: u32) -> Result<()> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let at = walk
        .root
        .as_ref()
        .map_or(At::Cwd, |root| At::Dir(root.as_fd()));
    let master = fd::open(
        at,
        c"/dev/pts/ptmx",
        libc::O_RDWR,
        Resolve::IN_ROOT_NO_LINKS,
    )?;
    if fd::file_system(master.as_fd())?.0 != DEVPTS_SUPER_MAGIC {
        return Err(Failure::check(Check::NotDevpts));
    }
    process::unlock_terminal(master.as_fd())?;
    let peer = process::terminal_peer(master.as_fd())?;
    fd::chown(peer.as_fd(), uid, u32::MAX)?;
    if let Some((rows, columns)) = size {
        process::set_terminal_size(master.as_fd(), rows, columns)?;
    }
    // The terminal has its size before anything inside can ask for it.
    walk.ask(&ToParent::Console(master))?;
    walk.terminal = Some(peer);
    Ok(())
}

fn console(walk: &mut Walk<'_>, size: Option<(u16, u16)>, uid: u32) -> Result<()> {
    terminal(walk, size, uid)?;
    let root = root_of(walk)?;
    let Some(peer) = &walk.terminal else {
        return Ok(());
    };
    let directory = lookup::open_or_make(root, c"/dev", Make::Directory)?;
    match directory::mknod(directory.as_fd(), c"console", libc::S_IFREG | 0o600, 0) {
        Err(failure) if !failure.is(libc::EEXIST) => return Err(failure),
        _ => {}
    }
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let target = fd::open(At::Dir(directory.as_fd()), c"console", flags, Resolve::ANY)?;
    if fd::stat(target.as_fd())?.is(libc::S_IFLNK) {
        return Err(Failure::check(Check::WrongDevice));
    }
    let tree = mount::clone_tree_of(peer.as_fd(), false)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

/// Covers a path: a directory with an empty read-only one, anything else with
/// the host's /dev/null. Both are the runtime's own, never the container's
/// (CVE-2025-31133). Nothing there is nothing to hide.
fn mask(walk: &mut Walk<'_>, path: &CStr) -> Result<()> {
    let target = match lookup::open(root_of(walk)?, path) {
        Err(failure) if matches!(failure.errno, libc::ENOENT | libc::ENOTDIR) => return Ok(()),
        other => other?,
    };
    if !fd::stat(target.as_fd())?.is(libc::S_IFDIR) {
        let null = match walk.null.take() {
            Some(null) => null,
            None => open_null()?,
        };
        let tree = mount::clone_tree_of(null.as_fd(), false)?;
        walk.null = Some(null);
        return mount::attach(tree.as_fd(), target.as_fd());
    }
    // Once the first is attached, the rest are copies of it: one superblock for all.
    let tree = match &walk.empty {
        Some(empty) => mount::clone_tree_of(empty.as_fd(), false)?,
        None => make_empty_directory()?,
    };
    mount::attach(tree.as_fd(), target.as_fd())?;
    if walk.empty.is_none() {
        walk.empty = Some(tree);
    }
    Ok(())
}

fn open_null() -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let null = fd::open(At::Cwd, c"/dev/null", flags, Resolve::ANY)?;
    expect_device(null.as_fd(), libc::S_IFCHR, libc::makedev(1, 3))?;
    Ok(null)
}

fn make_empty_directory() -> Result<OwnedFd> {
    let context = mount::open_file_system(c"tmpfs")?;
    mount::configure(context.as_fd(), c"mode", Some(c"755"))?;
    mount::configure(context.as_fd(), c"nr_inodes", Some(c"2"))?;
    mount::make_mount(
        context.as_fd(),
        libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC,
    )
}

fn make_readonly(root: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let target = match lookup::open(root, path) {
        Err(failure) if matches!(failure.errno, libc::ENOENT | libc::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let tree = mount::clone_tree_of(target.as_fd(), true)?;
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), &attributes, true)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let old = fd::open(At::Cwd, c"/", flags, Resolve::ANY)?;
    fd::change_directory(root)?;
    mount::pivot_to_working_directory()?;
    // The old root may still be shared with the host: as a slave, taking it
    // down stays in here.
    let attributes = Attributes {
        propagation: libc::MS_SLAVE,
        ..Attributes::default()
    };
    mount::set_attributes(old.as_fd(), &attributes, true)?;
    fd::change_directory(old.as_fd())?;
    mount::detach(c".")?;
    mount::change_directory(c"/")
}

/// Without pivot_root(2) the host's tree stays below the new root. A procfs or
/// sysfs in it would let container root mount a fresh one without masks, so
/// they go first; one that is locked is covered instead.
fn move_root(walk: &Walk<'_>) -> Result<()> {
    for path in &walk.handles.kernel_mounts {
        mount::set_propagation(path, libc::MS_SLAVE | libc::MS_REC)?;
        if let Err(failure) = mount::detach(path) {
            if !matches!(failure.errno, libc::EINVAL | libc::EPERM) {
                return Err(failure);
            }
            let target = fd::open(
                At::Cwd,
                path,
                libc::O_PATH | libc::O_DIRECTORY,
                Resolve::ANY,
            )?;
            mount::attach(make_empty_directory()?.as_fd(), target.as_fd())?;
        }
    }
    let root = root_of(walk)?;
    fd::change_directory(root)?;
    mount::move_to_root(root)?;
    mount::change_root(c".")?;
    mount::change_directory(c"/")
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;
    use crate::plan::Opener;

    /// Whoever puts a link in the place of what was named chooses nothing.
    #[test]
    fn a_plain_source_is_reached_without_links() {
        let base = std::env::temp_dir().join(format!("capsid-source-{}", std::process::id()));
        std::fs::create_dir_all(base.join("real/d")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        for path in ["link", "link/d"] {
            let path = base.join(path).into_os_string().into_encoded_bytes();
            let source = BindSource {
                path: CString::new(path).unwrap(),
                recursive: true,
                opener: Opener::Child,
                idmap: None,
                plain: true,
            };
            assert_eq!(source_tree(&source).unwrap_err().errno, libc::ELOOP);
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}
