//! systemd as the manager of containers' cgroups: scopes made and removed over
//! its bus, the machine's or the user's.

use std::path::PathBuf;
use std::time::Duration;

use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::plan::cgroup::Limit;
use crate::plan::cgroup::systemd::{Instance, Property, Scope};

mod bus;
mod wire;

use bus::{Address, Bus, Fault};
use wire::{Method, Reader, Writer};

/// How long the bus may take for an answer: busy machines take seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(25);

/// How long systemd may take to make or to stop a scope.
const JOB_PATIENCE: Duration = Duration::from_secs(30);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Where the machine's bus listens when nothing else is said.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// A connection to one of the machine's systemds.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
    /// The connection of systemd on the bus: nobody else's answers count.
    owner: String,
    instance: Instance,
    /// systemd agreed to make a scope.
    started: bool,
    /// How long to wait for an answer.
    answer: Duration,
    /// How long to wait for a job.
    job: Duration,
}

/// The environment variables that say where the buses are.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DBUS_SYSTEM_BUS_ADDRESS`
    pub system: Option<std::ffi::OsString>,
    /// `DBUS_SESSION_BUS_ADDRESS`
    pub session: Option<std::ffi::OsString>,
    /// `XDG_RUNTIME_DIR`, or where that is for every user of a machine with systemd.
    pub runtime: Option<std::ffi::OsString>,
}

impl Environment {
    /// Reads them.
    pub fn read() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        // su and cron leave it unset, and the user's bus may be there all the same.
        let usual = || format!("/run/user/{}", nix::unistd::geteuid()).into();
        Self {
            system: variable("DBUS_SYSTEM_BUS_ADDRESS"),
            session: variable("DBUS_SESSION_BUS_ADDRESS"),
            runtime: variable("XDG_RUNTIME_DIR").or_else(|| Some(usual())),
        }
    }

    /// Where to find a bus, or what is not said.
    fn address(&self, instance: Instance) -> Result<Address, &'static str> {
        let (given, usual) = match instance {
            Instance::System => (&self.system, Some(PathBuf::from(SYSTEM_BUS))),
            Instance::User => {
                let runtime = self.runtime.as_ref();
                (
                    &self.session,
                    runtime.map(|dir| PathBuf::from(dir).join("bus")),
                )
            }
        };
        match (given, usual) {
            (Some(list), _) => Address::parse(list).ok_or("its address is not a Unix socket's"),
            (None, Some(path)) => Ok(Address::Path(path)),
            (None, None) => Err("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"),
        }
    }
}

impl Manager {
    /// Connects to the bus of an instance and finds systemd on it.
    ///
    /// # Errors
    /// [`Error::Missing`] with what is not there.
    pub fn connect(instance: Instance, environment: &Environment) -> Result<Self> {
        let address = environment.address(instance);
        let address = address.map_err(|missing| no_bus(instance, missing.into()))?;
        let mut bus = Bus::connect(&address, ANSWER_PATIENCE)
            .map_err(|fault| no_bus(instance, describe(&fault)))?;
        let owner = find(&mut bus).map_err(|fault| no_bus(instance, describe(&fault)))?;
        Ok(Self {
            bus,
            owner,
            instance,
            started: false,
            answer: ANSWER_PATIENCE,
            job: JOB_PATIENCE,
        })
    }

    /// The cgroup of this systemd itself, below the hierarchy's root; empty for the root.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn control_group(&mut self) -> Result<String> {
        self.property("ControlGroup")
    }

    /// Its version, as it names it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn version(&mut self) -> Result<String> {
        self.property("Version")
    }

    fn property(&mut self, name: &str) -> Result<String> {
        let method = Method {
            destination: NAME,
            path: PATH,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
        };
        let mut body = Writer::default();
        body.text(MANAGER);
        body.text(name);
        let reply = self.bus.call(&method, &self.owner, "ss", body);
        let value = reply.and_then(|reply| {
            let mut reader = Reader::new(&reply.body);
            match reader.signature()? {
                "s" => Ok(reader.text()?.to_owned()),
                _ => Err(Fault::Malformed),
            }
        });
        value.map_err(|fault| self.failed("read the property", name, &fault))
    }

    /// Makes a scope with a process in it, and waits until it is there.
    ///
    /// What an earlier unit of that name left behind is removed, once.
    ///
    /// # Errors
    /// [`Error::Missing`] with systemd's own words.
    pub fn start(&mut self, scope: &Scope, pid: i32, limits: &[Limit]) -> Result<()> {
        self.watch(&scope.unit)?;
        let doing = "make the scope";
        let unit = scope.unit.as_str();
        let mut outcome = self.start_unit(scope, pid, limits);
        if is_refused(&outcome, &["UnitExists"]) {
            // Its name stays taken when a unit failed, until somebody has noticed.
            let _ = self.unit_method("ResetFailedUnit", unit, None);
            outcome = self.start_unit(scope, pid, limits);
        }
        // Without an answer it may be in the making.
        self.started = !matches!(outcome, Err(Fault::Refused { .. }));
        let job = outcome.map_err(|fault| self.failed(doing, unit, &fault))?;
        self.await_job(&job, doing, unit)
    }

    /// Changes properties of a unit, until it ends, and waits until systemd has
    /// written what follows from them into the unit's cgroup.
    ///
    /// # Errors
    /// [`Error::Missing`] with systemd's own words.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        // Not on disk.
        body.flag(true);
        body.array(8, |w| write_properties(w, properties));
        let reply = self.manager_call("SetUnitProperties", "sba(sv)", body);
        reply.map_err(|fault| self.failed("change the properties of", unit, &fault))?;
        // It answers first and writes then, before it takes the next message.
        self.control_group().map(drop)
    }

    /// Has a process put into a unit's cgroup, or below that; `below` is a path
    /// that begins with a slash, or empty.
    ///
    /// # Errors
    /// [`Error::Missing`] with systemd's own words.
    pub fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text(below);
        body.array(4, |w| w.u32(pid.cast_unsigned()));
        let reply = self.manager_call("AttachProcessesToUnit", "ssau", body);
        let failed = |fault| self.failed("have a process put into", unit, &fault);
        reply.map(drop).map_err(failed)
    }

    /// Whether there may be a scope that has to be stopped.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Stops a unit whose processes were killed, and has systemd forget it; one
    /// that is gone is what was wanted.
    ///
    /// # Errors
    /// [`Error::Missing`] with systemd's own words.
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        self.watch(unit)?;
        let doing = "stop the scope";
        let gone = ["NoSuchUnit"];
        let stopped = self.unit_method("StopUnit", unit, Some("replace"));
        if !is_refused(&stopped, &gone) {
            let job = stopped.and_then(|reply| Ok(Reader::new(&reply.body).text()?.to_owned()));
            let job = job.map_err(|fault| self.failed(doing, unit, &fault))?;
            self.await_job(&job, doing, unit)?;
        }
        let reset = self.unit_method("ResetFailedUnit", unit, None);
        if is_refused(&reset, &gone) {
            return Ok(());
        }
        reset
            .map(drop)
            .map_err(|fault| self.failed("reset the scope", unit, &fault))
    }

    /// Has the ends of the unit's jobs reported.
    fn watch(&mut self, unit: &str) -> Result<()> {
        let mut rule = Writer::default();
        rule.text(&format!(
            "type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',\
             member='JobRemoved',arg2='{unit}'"
        ));
        let watching = self.bus.ask("AddMatch", "s", rule).and_then(|_| {
            // Twice is an error that means the same.
            let subscribed = self.manager_call("Subscribe", "", Writer::default());
            if is_refused(&subscribed, &["AlreadySubscribed"]) {
                return Ok(());
            }
            subscribed.map(drop)
        });
        watching.map_err(|fault| self.failed("wait for the scope", unit, &fault))
    }

    fn manager_call(
        &mut self,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> bus::Answer<wire::Message> {
        let method = Method {
            destination: NAME,
            path: PATH,
            interface: MANAGER,
            member,
        };
        self.bus.be_patient(self.answer);
        self.bus.call(&method, &self.owner, signature, body)
    }

    fn unit_method(
        &mut self,
        member: &str,
        unit: &str,
        mode: Option<&str>,
    ) -> bus::Answer<wire::Message> {
        let mut body = Writer::default();
        body.text(unit);
        if let Some(mode) = mode {
            body.text(mode);
        }
        let signature = if mode.is_some() { "ss" } else { "s" };
        self.manager_call(member, signature, body)
    }

    /// The path of the job that makes the scope.
    fn start_unit(&mut self, scope: &Scope, pid: i32, limits: &[Limit]) -> bus::Answer<String> {
        let mut body = Writer::default();
        body.text(&scope.unit);
        body.text("replace");
        let properties = scope.properties(pid.cast_unsigned(), limits);
        body.array(8, |w| write_properties(w, &properties));
        // No units beside it.
        body.array(8, |_| {});
        let reply = self.manager_call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        Ok(Reader::new(&reply.body).text()?.to_owned())
    }

    fn await_job(&mut self, job: &str, doing: &str, unit: &str) -> Result<()> {
        self.bus.be_patient(self.job);
        let result = loop {
            let removed = self.bus.signal(&self.owner).and_then(|signal| {
                if signal.member.as_deref() != Some("JobRemoved") || signal.signature != "uoss" {
                    return Ok(None);
                }
                let mut reader = Reader::new(&signal.body);
                reader.u32()?;
                let of = reader.text()?;
                reader.text()?;
                Ok((of == job).then_some(reader.text()?.to_owned()))
            });
            if let Some(result) = removed.map_err(|fault| self.failed(doing, unit, &fault))? {
                break result;
            }
        };
        match result.as_str() {
            "done" => Ok(()),
            // By somebody else, who also wanted it gone.
            "canceled" if doing.starts_with("stop") => Ok(()),
            result => Err(Error::Missing {
                doing: format!("{doing} {unit}"),
                missing: format!("the job of {} ended with {result:?}", self.instance),
                repair: format!("see why: {} {unit}", self.journal()),
            }),
        }
    }

    fn journal(&self) -> &'static str {
        match self.instance {
            Instance::System => "journalctl --unit",
            Instance::User => "journalctl --user --unit",
        }
    }

    /// The error of a call, with what to do about it.
    fn failed(&self, doing: &str, unit: &str, fault: &Fault) -> Error {
        let system = self.instance == Instance::System;
        let repair = match fault {
            Fault::Refused { name, .. }
                if is_named(name, &["AccessDenied", "InteractiveAuthorizationRequired"]) =>
            {
                if system {
                    "run capsid as root, or as a user with a systemd of its own".to_owned()
                } else {
                    "use the user's own bus: leave DBUS_SESSION_BUS_ADDRESS unset".to_owned()
                }
            }
            Fault::Refused { name, .. } if is_named(name, &["UnitExists"]) => format!(
                "a unit of that name is running: give the container another linux.cgroupsPath, \
                 or stop it (systemctl {}stop {unit})",
                if system { "" } else { "--user " }
            ),
            Fault::Refused { .. } => format!("see what it says itself: {} {unit}", self.journal()),
            Fault::Timeout => format!(
                "see what keeps it: systemctl {}list-jobs",
                if system { "" } else { "--user " }
            ),
            _ => "try again; if it stays, leave --systemd-cgroup out".to_owned(),
        };
        Error::Missing {
            doing: format!("{doing} {unit}"),
            missing: format!("{}: {}", self.instance, describe(fault)),
            repair,
        }
    }
}

fn write_properties(writer: &mut Writer, properties: &[Property]) {
    for property in properties {
        writer.structure();
        writer.text(&property.name);
        writer.variant(&property.value);
    }
}

/// The connection of systemd. A user's bus starts when it is first used, and
/// systemd comes to it a moment later: the bus is asked to wait for that.
fn find(bus: &mut Bus) -> bus::Answer<String> {
    let found = owner(bus);
    if is_refused(&found, &["NameHasNoOwner"]) {
        let mut body = Writer::default();
        body.text(NAME);
        body.u32(0);
        // Where there is none to wait for, the first answer says what is wrong.
        if bus.ask("StartServiceByName", "su", body).is_ok() {
            return owner(bus);
        }
    }
    found
}

fn owner(bus: &mut Bus) -> bus::Answer<String> {
    let mut body = Writer::default();
    body.text(NAME);
    let reply = bus.ask("GetNameOwner", "s", body)?;
    Ok(Reader::new(&reply.body).text()?.to_owned())
}

fn is_named(name: &str, endings: &[&str]) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    endings.contains(&last)
}

fn is_refused<T>(outcome: &bus::Answer<T>, endings: &[&str]) -> bool {
    matches!(outcome, Err(Fault::Refused { name, .. }) if is_named(name, endings))
}

fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Io(error) => match error.raw_os_error() {
            Some(errno) => Failure::of(Sysno::connect, errno).to_string(),
            None => "the connection broke".into(),
        },
        Fault::Rejected => "the bus does not accept this user".into(),
        Fault::Malformed => "what it sent is not D-Bus".into(),
        Fault::Timeout => "no answer in time".into(),
        Fault::Refused { name, text } if text.is_empty() => name.clone(),
        Fault::Refused { name, text } => format!("{text} ({name})"),
    }
}

fn no_bus(instance: Instance, missing: String) -> Error {
    let repair = match instance {
        Instance::System => {
            "start systemd's bus (systemctl start dbus.socket), or leave --systemd-cgroup out and \
             have the engine use cgroupfs (podman --cgroup-manager=cgroupfs; Docker \
             native.cgroupdriver=cgroupfs)"
        }
        Instance::User => {
            "install dbus-user-session and log in anew (loginctl enable-linger USER keeps it \
             without a login; XDG_RUNTIME_DIR=/run/user/UID), or leave --systemd-cgroup out"
        }
    };
    Error::Missing {
        doing: format!("reach {instance}"),
        missing,
        repair: repair.into(),
    }
}

#[cfg(test)]
mod tests;
