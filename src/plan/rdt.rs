//! `linux.intelRdt`: the class of the cache and of memory bandwidth that the
//! container is in. Source: Documentation/filesystems/resctrl.rst.

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::runtime::Spec;

use crate::error::Problem;
use crate::host::Facts;

/// What is done on the resctrl file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdtPlan {
    /// The class, a directory; none for that of everybody.
    pub class: Option<String>,
    /// The class has no name of its own but the container's.
    pub own: bool,
    /// What is written to `schemata`, one write each.
    pub schemata: Vec<String>,
    /// The monitoring group in the class.
    pub group: Option<String>,
}

/// Plans the class of a container.
pub fn plan(spec: &Spec, id: &str, facts: &Facts) -> Result<Option<RdtPlan>, Problem> {
    let linux = spec.linux().as_ref();
    let Some(rdt) = linux.and_then(|linux| linux.intel_rdt().as_ref()) else {
        return Ok(None);
    };
    if !facts.is_real_root() {
        let text = "only real root assigns processes to classes: leave it out, or have root create the container";
        return Err(Problem::new("/linux/intelRdt", text));
    }
    let given = rdt.clos_id().as_deref().filter(|class| !class.is_empty());
    // Bandwidth has a field of its own, whose line counts.
    let cache = rdt.l3_cache_schema().iter().flat_map(|text| text.lines());
    let cache = cache.filter(|line| !line.starts_with("MB:"));
    let bandwidth = rdt.mem_bw_schema().iter().flat_map(|text| text.lines());
    let first: Vec<&str> = cache.chain(bandwidth).collect();
    let last = rdt.schemata().iter().flatten();
    let last: Vec<&str> = last.flat_map(|text| text.lines()).collect();
    // The kernel takes no resource twice in one write.
    let writes = [first, last].into_iter().filter(|lines| !lines.is_empty());
    let monitored = rdt.enable_monitoring().unwrap_or(false);
    Ok(Some(RdtPlan {
        class: match given {
            Some("/") => None,
            other => Some(other.unwrap_or(id).to_owned()),
        },
        own: given.is_none(),
        schemata: writes.map(|lines| lines.join("\n") + "\n").collect(),
        group: monitored.then(|| id.to_owned()),
    }))
}

impl RdtPlan {
    /// Whether the class may be made: one that is named and not described is there.
    pub fn may_make(&self) -> bool {
        self.own || !self.schemata.is_empty()
    }

    /// What differs between the plan and the `schemata` of a class that is there.
    pub fn difference(&self, there: &str) -> Option<String> {
        let there = values([there].into_iter());
        let mut wanted = values(self.schemata.iter().map(String::as_str)).into_iter();
        let ((resource, domain), value) =
            wanted.find(|(at, value)| there.get(at) != Some(value))?;
        let found = there
            .get(&(resource, domain))
            .map_or("nothing".into(), ToString::to_string);
        Some(format!(
            "{resource}:{domain} is {found} there, and {value} is asked for"
        ))
    }
}

/// Value by resource and domain: masks in hexadecimal, bandwidth in decimal, both
/// without the zeros before.
fn values<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<(&'a str, &'a str), String> {
    let mut all = BTreeMap::new();
    for line in texts.flat_map(str::lines) {
        let (resource, domains) = line.split_once(':').unwrap_or((line, ""));
        for pair in domains.split(';') {
            if let Some((domain, value)) = pair.split_once('=') {
                let value = value.trim().trim_start_matches('0').to_lowercase();
                let value = if value.is_empty() { "0".into() } else { value };
                all.insert((resource.trim(), domain.trim()), value);
            }
        }
    }
    all
}

impl fmt::Display for RdtPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.class {
            Some(class) => write!(f, "put it into the resctrl class {class}")?,
            None => f.write_str("put it into the resctrl class of everybody")?,
        }
        for line in self.schemata.iter().flat_map(|text| text.lines()) {
            write!(f, ", {line}")?;
        }
        match &self.group {
            Some(group) => write!(f, ", monitored as {group}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(lines: &[&str]) -> RdtPlan {
        RdtPlan {
            class: Some("gold".into()),
            own: false,
            schemata: lines.iter().map(|line| format!("{line}\n")).collect(),
            group: None,
        }
    }

    #[test]
    fn classes_match_in_what_is_asked_for() {
        let there = "    L3:0=07f0;1=1f\n    MB:0=  20;1=  70\n";
        let fits = |lines: &[&str]| described(lines).difference(there);
        assert_eq!(fits(&["L3:0=7F0;1=1f", "MB:0=20"]), None);
        assert_eq!(
            fits(&["L3:0=1;1=1f", "L3:0=7f0"]),
            None,
            "the last one counts"
        );
        assert!(
            fits(&["L3:0=ff"])
                .unwrap()
                .contains("L3:0 is 7f0 there, and ff")
        );
        assert!(fits(&["L2:0=f"]).unwrap().contains("nothing there"));
    }
}
