//! `capsid start`: let a created container run.

use clap::{ArgMatches, Command};

use std::os::fd::AsFd;
use std::time::Duration;

use super::cli::Global;
use super::notify::Notify;
use super::{announce, audited, hooks, life, options};
use crate::audit::What;
use crate::error::{Error, Life, Result};
use crate::execute::alive::{self, Init};
use crate::execute::failed_step::{Step, step_error};
use crate::execute::hand_over::Delivery;
use crate::execute::protocol::{self, ToParent};
use crate::execute::start_socket;
use crate::state::{Container, Record, Status};

pub(crate) fn command() -> Command {
    Command::new("start")
        .about("Start a container that was created")
        .long_about(
            "Let the program of a container run that `capsid create` has set up. Returns once\n\
             the program runs and the poststart hooks have ended.",
        )
        .arg(options::container_id())
        .after_help("Example:\n  capsid create --bundle /var/lib/web web\n  capsid start web")
}

/// How long another command on the same container is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets the container's first process go on to its program.
pub(crate) fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let args = StartArgs::from_matches(matches)?;
    let container = life::find(&global.root, &args.id)?;
    let lock = container.lock(PATIENCE)?;
    let record = container.load()?;
    match alive::status(&container, &record)? {
        Status::Created => {}
        Status::Stopped => return Err(Life::StartStopped.into()),
        Status::Running => return Err(Life::StartRunning.into()),
        other => return Err(Life::StartIn(other.as_str()).into()),
    }
    let notify = Notify::bind(container.path())?;
    audited::begin(&container, &record, &[What::Start { pid: record.pid }])?;
    release(&container, &record)?;
    let outcome = hooks::run_poststart(&record);
    drop(lock);
    if let Err(error) = outcome {
        life::delete::delete(&global.root, &args.id, true, &hooks::run_poststop)?;
        return Err(error);
    }
    if let (Some(notify), Some(init)) = (notify, Init::of(&record)?) {
        notify.forward(record.pid, init.pidfd())?;
    }
    Ok(0)
}

/// Connects to the waiting process and hears whether the program is executed.
fn release(container: &Container, record: &Record) -> Result<()> {
    let connection = start_socket::connect(container.dir())?;
    // From here on the container is no longer `created`, whatever becomes of it.
    container.forget_start()?;
    let mut executing = false;
    let mut delivery = Delivery::default();
    loop {
        let message = protocol::hear_child(connection.as_fd()).map_err(|failure| {
            Error::system("hear from", "the container's first process", failure)
        })?;
        match message {
            Some(ToParent::Executing) => executing = true,
            Some(ToParent::Messenger(messenger)) => delivery.expect(messenger),
            Some(ToParent::Listener(listener)) => {
                delivery.await_end()?;
                announce::listener(record, Status::Created.as_str(), record.pid, &listener)?;
                protocol::proceed(connection.as_fd()).map_err(|failure| {
                    Error::system("answer", "the container's first process", failure)
                })?;
            }
            Some(ToParent::Failed { step, failure }) => {
                let late = &record.late_steps;
                let index = usize::from(step);
                let words = late
                    .steps
                    .get((index + 1).saturating_sub(late.first))
                    .cloned();
                let words = words.unwrap_or_else(|| "an unknown step".into());
                let step = Step {
                    words,
                    index,
                    of: late.of,
                    last: true,
                };
                return Err(step_error(step, &late.program, failure, None));
            }
            None if executing => return Ok(()),
            _ => {
                return Err(Error::Died {
                    how: "ended".into(),
                    during: "execute the program".into(),
                });
            }
        }
    }
}

/// What was asked of `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartArgs {
    /// The container's id.
    pub(crate) id: String,
}

impl StartArgs {
    /// Fails when there is no id.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Result<Self> {
        Ok(Self {
            id: options::operand(matches, "id")?,
        })
    }
}
