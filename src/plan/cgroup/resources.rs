//! `linux.resources` -> files and values of cgroup v2.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};

use super::Limit;
use super::limit::list;
use crate::error::Problem;

const AT: &str = "/linux/resources";

/// What was found in `linux.resources`.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) limits: Vec<Limit>,
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

impl Found {
    pub(super) fn read(&mut self, resources: &LinuxResources) {
        if let Some(pids) = resources.pids() {
            self.pids(pids.limit());
        }
        if let Some(memory) = resources.memory() {
            self.memory(memory);
        }
        if let Some(cpu) = resources.cpu() {
            self.cpu(cpu);
            self.cpuset(cpu);
        }
        if let Some(block_io) = resources.block_io() {
            self.block_io(block_io);
        }
        if let Some(network) = resources.network() {
            self.network(network);
        }
        for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
            let field = format!("hugepageLimits/{index}/limit");
            if let Some(value) = self.number(&field, limit.limit()) {
                // Reserved pages first: they cannot be taken back from a process.
                let size = limit.page_size();
                self.set(&format!("hugetlb.{size}.rsvd.max"), value.as_str());
                self.set(&format!("hugetlb.{size}.max"), value);
            }
        }
        if let Some(rdma) = resources.rdma() {
            self.rdma(rdma);
        }
        // Last, as the specification has it: what is said here in the kernel's
        // own words overrides what the fields above were converted to.
        if let Some(unified) = resources.unified() {
            self.unified(unified);
        }
    }

    pub(super) fn set(&mut self, file: &str, value: impl Into<String>) {
        self.limits.push(Limit::new(file, value, true));
    }

    pub(super) fn problem(&mut self, field: &str, problem: impl Into<String>) {
        self.problems
            .push(Problem::new(format!("{AT}/{field}"), problem));
    }

    pub(super) fn v1_only(&mut self, field: &str, instead: &str) {
        self.problem(field, format!("exists in cgroup v1 only; {instead}"));
    }

    /// A number where -1 means "no limit"; `None` and a [`Problem`] below that.
    fn number(&mut self, field: &str, value: i64) -> Option<String> {
        match value {
            -1 => Some("max".into()),
            0.. => Some(value.to_string()),
            _ => {
                self.problem(
                    field,
                    format!("{value} is neither a limit nor -1 (no limit)"),
                );
                None
            }
        }
    }

    fn pids(&mut self, limit: i64) {
        if limit == 0 {
            // The limit is checked at fork, and the first process is forked into
            // the cgroup: it counts. With 0 there could be no container.
            self.notes
                .push("pids.limit 0 becomes pids.max 1: the first process counts".into());
            return self.set("pids.max", "1");
        }
        if let Some(value) = self.number("pids/limit", limit) {
            self.set("pids.max", value);
        }
    }

    /// Zero means "not set" in all memory fields: engines write it for that.
    fn memory(&mut self, memory: &LinuxMemory) {
        let limit = memory.limit().unwrap_or(0);
        if let Some(value) = self.swap(limit, memory.swap().unwrap_or(0)) {
            self.set("memory.swap.max", value);
        }
        if limit != 0
            && let Some(value) = self.number("memory/limit", limit)
        {
            self.set("memory.max", value);
        }
        let reservation = memory.reservation().unwrap_or(0);
        if reservation != 0
            && let Some(value) = self.number("memory/reservation", reservation)
        {
            self.set("memory.low", value);
        }
        if memory.check_before_update() == Some(true) {
            self.check_usage();
        }
        #[allow(deprecated, reason = "the fields are still in bundles")]
        let kernel = [
            ("kernel", memory.kernel()),
            ("kernelTCP", memory.kernel_tcp()),
        ];
        for (field, value) in kernel {
            if value.is_some_and(|value| value > 0) {
                let note =
                    format!("memory.{field} is obsolete and ignored: memory.limit counts it");
                self.notes.push(note);
            }
        }
        if memory.swappiness().is_some() {
            self.v1_only("memory/swappiness", "limit swap by memory.swap");
        }
        if memory.disable_oom_killer() == Some(true) {
            self.v1_only(
                "memory/disableOOMKiller",
                "lower process.oomScoreAdj instead",
            );
        }
        if memory.use_hierarchy() == Some(false) {
            self.v1_only("memory/useHierarchy", "cgroup v2 is always hierarchical");
        }
    }

    /// The kernel takes a limit below what is in use, and kills until it holds.
    fn check_usage(&mut self) {
        for limit in &mut self.limits {
            limit.usage = match limit.file.as_str() {
                "memory.max" => Some("memory.current"),
                "memory.swap.max" => Some("memory.swap.current"),
                _ => continue,
            };
        }
    }

    /// `memory.swap` of the specification is memory and swap together, the file
    /// of cgroup v2 is swap alone.
    fn swap(&mut self, limit: i64, swap: i64) -> Option<String> {
        let field = "memory/swap";
        match (limit, swap) {
            // Unlimited memory and nothing said of swap: v1 did not limit it either.
            (-1, 0) | (_, -1) => Some("max".into()),
            (_, 0) => None,
            (_, ..0) => self.number(field, swap),
            (0 | -1, _) => {
                self.problem(field, "unable to set swap limit without memory limit");
                None
            }
            (..0, _) => None,
            _ if swap < limit => {
                self.problem(field, "memory+swap limit should be >= memory limit");
                None
            }
            _ => Some((swap - limit).to_string()),
        }
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        let idle = cpu.idle().unwrap_or(0);
        match cpu.idle() {
            Some(value @ (0 | 1)) => self.set("cpu.idle", value.to_string()),
            Some(value) => self.problem("cpu/idle", format!("{value} is neither 0 nor 1")),
            None => {}
        }
        match cpu.shares() {
            None | Some(0) => {}
            // The kernel refuses a weight for an idle group.
            Some(_) if idle == 1 => {
                self.notes
                    .push("cpu.shares has no effect beside cpu.idle 1".into());
            }
            Some(shares) => self.set("cpu.weight", weight(shares).to_string()),
        }
        let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
        if quota != 0 || period != 0 {
            let quota = if quota == 0 { -1 } else { quota };
            let period = if period == 0 { 100_000 } else { period };
            if let Some(quota) = self.number("cpu/quota", quota) {
                self.set("cpu.max", format!("{quota} {period}"));
            }
        }
        // After the quota, which it may not exceed.
        if let Some(burst) = cpu.burst() {
            self.set("cpu.max.burst", burst.to_string());
        }
        let real_time = [
            (
                "cpu/realtimeRuntime",
                cpu.realtime_runtime().unwrap_or(0) != 0,
            ),
            (
                "cpu/realtimePeriod",
                cpu.realtime_period().unwrap_or(0) != 0,
            ),
        ];
        for (field, asked) in real_time {
            if asked {
                self.v1_only(field, "cgroup v2 has no real-time budget per group");
            }
        }
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) {
        for (field, file, value) in [
            ("cpu/cpus", "cpuset.cpus", cpu.cpus()),
            ("cpu/mems", "cpuset.mems", cpu.mems()),
        ] {
            match value.as_deref() {
                None | Some("") => {}
                Some(value) if list(value).is_none() => {
                    self.problem(field, format!("{value:?} is not a list like 0-2,5"));
                }
                Some(value) => self.set(file, value),
            }
        }
    }

    fn network(&mut self, network: &LinuxNetwork) {
        let instead = "mark packets by their cgroup with nftables (socket cgroupv2)";
        if network.class_id().unwrap_or(0) != 0 {
            self.v1_only("network/classID", instead);
        }
        if network
            .priorities()
            .as_ref()
            .is_some_and(|priorities| !priorities.is_empty())
        {
            self.v1_only("network/priorities", instead);
        }
    }

    fn unified(&mut self, unified: &HashMap<String, String>) {
        let mut sorted: Vec<(&String, &String)> = unified.iter().collect();
        sorted.sort_unstable();
        for (file, value) in sorted {
            // RFC 6901: in a JSON pointer ~ and / are written ~0 and ~1.
            let field = format!("unified/{}", file.replace('~', "~0").replace('/', "~1"));
            let Some((_, rest)) = file.split_once('.') else {
                self.problem(&field, "is not the name of a cgroup file (controller.name)");
                continue;
            };
            if rest.is_empty()
                || file.starts_with('.')
                || file.bytes().any(|b| b"/\0\n".contains(&b))
            {
                self.problem(&field, "is not the name of a cgroup file (controller.name)");
                continue;
            }
            if is_action(file) {
                self.problem(
                    &field,
                    "acts on processes or child groups and is not a limit",
                );
                continue;
            }
            // The kernel takes one device or size per write.
            for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
                self.set(file, line);
            }
        }
    }
}

/// Core files by which a bundle could move, freeze or kill processes, its own
/// or, through `cgroup.procs`, any other on the machine.
fn is_action(file: &str) -> bool {
    matches!(
        file,
        "cgroup.procs"
            | "cgroup.threads"
            | "cgroup.type"
            | "cgroup.kill"
            | "cgroup.freeze"
            | "cgroup.subtree_control"
    )
}

/// `cpu.shares` (2 to 262144, usually 1024) as `cpu.weight` (1 to 10000, usually 100).
///
/// The curve through (2, 1), (1024, 100) and (262144, 10000) that runc 1.3.2 and
/// crun 1.23 use: with the straight line used before, 1024 shares became 39.
pub(super) fn weight(shares: u64) -> u64 {
    let (least, most) = (2, 262_144);
    if shares <= least {
        return 1;
    }
    if shares >= most {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss, reason = "below 2^18")]
    let l = (shares as f64).log2();
    let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
    // Rounded up; the margin keeps 1024 at 100 whatever the last bit of powf is.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "1 to 10000"
    )]
    let weight = (weight - 1e-9).ceil() as u64;
    weight
}
