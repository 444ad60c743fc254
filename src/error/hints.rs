//! What to do about a failed call: one table, for all messages.

use std::fmt;

use syscalls::Sysno;

use super::{Call, Check, Failure};

struct Hint {
    call: Call,
    /// 0 for a check, which has none.
    errno: i32,
    /// A word that the attempted step must contain, or "" for any.
    step: &'static str,
    advice: &'static str,
}

const fn hint(sysno: Sysno, errno: i32, step: &'static str, advice: &'static str) -> Hint {
    Hint {
        call: Call::of(sysno),
        errno,
        step,
        advice,
    }
}

const fn check(check: Check, advice: &'static str) -> Hint {
    Hint {
        call: Call::check(check),
        errno: 0,
        step: "",
        advice,
    }
}

const HINTS: &[Hint] = &[
    hint(
        Sysno::open_tree,
        libc::ENOENT,
        "open the sources",
        "the source of a bind mount does not exist on the host",
    ),
    hint(
        Sysno::open_tree,
        libc::ENOENT,
        "open the bind source",
        "the source of the bind mount does not exist on the host",
    ),
    hint(
        Sysno::open_tree,
        libc::EINVAL,
        "",
        "a bind in a user namespace must be recursive (rbind) where something is mounted below its source",
    ),
    hint(
        Sysno::openat2,
        libc::EACCES,
        "attach the root",
        "every directory above the root file system must let the container's root user through",
    ),
    hint(
        Sysno::mount_setattr,
        libc::EPERM,
        "bind",
        "in a user namespace a flag that the host set on the mount cannot be cleared; give the same flags \
         (nosuid, nodev, noexec, ro)",
    ),
    hint(
        Sysno::mount_setattr,
        libc::EINVAL,
        "idmap",
        "the file system below does not support idmapped mounts (an overlay as a whole never does)",
    ),
    hint(
        Sysno::fsmount,
        libc::EPERM,
        "mount proc",
        "the kernel refuses a new procfs where the one outside is masked, as inside another container",
    ),
    hint(
        Sysno::fsconfig,
        libc::EPERM,
        "mount proc",
        "the kernel refuses a new procfs where the one outside is masked, as inside another container",
    ),
    hint(
        Sysno::fsconfig,
        libc::EINVAL,
        "mount",
        "the file system does not know one of the options, or its value",
    ),
    hint(
        Sysno::fsopen,
        libc::ENODEV,
        "mount",
        "the kernel has no file system of that type",
    ),
    hint(
        Sysno::prlimit64,
        libc::EPERM,
        "",
        "a hard limit can only be raised with CAP_SYS_RESOURCE; ask for at most the caller's own limit \
         (ulimit -H)",
    ),
    hint(
        Sysno::setgroups,
        libc::EPERM,
        "",
        "setgroups is denied in a user namespace that maps only the caller's own group; give the caller \
         subordinate ids, or no additionalGids",
    ),
    hint(
        Sysno::setresuid,
        libc::EINVAL,
        "",
        "the user id is not mapped in the container's user namespace",
    ),
    hint(
        Sysno::setresgid,
        libc::EINVAL,
        "",
        "the group id is not mapped in the container's user namespace",
    ),
    hint(
        Sysno::sendto,
        libc::EINVAL,
        "move",
        "the kernel lets no interface of this kind leave its network namespace (lo, bridges, tunnels)",
    ),
    hint(
        Sysno::sendto,
        libc::EPERM,
        "move",
        "it takes CAP_NET_ADMIN where the interface is and where it goes",
    ),
    hint(
        Sysno::set_mempolicy,
        libc::EINVAL,
        "",
        "none of these memory nodes is on this machine and in the container's cpuset.mems, or the kernel is \
         older than the mode or flag (MPOL_F_NUMA_BALANCING 5.12, MPOL_PREFERRED_MANY 5.15, \
         MPOL_WEIGHTED_INTERLEAVE 6.9)",
    ),
    hint(
        Sysno::set_mempolicy,
        libc::ENOSYS,
        "",
        "the kernel was built without CONFIG_NUMA; leave linux.memoryPolicy out",
    ),
    hint(
        Sysno::capset,
        libc::EPERM,
        "",
        "the caller itself does not have all of these capabilities",
    ),
    hint(
        Sysno::keyctl,
        libc::EDQUOT,
        "",
        "the user has too many keys; raise kernel.keys.maxkeys, or use --no-new-keyring",
    ),
    hint(
        Sysno::bpf,
        libc::EPERM,
        "device filter",
        "it takes CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN), and a cgroup above whose own filter \
         admits others; allow bpf(2) to capsid, or end linux.resources.devices with allow a *:* rwm",
    ),
    hint(
        Sysno::bpf,
        libc::EINVAL,
        "device filter",
        "the kernel must be built with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF",
    ),
    hint(
        Sysno::seccomp,
        libc::EINVAL,
        "",
        "the kernel does not know one of the filter's flags or actions",
    ),
    hint(
        Sysno::pivot_root,
        libc::EINVAL,
        "",
        "the host's root is a ramfs or a shared mount; use --no-pivot on an initramfs",
    ),
    hint(
        Sysno::openat2,
        libc::ENOENT,
        "AppArmor",
        "AppArmor is not in force on this machine; remove apparmorProfile",
    ),
    hint(
        Sysno::write,
        libc::ENOENT,
        "AppArmor",
        "no profile of that name is loaded; load it with apparmor_parser",
    ),
    hint(
        Sysno::write,
        libc::EACCES,
        "oom_score_adj",
        "only CAP_SYS_RESOURCE may lower oom_score_adj; ask for at least the caller's own",
    ),
    hint(
        Sysno::openat2,
        libc::ENOENT,
        "change to directory",
        "process.cwd is not in the root file system; only create makes it, where that can be written",
    ),
    hint(
        Sysno::openat2,
        libc::ELOOP,
        "change to directory",
        "process.cwd leads through a magic link of /proc, which could leave the container",
    ),
    check(
        Check::NotRealDirectory,
        "proc and sysfs need a directory of the root file system, not a symbolic link",
    ),
    check(
        Check::CalledInChroot,
        "capsid was called in a chroot; enter that root by pivot_root(2) in a mount namespace of its own, as systemd-nspawn does",
    ),
    check(
        Check::LinkToMountPoint,
        "give the path that the link leads to: links of an image or of an earlier mount may not choose what is covered",
    ),
    check(
        Check::NotDevpts,
        "a terminal needs a mount of type devpts on /dev/pts (with newinstance and ptmxmode=0666)",
    ),
    check(
        Check::WrongDevice,
        "the root file system has something else in that place; remove it there, or mount a tmpfs on /dev",
    ),
    check(Check::CarriageReturn, "convert the script with dos2unix"),
    check(
        Check::WrongArchitecture,
        "use an image for this machine's architecture",
    ),
];

/// Appends the advice for a failure, if there is any.
pub(super) fn write(f: &mut fmt::Formatter<'_>, failure: &Failure, step: &str) -> fmt::Result {
    let found = HINTS
        .iter()
        .find(|h| h.call == failure.call && h.errno == failure.errno && step.contains(h.step));
    match found {
        Some(hint) => write!(f, "\n  hint: {}", hint.advice),
        None => Ok(()),
    }
}
