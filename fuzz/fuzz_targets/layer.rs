//! Any layer of an image, unpacked for good in a temporary directory.

#![no_main]
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests of the runtime share these files and use more of them"
)]

#[path = "../../tests/image/archive.rs"]
mod archive;
#[path = "../../tests/image/fuzzed.rs"]
mod fuzzed;
#[path = "../../tests/image/store.rs"]
mod store;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzzed::layer(input);
});
