//! What was asked: the bundle's `config.json`, read and checked.
//!
//! Pure except for reading the file. The types are oci-spec's.

/// Annotations that capsid itself reads.
pub mod annotations;

/// `config.json` and `exec --process` files: bytes to types, with errors that name the field.
pub mod bundle;

/// One range of an id map.
pub mod ids;

/// The words of a mount's `options`, turned into the kernel's own flags.
pub mod mount_options;

/// The namespaces a configuration lists, and their kinds.
pub mod namespaces;

/// What `capsid spec` writes.
pub mod template;

/// Every contradiction of a configuration, found before anything is done.
pub mod validate;
