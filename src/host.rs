//! 
pub mod cgroup;
