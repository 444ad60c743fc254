//! Whose the container's cgroup is: the user of its process may make cgroups
//! below it, where the container was given all that this needs.
//! Source: the runtime specification, "Cgroup ownership".

use oci_spec::runtime::{Mount, Spec};

use crate::spec::ids::IdRange;
use crate::spec::namespaces::{Kind, Namespaces};

/// The user, as the caller's user namespace numbers it; `None` leaves the cgroup
/// to whoever made it.
///
/// Only with a user and a cgroup namespace of the container's own, and a
/// writable view of cgroup2: anyone else could do nothing with it, or more than
/// was meant.
pub fn owner(spec: &Spec) -> Option<u32> {
    let namespaces = Namespaces::of(spec);
    let whole = namespaces.makes(Kind::User) && namespaces.makes(Kind::Cgroup);
    let mut mounts = spec.mounts().iter().flatten();
    if !whole || !mounts.any(is_writable_view) {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    let maps = spec.linux().as_ref()?.uid_mappings().as_ref()?;
    let mut ranges = maps.iter().map(|map| IdRange {
        container: map.container_id(),
        host: map.host_id(),
        size: map.size(),
    });
    let range = ranges.find(|range| range.contains(uid))?;
    range.host.checked_add(uid - range.container)
}

fn is_writable_view(mount: &Mount) -> bool {
    let kind = mount.typ().as_deref();
    let mut options = mount.options().iter().flatten();
    matches!(kind, Some("cgroup" | "cgroup2"))
        && !options.any(|option| option == "ro" || option == "rro")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespaces: &str, options: &str, uid: u32) -> Option<u32> {
        let text = format!(
            r#"{{"ociVersion":"1.2.0","process":{{"cwd":"/","user":{{"uid":{uid},"gid":0}}}},
                "mounts":[{{"destination":"/c","type":"cgroup","source":"c","options":[{options}]}}],
                "linux":{{"namespaces":[{namespaces}],
                         "uidMappings":[{{"containerID":0,"hostID":5000,"size":10}}]}}}}"#
        );
        owner(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn only_who_can_do_something_with_it_owns_it() {
        let both = r#"{"type":"user"},{"type":"cgroup"}"#;
        assert_eq!(of(both, "", 0), Some(5000));
        assert_eq!(of(both, r#""nosuid","rw""#, 7), Some(5007));
        assert_eq!(of(both, "", 10), None, "an id that is not mapped");
        assert_eq!(of(both, r#""ro""#, 0), None);
        assert_eq!(of(r#"{"type":"user"}"#, "", 0), None);
        assert_eq!(of(r#"{"type":"cgroup"}"#, "", 0), None);
        let joined = r#"{"type":"user"},{"type":"cgroup","path":"/proc/1/ns/cgroup"}"#;
        assert_eq!(of(joined, "", 0), None);
    }
}
