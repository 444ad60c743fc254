//! Doing it: the parent opens what is needed and clones, the child walks the plan.

pub mod alive;
pub mod cgroup;
pub mod child;
pub mod console;
pub mod copy_up;
pub mod fence;
pub mod foreground;
pub mod hand_over;
pub mod handles;
pub mod hooks;
pub mod hooks_inside;
pub mod idmaps;
pub mod init;
pub mod lifeline;
pub mod lookup;
pub mod parent;
pub mod pasta;
pub mod program;
pub mod protect;
pub mod protocol;
pub mod root;
pub mod secrets;
pub mod skeleton;
pub mod start_socket;
pub mod supervisor;
pub mod systemd;
