//! Network interfaces of the host that a container gets.
//!
//! They are pairs of veth in the network that the tests are in. One end is given
//! away; the other one stays, and dies with it.

use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::container::Container;
use crate::roles::Test;

cases! {
    ROOT [Network]: moved_renamed_and_up, addresses_come_along, name_in_use, templates, missing_interface,
        joined_namespace, own_namespace_by_path, in_a_user_namespace, a_failure_gives_it_back, half_of_them,
        hooks_find_it;
    USERS []: not_for_ordinary_users;
    RANGED []: not_for_root_of_a_user_namespace;
}

/// A pair of veth, of which the first end is for a container.
struct Pair {
    name: String,
}

impl Pair {
    fn new(test: &Test) -> Self {
        let name = format!("t{}x{}", test_number(test), test.next());
        ip(&format!("link add {name} type veth peer name {name}p"));
        let pair = Self { name };
        ip(&format!("link set {}p up", pair.name));
        pair
    }

    /// With addresses of all kinds, and up.
    fn configured(test: &Test) -> Self {
        let pair = Self::new(test);
        let name = &pair.name;
        ip(&format!("link set {name} mtu 1400 up"));
        ip(&format!(
            "address add 203.0.113.5/24 dev {name} noprefixroute"
        ));
        ip(&format!("address add 198.18.6.6/24 dev {name} scope link"));
        ip(&format!(
            "address add 198.18.7.7/24 dev {name} valid_lft 900 preferred_lft 900"
        ));
        ip(&format!("address add 2001:db8::5/64 dev {name} nodad"));
        pair
    }

    fn is_on_the_host(&self) -> bool {
        link(None, &self.name).is_some()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The end that stayed goes with the other one.
        let words = ["link", "delete", &self.name];
        let _ = Command::new("ip").args(words).output();
        let _ = Command::new("ip")
            .args([words[0], words[1], &format!("{}p", self.name)])
            .output();
    }
}

/// The number in the name of a test's directory.
fn test_number(test: &Test) -> String {
    let name = test
        .dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.split('-').next().unwrap_or_default().to_owned()
}

#[track_caller]
fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("ip: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `ip` says of an interface in the network namespace of a process, or of the tests.
fn link(pid: Option<i64>, name: &str) -> Option<Value> {
    let place = format!(
        "--net=/proc/{}/ns/net",
        pid.unwrap_or(i64::from(std::process::id()))
    );
    let words = [&place, "ip", "-json", "address", "show", "dev", name];
    let output = Command::new("nsenter").args(words).output();
    let output = output.unwrap_or_else(|error| panic!("nsenter: {error}"));
    let all: Value = serde_json::from_slice(&output.stdout).ok()?;
    all.as_array()?
        .iter()
        .find(|one| one["ifname"] == name)
        .cloned()
}

fn inside(container: &Container<'_, '_>, name: &str) -> Value {
    let found = link(Some(container.pid()), name);
    found.unwrap_or_else(|| panic!("{name} is not in the container"))
}

/// The global addresses, in order.
fn addresses(link: &Value) -> Vec<String> {
    let all = link["addr_info"].as_array().into_iter().flatten();
    let mut all: Vec<_> = all
        .filter(|one| one["scope"] == "global")
        .filter_map(|one| Some(format!("{}/{}", one["local"].as_str()?, one["prefixlen"])))
        .collect();
    all.sort();
    all
}

fn is_up(link: &Value) -> bool {
    let flags = link["flags"].as_array().into_iter().flatten();
    flags.into_iter().any(|flag| flag == "UP")
}

fn bundle<'t>(test: &'t Test, devices: Value) -> Bundle<'t> {
    Bundle::new(test)
        .args(&["sleep"])
        .edit(|config| config["linux"]["netDevices"] = devices)
}

fn moved_renamed_and_up(test: &Test) {
    let (pair, plain) = (Pair::new(test), Pair::new(test));
    let bundle = bundle(
        test,
        json!({ &pair.name: { "name": "in0" }, &plain.name: {} }),
    );
    let container = bundle.ready();
    assert!(is_up(&inside(&container, "in0")));
    assert!(is_up(&inside(&container, &plain.name)));
    assert!(!pair.is_on_the_host() && !plain.is_on_the_host());
    assert!(link(Some(container.pid()), &pair.name).is_none());
    let seen = container
        .exec(&[], &["cat", "/proc/net/dev"])
        .success()
        .stdout;
    assert!(seen.contains("in0:"), "{seen}");
    container.end();
    bundle.assert_nothing_left();
}

fn addresses_come_along(test: &Test) {
    let pair = Pair::configured(test);
    let before = link(None, &pair.name).unwrap_or_default();
    let bundle = bundle(test, json!({ &pair.name: { "name": "in0" } }));
    let container = bundle.ready();
    let found = inside(&container, "in0");
    // Neither the one of the link's scope nor the one with a lifetime.
    assert_eq!(addresses(&found), ["2001:db8::5/64", "203.0.113.5/24"]);
    for what in ["mtu", "address"] {
        assert_eq!(found[what], before[what], "{what}");
    }
    let all = found["addr_info"].as_array().cloned().unwrap_or_default();
    let quiet = all.iter().find(|one| one["local"] == "203.0.113.5");
    assert_eq!(quiet.map(|one| &one["noprefixroute"]), Some(&json!(true)));
    container.end();
}

fn name_in_use(test: &Test) {
    let pair = Pair::configured(test);
    let wrong = bundle(test, json!({ &pair.name: { "name": "lo" } }));
    wrong.refused(&["an interface lo already", &pair.name, "eth%d"]);
    // It was never touched.
    let link = link(None, &pair.name).unwrap_or_default();
    assert!(is_up(&link));
    assert_eq!(addresses(&link).len(), 3);
}

fn templates(test: &Test) {
    let (one, two) = (Pair::new(test), Pair::new(test));
    let devices = json!({ &one.name: { "name": "ext%d" }, &two.name: { "name": "ext%d" } });
    let bundle = bundle(test, devices);
    let container = bundle.ready();
    let numbers = [inside(&container, "ext0"), inside(&container, "ext1")];
    assert!(numbers.iter().all(is_up));
    container.end();
}

fn missing_interface(test: &Test) {
    let pair = Pair::new(test);
    let bundle = bundle(
        test,
        json!({ &pair.name: {}, "zz-absent": { "name": "in0" } }),
    );
    bundle.refused(&["zz-absent", "no such interface", "ip link"]);
    assert!(pair.is_on_the_host());
}

/// The namespace of another container, which it outlives.
fn joined_namespace(test: &Test) {
    let pair = Pair::configured(test);
    let owner = Bundle::new(test).args(&["sleep"]);
    let owner = owner.ready();
    let path = format!("/proc/{}/ns/net", owner.pid());
    let join = |devices: Value| {
        bundle(test, devices)
            .without_namespace("network")
            .namespace(json!({ "type": "network", "path": path }))
    };
    let member = join(json!({ &pair.name: { "name": "in0" } }));
    let container = member.ready();
    assert_eq!(addresses(&inside(&owner, "in0")).len(), 2);
    container.end();
    // The namespace goes on, and what is in it.
    assert!(link(Some(owner.pid()), "in0").is_some());
    let other = Pair::new(test);
    let second = join(json!({ &other.name: { "name": "in0" } }));
    second.refused(&["an interface in0 already"]);
    assert!(other.is_on_the_host());
    owner.end();
}

fn own_namespace_by_path(test: &Test) {
    let pair = Pair::new(test);
    let path = format!("/proc/{}/ns/net", std::process::id());
    let wrong = bundle(test, json!({ &pair.name: { "name": "in0" } }))
        .without_namespace("network")
        .without_mount("/sys")
        .without_mount("/sys/fs/cgroup")
        .namespace(json!({ "type": "network", "path": path }));
    wrong.refused(&["leads to that of capsid itself"]);
    assert!(pair.is_on_the_host());
}

fn in_a_user_namespace(test: &Test) {
    let pair = Pair::configured(test);
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
    let bundle = bundle(test, json!({ &pair.name: { "name": "in0" } }))
        .namespace(json!({ "type": "user" }))
        .edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
    let container = bundle.ready();
    assert_eq!(addresses(&inside(&container, "in0")).len(), 2);
    container.end();
}

/// The interface was inside when the program was found missing.
fn a_failure_gives_it_back(test: &Test) {
    let pair = Pair::configured(test);
    let devices = json!({ &pair.name: { "name": "in0" } });
    let wrong = bundle(test, devices).raw_args(&["/no/such/program"]);
    wrong.refused(&["/no/such/program"]);
    let found = link(None, &pair.name).unwrap_or_default();
    assert!(is_up(&found), "{found}");
    assert_eq!(addresses(&found), ["2001:db8::5/64", "203.0.113.5/24"]);
}

/// The first one is inside when the second one cannot follow.
fn half_of_them(test: &Test) {
    let (one, two) = (Pair::configured(test), Pair::new(test));
    // In the order of their names.
    let wrong = bundle(
        test,
        json!({ &one.name: { "name": "in0" }, &two.name: { "name": "lo" } }),
    );
    wrong.refused(&["an interface lo already", &two.name]);
    assert!(one.is_on_the_host() && two.is_on_the_host());
    assert_eq!(
        addresses(&link(None, &one.name).unwrap_or_default()).len(),
        2
    );
}

/// createRuntime hooks run with the interface in place.
fn hooks_find_it(test: &Test) {
    let pair = Pair::configured(test);
    let seen = test.path("seen");
    let script = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter --net=/proc/$pid/ns/net ip -o link > {}",
        seen.display()
    );
    let bundle = bundle(test, json!({ &pair.name: { "name": "in0" } })).edit(|config| {
        config["hooks"] = json!({ "createRuntime": [{
            "path": "/bin/sh",
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        }] });
    });
    let container = bundle.ready();
    let seen = std::fs::read_to_string(&seen).unwrap_or_default();
    assert!(seen.contains("in0"), "{seen}");
    container.end();
}

fn not_for_ordinary_users(test: &Test) {
    let bundle = bundle(test, json!({ "out": { "name": "in0" } }));
    bundle.refused(&["/linux/netDevices/out", "an unprivileged user cannot"]);
}

fn not_for_root_of_a_user_namespace(test: &Test) {
    let bundle = bundle(test, json!({ "out": { "name": "in0" } }));
    let call = bundle.create_call(&[]);
    let inside = call.through(&["unshare", "--user", "--map-root-user"]);
    let texts = ["/linux/netDevices/out", "have real root create"];
    inside.output().code(1).says(&texts);
    bundle.assert_nothing_left();
}
