//! OCI seccomp profiles, compiled to BPF. Pure: loading is `sys::restrict`'s.
//!
//! A filter is a search tree over ranges of system call numbers whose leaves
//! return a value or test arguments. Order matters at load time and not only at
//! run time: the kernel walks a new filter once for each system call to learn
//! which ones are always allowed.
//!
//! `rules` says which rule decides when several name one system call, and
//! `architecture` what happens to numbers of other architectures. Everything
//! that `compile` needs is compiled into `build.rs` too, which makes the filters
//! of the project's own profiles.

pub mod abi;
mod alternatives;
mod architecture;
mod builtin;
mod compile;
mod condition;
mod encode;
mod filter;
mod judge;
pub mod listing;
mod multiplex;
mod names;
mod record;
mod report;
mod returns;
pub mod review;
mod rules;
pub mod source;
mod tables;
pub mod traced;
mod tree;
pub mod walk;
mod words;

pub use builtin::{Builtin, capabilities};
pub use compile::{Asks, Program, Request, compile};
pub use encode::Instruction;
pub use filter::{Filter, Profile};
pub use judge::{Call, Decider, Judge, Judgement};
pub use record::Recording;
pub use report::{Advice, Denials, Told};
