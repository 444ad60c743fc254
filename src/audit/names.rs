//! The annotations in which engines say what they call a container.

use std::collections::BTreeMap;

/// Those that are names. Others are free text of whoever wrote the bundle, where
/// anything may be, secrets too.
const KEYS: [&str; 18] = [
    // containerd, for the kubelet
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri.sandbox-uid",
    // CRI-O, and podman for pods
    "io.kubernetes.container.name",
    "io.kubernetes.cri-o.ContainerName",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
    // podman
    "io.container.manager",
    // nerdctl
    "nerdctl/name",
    "nerdctl/namespace",
];

/// The names among annotations.
pub fn names(annotations: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    KEYS.iter()
        .filter_map(|key| Some((*key, annotations.get(*key)?.as_str())))
        .collect()
}
