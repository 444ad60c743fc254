//! Actions of a profile as the values that a filter returns to the kernel.

use std::fmt;

use oci_spec::runtime::LinuxSeccompAction;

/// The kernel's largest error number (`MAX_ERRNO`); it cuts greater ones down.
const MAX_ERRNO: u32 = 4095;

/// `SECCOMP_RET_ERRNO` with an error number.
pub(super) const fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

/// The return value of an action and its `errnoRet` (default: `EPERM`), or what
/// is wrong with that number.
pub(super) fn of(action: LinuxSeccompAction, errno_ret: Option<u32>) -> Result<u32, String> {
    use LinuxSeccompAction as Action;
    let number = errno_ret.unwrap_or(libc::EPERM.cast_unsigned());
    let value = match action {
        Action::ScmpActErrno if number > MAX_ERRNO => {
            return Err(format!(
                "{number} is not an error number: the greatest is {MAX_ERRNO}"
            ));
        }
        Action::ScmpActTrace if number > libc::SECCOMP_RET_DATA => {
            return Err(format!(
                "{number} does not fit the 16 bits that a tracer is told"
            ));
        }
        Action::ScmpActErrno => return Ok(libc::SECCOMP_RET_ERRNO | number),
        Action::ScmpActTrace => return Ok(libc::SECCOMP_RET_TRACE | number),
        Action::ScmpActKill | Action::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
        Action::ScmpActLog => libc::SECCOMP_RET_LOG,
        Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
    };
    match errno_ret {
        None => Ok(value),
        Some(_) => Err(format!(
            "{action} returns no number: only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do; \
             remove it or change the action"
        )),
    }
}

/// Whether `a` lets more through than `b`, by the kernel's own order of actions.
pub(super) fn is_laxer(a: u32, b: u32) -> bool {
    let rank = |value: u32| (value & libc::SECCOMP_RET_ACTION_FULL).cast_signed();
    rank(a) > rank(b)
}

/// The result of two filters: the stricter value, of equal actions the first.
pub(super) fn stricter(a: u32, b: u32) -> u32 {
    if is_laxer(a, b) { b } else { a }
}

/// A return value as its kernel name, with the number if it has one.
pub(super) struct Words(pub(super) u32);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0 & libc::SECCOMP_RET_DATA;
        let name = match self.0 & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ERRNO => return write!(f, "ERRNO({number})"),
            libc::SECCOMP_RET_TRACE => return write!(f, "TRACE({number})"),
            libc::SECCOMP_RET_KILL_PROCESS => "KILL_PROCESS",
            libc::SECCOMP_RET_KILL_THREAD => "KILL_THREAD",
            libc::SECCOMP_RET_TRAP => "TRAP",
            libc::SECCOMP_RET_USER_NOTIF => "USER_NOTIF",
            libc::SECCOMP_RET_LOG => "LOG",
            libc::SECCOMP_RET_ALLOW => "ALLOW",
            other => return write!(f, "{other:#010x}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stricter_actions_come_first_in_the_kernels_order() {
        let order = [
            libc::SECCOMP_RET_KILL_PROCESS,
            libc::SECCOMP_RET_KILL_THREAD,
            libc::SECCOMP_RET_TRAP,
            errno(libc::ENOSYS),
            libc::SECCOMP_RET_USER_NOTIF,
            libc::SECCOMP_RET_TRACE | 7,
            libc::SECCOMP_RET_LOG,
            libc::SECCOMP_RET_ALLOW,
        ];
        for pair in order.windows(2) {
            assert!(is_laxer(pair[1], pair[0]), "{pair:x?}");
            assert!(!is_laxer(pair[0], pair[1]), "{pair:x?}");
        }
        assert!(!is_laxer(errno(1), errno(2)) && !is_laxer(errno(2), errno(1)));
    }

    #[test]
    fn numbers_belong_to_errno_and_trace_only() {
        use LinuxSeccompAction as Action;
        assert_eq!(of(Action::ScmpActErrno, None), Ok(0x0005_0001));
        assert_eq!(of(Action::ScmpActErrno, Some(4095)), Ok(0x0005_0fff));
        assert_eq!(of(Action::ScmpActTrace, Some(65535)), Ok(0x7ff0_ffff));
        assert_eq!(of(Action::ScmpActTrace, None), Ok(0x7ff0_0001));
        assert!(of(Action::ScmpActErrno, Some(4096)).is_err());
        assert!(of(Action::ScmpActTrace, Some(65536)).is_err());
        for action in [
            Action::ScmpActKill,
            Action::ScmpActKillThread,
            Action::ScmpActKillProcess,
            Action::ScmpActTrap,
            Action::ScmpActNotify,
            Action::ScmpActLog,
            Action::ScmpActAllow,
        ] {
            assert!(
                of(action, None).is_ok() && of(action, Some(1)).is_err(),
                "{action}"
            );
        }
    }
}
