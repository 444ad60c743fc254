//! probe: what a process inside a container sees and may do.
//!
//! Tests run it as the container's program, as a hook, and, for the parts that
//! need raw descriptors (console sockets, terminals), on the host side. It
//! prints facts and error names; judging them is left to the tests.

#![allow(
    clippy::disallowed_methods,
    reason = "the probe is a program in a container: there it starts threads and clones nothing"
)]

use std::io::Write;
use std::process::ExitCode;

mod act;
mod calls;
mod filter;
mod load;
mod measure;
mod outside;
mod raw;
mod report;
mod stalk;
mod supervise;
mod view;
mod walk;

const USAGE: &str = "usage: probe COMMAND [ARGS]
in a container:
  report [--sysctl KEY]... [--dev PATH]... [--peek PATH]...
  exit N | signal NAME | fault | sleep [SECONDS] | sleep-trap
  cat FILE | write FILE TEXT | stat FILE | ls DIR | mkdir DIR | mknod PATH b|c|p MAJOR MINOR
  syscall NAME [ARG]... | calls \"NAME [ARG]...\"... | int80 NUMBER
  repeat COUNT \"NAME [ARG]...\" | threads COUNT \"NAME [ARG]...\" | spawn COUNT PROGRAM [ARG]...
  append FILE TEXT | abstract-listen NAME | abstract-connect NAME
  try-all DIR... | swap PATH PATH | stalk CANARY UNTIL | shocker FILE
  ask \"NAME [NUMBER]...\"... | measure [NAMESPACE=INODE]...
  fork N | herd N | bomb | eat BYTES | burn SECONDS | pour DISK BYTES | rdma-contexts DEVICE COUNT | listen | console | notify TEXT | try-open FILE | env NAME
as a hook: hook FILE [EXIT-CODE [SECONDS]] | mount-tmpfs DIR
on the host: receive SOCKET [--input TEXT] [--resize ROWSxCOLS]
             pty ROWSxCOLS [--input TEXT] [--resize ROWSxCOLS] -- COMMAND [ARGS]
             notify-listen SOCKET | enable-verity FILE SALT | set-capability FILE
             namespaces | keyed COMMAND [ARG]...
             enter CGROUP UID GID COMMAND [ARG]...
             lack CALL PLACE NUMBER ERRNO COMMAND [ARG]...
             supervise SOCKET (value N | errno N | continue | hang-up)";

fn main() -> ExitCode {
    let argv: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = argv.iter().skip(1).map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] => Err(USAGE.to_owned()),
        [command, rest @ ..] => dispatch(command, rest),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            // Nothing can be done about an unwritable standard error.
            let _ = writeln!(std::io::stderr(), "probe: {message}");
            ExitCode::from(99)
        }
    }
}

/// What every command returns: an exit code, or why it could not try.
type Outcome = Result<ExitCode, String>;

fn dispatch(command: &str, rest: &[&str]) -> Outcome {
    match (command, rest) {
        ("report", options) => report::print(options),
        ("exit", [code]) => Ok(ExitCode::from(act::number::<u8>(code)?)),
        ("signal", [name]) => act::signal_self(name),
        ("fault", []) => raw::fault(),
        ("sleep", []) => act::sleep(3600),
        ("sleep", [seconds]) => act::sleep(act::number(seconds)?),
        ("serve", [port, text]) => act::serve(port, text),
        ("sleep-trap", []) => act::sleep_trap(),
        ("cat", [file]) => act::cat(file),
        ("write", [file, text]) => act::write(file, text),
        ("stat", [file]) => act::stat(file),
        ("ls", [dir]) => act::list(dir),
        ("try-open", [file]) => act::try_open(file),
        ("append", [file, text]) => act::append(file, text),
        ("abstract-listen", [name]) => outside::abstract_listen(name),
        ("abstract-connect", [name]) => act::abstract_connect(name),
        ("env", [name]) => act::env(name),
        ("mkdir", [dir]) => act::named(std::fs::create_dir(dir)),
        ("mknod", [path, kind, major, minor]) => act::mknod(path, kind, major, minor),
        ("mount-tmpfs", [dir]) => act::mount_tmpfs(dir),
        ("syscall", [name, args @ ..]) => calls::one(name, args),
        ("calls", calls) => calls::all(calls),
        ("int80", [number]) => calls::int80(number),
        ("repeat", [count, call]) => calls::repeat(act::number(count)?, call),
        ("threads", [count, call]) => calls::threads(act::number(count)?, call),
        ("spawn", [count, program, args @ ..]) => calls::spawn(act::number(count)?, program, args),
        ("ask", calls) => filter::print(calls),
        ("shocker", [file]) => act::shocker(file),
        ("measure", host) => measure::print(host),
        ("namespaces", []) => measure::namespaces(),
        ("keyed", [command, args @ ..]) => measure::keyed(command, args),
        ("try-all", dirs) => walk::everything(dirs),
        ("stalk", [canary, until]) => stalk::stalk(canary, until),
        ("swap", [one, other]) => walk::swap(one, other),
        ("fork", [count]) => act::fork(act::number(count)?),
        ("herd", [count]) => load::herd(act::number(count)?),
        ("bomb", []) => load::bomb(),
        ("eat", [bytes]) => load::eat(act::number(bytes)?),
        ("burn", [seconds]) => load::burn(act::number(seconds)?),
        ("pour", [disk, bytes]) => load::pour(disk, act::number(bytes)?),
        ("rdma-contexts", [device, count]) => load::rdma_contexts(device, act::number(count)?),
        ("enter", [cgroup, uid, gid, command, args @ ..]) => {
            load::enter(cgroup, act::number(uid)?, act::number(gid)?, command, args)
        }
        ("lack", [name, place, value, errno, words @ ..]) => {
            let number = act::number::<u32>;
            filter::lack(name, number(place)?, number(value)?, number(errno)?, words)
        }
        ("hook", [file]) => act::hook(file, "0", "0"),
        ("hook", [file, code]) => act::hook(file, code, "0"),
        ("hook", [file, code, seconds]) => act::hook(file, code, seconds),
        ("listen", []) => act::listen(),
        ("notify", [text]) => act::notify(text),
        ("console", []) => act::console(),
        ("receive", [socket, options @ ..]) => outside::receive(socket, options),
        ("supervise", [socket, answer @ ..]) => supervise::supervise(socket, answer),
        ("notify-listen", [socket]) => outside::notify_listen(socket),
        ("enable-verity", [file, salt]) => outside::enable_verity(file, salt),
        ("set-capability", [file]) => outside::set_capability(file),
        ("pty", [size, options @ ..]) => outside::pty(size, options),
        ("pty-child", [command, args @ ..]) => outside::pty_child(command, args),
        _ => Err(format!("{command} {rest:?}: no such command\n{USAGE}")),
    }
}
