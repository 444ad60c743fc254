//! Image layouts on disk: good ones, and what a hostile one may try.
//!
//! All of it through `capsid::image::open`, on layouts that are written here.

#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot do without must be there"
)]

#[path = "image/archive.rs"]
mod archive;
#[path = "image/documents.rs"]
mod documents;
#[path = "image/fuzzed.rs"]
mod fuzzed;
#[path = "image/hostile.rs"]
mod hostile;
#[path = "image/kept.rs"]
mod kept;
#[path = "image/layers.rs"]
mod layers;
#[path = "image/store.rs"]
mod store;
