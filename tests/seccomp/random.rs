//! Random profiles and arguments from fixed seeds.

use serde_json::{Value, json};

/// Marsaglia's xorshift with 64 bits of state.
pub(crate) struct Xorshift(u64);

impl Xorshift {
    /// Spreads small seeds, whose first values would otherwise resemble one another.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Values whose halves, neighbours and sign bits differ from one another.
pub(crate) const VALUES: [u64; 14] = [
    0,
    1,
    2,
    5,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x5_0000_0005,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Some that are neighbours, some that stand alone, one that does not exist.
const NAMES: [&str; 16] = [
    "read",
    "write",
    "open",
    "close",
    "mmap",
    "mprotect",
    "ioctl",
    "socket",
    "clone",
    "personality",
    "prctl",
    "openat",
    "statx",
    "clone3",
    "mseal",
    "no_such_call",
];

/// An action with its number.
pub(crate) fn action(random: &mut Xorshift) -> (&'static str, Option<u32>) {
    match random.below(10) {
        0 => ("SCMP_ACT_KILL", None),
        1 => ("SCMP_ACT_KILL_PROCESS", None),
        2 => ("SCMP_ACT_TRAP", None),
        3 => ("SCMP_ACT_TRACE", Some(7)),
        4 => ("SCMP_ACT_LOG", None),
        5 => ("SCMP_ACT_ERRNO", Some(38)),
        6 | 7 => ("SCMP_ACT_ERRNO", None),
        _ => ("SCMP_ACT_ALLOW", None),
    }
}

/// One condition. Values come from a profile's own few, so that rules overlap.
pub(crate) fn condition(random: &mut Xorshift, values: &[u64], index: usize) -> Value {
    json!({
        "index": index,
        "value": random.pick(values),
        "valueTwo": random.pick(values),
        "op": random.pick(&OPERATORS),
    })
}

fn entry(random: &mut Xorshift, values: &[u64], all_names: &[&str]) -> Value {
    let pool: &[&str] = if random.below(4) == 0 {
        all_names
    } else {
        &NAMES
    };
    let limit = if random.below(3) == 0 { 60 } else { 4 };
    let count = 1 + random.below(limit);
    let names: Vec<&str> = (0..count).map(|_| random.pick(pool)).collect();
    let (action, number) = match random.below(8) {
        0 => ("SCMP_ACT_NOTIFY", None),
        _ => action(random),
    };
    let action = if names.contains(&"write") && action == "SCMP_ACT_NOTIFY" {
        "SCMP_ACT_LOG"
    } else {
        action
    };
    let args: Vec<Value> = match random.below(3) {
        0 => Vec::new(),
        _ => (0..1 + random.below(3))
            .map(|_| {
                let index = random.below(6);
                condition(random, values, index)
            })
            .collect(),
    };
    json!({ "names": names, "action": action, "errnoRet": number, "args": args })
}

/// A whole profile.
pub(crate) fn profile(random: &mut Xorshift, arches: &[&str], all_names: &[&str]) -> Value {
    let values: Vec<u64> = (0..4).map(|_| random.pick(&VALUES)).collect();
    let (default, number) = action(random);
    let count = random.below(30);
    let syscalls: Vec<Value> = (0..count)
        .map(|_| entry(random, &values, all_names))
        .collect();
    let listed: Vec<&str> = arches
        .iter()
        .copied()
        .filter(|_| random.below(2) == 0)
        .collect();
    json!({
        "defaultAction": default,
        "defaultErrnoRet": number,
        "architectures": listed,
        "syscalls": syscalls,
    })
}
