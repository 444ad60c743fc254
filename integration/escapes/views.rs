//! The kernel's own file systems: settings of the host, what masks hide, cgroups.

use std::fs;

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::push;
use crate::roles::{Role, Test};

cases! {
    ALL []: host_settings;
    ALL [Busybox]: masks_in_a_nested_procfs;
    USERS []: cgroup_paths;
}

/// Run programs on the host, stop it, or set limits for all of its users.
const SETTINGS: [&str; 8] = [
    "/proc/irq/default_smp_affinity",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/keys/maxkeys",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/panic",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
];

/// A bundle that says nothing about what is hidden and what is read-only.
fn silent<'t>(test: &'t Test) -> Bundle<'t> {
    Bundle::new(test).edit(|config| {
        let linux = config["linux"].as_object_mut();
        linux.map(|linux| (linux.remove("maskedPaths"), linux.remove("readonlyPaths")));
    })
}

/// Opened and never written to: opening is what the kernel checks.
fn host_settings(test: &Test) {
    let calls = SETTINGS.map(|path| format!("openat -100 {path} 1"));
    let opened = |options: &[&str]| {
        let mut words = vec!["calls"];
        words.extend(calls.iter().map(String::as_str));
        let bundle = silent(test).args(&words);
        let output = bundle.run_call(&[]).globally(options).output().success();
        let lines = output.stdout.lines().zip(SETTINGS);
        let open = lines.filter(|(answer, _)| answer.starts_with("ok "));
        open.map(|(_, path)| path).collect::<Vec<_>>()
    };
    let found = opened(&[]);
    holds!(found.is_empty(), "can be written: {found:?}");
    // An ordinary user's user namespace is enough: the host's root is nobody in it.
    let found = opened(&["--relax", "masked-paths,readonly-paths"]);
    match test.role {
        Role::Root => {
            let found = opened(&["--relax", "masked-paths,readonly-paths,userns"]);
            assert!(
                found.contains(&"/proc/sys/kernel/core_pattern"),
                "{found:?}"
            );
        }
        _ => holds!(found.is_empty(), "by an ordinary user: {found:?}"),
    }
}

/// Who may make namespaces could mount a second procfs, without the masks. The
/// kernel refuses that as long as something of the first is covered.
fn masks_in_a_nested_procfs(test: &Test) {
    let program = crate::needs::busybox().unwrap_or_else(|| panic!("no busybox"));
    let bytes = fs::read(program).unwrap_or_else(|error| panic!("read: {error}"));
    let script = "busybox unshare -U -r -m -p -f busybox mount -t proc proc /tmp && echo mounted";
    let mounted = |rules: &str| {
        let bundle = silent(test)
            .raw_args(&["/bin/busybox", "sh", "-c", script])
            .edit(|config| {
                // Without it the kernel lets nobody map user 0, and Docker grants it.
                for set in ["bounding", "effective", "permitted"] {
                    let name = json!("CAP_SETFCAP");
                    push(&mut config["process"]["capabilities"][set], name);
                }
            });
        bundle.program("bin/busybox", &bytes);
        let call = bundle.run_call(&[]).globally(&["--relax", rules]);
        call.output().text() == "mounted"
    };
    let open = "seccomp-default,seccomp-floor,nested-userns";
    holds!(!mounted(open), "a procfs without masks was mounted");
    assert!(mounted(&format!("{open},masked-paths,readonly-paths")));
}

/// CVE-2023-25809: groups of the host, named and shown in a container without a
/// cgroup namespace in its bundle.
fn cgroup_paths(test: &Test) {
    let path = |options: &[&str]| {
        let bundle = Bundle::new(test)
            .without_namespace("cgroup")
            .args(&["cat", "/proc/self/cgroup"]);
        let output = bundle.run_call(&[]).globally(options).output().success();
        let mut lines = output.stdout.lines();
        let line = lines.rfind(|line| line.starts_with("0::"));
        line.unwrap_or_default().to_owned()
    };
    let found = path(&[]);
    holds!(found == "0::/", "{found}");
    assert_ne!(path(&["--relax", "cgroupns"]), "0::/");
}
