//! `capsid exec`: one more process in a running container.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use oci_spec::runtime::Process;
use syscalls::Sysno;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::announce::{self, Announce, check_terminal};
use super::cli::Global;
use super::{audited, descriptors, hardening, life, options};
use crate::audit::What;
use crate::error::{Error, Failure, Life, Result};
use crate::execute::alive::{self, Init};
use crate::execute::cgroup::Cgroup;
use crate::execute::foreground::{self, Attended, Ended, Signals};
use crate::execute::parent::{self, Attendant, Launched, Supplies};
use crate::execute::rdt::Resctrl;
use crate::host::Facts;
use crate::plan::Plan;
use crate::plan::build::{self, Target};
use crate::policy::landlock::Fence;
use crate::policy::{Hardening, Rule};
use crate::state::{Container, Record, Status};

use cgroup::Entry;

mod cgroup;
mod process;

pub(crate) fn command() -> Command {
    Command::new("exec")
        .about("Run one more process in a running container")
        .long_about(
            "Run a program inside a running container, with the identity and the limits of\n\
             its configuration. Options stand before the container's id; everything after it\n\
             belongs to the program. Exits with the program's status, 128 + the number of the\n\
             signal that ended it, or 255 when the program could not be run.",
        )
        .args(process_options())
        .arg(options::container_id())
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .action(ArgAction::Append)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("The program and its arguments; not needed with --process"),
        )
        .after_help(
            "Examples:\n  \
             capsid exec web ls -l /\n  \
             capsid exec --tty --user 1000:1000 --env TERM=xterm web sh",
        )
}

/// The options, each an attribute of the process or of how it is followed.
fn process_options() -> [Arg; 17] {
    [
        options::console_socket(),
        options::pidfd_socket(),
        options::text("cwd", "DIR", "Working directory, in the container"),
        options::texts(
            "env",
            "NAME=VALUE",
            "Set an environment variable (repeatable)",
        )
        .short('e'),
        options::switch("tty", "Give the process a terminal").short('t'),
        options::text("user", "UID[:GID]", "User and group id, in the container").short('u'),
        options::texts("additional-gids", "GID", "Add a group id (repeatable)").short('g'),
        options::path(
            "process",
            "FILE",
            "Read the whole process from this JSON file",
        )
        .short('p'),
        options::detach(),
        options::pid_file(),
        options::text("process-label", "LABEL", "SELinux label of the process"),
        options::text("apparmor", "PROFILE", "AppArmor profile of the process"),
        options::switch("no-new-privs", "Set no_new_privs on the process"),
        options::texts("cap", "CAPABILITY", "Add a capability (repeatable)").short('c'),
        options::preserve_fds(),
        options::texts(
            "cgroup",
            "PATH",
            "Run in this cgroup below the container's (repeatable)",
        ),
        options::switch("ignore-paused", "Do not refuse a paused container"),
    ]
}

/// Runs one more process in a container.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = ExecArgs::from_matches(matches)?;
    let container = life::find(&global.root, &args.id)?;
    let record = container.load()?;
    match alive::status(&container, &record)? {
        Status::Stopped | Status::Creating => return Err(Life::ExecStopped.into()),
        Status::Paused if !args.ignore_paused => return Err(Life::ExecPaused.into()),
        Status::Created if !nix::unistd::geteuid().is_root() => return Err(not_yet(&args.id)),
        _ => {}
    }
    let (hardening, process) = judge(global, &args, &record)?;
    let (preserved_fds, _) = descriptors::preserved(args.preserve_fds, false)?;
    let facts = Facts::read();
    let entry = Entry::of(&record, &args.cgroup)?;
    let target = Target {
        id: record.id.clone(),
        differing: record.namespaces,
        may_set_groups: may_set_groups(record.pid, &facts),
        preserved_fds,
        new_keyring: hardening.wants(Rule::Keyring),
        filter: record.filter.clone(),
        fence: fence(&record, &hardening),
        personality: record.personality.clone(),
        memory_policy: record.memory_policy.clone(),
        awaits_class: record.rdt.is_some(),
        awaits_cgroup: matches!(entry, Entry::Systemd(_)),
        given: record.ids,
    };
    let planned = build::for_exec(&process, &facts, &target);
    let (plan, warnings) = planned.map_err(|problems| Error::Spec {
        file: args.source(&record),
        problems,
    })?;
    warnings.iter().for_each(crate::log::warning);
    let signals = (!args.detach).then(Signals::hold).transpose()?;
    let mut exec = Exec {
        args: &args,
        record: &record,
        container: &container,
        process: &process,
        console: None,
        entry,
    };
    let launched = exec.launch(&plan)?;
    life::show_engine(&record);
    exec.announce().process(&launched)?;
    let Some(signals) = signals else {
        return Ok(0);
    };
    let attended = Attended {
        pid: launched.pid,
        pidfd: launched.pidfd.as_fd(),
        console: exec.console,
        tracer: None,
    };
    let ended = foreground::attend(&signals, attended, Vec::new());
    life::show_engine(&record);
    ended.map(Ended::status)
}

/// What is insisted on, and the process that comes of it.
fn judge(global: &Global, args: &ExecArgs, record: &Record) -> Result<(Hardening, Process)> {
    let judged = || {
        let hardening = hardening::for_exec(&global.hardening, &record.hardening)?;
        let process = process::of(args, record, &hardening)?;
        Ok((hardening, process))
    };
    let (hardening, process) = judged().inspect_err(|error| {
        audited::refused("exec", &args.id, &global.root, &record.annotations, error);
    })?;
    args.check_terminal(&process)?;
    Ok((hardening, process))
}

/// The process that waits for `start` is the runtime's own code and lets only
/// real root look at it, so nobody else can follow it into its namespaces.
fn not_yet(id: &str) -> Error {
    Error::Missing {
        doing: format!("enter the container {id}"),
        missing: "it is created, not started, and its process is closed to ordinary users".into(),
        repair: format!("start it first: capsid start {id}"),
    }
}

/// The container's fence; of one that is given up the ports are left, which are
/// the bundle's word.
fn fence(record: &Record, hardening: &Hardening) -> Option<Fence> {
    let fence = record.fence.clone()?;
    match hardening.wants(Rule::Landlock) {
        true => Some(fence),
        false => fence.of_ports(),
    }
}

/// setgroups(2) is denied for good in a user namespace that an ordinary user
/// made for its own id.
fn may_set_groups(pid: i32, facts: &Facts) -> bool {
    let answer = std::fs::read_to_string(format!("/proc/{pid}/setgroups"));
    answer.map_or(facts.may_set_groups, |word| word.trim() != "deny")
}

struct Exec<'a> {
    args: &'a ExecArgs,
    record: &'a Record,
    container: &'a Container,
    process: &'a Process,
    console: Option<OwnedFd>,
    entry: Entry,
}

impl Exec<'_> {
    fn announce(&self) -> Announce<'_> {
        Announce {
            console_socket: self.args.console_socket.as_deref(),
            pidfd_socket: self.args.pidfd_socket.as_deref(),
            pid_file: self.args.pid_file.as_deref(),
            kind: "setns",
        }
    }

    /// Starts the process in its cgroup, or in that of the first process: an init
    /// system inside moves itself to a leaf, and then the container's own cgroup
    /// takes no processes any more.
    fn launch(&mut self, plan: &Plan) -> Result<Launched> {
        let cgroup = match &self.entry {
            Entry::Nowhere | Entry::Systemd(..) => None,
            Entry::Clone(cgroup) => Some(cgroup.clone()),
        };
        match self.launch_in(plan, cgroup.as_deref()) {
            Err(Error::System { failure, .. })
                if failure == Failure::of(Sysno::clone3, libc::EBUSY)
                    && self.args.cgroup.is_empty() =>
            {
                let cgroup = cgroup::of_init(self.record)?;
                self.launch_in(plan, cgroup.as_ref())
            }
            other => other,
        }
    }

    fn launch_in(&mut self, plan: &Plan, cgroup: Option<&Cgroup>) -> Result<Launched> {
        let init = Init::to_join(self.record)?.ok_or(Life::ExecStopped)?;
        let supplies = Supplies {
            cgroup: cgroup.map(Cgroup::dir),
            target: Some(init.into_pidfd()),
            start: None,
            secrets: Vec::new(),
            user_namespace: None,
            overlay: None,
        };
        parent::launch(plan, supplies, self)
    }
}

impl Attendant for Exec<'_> {
    fn process(&mut self, pid: i32, _pidfd: BorrowedFd<'_>) -> Result<()> {
        if let Some(rdt) = &self.record.rdt {
            Resctrl::mounted()?.join(rdt, pid)?;
        }
        match &mut self.entry {
            Entry::Systemd(scope) => scope.take_in(pid)?,
            Entry::Nowhere | Entry::Clone(_) => {}
        }
        let arguments = self.process.args().as_ref();
        let user = self.process.user();
        let what = What::Exec {
            pid,
            program: arguments
                .and_then(|all| all.first())
                .map_or("", |name| name),
            user: (user.uid(), user.gid()),
            terminal: self.process.terminal().unwrap_or(false),
        };
        audited::begin(self.container, self.record, &[what])
    }

    fn runtime_hooks(&mut self, _pid: i32) -> Result<()> {
        Ok(())
    }

    fn console(&mut self, master: OwnedFd) -> Result<()> {
        self.console = self.announce().console(master)?;
        Ok(())
    }

    fn listener(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        announce::listener(self.record, Status::Running.as_str(), pid, &listener)
    }
}

/// What was asked of `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExecArgs {
    /// The container's id.
    pub(crate) id: String,
    /// The program and its arguments; empty only with `process`.
    pub(crate) command: Vec<String>,
    /// Where to send the terminal's descriptor.
    pub(crate) console_socket: Option<PathBuf>,
    /// Where to send a pidfd of the process.
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Working directory, in the container.
    pub(crate) cwd: Option<String>,
    /// `NAME=VALUE`, to be appended to the configured environment.
    pub(crate) env: Vec<String>,
    /// Give the process a terminal.
    pub(crate) tty: bool,
    /// User and group, in the container.
    pub(crate) user: Option<UserArg>,
    /// Further groups, in the container.
    pub(crate) additional_gids: Vec<u32>,
    /// The JSON file that describes the whole process.
    pub(crate) process: Option<PathBuf>,
    /// Return once the process runs.
    pub(crate) detach: bool,
    /// Where to write the process id.
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label.
    pub(crate) process_label: Option<String>,
    /// AppArmor profile.
    pub(crate) apparmor: Option<String>,
    /// Set no_new_privs; absent means as configured.
    pub(crate) no_new_privs: bool,
    /// Capabilities to add, as given.
    pub(crate) caps: Vec<String>,
    /// How many descriptors after 2 the process gets.
    pub(crate) preserve_fds: u32,
    /// Cgroups below the container's own, as given.
    pub(crate) cgroup: Vec<String>,
    /// Go on when the container is paused.
    pub(crate) ignore_paused: bool,
}

/// The value of `--user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserArg {
    /// User id, in the container.
    pub(crate) uid: u32,
    /// Group id, in the container; absent means as configured.
    pub(crate) gid: Option<u32>,
}

impl ExecArgs {
    fn check_terminal(&self, process: &Process) -> Result<()> {
        let terminal = process.terminal().unwrap_or(false);
        check_terminal(terminal, self.detach, self.console_socket.as_deref())
    }

    /// Fails when a value makes no sense or there is nothing to run.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        let mut command = options::all(matches, "command");
        // `exec web -- ls`, as kubectl wants it: no program is called `--`.
        if command.first().is_some_and(|first| first == "--") {
            command.remove(0);
        }
        let args = Self {
            id: options::operand(matches, "id")?,
            command,
            console_socket: options::host_path(matches, "console-socket")?,
            pidfd_socket: options::host_path(matches, "pidfd-socket")?,
            cwd: options::given(matches, "cwd"),
            env: options::all(matches, "env"),
            tty: options::is_on(matches, "tty"),
            // An empty one is refused: it must not come to mean root by
            // accident (CVE-2026-30892).
            user: matches
                .get_one::<String>("user")
                .map(|user| parse_user(user))
                .transpose()?,
            additional_gids: options::all_numbers(matches, "additional-gids")?,
            process: options::host_path(matches, "process")?,
            detach: options::is_on(matches, "detach"),
            pid_file: options::host_path(matches, "pid-file")?,
            process_label: options::given(matches, "process-label"),
            apparmor: options::given(matches, "apparmor"),
            no_new_privs: options::is_on(matches, "no-new-privs"),
            caps: options::all(matches, "cap"),
            preserve_fds: options::preserved(matches),
            cgroup: options::all(matches, "cgroup"),
            ignore_paused: options::is_on(matches, "ignore-paused"),
        };
        if args.command.is_empty() && args.process.is_none() {
            return Err(Error::Usage(
                "process args cannot be empty: name a program, or a file with --process".into(),
            ));
        }
        Ok(args)
    }
}

/// Names cannot be looked up: the container's /etc/passwd is not to be trusted.
fn parse_user(user: &str) -> Result<UserArg> {
    let wrong = || Error::Usage(format!("--user {user:?}: write UID or UID:GID, as numbers"));
    // Digits only: Rust itself would take a sign.
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(wrong)
    };
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(number(gid)?)),
        None => (user, None),
    };
    Ok(UserArg {
        uid: number(uid)?,
        gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("7").unwrap(), UserArg { uid: 7, gid: None });
        assert_eq!(
            parse_user("7:8").unwrap(),
            UserArg {
                uid: 7,
                gid: Some(8)
            }
        );
        for wrong in ["", "root", "7:", ":8", "-1", "+1", "7:8:9"] {
            assert!(parse_user(wrong).is_err(), "{wrong}");
        }
    }
}
