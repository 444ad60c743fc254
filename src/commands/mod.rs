//! What a person or an engine can ask for: one file per command.
//!
//! `cli` finds the command, `go_flags` reads Go's option syntax, `options` are
//! shared between commands, `root` finds the state directory.

pub mod cli;
pub mod go_flags;

mod options;
mod root;

mod announce;
mod audit;
mod audited;
mod best_effort;
mod create;
mod creation;
mod delete;
mod descriptors;
mod digest;
mod doctor;
mod events;
mod exec;
mod explain;
mod features;
mod given;
mod hardening;
mod hooks;
mod kill;
mod life;
mod list;
mod notify;
mod pause;
mod pid_file;
mod pins;
mod place;
mod prepared;
mod ps;
mod reports;
mod resume;
mod run;
mod sandbox;
mod seccomp;
mod secrets;
mod spec;
mod start;
mod state;
mod system_calls;
mod update;
