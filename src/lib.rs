//! capsid: a rootless-first OCI container runtime whose hardened defaults are
//! the baseline.
//!
//! The modules stand in the order of a container's life, and imports go one
//! way only (`tests/architecture.rs` keeps it so):
//!
//! ```text
//! argv -> commands -> spec --ValidSpec--> policy --HardenedSpec--> plan --Plan--> execute --> state
//!                                           host ------Facts--------^               |
//!                                                                                  sys
//! ```
//!
//! `spec`, `policy`, `seccomp` and `plan` are pure: no system call, no
//! descriptor, no clock. `execute` opens what is needed, clones, and the child
//! walks the plan without deciding or allocating anything. `sys` is the only
//! place with `unsafe`.

pub mod error;
pub mod host;
pub mod log;
pub mod state;

/// What a person or an engine can ask for.
pub mod commands;

/// What was asked: the bundle's `config.json`, read and checked.
pub mod spec;

/// A few options made into a configuration.
pub mod sandbox;

/// What capsid insists on.
pub mod policy;

/// What was done, as lines for those who answer for the machine.
pub mod audit;

/// What will be done, as plain data.
pub mod plan;

/// OCI seccomp profiles, compiled to BPF.
pub mod seccomp;

/// Doing it.
pub mod execute;

/// OCI image layouts on disk, checked and unpacked.
pub mod image;

/// System calls: the only unsafe code.
pub mod sys;
