//! `regex` for oci-spec: the small engine of the same authors under its name.
//!
//! oci-spec matches one pattern, `execCPUAffinity`, and brings the large one for it.

pub use regex_lite::*;
