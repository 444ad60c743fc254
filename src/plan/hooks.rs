//! Hooks that run inside the container's namespaces, and what every hook is told.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Hook, Spec};
use serde::Serialize;

use super::c_string;
use super::steps::HookStep;
use crate::error::Problem;

/// What a hook reads from its standard input, up to the pid and after it.
pub fn state(spec: &Spec, id: &str, status: &str, bundle: &Path) -> (Vec<u8>, Vec<u8>) {
    let annotations = spec
        .annotations()
        .iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v.as_str()));
    document(spec.version(), annotations, id, status, bundle)
}

/// The state document of the runtime specification in compact form, cut where
/// the pid goes.
pub fn document<'a>(
    version: &str,
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
    id: &str,
    status: &str,
    bundle: &Path,
) -> (Vec<u8>, Vec<u8>) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        oci_version: &'a str,
        id: &'a str,
        status: &'a str,
    }
    #[derive(Serialize)]
    struct Tail<'a> {
        bundle: &'a Path,
        annotations: std::collections::BTreeMap<&'a str, &'a str>,
    }
    let head = Head {
        oci_version: version,
        id,
        status,
    };
    let tail = Tail {
        bundle,
        annotations: annotations.collect(),
    };
    // Strings and maps of strings always have a JSON form.
    let mut head = serde_json::to_vec(&head).unwrap_or_default();
    let mut tail = serde_json::to_vec(&tail).unwrap_or_default();
    head.pop();
    head.extend_from_slice(b",\"pid\":");
    if let Some(first) = tail.first_mut() {
        *first = b',';
    }
    (head, tail)
}

/// Plans the hooks of one list.
pub fn steps(
    hooks: Option<&Vec<Hook>>,
    list: &str,
    state: &(Vec<u8>, Vec<u8>),
) -> Result<Vec<HookStep>, Problem> {
    let hooks = hooks.into_iter().flatten().enumerate();
    hooks
        .map(|(index, hook)| step(hook, list, index, state))
        .collect()
}

fn step(
    hook: &Hook,
    list: &str,
    index: usize,
    state: &(Vec<u8>, Vec<u8>),
) -> Result<HookStep, Problem> {
    let at = format!("/hooks/{list}/{index}");
    let path = c_string(hook.path().as_os_str().as_bytes(), &format!("{at}/path"))?;
    let c_strings = |words: Option<&Vec<String>>, what: &str| {
        let words = words.into_iter().flatten();
        words
            .map(|word| c_string(word.as_str(), &format!("{at}/{what}")))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut arguments = c_strings(hook.args().as_ref(), "args")?;
    if arguments.is_empty() {
        arguments.push(path.clone());
    }
    Ok(HookStep {
        which: format!("{list} hook {index}"),
        arguments,
        environment: c_strings(hook.env().as_ref(), "env")?,
        timeout: hook.timeout(),
        path,
        state: state.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_whole_once_the_pid_is_put_in() {
        let spec: Spec =
            serde_json::from_str(r#"{"ociVersion":"1.2.0","annotations":{"a/b":"c\"d"}}"#).unwrap();
        let (mut text, tail) = state(&spec, "x", "creating", Path::new("/b"));
        text.extend_from_slice(b"17");
        text.extend_from_slice(&tail);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"ociVersion":"1.2.0","id":"x","status":"creating","pid":17,
                "bundle":"/b","annotations":{"a/b":"c\"d"}})
        );
    }
}
