//! Descriptors of the host that the container might inherit.

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: cve_2024_21626, cve_2024_21626_leak, cve_2024_21626_program;
}

/// The working directory is a descriptor of the host.
fn cve_2024_21626(test: &Test) {
    let script = "exec 3</ 4</ 5</ 6</ 7</ 8</ 9</";
    for fd in 3..24 {
        for cwd in [
            format!("/proc/self/fd/{fd}"),
            format!("/proc/self/fd/{fd}/../.."),
            "/var/door".to_owned(),
        ] {
            let bundle = Bundle::new(test)
                .args(&["report"])
                .edit(|config| config["process"]["cwd"] = json!(cwd));
            bundle.link("var/door", format!("/proc/self/fd/{fd}"));
            let output = bundle.run_call(&[]).through_shell(script).output();
            holds!(output.code != 0, "{cwd} was entered: {}", output.stdout);
            bundle.assert_nothing_left();
        }
    }
}

/// A directory of the host that stays open is a way to it, whatever it is used for.
fn cve_2024_21626_leak(test: &Test) {
    let script = "exec 3</ 4</etc 5</proc 7</sys/fs/cgroup";
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let first = Bundle::new(test).args(&["report"]);
    for call in [
        first.run_call(&[]),
        container.exec_call(&[], &["/bin/probe", "report"]),
    ] {
        let report = call.through_shell(script).output().success().json();
        let all = report["fds"].as_array().cloned().unwrap_or_default();
        let numbers: Vec<_> = all.iter().filter_map(|fd| fd["fd"].as_u64()).collect();
        holds!(numbers == [0, 1, 2], "descriptors of the host: {all:?}");
    }
    container.end();
}

/// The program is looked for below a directory of the host.
fn cve_2024_21626_program(test: &Test) {
    for fd in 3..16 {
        let program = format!("/proc/self/fd/{fd}/bin/sh");
        let bundle = Bundle::new(test).raw_args(&[&program, "-c", "exit 0"]);
        let call = bundle
            .run_call(&[])
            .through_shell("exec 3</ 4</ 5</ 6</ 7</");
        let output = call.output();
        holds!(output.code != 0, "a shell of the host ran: {program}");
    }
    let bundle = Bundle::new(test).raw_args(&["/proc/self/exe", "--version"]);
    let output = bundle.run();
    holds!(
        !output.stdout.contains("spec:"),
        "the runtime's own binary ran inside: {output:?}"
    );
    bundle.program("bin/self", "#!/proc/self/exe\n");
    let bundle = bundle.raw_args(&["/bin/self"]);
    assert_ne!(bundle.run().code, 0);
}
