//! What was asked: the bundle's `config.json`, read and checked.
//!
//! Pure except for reading the file. The types are oci-spec's.

/// `config.json` and `exec --process` files: bytes to types, with errors that name the field.
pub mod bundle;

/// The words of a mount's `options`, turned into the kernel's own flags.
pub mod mount_options;

/// What `capsid spec` writes.
pub mod template;

/// Every contradiction of a configuration, found before anything is done.
pub mod validate;
