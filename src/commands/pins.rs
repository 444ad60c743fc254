//! Digests that a configuration and a root file system must have.

use clap::{Arg, ArgMatches};

use super::options;
use super::prepared::Prepared;
use crate::error::{Error, Problem, Result};
use crate::image::{Digest, Tree};
use crate::plan::{Plan, RootStep};
use crate::spec::annotations::{self, DIGEST_ROOTFS};

/// Those that the command line names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// Of the bytes of config.json.
    pub(super) config: Option<Digest>,
    rootfs: Option<Digest>,
}

const CONFIG: &str = "pin-config";
const ROOTFS: &str = "pin-rootfs";

/// Who demands a digest, as messages name it.
pub(super) const BY_CONFIG: &str = "--pin-config";
const BY_ROOTFS: &str = "--pin-rootfs";
const BY_ANNOTATION: &str = "the annotation dev.capsid.digest.rootfs";

/// The options.
pub(super) fn options() -> [Arg; 2] {
    [
        options::text(
            CONFIG,
            "DIGEST",
            "Refuse a config.json with another digest (sha256:...)",
        ),
        options::text(
            ROOTFS,
            "DIGEST",
            "Refuse a root file system with another digest; capsid\ndigest prints both",
        ),
    ]
}

impl Pins {
    /// Reads them.
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let digest = |name: &str| {
            let text = options::given(matches, name);
            let digest = text.map(|text| Digest::parse(&text)).transpose();
            digest.map_err(|problem| Error::Usage(format!("--{name}: {problem}")))
        };
        Ok(Self {
            config: digest(CONFIG)?,
            rootfs: digest(ROOTFS)?,
        })
    }

    /// Whether a digest of the root file system is demanded here.
    pub(super) fn measures_rootfs(&self) -> bool {
        self.rootfs.is_some()
    }

    /// Measures the root file system, if a digest is demanded.
    ///
    /// # Errors
    /// [`Error::Refused`] for another one.
    pub(super) fn check_rootfs(&self, prepared: &Prepared) -> Result<Option<Tree>> {
        let demands = self.of_rootfs(prepared)?;
        if demands.iter().all(|(pin, _)| pin.is_none()) {
            return Ok(None);
        }
        let tree = Tree::measure(&prepared.rootfs)?;
        for (pin, by) in demands {
            expect(pin, tree.digest, &prepared.rootfs.display().to_string(), by)?;
        }
        Ok(Some(tree))
    }

    /// What is demanded of the root file system, and by what.
    fn of_rootfs(&self, prepared: &Prepared) -> Result<[(Option<Digest>, &'static str); 2]> {
        let annotation = annotations::value(&prepared.hardened.spec, DIGEST_ROOTFS);
        let annotated = annotation.map(Digest::parse).transpose();
        let annotated = annotated.map_err(|problem| Error::Spec {
            file: prepared.hardened.bundle.join("config.json"),
            problems: vec![Problem::new(
                format!("/annotations/{DIGEST_ROOTFS}"),
                problem,
            )],
        })?;
        Ok([(self.rootfs, BY_ROOTFS), (annotated, BY_ANNOTATION)])
    }

    /// A line for each digest that is demanded. What has another one got no further.
    pub(super) fn lines(&self, prepared: &Prepared) -> Result<String> {
        let mut text = String::new();
        let config = prepared.hardened.bundle.join("config.json");
        let rootfs = self.of_rootfs(prepared)?;
        let all = [(&config, (self.config, BY_CONFIG))];
        let of_rootfs = rootfs.map(|demand| (&prepared.rootfs, demand));
        for (at, (pin, by)) in all.into_iter().chain(of_rootfs) {
            if let Some(pin) = pin {
                text += &format!(
                    "pin: {} has the digest {pin}, as {by} demands\n",
                    at.display()
                );
            }
        }
        Ok(text)
    }
}

/// Refuses a plan that does not hold the root file system against what was measured:
/// that of a mount namespace that is joined is made already.
pub(super) fn check_plan(tree: Option<&Tree>, plan: &Plan) -> Result<()> {
    let held = |step: &RootStep| matches!(step, RootStep::ExpectRoot { .. });
    match tree {
        Some(_) if !plan.root.iter().any(held) => Err(Error::Usage(
            "the root file system of a mount namespace that is joined cannot be pinned: leave its              digest out, or have the container make a mount namespace"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// Refuses what has another digest than the demanded one.
///
/// # Errors
/// [`Error::Refused`].
pub(super) fn expect(pin: Option<Digest>, found: Digest, at: &str, by: &str) -> Result<()> {
    match pin {
        Some(pin) if pin != found => {
            let at = at.to_owned();
            let problem = format!(
                "its digest is {found}, and {by} demands {pin}: it was changed, or another one was meant"
            );
            Err(Error::Image { at, problem }.refused())
        }
        _ => Ok(()),
    }
}
