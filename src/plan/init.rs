//! The container's own init: its first process stays, and the program is a
//! process of its own.

use std::fmt;

use oci_spec::runtime::{Process, Spec};
use syscalls::Sysno;

use super::filter::{self, FilterStep};
use crate::error::Problem;
use crate::seccomp::{Asks, Call, Filter, abi};
use crate::spec::annotations::{self, INIT};

/// What the first process needs to know to stay as init.
#[derive(Clone, Debug, PartialEq)]
pub struct InitStep {
    /// The program's session gets the terminal that is descriptor 0.
    pub terminal: bool,
    /// The program's filter, which init loads as well; without a listener, for
    /// its own few calls are all allowed.
    pub filter: Option<FilterStep>,
}

impl fmt::Display for InitStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stay as init, and go on in a process with a session of its own")?;
        if self.terminal {
            f.write_str(" and the console as its controlling terminal")?;
        }
        Ok(())
    }
}

/// The calls that init makes under the filter.
pub const CALLS: [Sysno; 5] = [
    Sysno::close,
    Sysno::exit_group,
    Sysno::kill,
    Sysno::rt_sigtimedwait,
    Sysno::wait4,
];

/// The step, if the bundle asks for an init.
pub(super) fn plan(
    spec: &Spec,
    filter: &Filter,
    listen_fds: i32,
) -> Result<Option<InitStep>, Vec<Problem>> {
    if !annotations::has_init(spec) {
        return Ok(None);
    }
    let at = format!("/annotations/{INIT}");
    if listen_fds > 0 {
        let text = "the sockets of LISTEN_FDS are for process 1, which the init would be and not the program";
        return Err(vec![Problem::new(at, text)]);
    }
    if let Some(denied) = denied(filter)? {
        let text = format!(
            "the bundle's seccomp profile denies {}, without which an init cannot work",
            denied.name()
        );
        return Err(vec![Problem::new(at, text)]);
    }
    let process = spec.process().as_ref();
    Ok(Some(InitStep {
        terminal: process.and_then(Process::terminal).unwrap_or(false),
        filter: filter::plan(filter, Asks::Nobody)?.map(FilterStep::without_listener),
    }))
}

/// The first call of an init that the filter does not allow.
fn denied(filter: &Filter) -> Result<Option<Sysno>, Vec<Problem>> {
    let judge = filter.judge()?;
    let allows = |call: &Sysno| {
        let judgement = judge.judge(&Call {
            arch: abi::native().audit,
            nr: *call as u32,
            args: [0; 6],
        });
        matches!(
            judgement.ret & libc::SECCOMP_RET_ACTION_FULL,
            libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG
        )
    };
    Ok(CALLS.into_iter().find(|call| !allows(call)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Builtin, Profile};

    fn spec(rest: &str) -> Spec {
        let text = format!(
            r#"{{"ociVersion":"1.2.0","annotations":{{"{INIT}":"true"}},"process":
                {{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["a"]{rest}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn filter(profile: Profile) -> Filter {
        Filter {
            profile,
            floor: true,
            granted: Vec::new(),
        }
    }

    #[test]
    fn the_projects_own_profiles_let_an_init_work() {
        for own in [Builtin::Default, Builtin::Strict, Builtin::Floor] {
            assert_eq!(denied(&filter(Profile::Builtin(own))).unwrap(), None);
        }
        assert_eq!(denied(&filter(Profile::None)).unwrap(), None);
    }

    #[test]
    fn a_profile_without_its_calls_is_refused() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"action":"SCMP_ACT_ALLOW",
            "names":["close","exit_group","kill","rt_sigtimedwait"]}]}"#;
        let profile = Profile::Bundle(serde_json::from_str(profile).unwrap());
        let problems = plan(&spec(""), &filter(profile), 0).unwrap_err();
        assert!(problems[0].problem.contains("wait4"), "{problems:?}");
    }

    #[test]
    fn sockets_for_process_1_and_an_init_exclude_each_other() {
        let none = filter(Profile::None);
        assert!(plan(&spec(""), &none, 1).is_err());
        let step = plan(&spec(r#","terminal":true"#), &none, 0)
            .unwrap()
            .unwrap();
        assert!(step.terminal && step.filter.is_some_and(|filter| filter.flags == 0));
    }
}
