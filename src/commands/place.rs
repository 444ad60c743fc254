//! Which cgroup a container gets, and who makes it: shared by `create`, `run`,
//! `explain` and `doctor`.
//!
//! In this order: what `--cgroup-manager disabled` and `--systemd-cgroup` say; a
//! cgroup that the caller may make; for ordinary users a scope of their own
//! systemd; none.

use std::path::Path;

use super::best_effort::Choice;
use crate::error::{Error, Problem, Result};
use crate::execute::systemd::{Environment, Manager};
use crate::host::Facts;
use crate::host::cgroup::{Access, CgroupFacts};
use crate::log;
use crate::plan::cgroup::systemd::{self, Instance};
use crate::plan::cgroup::{self, CgroupPlan, Request};

/// What is asked for.
pub(super) struct Wish<'a> {
    /// What the bundle says; its path is that of a scope with `systemd`.
    pub(super) request: Request<'a>,
    /// `annotations` of the bundle.
    pub(super) annotations: Vec<(&'a str, &'a str)>,
    /// `--systemd-cgroup`.
    pub(super) systemd: bool,
    /// `--cgroup-manager disabled`.
    pub(super) disabled: bool,
    /// Going without a cgroup is an error.
    pub(super) must_have: bool,
    /// `--cgroups=best-effort`.
    pub(super) best_effort: bool,
    /// Of a sandbox: the controllers of limits that somebody asked for. The
    /// others are defaults, and may be lost.
    pub(super) asked: Option<&'a [&'static str]>,
    /// The configuration, for messages.
    pub(super) file: &'a Path,
}

/// What it came to.
pub(super) struct Place {
    /// The cgroup, if there is to be one.
    pub(super) plan: Option<CgroupPlan>,
    /// The systemd that makes it, if one is to.
    pub(super) manager: Option<Manager>,
    /// The reason, and what is lost.
    pub(super) choice: Choice,
}

impl Wish<'_> {
    /// Decides; touches nothing.
    ///
    /// # Errors
    /// [`Error::Spec`] for what cannot be asked for; [`Error::Missing`] when
    /// something is insisted on that cannot be had.
    pub(super) fn find(&self, facts: &Facts) -> Result<Place> {
        let manager = match self.systemd {
            true => Some(Manager::connect(instance(facts), &Environment::read())?),
            false => None,
        };
        let cgroups = CgroupFacts::read()?;
        let path = self.request.path;
        let request = Request {
            // With systemd it is no path.
            path: path.filter(|_| !self.systemd),
            ..self.request
        };
        let plan = cgroup::plan(&request, &cgroups).map_err(|problems| self.refused(problems))?;
        plan.notes.iter().for_each(log::warning);
        let plan = match (self.best_effort, self.asked) {
            (true, _) => plan.waived(&[]),
            (false, Some(asked)) => plan.waived(asked),
            (false, None) => plan,
        };
        if self.disabled {
            return self.settle(plan, &Access::Unwanted, None);
        }
        if let (Some(mut manager), true) = (manager, cgroups.mount.is_some()) {
            let plan = self.in_scope(plan, path, &mut manager, facts)?;
            let reason = "a scope of systemd, as --systemd-cgroup says";
            return Ok(placed(plan, manager, reason.into()));
        }
        let access = cgroups.access(&plan.path);
        // A path is a place in the hierarchy, and systemd would choose another.
        let own_choice = path.is_none_or(|path| path.as_os_str().is_empty());
        if let (Access::Denied(denied, errno), true) =
            (&access, own_choice && !facts.is_real_root())
        {
            match self.scope_of_user(&plan, facts) {
                Ok((scoped, manager)) => {
                    let reason = format!(
                        "a scope of the user's systemd: {} cannot be written: {}",
                        denied.display(),
                        crate::error::errno_text(*errno)
                    );
                    return Ok(placed(scoped, manager, reason));
                }
                Err(error @ Error::Spec { .. }) => return Err(error),
                Err(error) => return self.settle(plan, &access, Some(error)),
            }
        }
        self.settle(plan, &access, None)
    }

    /// The same limits in a scope of the caller's own systemd, if that can be asked.
    fn scope_of_user(&self, plan: &CgroupPlan, facts: &Facts) -> Result<(CgroupPlan, Manager)> {
        let mut manager = Manager::connect(Instance::User, &Environment::read())?;
        let plan = self.in_scope(plan.clone(), None, &mut manager, facts)?;
        Ok((plan, manager))
    }

    fn in_scope(
        &self,
        plan: CgroupPlan,
        path: Option<&Path>,
        manager: &mut Manager,
        facts: &Facts,
    ) -> Result<CgroupPlan> {
        let request = systemd::Request {
            id: self.request.id,
            path,
            instance: instance(facts),
            control_group: &manager.control_group()?,
            asked: self.systemd,
        };
        let annotations = self.annotations.iter().copied();
        systemd::in_scope(plan, &request, annotations).map_err(|problems| self.refused(problems))
    }

    fn refused(&self, problems: Vec<Problem>) -> Error {
        Error::Spec {
            file: self.file.to_owned(),
            problems,
        }
    }

    /// The plan or none, with the reason. `no_scope` is why the user's systemd
    /// makes none.
    fn settle(&self, plan: CgroupPlan, access: &Access, no_scope: Option<Error>) -> Result<Place> {
        let filtered = plan.devices.is_some();
        let settled = plan.clone().settle(access, self.must_have);
        let settled = match (settled, &no_scope) {
            (Err(error), _) if self.asked.is_some() => return Err(of_options(error, &plan)),
            (Err(error), Some(no_scope)) => return Err(neither(error, no_scope)),
            (settled, _) => settled?,
        };
        let mut choice = Choice::default();
        let plan = match settled {
            Ok(plan) => {
                choice.reason = match self.request.path.is_some() {
                    true => "where linux.cgroupsPath says, which can be written".into(),
                    false => "beside capsid's own, which can be written".into(),
                };
                if self.best_effort || self.asked.is_some() {
                    choice.lose_processes(&plan);
                }
                Some(plan)
            }
            Err(reason) => {
                let reason = match &no_scope {
                    Some(error) => format!("{reason}; nor a scope of systemd: {error}"),
                    None => reason,
                };
                if filtered {
                    // Real root with --rootless: nothing else keeps devices away.
                    log::warning(format!("{reason}; so no device filter either"));
                } else {
                    log::debug(&reason);
                }
                choice.reason = reason;
                if self.best_effort || self.asked.is_some() {
                    choice.lose_all(&plan);
                }
                None
            }
        };
        Ok(Place {
            plan,
            manager: None,
            choice,
        })
    }
}

fn placed(plan: CgroupPlan, manager: Manager, reason: String) -> Place {
    Place {
        plan: Some(plan),
        manager: Some(manager),
        choice: Choice {
            reason,
            ..Choice::default()
        },
    }
}

/// The way out for whoever wrote options and no `linux.resources`.
fn of_options(error: Error, plan: &CgroupPlan) -> Error {
    let Error::Missing { doing, missing, .. } = error else {
        return error;
    };
    Error::Missing {
        doing: format!("{doing} for {}", plan.required_in_words()),
        missing,
        repair: "run it in a cgroup that is yours (systemd-run --user --scope -p Delegate=yes \
                 capsid sandbox ...), or go on without the limit: \
                 capsid --cgroups=best-effort sandbox ..."
            .into(),
    }
}

/// Neither a cgroup that may be written nor a systemd that makes one.
fn neither(error: Error, no_scope: &Error) -> Error {
    let (
        Error::Missing { doing, missing, .. },
        Error::Missing {
            doing: asking,
            missing: silent,
            ..
        },
    ) = (&error, no_scope)
    else {
        return error;
    };
    Error::Missing {
        doing: doing.clone(),
        missing: format!("{missing}; and cannot {asking}: {silent}"),
        repair: "have a systemd of the user, which then makes it (apt install dbus-user-session; \
                 loginctl enable-linger USER; log in anew), or run capsid in a cgroup delegated to \
                 the user (Delegate=yes), or remove the limits from linux.resources, or go on \
                 without them: capsid --cgroups=best-effort"
            .into(),
    }
}

/// Root of a user namespace is an ordinary user to the machine's systemd.
pub(super) fn instance(facts: &Facts) -> Instance {
    if facts.is_real_root() {
        Instance::System
    } else {
        Instance::User
    }
}
