//! Doors of the kernel that are no runtime's fault, and that it must close.

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: cgroup_of_others, raw_kernel_files;
}

fn cgroup_of_others(test: &Test) {
    let writable = Bundle::new(test).without_mount("/sys/fs/cgroup").mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "rw"]
    }));
    let output = writable.run_probe(&["write", "/sys/fs/cgroup/../cgroup.procs", "1"]);
    assert_ne!(output.text(), "ok");
    if !test.machine.root {
        // Without a cgroup of its own the container is in the caller's, and
        // that may well have others below it.
        return;
    }
    let listed = Bundle::new(test)
        .run_probe(&["ls", "/sys/fs/cgroup"])
        .success();
    assert!(
        !listed.stdout.contains("capsid-test"),
        "groups of the host are visible: {}",
        listed.stdout
    );
}

fn raw_kernel_files(test: &Test) {
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        let output = Bundle::new(test).run_probe(&["write", path, "x"]).code(1);
        assert!(
            ["EROFS", "EACCES", "EPERM", "ENOENT"].contains(&output.text()),
            "{path}: {}",
            output.text()
        );
    }
}
