//! How long and how slow a seccomp filter is: capsid's, and libseccomp's for
//! the same profile. `integration/bench/seccomp` builds and starts it.
//!
//!     seccomp ROUNDS [LIBSECCOMP]     the table; exit status 1 beyond a limit
//!     seccomp once ROW                compiles and loads one filter, prints times
//!
//! A runtime compiles one filter in its life. So each round is a process of its
//! own, in which nothing of the compiler has run before.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot be made fails"
)]

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use capsid::seccomp::{Asks, Builtin, Filter, Profile};
use capsid::sys::restrict;
use oci_spec::runtime::{Arch, LinuxSeccomp};

#[path = "../../tests/seccomp/interpreter.rs"]
#[allow(clippy::cast_possible_truncation, reason = "it cuts words into halves")]
mod interpreter;
#[path = "../../tests/seccomp/lowered.rs"]
mod lowered;

use interpreter::{Call, run};
use lowered::Outcome;

/// `SECCOMP_RET_KILL_PROCESS`, for architectures that are not listed.
const KILL_PROCESS: u32 = 0x8000_0000;
/// System call numbers over which steps are counted.
const NUMBERS: u32 = 470;
/// Most steps of a lookup, on average.
const STEPS: f64 = 13.0;
/// Most microseconds to compile and load together, in the best round: of a
/// profile, and of two.
const MICROSECONDS: (f64, f64) = (500.0, 800.0);

/// Name in profiles, `AUDIT_ARCH_*`, bits set in the numbers.
type Architecture = (Arch, u32, u32);
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [Architecture; 3] = [
    (Arch::ScmpArchX86_64, 0xc000_003e, 0),
    (Arch::ScmpArchX86, 0x4000_0003, 0),
    (Arch::ScmpArchX32, 0xc000_003e, 0x4000_0000),
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [Architecture; 2] = [
    (Arch::ScmpArchAarch64, 0xc000_00b7, 0),
    (Arch::ScmpArchArm, 0x4000_0028, 0),
];

/// A filter to be measured.
struct Row {
    name: &'static str,
    source: Source,
    architectures: &'static [Architecture],
    /// Most instructions.
    limit: usize,
}

/// What a filter is made from.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// Docker's profile alone, which libseccomp compiles too.
    Docker,
    /// What a container with Docker's profile gets: with the floor.
    DockerAndFloor,
    /// The floor alone.
    Floor,
    /// A profile of the project, which was compiled when capsid was built.
    Builtin(Builtin),
}

const DOCKER: &str = include_str!("../../tests/seccomp/docker.json");
const NATIVE: &[Architecture] = ARCHITECTURES.split_at(1).0;

const ROWS: [Row; 6] = [
    Row {
        name: "Docker",
        source: Source::Docker,
        architectures: NATIVE,
        limit: 140,
    },
    Row {
        name: "Docker",
        source: Source::Docker,
        architectures: &ARCHITECTURES,
        limit: 450,
    },
    Row {
        name: "Docker, floor",
        source: Source::DockerAndFloor,
        architectures: NATIVE,
        limit: 200,
    },
    Row {
        name: "floor",
        source: Source::Floor,
        architectures: NATIVE,
        limit: 140,
    },
    Row {
        name: "default",
        source: Source::Builtin(Builtin::Default),
        architectures: NATIVE,
        limit: 140,
    },
    Row {
        name: "strict",
        source: Source::Builtin(Builtin::Strict),
        architectures: NATIVE,
        limit: 260,
    },
];

impl Row {
    /// Docker's profile for the row's architectures.
    fn profile(&self) -> LinuxSeccomp {
        let mut profile: LinuxSeccomp = serde_json::from_str(DOCKER).unwrap();
        let listed = self.architectures.iter().map(|(arch, _, _)| *arch);
        profile.set_architectures(Some(listed.collect()));
        profile
    }

    /// What a runtime starts with: a profile that it has read, or the decision
    /// for one of its own.
    fn prepared(&self) -> Filter {
        let (profile, floor) = match self.source {
            Source::Docker => (Profile::Bundle(Box::new(self.profile())), false),
            Source::DockerAndFloor => (Profile::Bundle(Box::new(self.profile())), true),
            Source::Floor => (Profile::None, true),
            Source::Builtin(own) => (Profile::Builtin(own), true),
        };
        Filter {
            profile,
            floor,
            granted: Vec::new(),
        }
    }

    /// Steps over all numbers of all its architectures: the average and the most.
    fn steps(&self, outcome: &Outcome) -> (f64, usize) {
        let calls = self.architectures.iter().flat_map(|&(_, arch, bits)| {
            (0..NUMBERS).map(move |nr| Call {
                arch,
                nr: nr | bits,
                args: [0; 6],
            })
        });
        let steps: Vec<usize> = calls
            .map(|call| run(&outcome.instructions, &call).1)
            .collect();
        let sum: usize = steps.iter().sum();
        let count = u32::try_from(steps.len()).unwrap();
        let average = f64::from(u32::try_from(sum).unwrap()) / f64::from(count);
        (average, steps.into_iter().max().unwrap())
    }
}

/// Compiles and loads a filter in this process and prints it as `libseccomp.c` does.
fn once(row: &Row) {
    let filter = row.prepared();
    let start = Instant::now();
    let program = filter.compile(Asks::Nobody).unwrap().unwrap();
    let compiled = start.elapsed().as_nanos();
    interpreter::check(&program);
    let mut text = format!("version {}\n", env!("CARGO_PKG_VERSION"));
    for i in &program.instructions {
        text += &format!("insn {} {} {} {}\n", i.code, i.jt, i.jf, i.k);
    }
    restrict::no_new_privileges().unwrap();
    // The runtime does this while it plans; it is no part of the load.
    let instructions: Vec<libc::sock_filter> = program
        .instructions
        .iter()
        .map(|i| libc::sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect();
    let start = Instant::now();
    let listener = restrict::load_filter(&instructions, program.flags).unwrap();
    let loaded = start.elapsed().as_nanos();
    assert!(listener.is_none());
    print!("{text}compile {compiled}\nload {loaded}\n");
}

/// A compiler that is measured: how it is started, and the times of its rounds.
struct Contender<'a> {
    emitter: &'a str,
    row: &'a Row,
    words: Vec<String>,
    input: String,
    rounds: Vec<Outcome>,
}

impl Contender<'_> {
    fn round(&mut self) {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // Ours does not read it.
        let _ = pipe.write_all(self.input.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?}", self.words);
        let outcome = lowered::outcome(&String::from_utf8(output.stdout).unwrap());
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        self.rounds.push(outcome);
    }

    /// Least and median microseconds.
    fn times(&self, of: impl Fn(&Outcome) -> u64) -> (f64, f64) {
        let mut all: Vec<u64> = self.rounds.iter().map(of).collect();
        all.sort_unstable();
        let micro = |nano: u64| f64::from(u32::try_from(nano).unwrap()) / 1000.0;
        (micro(all[0]), micro(all[all.len() / 2]))
    }

    /// Prints the line of the table; says what is beyond its limit.
    fn report(&self) -> Vec<String> {
        let last = self.rounds.last().unwrap();
        let count = last.instructions.len();
        let (average, most) = self.row.steps(last);
        let (compile, load) = (
            self.times(|round| round.compile),
            self.times(|round| round.load),
        );
        let (both, _) = self.times(|round| round.compile + round.load);
        println!(
            "{:<24} {:<13} {:>5} {count:>6} {average:>7.1} {most:>5} \
             {:>9.0} {:>7.0} {:>9.0} {:>7.0} {both:>9.0}",
            self.emitter,
            self.row.name,
            self.row.architectures.len(),
            compile.0,
            compile.1,
            load.0,
            load.1,
        );
        let mut beyond = Vec::new();
        if self.emitter == "capsid" {
            let limit = self.row.limit;
            let most = match self.row.source {
                Source::DockerAndFloor => MICROSECONDS.1,
                _ => MICROSECONDS.0,
            };
            let mut hold = |holds: bool, text: String| {
                if !holds {
                    let row = self.row.architectures.len();
                    beyond.push(format!("{}, {row} architectures: {text}", self.row.name));
                }
            };
            hold(
                count <= limit,
                format!("{count} instructions, {limit} at most"),
            );
            hold(
                average <= STEPS,
                format!("{average:.2} steps on average, {STEPS} at most"),
            );
            hold(
                both <= most,
                format!("{both:.0} us to compile and load, {most} at most"),
            );
        }
        beyond
    }
}

fn contenders<'a>(own: &str, peer: Option<&String>) -> Vec<Contender<'a>> {
    let mut all = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        all.push(Contender {
            emitter: "capsid",
            row,
            words: vec![own.to_owned(), "once".to_owned(), index.to_string()],
            input: String::new(),
            rounds: Vec::new(),
        });
        let levels = [(1, "libseccomp"), (2, "libseccomp optimize=2")];
        let shared = row.source == Source::Docker;
        for (level, emitter) in levels.iter().filter(|_| shared && peer.is_some()) {
            all.push(Contender {
                emitter,
                row,
                words: peer
                    .into_iter()
                    .cloned()
                    .chain(["load".to_owned()])
                    .collect(),
                input: lowered::input(&row.profile(), *level, KILL_PROCESS),
                rounds: Vec::new(),
            });
        }
    }
    all
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, row] = args.as_slice()
        && word == "once"
    {
        once(&ROWS[row.parse::<usize>().unwrap()]);
        return ExitCode::SUCCESS;
    }
    let rounds: usize = args[1].parse().unwrap();
    let mut all = contenders(&args[0], args.get(2));
    for _ in 0..rounds {
        all.iter_mut().for_each(Contender::round);
    }
    println!("seccomp filters, {rounds} rounds, each in a new process; times in us");
    println!(
        "{:<24} {:<13} {:>5} {:>6} {:>7} {:>5} {:>9} {:>7} {:>9} {:>7} {:>9}",
        "emitter",
        "profile",
        "archs",
        "insns",
        "steps",
        "most",
        "compile",
        "median",
        "load",
        "median",
        "both min",
    );
    let beyond: Vec<String> = all.iter().flat_map(Contender::report).collect();
    for other in all.iter().filter(|one| one.emitter != "capsid").take(1) {
        let Outcome {
            version, unknown, ..
        } = &other.rounds[0];
        let count = unknown.len();
        println!("libseccomp {version} does not know {count} names of the profile");
    }
    for text in &beyond {
        println!("{text}");
    }
    ExitCode::from(u8::from(!beyond.is_empty()))
}
