//! The mount calls: detached mounts that are made first and attached last.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use syscalls::Sysno;

use super::fd::At;
use super::{Result, call, call_with_numbers, owned, reg};

/// open_tree(2) with `OPEN_TREE_CLONE`: a detached copy of the mount at a path.
pub fn clone_tree(at: At<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH.cast_unsigned();
    }
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: the path ends with NUL.
    let fd = unsafe {
        call(
            Sysno::open_tree,
            [at.reg(), path.as_ptr() as usize, flags as usize, 0, 0, 0],
        )
    }?;
    Ok(owned(fd))
}

/// A detached copy of the mount an open file is on, with that file as its root.
pub fn clone_tree_of(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    clone_tree(At::Dir(fd), c"", recursive)
}

/// move_mount(2) of a detached mount onto an open directory or file.
///
/// Both sides are descriptors: no path is looked up again, so nobody can put a
/// symbolic link in the way between check and use (CVE-2021-30465).
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both empty paths end with NUL.
    unsafe {
        call(
            Sysno::move_mount,
            [
                reg(mount.as_raw_fd()),
                c"".as_ptr() as usize,
                reg(target.as_raw_fd()),
                c"".as_ptr() as usize,
                flags as usize,
                0,
            ],
        )
    }
    .map(drop)
}

/// move_mount(2) of an attached mount to `/`, for roots without pivot_root.
pub fn move_to_root(mount: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: both paths end with NUL.
    unsafe {
        call(
            Sysno::move_mount,
            [
                reg(mount.as_raw_fd()),
                c"".as_ptr() as usize,
                reg(libc::AT_FDCWD),
                c"/".as_ptr() as usize,
                libc::MOVE_MOUNT_F_EMPTY_PATH as usize,
                0,
            ],
        )
    }
    .map(drop)
}

/// fsopen(2): a file system being configured.
pub fn open_file_system(kind: &CStr) -> Result<OwnedFd> {
    // SAFETY: the name ends with NUL.
    let fd = unsafe {
        call(
            Sysno::fsopen,
            [
                kind.as_ptr() as usize,
                libc::FSOPEN_CLOEXEC as usize,
                0,
                0,
                0,
                0,
            ],
        )
    }?;
    Ok(owned(fd))
}

/// fsconfig(2): one option, with a value or as a flag.
pub fn configure(context: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let command = match value {
        Some(_) => libc::FSCONFIG_SET_STRING,
        None => libc::FSCONFIG_SET_FLAG,
    };
    let value = value.map_or(0, |v| v.as_ptr() as usize);
    // SAFETY: key and value end with NUL; a flag has a null value.
    unsafe {
        call(
            Sysno::fsconfig,
            [
                reg(context.as_raw_fd()),
                command as usize,
                key.as_ptr() as usize,
                value,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// fsconfig(2): one option whose value is an open file.
pub fn configure_file(context: BorrowedFd<'_>, key: &CStr, file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the key ends with NUL; the value is null, as it is for a descriptor.
    unsafe {
        call(
            Sysno::fsconfig,
            [
                reg(context.as_raw_fd()),
                libc::FSCONFIG_SET_FD as usize,
                key.as_ptr() as usize,
                0,
                reg(file.as_raw_fd()),
                0,
            ],
        )
    }
    .map(drop)
}

/// fsconfig(2) `CMD_CREATE` and fsmount(2): a detached mount with `MOUNT_ATTR_*`.
pub fn make_mount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    call_with_numbers(
        Sysno::fsconfig,
        [
            reg(context.as_raw_fd()),
            libc::FSCONFIG_CMD_CREATE as usize,
            0,
            0,
            0,
            0,
        ],
    )?;
    let fd = call_with_numbers(
        Sysno::fsmount,
        [
            reg(context.as_raw_fd()),
            libc::FSMOUNT_CLOEXEC as usize,
            usize::try_from(attributes).unwrap_or(0),
            0,
            0,
            0,
        ],
    )?;
    Ok(owned(fd))
}

/// fspick(2) and fsconfig(2) `CMD_RECONFIGURE` without a change: the file system of
/// a mount forgets the names that it has in its cache.
pub fn reconfigure(mount: BorrowedFd<'_>) -> Result<()> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
    // SAFETY: the empty path ends with NUL.
    let context = unsafe {
        call(
            Sysno::fspick,
            [
                reg(mount.as_raw_fd()),
                c"".as_ptr() as usize,
                flags as usize,
                0,
                0,
                0,
            ],
        )
    }?;
    let context = owned(context);
    let command = libc::FSCONFIG_CMD_RECONFIGURE as usize;
    call_with_numbers(
        Sysno::fsconfig,
        [reg(context.as_raw_fd()), command, 0, 0, 0, 0],
    )
    .map(drop)
}

/// What mount_setattr(2) changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
    /// A user namespace, for `MOUNT_ATTR_IDMAP`.
    pub user_namespace: u64,
}

/// mount_setattr(2) of an open mount, and of all below it when `recursive`.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: &Attributes,
    recursive: bool,
) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the empty path ends with NUL; the struct is laid out as mount_attr
    // and its size is passed.
    unsafe {
        call(
            Sysno::mount_setattr,
            [
                reg(mount.as_raw_fd()),
                c"".as_ptr() as usize,
                reg(flags),
                std::ptr::from_ref(attributes) as usize,
                size_of::<Attributes>(),
                0,
            ],
        )
    }
    .map(drop)
}

/// mount(2) with nothing but propagation flags, on a path of the host.
pub fn set_propagation(path: &CStr, flags: u64) -> Result<()> {
    // SAFETY: the path ends with NUL; source, type and data may be null for this operation.
    unsafe {
        call(
            Sysno::mount,
            [
                0,
                path.as_ptr() as usize,
                0,
                usize::try_from(flags).unwrap_or(0),
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// mount(2) of a new file system on a path, with its options in one string.
pub fn mount_file_system(kind: &CStr, target: &CStr, options: &CStr) -> Result<()> {
    // SAFETY: all four strings end with NUL; the source is the kind's name once more.
    unsafe {
        call(
            Sysno::mount,
            [
                kind.as_ptr() as usize,
                target.as_ptr() as usize,
                kind.as_ptr() as usize,
                0,
                options.as_ptr() as usize,
                0,
            ],
        )
    }
    .map(drop)
}

/// pivot_root(".", "."): the working directory becomes `/`, the old root lies on top of it.
pub fn pivot_to_working_directory() -> Result<()> {
    // SAFETY: both paths end with NUL.
    unsafe {
        call(
            Sysno::pivot_root,
            [c".".as_ptr() as usize, c".".as_ptr() as usize, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// umount2(2) with `MNT_DETACH`.
pub fn detach(path: &CStr) -> Result<()> {
    // SAFETY: the path ends with NUL.
    unsafe {
        call(
            Sysno::umount2,
            [path.as_ptr() as usize, reg(libc::MNT_DETACH), 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// chroot(2).
pub fn change_root(path: &CStr) -> Result<()> {
    // SAFETY: the path ends with NUL.
    unsafe { call(Sysno::chroot, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// chdir(2).
pub fn change_directory(path: &CStr) -> Result<()> {
    // SAFETY: the path ends with NUL.
    unsafe { call(Sysno::chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}
