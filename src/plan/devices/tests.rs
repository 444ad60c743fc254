use super::*;
use serde_json::{Value, json};

fn rules(text: &Value) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_value(text.clone()).unwrap()
}

fn built(text: &Value) -> DeviceFilter {
    filter(&rules(text), &[]).unwrap().unwrap()
}

/// Runs a program as the kernel would; panics on what its verifier refuses.
fn run(program: &[Instruction], kind: u32, number: (u32, u32), access: u8) -> bool {
    let context = [u32::from(access) << 16 | kind, number.0, number.1];
    let mut registers: [Option<u64>; 4] = [None; 4];
    let mut at = 0_usize;
    loop {
        let i = program[at];
        at += 1;
        let register = usize::from(i.destination);
        let value = |registers: &[Option<u64>; 4]| {
            u32::try_from(registers[register].expect("written before read") & 0xffff_ffff).unwrap()
        };
        let immediate = i.immediate.cast_unsigned();
        let skip = usize::try_from(i.offset).expect("never backwards");
        match i.code {
            BPF_LDX_MEM_W | BPF_LDX_MEM_H => {
                assert_eq!((i.source, skip % 4), (CONTEXT, 0));
                let half = if i.code == BPF_LDX_MEM_H {
                    0xffff
                } else {
                    u32::MAX
                };
                registers[register] = Some(u64::from(context[skip / 4] & half));
            }
            BPF_ALU32_AND_K => registers[register] = Some((value(&registers) & immediate).into()),
            BPF_ALU32_RSH_K => registers[register] = Some((value(&registers) >> immediate).into()),
            BPF_ALU64_MOV_K => registers[register] = Some(immediate.into()),
            BPF_JMP_JA => at += skip,
            BPF_JMP32_JSET_K if value(&registers) & immediate != 0 => at += skip,
            BPF_JMP32_JNE_K if value(&registers) != immediate => at += skip,
            BPF_JMP32_JSET_K | BPF_JMP32_JNE_K => {}
            BPF_EXIT => match registers[0] {
                Some(0) => return false,
                Some(1) => return true,
                other => panic!("the answer is {other:?}"),
            },
            code => panic!("unknown code {code:#x}"),
        }
    }
}

/// The meaning of rules, one access at a time and from the first to the last.
fn meaning(rules: &[LinuxDeviceCgroup], kind: u32, number: (u32, u32), access: u8) -> bool {
    let standard = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2"];
    let name = format!("{}:{}", number.0, number.1);
    if kind == 2 && (standard.contains(&name.as_str()) || number.0 == 136) {
        return true;
    }
    [(MKNOD, 'm'), (READ, 'r'), (WRITE, 'w')]
        .into_iter()
        .filter(|(bit, _)| access & bit != 0)
        .all(|(_, letter)| {
            let mut allowed = false;
            for rule in rules {
                let all = |number: Option<i64>| number.is_none_or(|number| number == -1);
                let is = |rule: Option<i64>, number: u32| all(rule) || rule == Some(number.into());
                let (is_kind, any) = match rule.typ() {
                    Some(LinuxDeviceType::B) => (kind == 1, false),
                    Some(LinuxDeviceType::C) => (kind == 2, false),
                    _ => (true, true),
                };
                let letters = rule.access().clone().unwrap_or_default();
                let applies = is_kind
                    && is(rule.major(), number.0)
                    && is(rule.minor(), number.1)
                    && (letters.is_empty() || letters.contains(letter));
                if applies || any && !rule.allow() {
                    allowed = rule.allow();
                }
            }
            allowed
        })
}

const NUMBERS: [u32; 10] = [0, 1, 3, 5, 8, 10, 136, 229, 0x7fff_ffff, u32::MAX];

/// Holds a program against the meaning for every type, number and access.
fn agree(text: &Value) {
    let rules = rules(text);
    let filter = filter(&rules, &[]).unwrap();
    for kind in [1, 2] {
        for major in NUMBERS {
            for minor in NUMBERS {
                for access in 1..=ALL {
                    let number = (major, minor);
                    let meant = meaning(&rules, kind, number, access);
                    let does = filter
                        .as_ref()
                        .is_none_or(|filter| run(&filter.program, kind, number, access));
                    assert_eq!(does, meant, "{kind} {major}:{minor} {access} of {text}");
                }
            }
        }
    }
}

#[test]
fn a_program_does_what_its_rules_mean() {
    for text in [
        json!([]),
        json!([{ "allow": false, "access": "rwm" }]),
        json!([{ "allow": true, "access": "rwm" }]),
        json!([{ "allow": true }, { "allow": true, "type": "c", "major": 1, "access": "r" }]),
        json!([{ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]),
        json!([{ "allow": true, "type": "b", "major": -1, "minor": -1, "access": "m" }]),
        // Reading and writing at once must not slip past a rule for writing.
        json!([{ "allow": true, "type": "b", "major": 8, "access": "rwm" },
               { "allow": false, "type": "b", "major": 8, "minor": 0, "access": "w" }]),
        json!([{ "allow": true, "type": "c", "major": 10, "access": "r" },
               { "allow": true, "type": "c", "minor": 229, "access": "w" }]),
        json!([{ "allow": true, "access": "rwm" },
               { "allow": false, "type": "b", "access": "rwm" }]),
        json!([{ "allow": true, "type": "b", "access": "rwm" },
               { "allow": false, "type": "a", "access": "r" }]),
        json!([{ "allow": true, "major": 10, "minor": 229, "access": "r" }]),
        json!([{ "allow": true, "type": "c", "major": u32::MAX, "minor": 0x7fff_ffff }]),
    ] {
        agree(&text);
    }
}

#[test]
fn random_rules_too() {
    // A linear congruential generator, so that a failure comes again.
    let mut state = 7_u64;
    let mut pick = |count: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % count
    };
    let numbers = [-1, 1, 8, 10, 229, i64::from(u32::MAX)];
    for _ in 0..150 {
        let mut list = Vec::new();
        for _ in 0..pick(7) {
            let kinds = ["a", "b", "c", "c", "b"];
            let access = ["r", "w", "m", "rw", "wm", "rm", "rwm", ""];
            list.push(json!({
                "allow": pick(2) == 0,
                "type": kinds[pick(kinds.len())],
                "major": numbers[pick(numbers.len())],
                "minor": numbers[pick(numbers.len())],
                "access": access[pick(access.len())],
            }));
        }
        agree(&json!(list));
    }
}

#[test]
fn nothing_to_ask_where_everything_is_allowed() {
    for text in [
        json!([{ "allow": true, "access": "rwm" }]),
        json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "a", "access": "rwm" }]),
    ] {
        assert_eq!(filter(&rules(&text), &[]), Ok(None), "{text}");
    }
}

#[test]
fn asking_for_nothing_gives_nothing() {
    let filter = built(&json!([]));
    assert!(!run(&filter.program, 1, (8, 0), 0));
    assert!(run(&filter.program, 2, (1, 3), 0));
    // An access bit that this program does not know is not allowed.
    assert!(!run(&filter.program, 2, (1, 3), READ | 8));
}

#[test]
fn nodes_of_the_bundle_can_be_made_and_no_more() {
    let nodes: Vec<LinuxDevice> = serde_json::from_value(json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 },
        { "path": "/dev/sda", "type": "b", "major": 8, "minor": 0 },
        { "path": "/dev/pipe", "type": "p", "major": 8, "minor": 1 },
    ]))
    .unwrap();
    let filter = filter(&[], &nodes).unwrap().unwrap();
    let asked = |kind, number, access| run(&filter.program, kind, number, access);
    assert!(asked(2, (10, 229), MKNOD) && asked(1, (8, 0), MKNOD));
    assert!(!asked(2, (10, 229), READ) && !asked(2, (10, 229), READ | MKNOD));
    assert!(!asked(1, (10, 229), MKNOD) && !asked(2, (8, 0), MKNOD));
    assert!(!asked(1, (8, 1), MKNOD));
}

#[test]
fn rules_without_meaning_are_refused() {
    for (rule, at) in [
        (json!({ "allow": true, "type": "p" }), "type"),
        (json!({ "allow": true, "major": -2 }), "major"),
        (json!({ "allow": true, "minor": 1_u64 << 32 }), "minor"),
        (json!({ "allow": true, "access": "rx" }), "access"),
    ] {
        let problems = filter(&rules(&json!([{ "allow": false }, rule])), &[]).unwrap_err();
        assert_eq!(problems[0].at, format!("/linux/resources/devices/1/{at}"));
    }
}

#[test]
fn an_instruction_in_memory() {
    // As clang writes `if w3 != 0xfffffffe goto +2` and `r2 = *(u32 *)(r1 + 8)`.
    let jump = with(BPF_JMP32_JNE_K, ASKED, 0xffff_fffe, 2);
    assert_eq!(jump.bytes(), [0x56, 0x03, 2, 0, 0xfe, 0xff, 0xff, 0xff]);
    let load = load(BPF_LDX_MEM_W, VALUE, MINOR);
    assert_eq!(load.bytes(), [0x61, 0x12, 8, 0, 0, 0, 0, 0]);
}

#[test]
fn in_words() {
    let text = json!([{ "allow": true, "type": "c", "major": 10, "access": "rw" },
                      { "allow": false, "type": "c", "major": 10, "minor": 1 }]);
    let words = built(&text).to_string();
    let rest = words.split_once(" instructions, ").unwrap().1;
    assert_eq!(
        rest,
        "allows c 10:* rw, then denies c 10:1 rwm, then allows c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, \
         c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm; denies all else"
    );
}
