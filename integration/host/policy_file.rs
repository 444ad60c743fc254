//! The policy file of root, as root and as ordinary users obey it. Each command
//! has a view of /etc of its own, with such a file in it.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Report;
use crate::roles::Test;
use crate::runtime::Call;

cases! {
    ALL [RealRoot]: the_file_is_obeyed, what_it_does_not_allow, what_it_allows, wrong_files,
        whose_file_it_is;
    USERS [RealRoot]: seen_from_a_user_namespace;
}

impl Call<'_> {
    /// With this text as policy file, and what else is to be done to it.
    pub(crate) fn obeying(self, test: &Test, text: &str, change: &str) -> Self {
        let number = test.next();
        let etc = test.path(&format!("etc-{number}"));
        test.make_dir(&etc.join("capsid"));
        test.make_file(&etc.join("capsid/policy.json"), text);
        let etc = etc.to_string_lossy();
        // Nothing else of /etc is needed: the accounts are for newuidmap.
        self.in_view_of(&format!(
            "cp /etc/passwd /etc/group /etc/subuid /etc/subgid {etc}/\n\
             chown -R 0:0 {etc}\n\
             chmod 0644 {etc}/capsid/policy.json\n\
             file={etc}/capsid/policy.json\n{change}\n\
             mount --bind {etc} /etc"
        ))
    }
}

pub(crate) fn obey<'t>(test: &'t Test, bundle: &Bundle<'t>, policy: &Value) -> Call<'t> {
    let text = policy.to_string();
    bundle.run_call(&[]).obeying(test, &text, "")
}

fn report(test: &Test, bundle: &Bundle<'_>, policy: &Value, options: &[&str]) -> Report {
    let call = bundle.run_call(&[]).globally(options);
    let output = call.obeying(test, &policy.to_string(), "").output();
    Report(output.success().json())
}

fn the_file_is_obeyed(test: &Test) {
    let bundle = Bundle::new(test).args(&["report"]);
    report(test, &bundle, &json!({}), &[]).expect("/seccomp", json!(2));
    let compat = json!({ "hardening": "compat" });
    report(test, &bundle, &compat, &[]).expect("/seccomp", json!(0));
    report(test, &bundle, &compat, &["--hardening", "baseline"]).expect("/seccomp", json!(2));
    let relaxed = json!({ "relax": ["seccomp-floor", "seccomp-default"], "userns": "off" });
    report(test, &bundle, &relaxed, &[]).expect("/seccomp", json!(0));
    let dir = bundle.dir.to_string_lossy();
    let plan = test.capsid(&["explain", &dir]);
    let plan = plan
        .obeying(test, &relaxed.to_string(), "")
        .output()
        .success();
    let text = plan.stdout.as_str();
    assert!(
        text.contains("seccomp-floor: relaxed by /etc/capsid/policy.json"),
        "{text}"
    );
    let strict = json!({ "hardening": "strict" });
    let less = bundle.edit(|config| config["process"]["noNewPrivileges"] = json!(false));
    let output = obey(test, &less, &strict).output().code(1);
    output.says(&["/process/noNewPrivileges", "level strict"]);
    less.assert_nothing_left();
    less.run().success();
}

fn what_it_does_not_allow(test: &Test) {
    let shut = json!({ "allowRelaxation": false });
    let some = json!({ "allowRelaxation": ["core-dumps"] });
    for policy in [&shut, &some] {
        for options in [["--hardening", "compat"], ["--relax", "seccomp-floor"]] {
            let bundle = Bundle::new(test);
            let call = bundle.run_call(&[]).globally(&options);
            let output = call.obeying(test, &policy.to_string(), "").output().code(1);
            output.says(&[options[0], "/etc/capsid/policy.json", "allowRelaxation"]);
            bundle.assert_nothing_left();
        }
        let bundle = Bundle::new(test).edit(|config| {
            config["annotations"] = json!({ "dev.capsid.relax": "seccomp-floor" });
        });
        let output = obey(test, &bundle, policy).output().code(1);
        output.says(&["/annotations/dev.capsid.relax", "allowRelaxation"]);
        bundle.assert_nothing_left();
        let bundle = Bundle::new(test);
        let call = bundle.run_call(&["--no-new-keyring"]);
        let output = call.obeying(test, &policy.to_string(), "").output().code(1);
        output.says(&["--no-new-keyring", "allowRelaxation"]);
        // A recording runs without the profile.
        let file = test.path("profile.json").to_string_lossy().into_owned();
        let call = bundle.run_call(&["--record-profile", &file]);
        let output = call.obeying(test, &policy.to_string(), "").output().code(1);
        output.says(&["--record-profile", "allowRelaxation"]);
        bundle.assert_nothing_left();
    }
}

fn what_it_allows(test: &Test) {
    let some =
        json!({ "hardening": "baseline", "allowRelaxation": ["seccomp-floor", "seccomp-default"] });
    let bundle = Bundle::new(test)
        .edit(|config| {
            config["annotations"] = json!({ "dev.capsid.relax": "seccomp-floor" });
        })
        .args(&["report"]);
    let options = ["--relax", "seccomp-default"];
    report(test, &bundle, &some, &options).expect("/seccomp", json!(0));
}

fn wrong_files(test: &Test) {
    for (text, said) in [
        (r#"{"hardning": "strict"}"#, "/hardning"),
        (r#"{"relax": ["pids", "nothing"]}"#, "/relax/1"),
        (r#"{"hardening": "strict", "hardening": "compat"}"#, "twice"),
        ("", "EOF"),
    ] {
        let bundle = Bundle::new(test);
        let call = bundle.run_call(&[]).obeying(test, text, "");
        let output = call.output().code(1);
        output.says(&["/etc/capsid/policy.json", said]);
        bundle.assert_nothing_left();
        let call = test.capsid(&["doctor"]).obeying(test, text, "");
        let told = call.output().code(1).stdout;
        assert!(told.contains("no container is created"), "{told}");
    }
}

/// Who else could write it could allow everything.
fn whose_file_it_is(test: &Test) {
    for (change, said) in [
        ("chmod 0664 $file", "mode 0664"),
        ("chmod 0646 $file", "mode 0646"),
        ("chown 7:0 $file", "belongs to user 7"),
        ("rm $file; mkdir $file", "no regular file"),
        ("rm $file; mkfifo -m 0644 $file", "no regular file"),
    ] {
        let bundle = Bundle::new(test);
        let call = bundle.run_call(&[]).obeying(test, "{}", change);
        let output = call.output().code(1);
        output.says(&["/etc/capsid/policy.json", said]);
        bundle.assert_nothing_left();
    }
    if test.rootless() {
        let bundle = Bundle::new(test);
        let call = bundle.run_call(&[]).obeying(test, "{}", "chmod 0600 $file");
        call.output()
            .code(1)
            .says(&["/etc/capsid/policy.json", "EACCES"]);
        bundle.assert_nothing_left();
    }
}

/// There root's files are nobody's.
fn seen_from_a_user_namespace(test: &Test) {
    let policy = json!({ "relax": ["seccomp-floor"], "allowRelaxation": false }).to_string();
    let bundle = Bundle::new(test);
    let dir = bundle.dir.to_string_lossy();
    bundle.save();
    let call = test.capsid(&["explain", &dir]);
    let call = call.through(&["unshare", "--user", "--map-root-user"]);
    let output = call.obeying(test, &policy, "").output().success();
    let text = output.stdout.as_str();
    assert!(
        text.contains("seccomp-floor: relaxed by /etc/capsid/policy.json"),
        "{text}"
    );
}
