//! A user namespace for a container of root whose bundle has none: which ones can
//! have it, and what becomes of their configuration.
//!
//! It becomes what a bundle says that has a user namespace and idmapped volumes,
//! so what follows takes one way for both.

use oci_spec::runtime::{Capability, LinuxNamespaceType, Mount, Spec};

use super::judgement::Judgement;
use super::namespaces::{add_namespace, mappings};
use super::process::{PRIVILEGED, bounding};
use super::{Hardening, Level, PolicyFile, Rule, Userns};
use crate::host::{Facts, OfferedIds};
use crate::spec::ids::IdRange;
use crate::spec::mount_options;
use crate::spec::namespaces::{Kind, Namespaces};

/// How many ids such a container has.
pub const IDS: u32 = 65536;

/// How the engines themselves give a container a user namespace.
const SWITCH: &str =
    "podman --userns=auto, Docker userns-remap and Kubernetes hostUsers: false give it one";

/// File systems that are made inside of a user namespace as outside.
const MADE_INSIDE: [&str; 7] = [
    "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2",
];

/// Capabilities that are the same in a user namespace that owns the container's
/// other namespaces, and two that engines grant to everybody.
const SAME_INSIDE: [Capability; 17] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::Setfcap,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcOwner,
    Capability::SysChroot,
    Capability::SysPtrace,
];

/// Mean less inside, and are in every engine's defaults: no sign of a need.
const BY_DEFAULT: [Capability; 2] = [Capability::Mknod, Capability::AuditWrite];

/// What keeps a bundle from having one: the place in it, and why.
type Obstacle = (&'static str, String);

/// Whether ids are to be looked for: the caller could give the container a user
/// namespace, and neither the bundle nor anybody else is against it.
pub fn is_candidate(spec: &Spec, facts: &Facts, hardening: &Hardening) -> bool {
    facts.is_real_root()
        && !Namespaces::of(spec).has(Kind::User)
        && hardening.wants(Rule::Userns)
        && hardening.level > Level::Compat
        && hardening.userns != Userns::Off
        && obstacle(spec).is_none()
}

/// Gives one to a container of real root that has none, or says why not. The
/// first of its ids, if it got one.
pub(super) fn give(spec: &mut Spec, facts: &Facts, judgement: &mut Judgement<'_>) -> Option<u32> {
    let rule = Rule::Userns;
    let hardening = judgement.hardening;
    if judgement.gives_up(rule) {
        return None;
    }
    if hardening.level == Level::Compat {
        judgement.relaxed(rule, "level compat");
        return None;
    }
    let without = "root inside is root outside";
    if hardening.userns == Userns::Off && !judgement.is_strict() {
        let by = format!("{} (\"userns\": \"off\"), so {without}", PolicyFile::PATH);
        judgement.relaxed(rule, by);
        return None;
    }
    if let Some((at, why)) = obstacle(spec) {
        let by = format!("no user namespace, so {without}: {why}; {SWITCH}");
        judgement.asks_for_less(rule, at, &by);
        return None;
    }
    let offered = match &facts.offered {
        Some(Ok(offered)) => offered,
        Some(Err(why)) => {
            let why = format!("{why}, so {without}; {SWITCH}");
            judgement.cannot(rule, "/linux/namespaces", why);
            return None;
        }
        None => {
            let why = format!("no ids were looked for, so {without}; {SWITCH}");
            judgement.cannot(rule, "/linux/namespaces", why);
            return None;
        }
    };
    rewrite(spec, offered);
    let last = offered.first + (IDS - 1);
    let first = offered.first;
    judgement.enforced(
        rule,
        format!("added, with the ids {first} to {last} of its own"),
    );
    Some(first)
}

/// What a bundle with a user namespace and idmapped volumes would say.
fn rewrite(spec: &mut Spec, offered: &OfferedIds) {
    let linux = spec.linux_mut().get_or_insert_with(Default::default);
    let namespaces = linux.namespaces_mut().get_or_insert_with(Vec::new);
    add_namespace(namespaces, LinuxNamespaceType::User);
    let range = [IdRange {
        container: 0,
        host: offered.first,
        size: IDS,
    }];
    linux.set_uid_mappings(Some(mappings(&range)));
    linux.set_gid_mappings(Some(mappings(&range)));
    let mounts = spec.mounts_mut().iter_mut().flatten().enumerate();
    for (index, mount) in mounts {
        let asked = mount_options::of(mount);
        if !asked.bind || offered.devices.contains(&index) {
            continue;
        }
        let word = match asked.recursive_bind {
            true => "ridmap",
            false => "idmap",
        };
        let options = mount.options_mut().get_or_insert_with(Vec::new);
        options.push(word.into());
    }
}

/// What in the bundle itself would not work in a user namespace.
fn obstacle(spec: &Spec) -> Option<Obstacle> {
    of_namespaces(spec)
        .or_else(|| of_capabilities(spec))
        .or_else(|| of_process(spec))
        .or_else(|| of_hooks(spec))
        .or_else(|| of_linux(spec))
        .or_else(|| spec.mounts().iter().flatten().find_map(of_mount))
}

fn of_namespaces(spec: &Spec) -> Option<Obstacle> {
    let namespaces = Namespaces::of(spec);
    for kind in [Kind::Pid, Kind::Ipc, Kind::Mount] {
        if !namespaces.makes(kind) {
            let how = match namespaces.joins(kind) {
                true => "joins one that is there",
                false => "shares the host's",
            };
            let why = format!(
                "its {} namespace must be a new one, and it {how}",
                kind.name()
            );
            return Some(("/linux/namespaces", why));
        }
    }
    let named = spec.hostname().is_some() || spec.domainname().is_some();
    if named && namespaces.joins(Kind::Uts) {
        let why = "it names the host in a uts namespace that is there".to_owned();
        return Some(("/hostname", why));
    }
    let joined = [Kind::Cgroup, Kind::Time];
    let joined = joined.into_iter().find(|kind| namespaces.joins(*kind));
    joined.map(|kind| {
        let why = format!("it joins a {} namespace that is there", kind.name());
        ("/linux/namespaces", why)
    })
}

fn of_capabilities(spec: &Spec) -> Option<Obstacle> {
    const AT: &str = "/process/capabilities/bounding";
    let granted = bounding(spec.process().as_ref());
    if granted.contains(&Capability::SysAdmin) {
        return Some((AT, format!("privilege is asked for by {PRIVILEGED}")));
    }
    let same = |capability| SAME_INSIDE.contains(capability) || BY_DEFAULT.contains(capability);
    let mut other: Vec<_> = granted.iter().filter(|one| !same(one)).collect();
    other.sort_by_key(|one| one.to_string());
    if let Some(one) = other.first() {
        return Some((AT, format!("CAP_{one} means nothing in one")));
    }
    let namespaces = Namespaces::of(spec);
    if namespaces.makes(Kind::Network) {
        return None;
    }
    let (whose, lost): (_, &[Capability]) = match namespaces.joins(Kind::Network) {
        // Low ports are opened to everybody in a network that is the engine's own.
        true => (
            "a network that is there",
            &[Capability::NetAdmin, Capability::NetRaw],
        ),
        false => (
            "the host's network",
            &[
                Capability::NetAdmin,
                Capability::NetRaw,
                Capability::NetBindService,
            ],
        ),
    };
    let one = lost.iter().find(|one| granted.contains(one))?;
    Some((AT, format!("CAP_{one} means nothing in {whose} then")))
}

fn of_process(spec: &Spec) -> Option<Obstacle> {
    let process = spec.process().as_ref()?;
    if process.scheduler().is_some() || process.io_priority().is_some() {
        return Some((
            "/process",
            "its priority takes a privilege of the host's".into(),
        ));
    }
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    let mut ids = groups.chain([user.uid(), user.gid()]);
    let beyond = ids.find(|id| *id >= IDS)?;
    Some((
        "/process/user",
        format!("id {beyond} is beyond the {IDS} that it would have"),
    ))
}

/// They are programs of the host's, and may want what only its root may do.
fn of_hooks(spec: &Spec) -> Option<Obstacle> {
    let hooks = spec.hooks().as_ref()?.create_container().as_ref()?;
    let why = "its createContainer hooks are to run as the host's root".to_owned();
    (!hooks.is_empty()).then_some(("/hooks/createContainer", why))
}

fn of_linux(spec: &Spec) -> Option<Obstacle> {
    let linux = spec.linux().as_ref()?;
    let shared = linux.rootfs_propagation().as_deref();
    if shared.is_some_and(|word| word.ends_with("shared")) {
        let why = "its mounts are to appear on the host".to_owned();
        return Some(("/linux/rootfsPropagation", why));
    }
    let mut names: Vec<_> = linux
        .sysctl()
        .iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    names.sort();
    // Older kernels let only the host's root write them.
    let names = names.into_iter();
    let mut others = names.filter(|name| !name.starts_with("net") && !name.starts_with("user"));
    let name = others.next()?;
    Some((
        "/linux/sysctl",
        format!("{name} is the host's root's to set"),
    ))
}

fn of_mount(mount: &Mount) -> Option<Obstacle> {
    let asked = mount_options::of(mount);
    let target = mount.destination().display();
    let own = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
    let why = match mount.typ().as_deref().unwrap_or_default() {
        _ if own || asked.idmap.is_some() => {
            format!("the ids of the mount on {target} are mapped already")
        }
        kind if !asked.bind && !MADE_INSIDE.contains(&kind) => {
            format!("only the host's root mounts {kind} (on {target})")
        }
        _ => return None,
    };
    Some(("/mounts", why))
}
