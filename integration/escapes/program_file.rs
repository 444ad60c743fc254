//! The runtime's own file and processes, seen from inside.

use std::fs;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: cve_2019_5736, cve_2016_9962;
}

/// CVE-2019-5736: the runtime's binary seen from inside.
fn cve_2019_5736(test: &Test) {
    let before = fs::read(&test.machine.runtime).unwrap_or_default();
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let runtime = test.machine.runtime.to_string_lossy().into_owned();
    for words in [
        &["write", "/proc/self/exe", "x"][..],
        &["try-open", &runtime],
        &["write", &runtime, "x"],
    ] {
        container.exec(&[], words).failure();
    }
    container.end();
    assert!(
        fs::read(&test.machine.runtime).unwrap_or_default() == before,
        "the runtime's binary changed"
    );
}

/// CVE-2016-9962: between create and start the process must not be open to others of its id.
fn cve_2016_9962(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.create();
    for file in ["exe", "root", "cwd", "fd/0", "mem", "environ"] {
        let path = format!("/proc/1/{file}");
        let output = container.exec(&[], &["try-open", &path]);
        // A directory that opened fails only at the read, with EISDIR.
        let open = output.text() == "ok" || output.text() == "EISDIR";
        assert!(
            !open,
            "{path} of the waiting process can be opened from inside"
        );
    }
    container.end();
}
