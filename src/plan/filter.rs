//! The seccomp filter as a step.

use std::borrow::Cow;
use std::fmt;

use crate::error::Problem;
use crate::seccomp::{Asks, Filter, Profile, traced};

/// A filter, ready to load.
#[derive(Clone)]
pub struct FilterStep {
    /// What it is, in words.
    pub summary: String,
    /// The program.
    pub instructions: Vec<libc::sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// More of them, left out where the kernel does not know them.
    pub wishes: u32,
    /// Names of the profile that mean nothing on this machine.
    pub skipped: Vec<String>,
}

impl fmt::Debug for FilterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

impl FilterStep {
    /// The same for a process that nobody answers.
    pub(super) fn without_listener(mut self) -> Self {
        let asking =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        // Both are below 2^32, which is what seccomp(2) takes.
        self.flags &= !u32::try_from(asking).unwrap_or(0);
        self.wishes = 0;
        self
    }
}

impl PartialEq for FilterStep {
    fn eq(&self, other: &Self) -> bool {
        let key = |filter: &libc::sock_filter| (filter.code, filter.jt, filter.jf, filter.k);
        self.flags == other.flags
            && self
                .instructions
                .iter()
                .map(key)
                .eq(other.instructions.iter().map(key))
    }
}

/// The seccomp filter, and whom it asks.
pub(super) fn plan(filter: &Filter, asks: Asks) -> Result<Option<FilterStep>, Vec<Problem>> {
    // While calls are written down, nothing but the floor denies any.
    let filter = match asks {
        Asks::AboutAllowed => Cow::Owned(filter.without_profile()),
        Asks::Nobody | Asks::AboutDenied => Cow::Borrowed(filter),
    };
    let Some(program) = filter.compile(asks)? else {
        return Ok(None);
    };
    let listener = filter.bundle().and_then(|own| own.listener_path().as_ref());
    if asks == Asks::Nobody && program.notify && listener.is_none() {
        return Err(vec![Problem::new(
            "/linux/seccomp/listenerPath",
            "SCMP_ACT_NOTIFY needs the socket of a supervisor here",
        )]);
    }
    let instructions = program.instructions.iter().map(|i| libc::sock_filter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    });
    Ok(Some(FilterStep {
        summary: summary(&filter, asks, program.default()),
        instructions: instructions.collect(),
        flags: program.flags,
        wishes: wishes(asks),
        skipped: program.skipped,
    }))
}

/// The filter that gives the runtime's tracer the calls that name something.
pub(super) fn traced() -> Result<FilterStep, Vec<Problem>> {
    let none = || vec![Problem::new("", "there is nothing to trace")];
    let mut step = plan(&traced::filter(), Asks::Nobody)?.ok_or_else(none)?;
    step.summary = "a filter that gives calls with a path or an address to the tracer".into();
    // Names of other architectures are no news to anybody.
    step.skipped.clear();
    Ok(step)
}

/// Where the runtime itself is asked, a call that it has taken is not interrupted
/// by signals (Linux 5.19): programs whose runtime lives on signals, such as Go's,
/// would otherwise make each of them again and again.
fn wishes(asks: Asks) -> u32 {
    match asks {
        Asks::Nobody => 0,
        // It is below 2^32, which is what seccomp(2) takes.
        Asks::AboutDenied | Asks::AboutAllowed => {
            u32::try_from(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).unwrap_or(0)
        }
    }
}

/// The filter in words: its parts, not its size, which is no promise.
fn summary(filter: &Filter, asks: Asks, default: impl std::fmt::Display) -> String {
    let profile = match &filter.profile {
        Profile::None => None,
        Profile::Bundle(_) => Some(format!("the bundle's profile (default {default})")),
        Profile::Builtin(own) => Some(format!("the {own} profile")),
    };
    let floor = filter.floor.then(|| "the floor".to_owned());
    let parts: Vec<String> = profile.into_iter().chain(floor).collect();
    let asking = match asks {
        Asks::Nobody => None,
        Asks::AboutDenied => Some("asking about denied calls"),
        Asks::AboutAllowed => Some("asking about allowed calls"),
    };
    let mut words = vec![parts.join(" and ")];
    words.retain(|part| !part.is_empty());
    words.extend(asking.map(str::to_owned));
    format!("the seccomp filter: {}", words.join(", "))
}
