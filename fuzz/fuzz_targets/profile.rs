//! Any bytes as `linux.seccomp` of a configuration.

#![no_main]
#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    reason = "the tests of the runtime share these files and use more of them"
)]

#[path = "../../tests/seccomp/fuzzed.rs"]
mod fuzzed;
#[path = "../../tests/seccomp/interpreter.rs"]
mod interpreter;
#[path = "../../tests/seccomp/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzzed::profile(input);
});
