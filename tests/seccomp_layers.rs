//! A profile and the floor under it in one filter: held against two evaluations
//! of which the kernel takes the stricter; what a supervisor is asked; and what
//! reports say of a call against what the filter does with it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    dead_code,
    reason = "words are cut out of wider numbers on purpose, what cannot be parsed fails its \
              test, and the modules are shared with tests/seccomp.rs"
)]

use capsid::seccomp::{self, Asks, Builtin, Filter, Judge, Profile, Program, Request};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

#[path = "seccomp/interpreter.rs"]
mod interpreter;
#[path = "seccomp/oracle.rs"]
mod oracle;
#[path = "seccomp/random.rs"]
mod random;

use interpreter::{Call, check, run};
use oracle::{ALLOW, ARCHES, ENOSYS, ERRNO, KILL_PROCESS, Oracle, conditions, entries, stricter};
use random::Xorshift;

const USER_NOTIF: u32 = 0x7fc0_0000;
const TRAP: u32 = 0x0003_0000;

fn parse(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).unwrap()
}

fn floor(granted: &[&str]) -> LinuxSeccomp {
    let granted: Vec<String> = granted.iter().map(ToString::to_string).collect();
    Builtin::Floor.resolve(&granted).unwrap().profile
}

/// Argument vectors at and around the constants of some profiles.
fn vectors(profiles: &[&LinuxSeccomp], random: &mut Xorshift, count: usize) -> Vec<[u64; 6]> {
    let mut values: Vec<u64> = vec![0, 1, u64::MAX];
    for condition in profiles
        .iter()
        .flat_map(|one| entries(one))
        .flat_map(conditions)
    {
        for value in [condition.value(), condition.value_two().unwrap_or(0)] {
            values.extend([
                value,
                value.wrapping_add(1),
                value.wrapping_sub(1),
                value | 1 << 32,
                value ^ 1 << 63,
            ]);
        }
    }
    values.sort_unstable();
    values.dedup();
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    all.extend((0..count).map(|_| std::array::from_fn(|_| random.pick(&values))));
    all
}

/// What a profile with a floor has to come to.
fn expected(upper: &Oracle<'_>, lower: &Oracle<'_>, call: &Call) -> u32 {
    if call.arch != ARCHES[0].0 {
        return KILL_PROCESS;
    }
    if cfg!(target_arch = "x86_64") && call.nr & 0x4000_0000 != 0 {
        return ENOSYS;
    }
    stricter(upper.judge(call), lower.judge(call))
}

fn calls(vectors: &[[u64; 6]]) -> impl Iterator<Item = Call> {
    let foreign = ARCHES.iter().skip(1).map(|arch| (arch.0, 41 | arch.2));
    let native = (0..520).map(|nr| (ARCHES[0].0, nr));
    let all: Vec<(u32, u32)> = native.chain(foreign).collect();
    all.into_iter()
        .flat_map(move |(arch, nr)| vectors.iter().map(move |&args| Call { arch, nr, args }))
}

fn compile(profile: &LinuxSeccomp, floor: Option<&LinuxSeccomp>, asks: Asks) -> Program {
    let request = Request {
        profile,
        floor,
        asks,
    };
    let program = request.compile().unwrap();
    check(&program);
    program
}

fn judged(judge: &Judge, call: &Call) -> u32 {
    let Call { arch, nr, args } = *call;
    judge.judge(&seccomp::Call { arch, nr, args }).ret
}

/// One profile over one floor: the filter, its forms that ask, and the judge.
fn compare(profile: &LinuxSeccomp, floor: &LinuxSeccomp, random: &mut Xorshift) {
    let enforced = compile(profile, Some(floor), Asks::Nobody);
    let judge = Judge::new(profile, Some(floor)).unwrap();
    let (upper, lower) = (Oracle::new(profile, 0), Oracle::new(floor, 0));
    let asking = (!enforced.notify).then(|| {
        [Asks::AboutDenied, Asks::AboutAllowed].map(|asks| compile(profile, Some(floor), asks))
    });
    for call in calls(&vectors(&[profile, floor], random, 40)) {
        let value = expected(&upper, &lower, &call);
        assert_eq!(
            run(&enforced.instructions, &call).0,
            value,
            "{call:x?} {profile:?}"
        );
        assert_eq!(
            judged(&judge, &call),
            value,
            "the judge, {call:x?} {profile:?}"
        );
        let Some([denied, allowed]) = &asking else {
            continue;
        };
        let denial = stricter(value, USER_NOTIF) == value && value & 0xffff_0000 != TRAP;
        let permission = stricter(value, USER_NOTIF) != value;
        let asked = |asked| if asked { USER_NOTIF } else { value };
        assert_eq!(
            run(&denied.instructions, &call).0,
            asked(denial),
            "{call:x?}"
        );
        assert_eq!(
            run(&allowed.instructions, &call).0,
            asked(permission),
            "{call:x?}"
        );
    }
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = oracle::column(ARCHES[0].1).values().copied().collect();
    names.sort_unstable();
    names
}

fn arches() -> Vec<String> {
    ARCHES.iter().map(|arch| arch.3.to_string()).collect()
}

#[test]
fn the_stricter_of_profile_and_floor_decides() {
    for seed in 1..=40 {
        let mut random = Xorshift::seeded(seed);
        let profile = parse(random::profile(&mut random, &arches(), &names()));
        let granted: &[&str] = random.pick(&[&[][..], &["CAP_NET_ADMIN"], &["CAP_BPF"]]);
        compare(&profile, &floor(granted), &mut random);
    }
}

#[test]
fn any_profile_can_be_a_floor() {
    for seed in 100..=125 {
        let mut random = Xorshift::seeded(seed);
        let profile = parse(random::profile(&mut random, &[], &names()));
        let mut floor = random::profile(&mut random, &[], &names());
        floor["defaultAction"] = json!("SCMP_ACT_ALLOW");
        floor["defaultErrnoRet"] = Value::Null;
        compare(&profile, &parse(floor), &mut random);
    }
}

#[test]
fn dockers_and_the_projects_profiles_keep_their_meaning_above_the_floor() {
    let docker = parse(serde_json::from_str(include_str!("seccomp/docker.json")).unwrap());
    let podman = parse(serde_json::from_str(include_str!("seccomp/podman.json")).unwrap());
    let own = [Builtin::Default, Builtin::Strict].map(|own| own.resolve(&[]).unwrap().profile);
    for profile in [&docker, &podman, &own[0], &own[1]] {
        compare(profile, &floor(&[]), &mut Xorshift::seeded(7));
    }
    let program = compile(&docker, Some(&floor(&[])), Asks::Nobody);
    println!("Docker's profile above the floor: {program}");
    assert!(program.instructions.len() <= 220, "{program}");
}

#[test]
fn judges_agree_with_filters_of_all_architectures() {
    for seed in 200..=230 {
        let mut random = Xorshift::seeded(seed);
        let profile = parse(random::profile(&mut random, &arches(), &names()));
        let program = compile(&profile, None, Asks::Nobody);
        let judge = Judge::new(&profile, None).unwrap();
        let vectors = vectors(&[&profile], &mut random, 12);
        for &(arch, _, bits, _) in ARCHES {
            for nr in (0..520).chain([0xf0002, 0xf0009]) {
                for &args in &vectors {
                    let nr = nr | bits;
                    let call = Call { arch, nr, args };
                    let value = run(&program.instructions, &call).0;
                    assert_eq!(judged(&judge, &call), value, "{call:x?} {profile:?}");
                }
            }
        }
    }
}

/// What the build compiled is what would be compiled now.
#[test]
fn compiled_profiles_are_those_of_the_files() {
    for own in [Builtin::Default, Builtin::Strict] {
        let filter = Filter {
            profile: Profile::Builtin(own),
            floor: true,
            granted: Vec::new(),
        };
        let ready = filter.compile(Asks::Nobody).unwrap().unwrap();
        let profile = own.resolve(&[]).unwrap().profile;
        let floor = floor(&[]);
        let now = compile(&profile, Some(&floor), Asks::Nobody);
        let vectors = vectors(&[&profile, &floor], &mut Xorshift::seeded(3), 300);
        for call in calls(&vectors) {
            let (ready, now) = (
                run(&ready.instructions, &call).0,
                run(&now.instructions, &call).0,
            );
            let same = ready == now || (ready & now & ERRNO == ERRNO && ready.max(now) < ALLOW);
            assert!(same, "{own}: {call:x?}: {ready:#x}, {now:#x}");
        }
    }
}

#[test]
fn a_profile_with_a_supervisor_leaves_no_room_for_another() {
    let profile = parse(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" } ] }));
    for asks in [Asks::AboutDenied, Asks::AboutAllowed] {
        let request = Request {
            profile: &profile,
            floor: None,
            asks,
        };
        let problems = request.compile().unwrap_err();
        assert!(
            problems[0].problem.contains("one supervisor only"),
            "{problems:?}"
        );
    }
}
