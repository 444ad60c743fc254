//! `linux.memoryPolicy`: which memory nodes pages come from.
//!
//! The policy belongs to the process, survives fork and exec, and comes on top of
//! `cpuset.mems`: the kernel leaves out nodes that the cgroup does not have.
//! Source: linux/mempolicy.h.

use std::fmt;

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use super::process::number_mask;
use crate::error::Problem;

/// What set_mempolicy(2) takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*`.
    pub mode: i32,
    /// Bit n is node n; empty for none.
    pub nodes: Vec<u64>,
    /// Mode, flags and nodes as written in the configuration.
    words: String,
}

/// `MAX_NUMNODES` is at most this on the architectures supported.
const NODE_LIMIT: usize = 1 << 10;

/// The policy as the kernel takes it.
pub fn plan(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, Problem> {
    let list = policy.nodes().as_deref().filter(|list| !list.is_empty());
    let nodes = list.map_or(Some(Vec::new()), |list| number_mask(list, NODE_LIMIT));
    let nodes = nodes.ok_or_else(|| {
        let list = list.unwrap_or_default();
        let text = format!("{list:?} is not a list of nodes such as 0-3,7, below {NODE_LIMIT}");
        Problem::new("/linux/memoryPolicy/nodes", text)
    })?;
    let flags = policy.flags().as_deref().unwrap_or_default();
    let mut words = policy.mode().to_string();
    for flag in flags {
        words.extend([" ", &flag.to_string()]);
    }
    if let Some(list) = list {
        words.extend([" on nodes ", list]);
    }
    let mode = mode_number(policy.mode());
    Ok(MemoryPolicy {
        mode: flags.iter().map(flag_bit).fold(mode, |all, bit| all | bit),
        nodes,
        words,
    })
}

fn mode_number(mode: MemoryPolicyModeType) -> i32 {
    match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    }
}

fn flag_bit(flag: &MemoryPolicyFlagType) -> i32 {
    match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    }
}

impl fmt::Display for MemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set the memory policy to {}", self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<MemoryPolicy, Problem> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn policies_become_the_kernels_numbers() {
        let bind = r#"{"mode": "MPOL_BIND", "nodes": "0-1,64", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let policy = planned(bind).unwrap();
        assert_eq!(policy.mode, 0x8002);
        assert_eq!(policy.nodes, [0b11, 1]);
        assert_eq!(
            policy.to_string(),
            "set the memory policy to MPOL_BIND MPOL_F_STATIC_NODES on nodes 0-1,64"
        );
        let local = planned(r#"{"mode": "MPOL_LOCAL"}"#).unwrap();
        assert_eq!((local.mode, local.nodes.len()), (4, 0));
    }

    #[test]
    fn no_machine_has_so_many_nodes() {
        let last = planned(r#"{"mode": "MPOL_BIND", "nodes": "1023"}"#).unwrap();
        assert_eq!(last.nodes.len(), 16);
        assert!(planned(r#"{"mode": "MPOL_BIND", "nodes": "1024"}"#).is_err());
    }
}
