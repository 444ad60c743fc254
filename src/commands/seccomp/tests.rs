//! What the command makes of its arguments and of pointers.

use super::*;

fn args(words: &[&str]) -> SeccompArgs {
    let command = command().no_binary_name(true);
    SeccompArgs::from_matches(&command.try_get_matches_from(words).unwrap())
}

#[test]
fn capabilities_may_be_written_short() {
    let args = args(&["check", "f", "--cap", "sys_admin", "--cap", "CAP_BPF"]);
    assert_eq!(args.action, Action::Check);
    assert!(args.grants("CAP_SYS_ADMIN") && args.grants("CAP_BPF") && !args.grants("CAP_CHOWN"));
    let all = self::args(&["show", "f", "--cap", "all", "--calls"]);
    assert!(all.grants("CAP_CHOWN") && all.action == Action::Show { calls: true });
    assert!(
        command()
            .no_binary_name(true)
            .try_get_matches_from(["look", "f"])
            .is_err()
    );
}

#[test]
fn problems_have_their_place_in_the_file() {
    let rules = r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"caps": ["CAP_BPF"]}},
        {"names": ["read"], "action": "SCMP_ACT_LOG", "errnoRet": 1}]}"#;
    let at = |granted: bool, place: Place| {
        let problems = compile(rules.as_bytes(), place, &|_| granted);
        problems.err().unwrap()[0].at.clone()
    };
    assert_eq!(at(false, Place("")), "/syscalls/1/errnoRet");
    assert_eq!(at(true, Place("")), "/syscalls/1/errnoRet");
    assert_eq!(
        at(false, Place(IN_CONFIGURATION)),
        "/linux/seccomp/syscalls/1/errnoRet"
    );
    let bad = compile(b"{}", Place(IN_CONFIGURATION), &|_| true);
    assert_eq!(bad.err().unwrap()[0].at, "/linux/seccomp");
}

#[test]
fn lines_have_a_width() {
    let names = vec!["0123456789"; 20];
    let text = wrapped(names, 2);
    assert!(
        text.lines()
            .all(|line| line.len() <= 100 && line.starts_with("  0"))
    );
    assert_eq!(text.lines().count(), 3);
    assert_eq!(wrapped([], 2), "");
    assert_eq!(escaped("a\u{1b}[31m\0"), "a\\u{1b}[31m\\u{0}");
}
