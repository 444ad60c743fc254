//!
pub mod alive;
pub mod cgroup;
