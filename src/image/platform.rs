//! Which image of a multi-platform index is for this machine.

use std::fmt;

/// Operating system, architecture and its variant, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    /// `linux`
    pub(super) os: String,
    /// `amd64`, `arm64`
    pub(super) architecture: String,
    /// `v8`
    pub(super) variant: Option<String>,
}

/// Go's word for this machine's architecture.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};
/// The variant that every machine of this architecture is.
const VARIANT: &str = if cfg!(target_arch = "aarch64") {
    "v8"
} else {
    "v1"
};

impl Platform {
    /// What runs on every machine of this architecture.
    pub(super) fn this() -> Self {
        Self {
            os: "linux".into(),
            architecture: ARCHITECTURE.into(),
            variant: None,
        }
    }

    /// Whether programs of it run here.
    pub(super) fn runs_here(&self) -> bool {
        let variant = self.variant.as_deref();
        self.os == "linux"
            && self.architecture == ARCHITECTURE
            && variant.is_none_or(|variant| variant == VARIANT)
    }
}

impl fmt::Display for Platform {
    /// The parts may come from a document that nobody checked: no control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            Some(&self.os),
            Some(&self.architecture),
            self.variant.as_ref(),
        ];
        for (index, part) in parts.into_iter().flatten().enumerate() {
            let slash = if index > 0 { "/" } else { "" };
            write!(f, "{slash}{}", part.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_such_machine_can_run() {
        let mut platform = Platform::this();
        assert!(platform.runs_here());
        platform.variant = Some(VARIANT.into());
        assert!(platform.runs_here());
        platform.variant = Some("v99".into());
        assert!(!platform.runs_here());
        let other = |os: &str, architecture: &str| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: None,
        };
        assert!(!other("windows", ARCHITECTURE).runs_here());
        assert!(!other("linux", "s390x").runs_here());
        assert_eq!(other("linux", "\u{1b}x").to_string(), "linux/\\u{1b}x");
    }
}
