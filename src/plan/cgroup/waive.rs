//! `--cgroups=best-effort`: limits as far as they can be had.

use super::CgroupPlan;

impl CgroupPlan {
    /// The same plan, without insisting on any limit but those of some controllers.
    ///
    /// A value that the kernel refuses stays an error: it is a mistake, and no
    /// lack of the machine.
    #[must_use]
    pub fn waived(mut self, but: &[&str]) -> Self {
        for limit in &mut self.limits {
            let kept = limit
                .controller
                .as_deref()
                .is_some_and(|one| but.contains(&one));
            limit.required &= kept;
        }
        self
    }

    /// The limits in words, for whoever does without them: `pids.max 100, cpu.max 5 100000`.
    pub fn limits_in_words(&self) -> String {
        let real = self.limits.iter().filter(|limit| limit.value != "max");
        let words = real.map(|limit| format!("{} {}", limit.file, limit.value));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The same for those that are insisted on.
    pub fn required_in_words(&self) -> String {
        let required = self.limits.iter().filter(|limit| limit.required);
        let words = required.map(|limit| format!("{} {}", limit.file, limit.value));
        words.collect::<Vec<_>>().join(", ")
    }

    /// How many processes are asked for at most: `pids.max`, if it is a number.
    pub fn most_processes(&self) -> Option<u64> {
        let limits = self.limits.iter().rev();
        let mut pids = limits.filter(|limit| limit.file == "pids.max");
        pids.next()?.value.parse().ok()
    }
}
