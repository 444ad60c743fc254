//! The five capability sets of a process.

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use super::ProcessStep;

/// The five sets, one bit per capability. What is absent is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    pub(super) fn step(&self) -> ProcessStep {
        ProcessStep::Capabilities {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
            ambient: self.ambient,
        }
    }
}

/// Reads `process.capabilities`. Absent means none, in all five sets; nothing
/// is derived from another set (CVE-2022-29162 class).
pub(super) fn read(listed: Option<&LinuxCapabilities>, available: u64) -> (Sets, Vec<String>) {
    let Some(listed) = listed else {
        return (Sets::default(), Vec::new());
    };
    let wanted = Sets {
        bounding: bits(listed.bounding().as_ref()),
        effective: bits(listed.effective().as_ref()),
        permitted: bits(listed.permitted().as_ref()),
        inheritable: bits(listed.inheritable().as_ref()),
        ambient: bits(listed.ambient().as_ref()),
    };
    let lacking = (wanted.bounding | wanted.effective | wanted.permitted) & !available;
    let mut warnings = Vec::new();
    if lacking != 0 {
        warnings.push(format!(
            "capabilities that the caller itself does not have are left out: {}",
            capability_names(lacking)
        ));
    }
    let permitted = wanted.permitted & available;
    let inheritable = wanted.inheritable & available;
    let sets = Sets {
        bounding: wanted.bounding & available,
        effective: wanted.effective & permitted,
        permitted,
        inheritable,
        // The kernel refuses an ambient capability that is not both.
        ambient: wanted.ambient & permitted & inheritable,
    };
    (sets, warnings)
}

fn bits(set: Option<&Capabilities>) -> u64 {
    set.into_iter().flatten().fold(0, |bits, capability| {
        let known: Result<caps::Capability, _> = format!("CAP_{capability}").parse();
        bits | known.map_or(0, |known| known.bitmask())
    })
}

/// The names of the capabilities in a set.
pub(crate) fn capability_names(set: u64) -> String {
    if set == 0 {
        return "none".into();
    }
    let mut known: Vec<_> = caps::all().into_iter().collect();
    known.sort_by_key(caps::Capability::index);
    let names: Vec<_> = known
        .iter()
        .filter(|capability| set & capability.bitmask() != 0)
        .map(ToString::to_string)
        .collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_capabilities_are_none_and_ambient_needs_both() {
        assert_eq!(read(None, u64::MAX).0, Sets::default());
        let listed: LinuxCapabilities = serde_json::from_str(
            r#"{"permitted":["CAP_KILL"],"ambient":["CAP_KILL"],"bounding":["CAP_KILL"]}"#,
        )
        .unwrap();
        let (sets, _) = read(Some(&listed), u64::MAX);
        assert_eq!(
            (sets.permitted, sets.ambient, sets.inheritable),
            (1 << 5, 0, 0)
        );
        let (sets, warnings) = read(Some(&listed), 0);
        assert_eq!(sets, Sets::default());
        assert!(warnings[0].contains("CAP_KILL"), "{warnings:?}");
    }
}
