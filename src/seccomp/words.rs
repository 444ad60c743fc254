//! Arguments of system calls in the words of the manual pages, for messages.

/// The name of an argument that filters look at, and its value in words.
pub(super) fn argument(call: &str, index: usize, value: u64) -> String {
    let Some((_, _, name, values)) = ARGUMENTS
        .iter()
        .find(|(calls, place, _, _)| *place == index && calls.contains(&call))
    else {
        return format!("argument {index} = {value:#x}");
    };
    let low = value & 0xffff_ffff;
    match values.iter().find(|(known, _)| *known == low) {
        Some((_, word)) => format!("{name} = {word}"),
        None => format!("{name} = {value:#x}"),
    }
}

/// A value and its name.
type Word = (u64, &'static str);

/// Calls, the index of an argument, its name, and names of its values.
type Argument = (
    &'static [&'static str],
    usize,
    &'static str,
    &'static [Word],
);

const ARGUMENTS: &[Argument] = &[
    (&["socket", "socketpair"], 0, "domain", DOMAINS),
    (&["socket", "socketpair"], 1, "type", &[]),
    (&["socket", "socketpair"], 2, "protocol", &[]),
    (&["setsockopt"], 1, "level", &[(6, "IPPROTO_TCP")]),
    (&["setsockopt"], 2, "optname", &[(31, "TCP_ULP")]),
    (&["ioctl"], 1, "request", REQUESTS),
    (&["clone", "unshare"], 0, "flags", NAMESPACES),
    (&["personality"], 0, "persona", &[]),
    (&["prctl"], 0, "option", &[]),
    (&["pipe2"], 1, "flags", &[(0x80, "O_NOTIFICATION_PIPE")]),
    (&["mknod"], 1, "mode", &[]),
    (&["mknodat"], 2, "mode", &[]),
];

/// `AF_*` of `linux/socket.h`.
const DOMAINS: &[Word] = &[
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (3, "AF_AX25"),
    (9, "AF_X25"),
    (10, "AF_INET6"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (21, "AF_RDS"),
    (29, "AF_CAN"),
    (30, "AF_TIPC"),
    (31, "AF_BLUETOOTH"),
    (33, "AF_RXRPC"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
    (44, "AF_XDP"),
];

/// Of `asm-generic/ioctls.h`.
const REQUESTS: &[Word] = &[
    (0x5412, "TIOCSTI"),
    (0x541c, "TIOCLINUX"),
    (0x5423, "TIOCSETD"),
];

/// `CLONE_NEW*` of `linux/sched.h`, where one of them is all there is.
const NAMESPACES: &[Word] = &[
    (0x80, "CLONE_NEWTIME"),
    (0x2_0000, "CLONE_NEWNS"),
    (0x200_0000, "CLONE_NEWCGROUP"),
    (0x400_0000, "CLONE_NEWUTS"),
    (0x800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_the_names_of_the_manual() {
        assert_eq!(argument("socket", 0, 38), "domain = AF_ALG");
        assert_eq!(argument("socket", 0, 38 | 1 << 32), "domain = AF_ALG");
        assert_eq!(argument("unshare", 0, 0x1000_0000), "flags = CLONE_NEWUSER");
        assert_eq!(argument("unshare", 0, 0x1002_0000), "flags = 0x10020000");
        assert_eq!(argument("futex", 3, 7), "argument 3 = 0x7");
    }
}
