//! Looking on from outside while a program runs: which files and peers its calls
//! were refused.
//!
//! A filter stops a thread before each call that names something, and the thread
//! goes on to the end of that call; all others run as fast as ever. Nothing is
//! changed: the kernel judges each call as if nobody looked on, a signal that stops
//! a thread is delivered, and a group stop stays one. Whoever is traced cannot reach
//! the tracer, which is outside of its namespaces, and ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use syscalls::Sysno;

use crate::error::{Error, Failure, Result};
use crate::host::program;
use crate::sandbox::refused::{OnHost, Refusal, Refusals, Target, Want, target_of_address};
use crate::sandbox::within::{Inside, plain};
use crate::seccomp::Call;
use crate::seccomp::traced::{self, Named, Wants};
use crate::sys::process;
use crate::sys::trace::{self, Progress, Stop};

/// Traces a program and all it starts.
#[derive(Debug)]
pub struct Tracer {
    /// Readable when a thread has stopped.
    signals: SignalFd,
    inside: Inside,
    /// Calls on their way, by thread.
    calls: BTreeMap<i32, Call>,
    /// Who was made before the program runs, to be waited for one by one.
    made: BTreeSet<i32>,
    /// The program runs: what is refused from here on was refused to it.
    begun: bool,
    refusals: Refusals,
}

impl Tracer {
    /// A tracer that traces nobody yet. SIGCHLD has to be held back.
    ///
    /// # Errors
    /// [`Error::System`] when there is no descriptor for signals.
    pub fn new(inside: Inside) -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags)
            .map_err(|errno| Error::nix("wait for", "signals", Sysno::signalfd4, errno))?;
        Ok(Self {
            signals,
            inside,
            calls: BTreeMap::new(),
            made: BTreeSet::new(),
            begun: false,
            refusals: Refusals::default(),
        })
    }

    /// Begins to trace a process.
    ///
    /// # Errors
    /// [`Error::Missing`] where it may not be traced.
    pub fn seize(&mut self, pid: i32) -> Result<()> {
        trace::seize(pid).map_err(|failure| refused(failure, pid))
    }

    /// Readable when [`serve`](Self::serve) has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Until the program runs: lets all go on that have stopped, and takes the
    /// status of those that have ended, but for the caller's own children.
    ///
    /// # Errors
    /// [`Error::System`] when they cannot be waited for.
    pub fn serve(&mut self) -> Result<()> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let next = trace::next_stop();
            let next = next.map_err(|failure| Error::system("wait for", "threads", failure))?;
            let Some((thread, status)) = next else {
                break;
            };
            self.changed(thread, status);
        }
        for thread in self.made.clone() {
            // Of who is traced the kernel tells stops here as well, asked or not.
            match process::wait(thread, libc::WNOHANG | libc::__WALL) {
                Ok(Some(status)) => self.changed(thread, status),
                Ok(None) => {}
                // The number is nobody's any more.
                Err(_) => drop(self.made.remove(&thread)),
            }
        }
        Ok(())
    }

    /// A thread has stopped or ended: lets it go on. Who is killed meanwhile need not.
    pub fn changed(&mut self, thread: i32, status: i32) {
        let outcome = match trace::stop(status) {
            None => {
                self.calls.remove(&thread);
                self.made.remove(&thread);
                return;
            }
            Some(Stop::Call) => self.enter(thread),
            Some(Stop::Syscall) => self.leave(thread),
            Some(Stop::Exec) => {
                let before = trace::message(thread).unwrap_or(thread);
                let called = self.calls.remove(&before).is_some();
                // Whoever had this number until now has ended.
                let called = self.calls.remove(&thread).is_some() || called;
                // capsid's own call is traced by the filter as well; before it is loaded
                // only hooks are executed.
                self.begun |= called;
                trace::resume(thread, 0)
            }
            Some(Stop::Clone) => {
                if let (false, Ok(made)) = (self.begun, trace::message(thread)) {
                    self.made.insert(made);
                }
                trace::resume(thread, 0)
            }
            Some(Stop::Group) => trace::leave_stopped(thread),
            Some(Stop::Trap) => trace::resume(thread, 0),
            Some(Stop::Signal(signal)) => trace::resume(thread, signal),
        };
        // It was killed: its end comes next.
        let _: std::result::Result<(), Failure> = outcome;
    }

    /// One line for each file and each peer that was refused.
    pub fn lines(&self) -> Vec<String> {
        self.refusals.lines(&self.inside)
    }

    fn enter(&mut self, thread: i32) -> std::result::Result<(), Failure> {
        if let Ok(Progress::Before(arch, number, args)) = trace::progress(thread) {
            let nr = u32::try_from(number).unwrap_or(u32::MAX);
            self.calls.insert(thread, Call { arch, nr, args });
        }
        trace::resume_to_exit(thread)
    }

    fn leave(&mut self, thread: i32) -> std::result::Result<(), Failure> {
        let call = self.calls.remove(&thread);
        if let (true, Some(call)) = (self.begun, call)
            && let Ok(Progress::After(value @ -4095..0)) = trace::progress(thread)
        {
            let errno = i32::try_from(-value).unwrap_or(0);
            let found = self.refusal(thread, &call, errno);
            if let Some(refusal) = found {
                self.refusals.add(refusal);
            }
        }
        trace::resume(thread, 0)
    }

    /// What a failed call was refused, if that was why it failed.
    fn refusal(&self, thread: i32, call: &Call, errno: i32) -> Option<Refusal> {
        let name = call.name()?;
        let (target, want) = match traced::named(name)? {
            Named::File {
                directory,
                path,
                wants,
                lone,
            } => {
                let refused = match errno {
                    libc::EACCES | libc::EPERM | libc::EROFS => true,
                    libc::ENOENT => lone,
                    _ => false,
                };
                if !refused {
                    return None;
                }
                let text = text(thread, call.args[path])?;
                let base = directory.map(|index| descriptor(call.args[index]));
                let path = whole(thread, base, text)?;
                (Target::File(path), wanted(thread, call, wants))
            }
            Named::Address(address, length) => {
                let own = name == "bind";
                let target = address_of(thread, call.args[address], call.args[length], own)?;
                let refused = match &target {
                    Target::File(_) => matches!(errno, libc::EACCES | libc::EPERM | libc::ENOENT),
                    _ => matches!(errno, libc::EACCES | libc::EPERM | libc::ENETUNREACH),
                };
                let want = if own { Want::Make } else { Want::Connect };
                (refused.then_some(target)?, want)
            }
        };
        let host = match (&target, errno) {
            (Target::File(path), libc::ENOENT) => Some(self.on_host(path, want)?),
            _ => None,
        };
        let who = program::identify(thread.cast_unsigned());
        Some(Refusal {
            target,
            want,
            errno,
            host,
            program: who.map_or_else(|| "an unknown program".into(), |who| who.name),
        })
    }

    /// Where on the host a file is that is not there inside.
    fn on_host(&self, path: &std::path::Path, want: Want) -> Option<OnHost> {
        let candidates = self.inside.elsewhere(path, want);
        let found = candidates.into_iter().find(|path| program::exists(path))?;
        Some(OnHost {
            readable: program::is_readable(&found),
            path: found,
        })
    }
}

/// Why a process may not be traced.
fn refused(failure: Failure, pid: i32) -> Error {
    if !failure.is(libc::EPERM) {
        return Error::system("trace", format!("process {pid}"), failure);
    }
    Error::Missing {
        doing: "trace the program for --report-denials=all".into(),
        missing: "the kernel does not let capsid trace its own container (ptrace: EPERM)".into(),
        repair: "look at kernel.yama.ptrace_scope (3 forbids it to everyone) and at the seccomp \
                 filter that capsid itself is under; --report-denials=calls needs no tracer"
            .into(),
    }
}

/// A descriptor in a register: the kernel looks at its lower half.
fn descriptor(register: u64) -> i32 {
    let bytes = register.to_ne_bytes();
    let low = if cfg!(target_endian = "little") { 0 } else { 4 };
    i32::from_ne_bytes([bytes[low], bytes[low + 1], bytes[low + 2], bytes[low + 3]])
}

/// A whole path from one that begins at a directory of the thread's.
fn whole(thread: i32, base: Option<i32>, path: OsString) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    if path.as_os_str().is_empty() {
        return None;
    }
    if path.is_absolute() {
        return Some(plain(&path));
    }
    let base = base.filter(|base| *base != libc::AT_FDCWD);
    let directory = program::directory(thread, base)?;
    directory
        .is_absolute()
        .then(|| plain(&directory.join(path)))
}

/// What a call wants of the file it names.
fn wanted(thread: i32, call: &Call, wants: Wants) -> Want {
    match wants {
        Wants::Look => Want::Look,
        Wants::Execute => Want::Execute,
        Wants::Change => Want::Change,
        Wants::Make => Want::Make,
        Wants::Flags(index) => of_flags(descriptor(call.args[index])),
        Wants::FlagsBehind(index) => {
            let mut flags = [0; 8];
            let read = trace::read_memory(thread, call.args[index], &mut flags);
            let flags = read.map_or(0, |_| descriptor(u64::from_ne_bytes(flags)));
            of_flags(flags)
        }
        Wants::Mode(index) => match descriptor(call.args[index]) {
            mode if mode & libc::W_OK != 0 => Want::Change,
            mode if mode & libc::R_OK != 0 => Want::Read,
            _ => Want::Look,
        },
    }
}

fn of_flags(flags: i32) -> Want {
    match flags & libc::O_ACCMODE {
        _ if flags & libc::O_PATH == libc::O_PATH => Want::Look,
        _ if flags & libc::O_CREAT != 0 => Want::Make,
        libc::O_RDONLY if flags & libc::O_TRUNC == 0 => Want::Read,
        _ => Want::Change,
    }
}

/// The text at an address up to its NUL, page by page: the next one may not be there.
fn text(thread: i32, address: u64) -> Option<OsString> {
    const PAGE: usize = 4096;
    let mut all = Vec::new();
    let mut at = address;
    while all.len() < libc::PATH_MAX.unsigned_abs() as usize {
        let mut buffer = [0; PAGE];
        let length = PAGE - usize::try_from(at).ok()? % PAGE;
        let read = trace::read_memory(thread, at, &mut buffer[..length]).ok()?;
        let part = &buffer[..read];
        match part.iter().position(|byte| *byte == 0) {
            Some(end) => {
                all.extend_from_slice(&part[..end]);
                return Some(OsString::from_vec(all));
            }
            None if read < length => return None,
            None => all.extend_from_slice(part),
        }
        at = at.checked_add(u64::try_from(read).ok()?)?;
    }
    None
}

/// What a socket's address names.
fn address_of(thread: i32, address: u64, length: u64, own: bool) -> Option<Target> {
    let mut buffer = [0; size_of::<libc::sockaddr_storage>()];
    let length = usize::try_from(length).ok()?.min(buffer.len());
    let read = trace::read_memory(thread, address, &mut buffer[..length]).ok()?;
    match target_of_address(&buffer[..read], own)? {
        Target::File(path) => whole(thread, None, path.into()).map(Target::File),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_what_is_wanted() {
        for (flags, want) in [
            (libc::O_RDONLY | libc::O_CLOEXEC, Want::Read),
            (libc::O_RDONLY | libc::O_DIRECTORY, Want::Read),
            (libc::O_PATH, Want::Look),
            (libc::O_WRONLY, Want::Change),
            (libc::O_RDWR | libc::O_APPEND, Want::Change),
            (libc::O_RDONLY | libc::O_TRUNC, Want::Change),
            (libc::O_WRONLY | libc::O_CREAT, Want::Make),
        ] {
            assert_eq!(of_flags(flags), want, "{flags:#o}");
        }
        assert_eq!(descriptor(0xffff_ff9c), libc::AT_FDCWD);
        assert_eq!(descriptor(u64::MAX - 99), libc::AT_FDCWD);
    }

    #[test]
    fn texts_and_paths_are_those_of_the_thread() {
        let own = std::process::id().cast_signed();
        let path = c"some/path";
        let found = text(own, path.as_ptr() as u64).unwrap();
        assert_eq!(found, "some/path");
        assert_eq!(text(own, 8), None);
        let here = std::env::current_dir().unwrap();
        let base = Some(libc::AT_FDCWD);
        assert_eq!(whole(own, base, found), Some(here.join("some/path")));
        assert_eq!(whole(own, base, "/a/../b".into()), Some("/b".into()));
        assert_eq!(whole(own, base, "".into()), None);
    }
}
