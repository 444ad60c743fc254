//! What tests need of a machine beyond what their role needs, looked for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cases::{Need, Skip};
use crate::machine::in_path;

/// The words for what is missing, if it is.
pub(crate) fn missing(need: Need) -> Option<Skip> {
    let absent = need.programs().iter().find(|name| !has_program(name));
    if let Some(absent) = absent {
        return Some(Skip {
            key: "programs",
            reason: format!("{absent} is not installed"),
        });
    }
    let (there, key, reason) = match need {
        Need::SocketActivate => (
            in_path("systemd-socket-activate").is_some(),
            "socket-activate",
            "systemd-socket-activate is not installed",
        ),
        Need::Busybox => (
            busybox().is_some(),
            "busybox",
            "no static busybox on this machine (apt install busybox-static)",
        ),
        Need::DebianRootfs => (
            debian_rootfs().is_some(),
            "debian",
            "CAPSID_TEST_DEBIAN_ROOTFS names no Debian tree (make debian-rootfs, as root)",
        ),
        Need::Controllers => (
            ["cpu", "io", "memory", "pids"]
                .into_iter()
                .all(has_controller),
            "controllers",
            "cgroup2 lacks cpu, io, memory or pids here; integration/machine/run has them",
        ),
        Need::Toolchain => (
            toolchain().is_some(),
            "programs",
            "the tests are not run by a cargo of a toolchain",
        ),
        Need::Disk => (
            disk().is_some(),
            "disk",
            "CAPSID_TEST_DISK names no disk; integration/machine/run has one",
        ),
        Need::Verity => (
            verity().is_some(),
            "fs-verity",
            "CAPSID_TEST_VERITY names no directory on a file system with fs-verity; \
             integration/machine/run --qemu has one",
        ),
        Need::Io => (
            has_controller("io") && has_block_device(),
            "controllers",
            "no block device, or no controller io on cgroup2",
        ),
        Need::Cpu => (has_controller("cpu"), "controllers", "no controller cpu"),
        Need::Memory => (
            has_controller("memory"),
            "controllers",
            "no controller memory on cgroup2",
        ),
        Need::Pids => (has_controller("pids"), "controllers", "no controller pids"),
        // Where all the others are, these may still not be built in.
        Need::Hugetlb => (
            has_controller("hugetlb"),
            "hugetlb",
            "no controller hugetlb on cgroup2; integration/machine/run --qemu has it",
        ),
        Need::HugePages => (
            has_controller("hugetlb") && free_huge_pages() >= 4,
            "huge-pages",
            "no controller hugetlb, or less than four huge pages are free (sysctl vm.nr_hugepages)",
        ),
        Need::Cpuset => (
            has_controller("cpuset") && Path::new("/sys/devices/system/cpu/cpu1").exists(),
            "cpuset",
            "no controller cpuset, or one processor; integration/machine/run --qemu has both",
        ),
        Need::Swap => (
            fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1),
            "swap",
            "nothing to swap to (swapon); integration/machine/run --qemu has it",
        ),
        Need::Bfq => (
            has_controller("io") && disk().is_some_and(|disk| scheduled_by_bfq(&disk)),
            "bfq",
            "CAPSID_TEST_DISK has not the scheduler bfq; integration/machine/run --qemu has it",
        ),
        Need::Rdma => (
            has_controller("rdma") && rdma_device().is_some(),
            "rdma",
            "no controller rdma, or no device; integration/machine/run --qemu has a soft one",
        ),
        // Looked for above, and with the role.
        Need::Compiler
        | Need::Pasta
        | Need::Network
        | Need::Curl
        | Need::Git
        | Need::Node
        | Need::Perl
        | Need::Python
        | Need::Sqlite
        | Need::Tmux
        | Need::Vim
        | Need::Runc
        | Need::Systemd
        | Need::RealRoot => return None,
    };
    (!there).then(|| Skip {
        key,
        reason: reason.to_owned(),
    })
}

/// Whether the host has a program where a sandbox looks for it.
fn has_program(name: &str) -> bool {
    let directories = ["/usr/local/bin", "/usr/sbin", "/usr/bin"];
    directories
        .iter()
        .any(|directory| Path::new(directory).join(name).exists())
}

/// Whether the cgroup2 file system here has a controller.
fn has_controller(name: &str) -> bool {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    all.split_ascii_whitespace().any(|one| one == name)
}

fn has_block_device() -> bool {
    fs::read_dir("/sys/block").is_ok_and(|mut disks| disks.next().is_some())
}

fn free_huge_pages() -> u32 {
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn scheduled_by_bfq(disk: &Path) -> bool {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(format!("/sys/block/{name}/queue/scheduler"));
    text.is_ok_and(|text| text.contains("[bfq]"))
}

/// A busybox that runs without a dynamic loader.
pub(crate) fn busybox() -> Option<PathBuf> {
    let path = in_path("busybox")?;
    let bytes = fs::read(&path).ok()?;
    // The interpreter's name stands near the start of a dynamic program.
    let head = &bytes[..bytes.len().min(4096)];
    let dynamic = head.windows(4).any(|window| window == b"/ld-");
    (!dynamic).then_some(path)
}

/// The Debian tree that the environment names.
pub(crate) fn debian_rootfs() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CAPSID_TEST_DEBIAN_ROOTFS")?);
    path.join("usr/bin/dpkg").exists().then_some(path)
}

/// A disk whose content nobody needs.
pub(crate) fn disk() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CAPSID_TEST_DISK")?);
    path.exists().then_some(path)
}

/// A directory of everybody where files can have fs-verity.
pub(crate) fn verity() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CAPSID_TEST_VERITY")?);
    path.is_dir().then_some(path)
}

/// The name of an RDMA device.
pub(crate) fn rdma_device() -> Option<String> {
    let mut devices = fs::read_dir("/sys/class/infiniband").ok()?;
    let device = devices.next()?.ok()?;
    Some(device.file_name().to_string_lossy().into_owned())
}

/// The toolchain of the cargo that runs the tests, all in one directory.
pub(crate) fn toolchain() -> Option<PathBuf> {
    let cargo = PathBuf::from(std::env::var_os("CARGO")?);
    let top = cargo.parent()?.parent()?;
    let whole = top.join("bin/rustc").exists() && top.join("lib/rustlib").exists();
    whole.then(|| top.to_path_buf())
}
