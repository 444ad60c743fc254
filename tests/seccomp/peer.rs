//! The same profiles compiled by libseccomp, where it is installed.
//!
//! Engines use this library, so its reading of a profile is what users know.
//! Where capsid means something else on purpose, `Difference` says so, and the
//! test demands exactly that difference.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use capsid::seccomp::{Program, compile};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::Value;

use crate::EPERM;
use crate::interpreter::{self, Call, run};
use crate::lowered;
use crate::oracle::{self, ARCHES, KILL_PROCESS, Oracle, conditions, entries};
use crate::random::{self, Xorshift};

/// The program of `libseccomp.c`, or why there is none on this machine.
static PEER: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/libseccomp.c");
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libseccomp");
    let fresh = built.with_extension(std::process::id().to_string());
    let mut probe = Command::new("cc");
    probe.args(["-E", "-include", "seccomp.h", "-x", "c", "/dev/null"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return Err("there is no C compiler, or libseccomp-dev is not installed".to_owned());
    }
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Werror", "-o"]).arg(&fresh);
    let status = cc.args([source, "-lseccomp"]).status().unwrap();
    assert!(status.success(), "{source} does not compile");
    // Another run of the tests may be using the old one.
    std::fs::rename(fresh, &built).unwrap();
    Ok(built)
});

/// Runs libseccomp on a profile.
fn theirs(peer: &Path, profile: &LinuxSeccomp, optimize: u8) -> lowered::Outcome {
    let mut child = Command::new(peer)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = lowered::input(profile, optimize, KILL_PROCESS);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?} {input}", output.status);
    lowered::outcome(&String::from_utf8(output.stdout).unwrap())
}

/// Says on the terminal, past the harness, that nothing was compared.
fn peer() -> Option<&'static Path> {
    match &*PEER {
        Ok(path) => Some(path),
        Err(reason) => {
            let allowed = std::env::var("CAPSID_TEST_ALLOW_SKIP").unwrap_or_default();
            let demanded = std::env::var_os("CAPSID_TEST_NO_SKIP")
                .is_some_and(|value| value == "1")
                && !allowed.split(',').any(|key| key == "libseccomp");
            assert!(!demanded, "{reason}");
            // Unlike eprintln!, this is seen when the test passes.
            let line = format!("not compared with libseccomp: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

/// What libseccomp answers otherwise than capsid, and why capsid does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Numbers above all that the profile names: ENOSYS instead of EPERM, so
    /// that programs fall back to older calls. runc adds this to libseccomp's
    /// program by itself.
    Newer,
    /// A name that the library is too old to know: it leaves the rule out.
    Unknown,
    /// x32 numbers in a filter without x32: ENOSYS, where libseccomp takes them
    /// for a foreign architecture. It lets -1, a tracer's mark, pass to the default.
    X32,
    /// Rules that contradict one another: libseccomp orders conditions by
    /// argument and value, and lets a rule without conditions outweigh all
    /// others. capsid keeps the order of the profile, and denials.
    Order,
    /// Constants of more than 32 bits where arguments have 32: libseccomp cuts
    /// them down, so that "less than 2^32" becomes "less than 0".
    Width,
    /// Calls through socketcall and ipc with rules that test arguments, which
    /// are behind a pointer there; and versions of ipc calls.
    Multiplexed,
}

/// A profile as libseccomp reads its constants where arguments have 32 bits.
fn reading(profile: &LinuxSeccomp) -> LinuxSeccomp {
    let cut = 0xffff_ffff;
    let mut json = serde_json::to_value(profile).unwrap();
    for entry in json["syscalls"].as_array_mut().into_iter().flatten() {
        let Some(conditions) = entry["args"].as_array_mut() else {
            continue;
        };
        for condition in &mut *conditions {
            let value = condition["value"].as_u64().unwrap() & cut;
            let two = condition["valueTwo"].as_u64().unwrap_or(0) & cut;
            condition["value"] = value.into();
            condition["valueTwo"] = two.into();
        }
        // A mask of nothing is no condition.
        let holds =
            |condition: &Value| condition["op"] == "SCMP_CMP_MASKED_EQ" && condition["value"] == 0;
        let indices: HashSet<_> = conditions.iter().map(|one| one["index"].as_u64()).collect();
        if indices.len() == conditions.len() {
            conditions.retain(|condition| !holds(condition));
        } else if conditions.iter().any(holds) {
            conditions.clear();
        }
    }
    serde_json::from_value(json).unwrap()
}

/// What libseccomp may answer, whatever order it gives the rules.
fn possible(oracle: &Oracle, call: &Call, default: u32) -> Vec<u32> {
    let rules = oracle.rules(call);
    if let Some((ret, _, _)) = rules.iter().find(|(_, _, always)| *always) {
        return vec![*ret];
    }
    let applying: Vec<u32> = rules
        .iter()
        .filter(|(_, applies, _)| *applies)
        .map(|(ret, _, _)| *ret)
        .collect();
    if applying.is_empty() {
        vec![default]
    } else {
        applying
    }
}

/// Whether rules of different results apply to a call, so that their order counts.
fn contradicts(oracle: &Oracle<'_>, call: &Call) -> bool {
    let rules = oracle.rules(call).into_iter();
    let results: HashSet<u32> = rules
        .filter(|(_, applies, _)| *applies)
        .map(|(ret, _, _)| ret)
        .collect();
    results.len() > 1
}

/// A profile, and both programs made of it.
struct Pair<'a> {
    profile: &'a LinuxSeccomp,
    cut: LinuxSeccomp,
    program: Program,
    other: lowered::Outcome,
    default: u32,
    /// The profile has rules for what can be reached through socketcall or
    /// ipc, and not all of them without conditions.
    behind_pointers: bool,
}

impl<'a> Pair<'a> {
    fn new(peer: &Path, profile: &'a LinuxSeccomp, optimize: u8) -> Self {
        let program = compile(profile).unwrap();
        interpreter::check(&program);
        let other = theirs(peer, profile, optimize);
        let behind_pointers = entries(profile).any(|entry| {
            let mut names = entry.names().iter();
            !conditions(entry).is_empty() && names.any(|name| oracle::multiplexed(name).is_some())
        });
        Self {
            profile,
            cut: reading(profile),
            program,
            other,
            default: profile.default_action().as_u32(profile.default_errno_ret()),
            behind_pointers,
        }
    }

    /// Both programs on every number of every architecture; counts what differs.
    fn compare(&self, vectors: &[[u64; 6]], seen: &mut BTreeMap<Difference, usize>) -> usize {
        let tested: HashSet<&str> = entries(self.profile)
            .filter(|entry| !conditions(entry).is_empty())
            .flat_map(|entry| entry.names().iter().map(String::as_str))
            .collect();
        let through = crate::through(vectors);
        let mut compared = 0;
        for (index, &(arch, column, bits, _)) in ARCHES.iter().enumerate() {
            let oracles = [self.profile, &self.cut].map(|profile| Oracle::new(profile, index));
            let names = oracle::column(column);
            for low in (0..=600).chain([0xf0001, 0x0fff_ffff, 0x3fff_ffff]) {
                let name = names.get(&low).copied();
                let used = match name {
                    Some("socketcall" | "ipc") => &through,
                    Some(name) if tested.contains(name) => vectors,
                    _ => &vectors[..2],
                };
                for &args in used {
                    let call = Call {
                        arch,
                        nr: low | bits,
                        args,
                    };
                    compared += 1;
                    let ours = run(&self.program.instructions, &call).0;
                    let theirs = run(&self.other.instructions, &call).0;
                    if ours != theirs {
                        let found = self.explain(index, &oracles, &call, theirs);
                        let why = found.unwrap_or_else(|| {
                            let rules = crate::rules_of(self.profile, name.as_ref());
                            panic!("{column} {call:x?}: {ours:x}, libseccomp {theirs:x}; {rules}")
                        });
                        *seen.entry(why).or_default() += 1;
                    }
                }
            }
        }
        compared
    }

    /// The known difference that makes libseccomp answer so.
    fn explain(
        &self,
        index: usize,
        oracles: &[Oracle<'_>; 2],
        call: &Call,
        theirs: u32,
    ) -> Option<Difference> {
        let (_, column, bits, name) = ARCHES[index];
        let listed = self.profile.architectures().as_deref().unwrap_or_default();
        let nr = call.nr ^ bits;
        let holds = |holds: bool, why: Difference| holds.then_some(why);
        if bits != 0 && !listed.contains(&name) {
            return holds(theirs == KILL_PROCESS, Difference::X32);
        }
        let name = oracle::column(column).get(&nr).copied();
        if name.is_some_and(|name| self.other.unknown.contains(name)) {
            return holds(theirs == self.default, Difference::Unknown);
        }
        if oracles[0].is_newer(nr) && self.default == EPERM {
            return holds(theirs == self.default, Difference::Newer);
        }
        let version = name == Some("ipc") && call.args[0] & 0xffff_0000 != 0;
        if version || self.behind_pointers && matches!(name, Some("socketcall" | "ipc")) {
            return Some(Difference::Multiplexed);
        }
        let answers = oracles
            .each_ref()
            .map(|oracle| possible(oracle, call, self.default));
        let [plain, cut] = &answers;
        let narrow = column != ARCHES[0].1;
        if contradicts(&oracles[0], call) && plain.contains(&theirs) {
            Some(Difference::Order)
        } else if narrow && cut != plain && cut.contains(&theirs) {
            Some(Difference::Width)
        } else {
            None
        }
    }
}

#[test]
fn libseccomp_agrees_on_dockers_profile() {
    let Some(peer) = peer() else { return };
    let mut profile = crate::docker();
    let vectors = crate::vectors(&profile, &mut Xorshift::seeded(3), 200);
    for count in 1..=ARCHES.len() {
        profile.set_architectures(Some(ARCHES[..count].iter().map(|arch| arch.3).collect()));
        for optimize in [1, 2] {
            let pair = Pair::new(peer, &profile, optimize);
            let mut seen = BTreeMap::new();
            let compared = pair.compare(&vectors, &mut seen);
            println!(
                "libseccomp {}, {count} architectures, optimize={optimize}: \
                 {compared} calls, {seen:?}, unknown {:?}",
                pair.other.version, pair.other.unknown
            );
            assert!(pair.other.refused.is_empty());
            let known = [Difference::Newer, Difference::Unknown, Difference::X32];
            assert!(seen.keys().all(|why| known.contains(why)), "{seen:?}");
        }
    }
}

#[test]
fn libseccomp_agrees_on_random_profiles() {
    let Some(peer) = peer() else { return };
    let (arches, names) = crate::everything();
    let mut seen = BTreeMap::new();
    let mut compared = 0;
    for seed in 1..=60 {
        let mut random = Xorshift::seeded(seed);
        let profile = crate::parse(random::moderate(&mut random, &arches, &names));
        let pair = Pair::new(peer, &profile, 1 + (seed % 2) as u8);
        let vectors = crate::vectors(&profile, &mut random, 20);
        compared += pair.compare(&vectors, &mut seen);
    }
    println!("{compared} calls, {seen:?}");
    assert!(compared > 1_000_000, "{compared}");
    // Each known difference is still one.
    assert_eq!(seen.len(), 6, "{seen:?}");
}
