//! Descriptors of the host that the container might inherit.

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: cve_2024_21626, cve_2024_21626_program;
}

/// CVE-2024-21626.
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
            bundle
                .run_call(&[])
                .through_shell(script)
                .output()
                .failure();
            bundle.assert_nothing_left();
        }
    }
}

fn cve_2024_21626_program(test: &Test) {
    for fd in 3..16 {
        let program = format!("/proc/self/fd/{fd}/bin/sh");
        let bundle = Bundle::new(test).raw_args(&[&program, "-c", "exit 0"]);
        bundle
            .run_call(&[])
            .through_shell("exec 3</ 4</ 5</ 6</ 7</")
            .output()
            .failure();
    }
    let bundle = Bundle::new(test).raw_args(&["/proc/self/exe", "--version"]);
    let output = bundle.run();
    assert!(
        !output.stdout.contains("spec:"),
        "the runtime's own binary ran inside: {output:?}"
    );
    bundle.program("bin/self", "#!/proc/self/exe\n");
    let bundle = bundle.raw_args(&["/bin/self"]);
    assert_ne!(bundle.run().code, 0);
}
