//! Limits that a cgroup enforces.

use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources};

use super::Maker;

/// Processes and threads: more than a parallel build has, less than a fork bomb.
const PIDS: u64 = 2048;

/// Half of the usual weight: whoever waits for the machine comes first.
const SHARES: u64 = 512;

/// Microseconds.
const PERIOD: u64 = 100_000;

impl Maker<'_> {
    pub(super) fn resources(&mut self) -> LinuxResources {
        let asked = &self.request.limits;
        let memory = asked
            .memory
            .unwrap_or(self.userland.memory / 2)
            .max(1 << 20);
        let pids = asked.pids.unwrap_or(PIDS);
        let bytes = i64::try_from(memory).unwrap_or(i64::MAX);
        let mut limits = LinuxMemoryBuilder::default().limit(bytes);
        if self.userland.swap > 0 {
            // Memory and swap together: none of it may go to swap.
            limits = limits.swap(bytes);
        }
        let mut cpu = LinuxCpuBuilder::default().shares(SHARES);
        if let Some(thousandths) = asked.cpus {
            let quota = i64::try_from(thousandths.saturating_mul(PERIOD / 1000));
            cpu = cpu.period(PERIOD).quota(quota.unwrap_or(i64::MAX));
        }
        let most = i64::try_from(pids).unwrap_or(i64::MAX);
        let pids = LinuxPidsBuilder::default().limit(most);
        let (memory_asked, pids_asked) = (asked.memory, asked.pids);
        if memory_asked.is_none() {
            self.note(
                format!(
                    "at most {} MiB of memory, half of the machine's",
                    memory >> 20
                ),
                "a program that takes all memory must not stop the machine; --memory sets it",
            );
        }
        if pids_asked.is_none() {
            self.note(
                format!("at most {PIDS} processes and threads"),
                "a fork bomb ends there; --pids sets it",
            );
        }
        self.note(
            "half of the usual weight when CPUs are short",
            "the caller's other programs stay usable; --cpus sets a hard limit",
        );
        let mut resources = LinuxResources::default();
        // Every field is set, so there is nothing the builders could miss.
        resources
            .set_memory(limits.build().ok())
            .set_cpu(cpu.build().ok())
            .set_pids(pids.build().ok());
        resources
    }
}
