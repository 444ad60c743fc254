//! What was asked: the bundle's `config.json`, read and checked.
//!
//! Pure except for reading the file. The types are oci-spec's.

/// The words of a mount's `options`, turned into the kernel's own flags.
pub mod mount_options;
