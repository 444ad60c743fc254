//! What was asked: the bundle's `config.json`, read and checked.
//!
//! Pure except for reading the file. The types are oci-spec's.
