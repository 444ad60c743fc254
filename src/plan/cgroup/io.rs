//! `linux.resources.blockIO` and `linux.resources.rdma` -> lines of `io.*` and `rdma.max`.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxRdma, LinuxThrottleDevice};

use super::Limit;
use super::resources::Found;

impl Found {
    /// Weights go to the scheduler BFQ where it has a file, else to the kernel's
    /// own cost model, whose range is another: as runc and crun do.
    pub(super) fn block_io(&mut self, block_io: &LinuxBlockIo) {
        if let Some(weight) = self.weight("blockIO/weight", block_io.weight()) {
            self.weigh(None, weight);
        }
        self.leaf_weight("blockIO/leafWeight", block_io.leaf_weight());
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            let at = format!("blockIO/weightDevice/{index}");
            if let Some(weight) = self.weight(&format!("{at}/weight"), device.weight()) {
                self.weigh(Some((device.major(), device.minor())), weight);
            }
            self.leaf_weight(&format!("{at}/leafWeight"), device.leaf_weight());
        }
        self.throttle("rbps", block_io.throttle_read_bps_device().as_deref());
        self.throttle("wbps", block_io.throttle_write_bps_device().as_deref());
        self.throttle("riops", block_io.throttle_read_iops_device().as_deref());
        self.throttle("wiops", block_io.throttle_write_iops_device().as_deref());
    }

    /// Zero means "not set": engines write it for that.
    fn weight(&mut self, field: &str, weight: Option<u16>) -> Option<u16> {
        match weight {
            None | Some(0) => None,
            Some(weight @ 10..=1000) => Some(weight),
            Some(weight) => {
                self.problem(
                    field,
                    format!("{weight} is not a weight between 10 and 1000"),
                );
                None
            }
        }
    }

    fn leaf_weight(&mut self, field: &str, weight: Option<u16>) {
        if weight.unwrap_or(0) != 0 {
            self.v1_only(field, "processes and child groups do not compete in v2");
        }
    }

    fn weigh(&mut self, device: Option<(i64, i64)>, weight: u16) {
        let value = |weight: u64| match device {
            Some((major, minor)) => format!("{major}:{minor} {weight}"),
            None => weight.to_string(),
        };
        let mut limit = Limit::new("io.bfq.weight", value(weight.into()), true);
        limit.instead = Some(Box::new(Limit::new(
            "io.weight",
            value(io_weight(weight)),
            true,
        )));
        self.limits.push(limit);
    }

    /// A rate of 0 is "no limit", as it was in cgroup v1; `io.max` has a word for it.
    fn throttle(&mut self, key: &str, devices: Option<&[LinuxThrottleDevice]>) {
        for device in devices.unwrap_or_default() {
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let (major, minor) = (device.major(), device.minor());
            self.set("io.max", format!("{major}:{minor} {key}={rate}"));
        }
    }

    /// What a device's entry does not name is not limited.
    pub(super) fn rdma(&mut self, devices: &HashMap<String, LinuxRdma>) {
        let mut devices: Vec<_> = devices.iter().collect();
        devices.sort_unstable_by_key(|(name, _)| *name);
        for (name, limits) in devices {
            let mut value = name.clone();
            if let Some(handles) = limits.hca_handles() {
                value.push_str(&format!(" hca_handle={handles}"));
            }
            if let Some(objects) = limits.hca_objects() {
                value.push_str(&format!(" hca_object={objects}"));
            }
            if value.len() > name.len() {
                self.set("rdma.max", value);
            }
        }
    }
}

/// A weight of v1 and BFQ (10 to 1000) as `io.weight` (1 to 10000), on the
/// straight line that runc and crun use.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}
