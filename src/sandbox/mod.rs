//! `capsid sandbox`: from a few options to a configuration and a root directory.
//!
//! Pure: options and facts about the host go in, an OCI configuration and the
//! skeleton of its root come out. What it makes is an ordinary bundle, and takes
//! the way of every other: nothing is protected here that is not there.

mod accounts;
mod limits;
mod mounts;
mod overlays;
pub mod refused;
mod request;
mod skeleton;
mod system;
pub mod within;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace,
    LinuxNamespaceType, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec,
    User,
};

use crate::error::{Error, Result};
use crate::host::Facts;
use crate::host::userland::Userland;
use crate::policy;

pub use accounts::Account;
pub use request::{Bind, Limits, Net, Overlay, Request, Seccomp, Through, Tmpfs, Way};
pub use skeleton::{Entry, Skeleton};
pub use system::RESOLVER;

/// The name of the root's directory in the bundle.
pub const ROOTFS: &str = "rootfs";

/// Where programs are looked for inside.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A sandbox that can be run or saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// The configuration, without `linux.seccomp`.
    pub spec: Spec,
    /// What is in the root before anything is mounted.
    pub skeleton: Skeleton,
    /// What holds inside although nobody asked for it.
    pub defaults: Vec<Default>,
    /// What the person should know about their options.
    pub warnings: Vec<String>,
}

/// One default and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Default {
    /// What holds.
    pub what: String,
    /// Why.
    pub why: &'static str,
}

/// Makes the sandbox.
///
/// # Errors
/// [`Error::Usage`] for options that contradict each other.
pub fn build(request: &Request, userland: &Userland, facts: &Facts) -> Result<Sandbox> {
    let account = Account::of(request, userland, facts)?;
    let mut maker = Maker {
        request,
        userland,
        account: &account,
        skeleton: Skeleton::default(),
        defaults: Vec::new(),
        warnings: Vec::new(),
    };
    let mounts = maker.mounts()?;
    let mut root = Root::default();
    root.set_path(ROOTFS.into()).set_readonly(Some(true));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_root(Some(root))
        .set_hostname(Some(hostname(request)?))
        .set_process(Some(maker.process()?))
        .set_mounts(Some(mounts))
        .set_linux(Some(maker.linux()))
        .set_annotations(Some(maker.annotations()));
    Ok(Sandbox {
        spec,
        skeleton: maker.skeleton,
        defaults: maker.defaults,
        warnings: maker.warnings,
    })
}

fn hostname(request: &Request) -> Result<String> {
    let name = request.hostname.as_deref().unwrap_or("sandbox");
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(Error::Usage(format!(
            "--hostname {name:?}: a host name has 1 to 64 letters, digits, - and ."
        )));
    }
    Ok(name.to_owned())
}

/// What the parts of the configuration are made from, and what is noted meanwhile.
struct Maker<'a> {
    request: &'a Request,
    userland: &'a Userland,
    account: &'a Account,
    skeleton: Skeleton,
    defaults: Vec<Default>,
    warnings: Vec<String>,
}

/// What every sandbox has, in the order in which a person would ask.
const ALWAYS: [(&str, &str); 7] = [
    (
        "ends with its caller, unless detached",
        "a program that outlives whoever watches it is watched by nobody",
    ),
    (
        "an init is process 1",
        "signals and orphans are handled as a program expects",
    ),
    (
        "new user, pid, mount, ipc, uts, cgroup and time namespaces",
        "the program sees and signals only its own processes, and has no privilege outside",
    ),
    (
        "no capability, no_new_privs, no nested user namespace",
        "neither a setuid program nor a namespace of its own gives privileges back",
    ),
    (
        "nothing of the caller's files but what the options give",
        "what is not needed cannot be read or changed; --cwd gives the current directory",
    ),
    (
        "no /sys",
        "it describes the hardware, and few programs need it; --ro /sys/... is refused as well",
    ),
    (
        "no core dumps",
        "a core file holds every secret of its process",
    ),
];

impl Maker<'_> {
    /// Notes a default.
    fn note(&mut self, what: impl Into<String>, why: &'static str) {
        let what = what.into();
        self.defaults.push(Default { what, why });
    }

    fn process(&mut self) -> Result<Process> {
        for (what, why) in ALWAYS {
            self.note(what, why);
        }
        let mut user = User::default();
        user.set_uid(self.account.uid)
            .set_gid(self.account.gid)
            .set_umask(Some(self.userland.umask));
        let mut process = Process::default();
        process
            .set_terminal(Some(self.request.terminal))
            .set_user(user)
            .set_args(Some(self.request.command.clone()))
            .set_env(Some(self.environment()))
            .set_cwd(self.directory()?)
            .set_capabilities(Some(no_capabilities()))
            .set_no_new_privileges(Some(true))
            .set_oom_score_adj(Some(self.oom_score()))
            .set_rlimits(Some(self.rlimits()));
        Ok(process)
    }

    /// Clean, for a caller's environment is full of tokens and of paths that
    /// are not there.
    fn environment(&mut self) -> Vec<String> {
        let mut env = vec![
            format!("PATH={PATH}"),
            format!("HOME={}", self.account.home.display()),
            format!("USER={}", self.account.name),
            format!("LOGNAME={}", self.account.name),
        ];
        for (name, value) in &self.userland.environment {
            env.push(format!("{name}={value}"));
        }
        self.note(
            "an environment of PATH, HOME, USER, LOGNAME, TERM and LANG",
            "variables hold tokens and passwords; --env NAME passes one on",
        );
        for (name, value) in &self.request.env {
            let beginning = format!("{name}=");
            env.retain(|entry| !entry.starts_with(&beginning));
            env.push(format!("{beginning}{value}"));
        }
        env
    }

    /// Where the program begins.
    fn directory(&self) -> Result<PathBuf> {
        let asked = self.request.directory.as_deref();
        let directory = asked.unwrap_or(&self.account.home);
        if directory.is_absolute() {
            return Ok(directory.to_owned());
        }
        Err(Error::Usage(format!(
            "--chdir {}: give a path that begins with /, as it is inside",
            directory.display()
        )))
    }

    /// So that the kernel ends the sandbox before anything else when memory is
    /// short, also where no cgroup limits it.
    fn oom_score(&mut self) -> i32 {
        const FIRST: i32 = 300;
        self.note(
            "first to be ended when the machine is out of memory",
            "a program that takes all memory must not end the caller's others",
        );
        FIRST.max(self.userland.oom_score_adj)
    }

    fn rlimits(&mut self) -> Vec<PosixRlimit> {
        let most = self.userland.open_files;
        let (soft, hard) = (most.min(1024), most.min(65_536));
        self.note(
            format!("at most {soft} open files ({hard} if the program asks for more)"),
            "the kernel's memory for open files counts for no cgroup limit alone",
        );
        let limit = |typ, soft: u64, hard: u64| {
            let limit = PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard);
            // Every field is set, so there is nothing the builder could miss.
            limit.build().ok()
        };
        let files = limit(PosixRlimitType::RlimitNofile, soft, hard);
        let core = limit(PosixRlimitType::RlimitCore, 0, 0);
        files.into_iter().chain(core).collect()
    }

    fn linux(&mut self) -> Linux {
        use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
        let mut kinds = vec![User, Pid, Mount, Ipc, Uts, Cgroup];
        kinds.extend(self.userland.time_namespaces.then_some(Time));
        if let Net::Pasta(through) = &self.request.net {
            kinds.push(Network);
            self.note(
                through.to_string(),
                "what was not named cannot be reached; the kernel keeps to it, not pasta alone",
            );
        }
        if self.request.net == Net::None {
            kinds.push(Network);
            self.note(
                "a network of its own with nothing but loopback",
                "nothing can be sent out; --net host gives the host's network",
            );
        }
        let namespaces = kinds.into_iter().map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        });
        let own = |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
        let mut masked = own(&policy::MASKED_PATHS);
        // Everybody may write to these: each trigger is work of the kernel for
        // the whole machine, and what they tell is about it too.
        masked.push("/proc/pressure".to_owned());
        if !self.request.overlays.is_empty() {
            masked.push(overlays::STAGE.to_owned());
        }
        let resources = self.resources();
        let mut linux = Linux::default();
        linux
            .set_namespaces(Some(namespaces.collect()))
            .set_uid_mappings(Some(mappings(&self.account.uid_maps)))
            .set_gid_mappings(Some(mappings(&self.account.gid_maps)))
            .set_resources(Some(resources))
            .set_masked_paths(Some(masked))
            .set_readonly_paths(Some(own(&policy::READONLY_PATHS)));
        linux
    }

    /// What the configuration's other fields cannot say.
    fn annotations(&self) -> std::collections::HashMap<String, String> {
        [("dev.capsid.init", "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }
}

fn no_capabilities() -> LinuxCapabilities {
    let none = Some(Capabilities::new());
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(none.clone())
        .set_effective(none.clone())
        .set_permitted(none.clone())
        .set_inheritable(none.clone())
        .set_ambient(none);
    sets
}

/// Each (inside, outside, count).
fn mappings(ranges: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
    let one = |(container, host, size): &(u32, u32, u32)| {
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(*container)
            .host_id(*host)
            .size(*size);
        // Every field is set, so there is nothing the builder could miss.
        mapping.build().unwrap_or_default()
    };
    ranges.iter().map(one).collect()
}

/// Whether a path is another one, or below it.
fn is_within(path: &Path, directory: &str) -> bool {
    path.starts_with(directory)
}
