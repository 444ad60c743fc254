//! Ending with the caller.

use crate::error::{Error, Result};
use crate::sys::signal;

/// Has the kernel kill this process when its parent ends; what it launches then
/// with `die_with_parent` goes with it.
///
/// The kernel means the parent's thread that started this process, not the whole
/// parent.
///
/// # Errors
/// [`Error::Missing`] when the parent has ended already; [`Error::System`].
pub fn end_with_parent() -> Result<()> {
    let parent = signal::parent();
    signal::at_end_of_parent(libc::SIGKILL).map_err(|failure| {
        Error::system("ask for", "a signal at the end of the caller", failure)
    })?;
    // It may have ended before the kernel was asked, and then no signal comes. With
    // a number of 1 it is process 1, or had ended before that.
    if signal::parent() == parent {
        return Ok(());
    }
    Err(Error::Missing {
        doing: "end with the caller".into(),
        missing: "it has ended already".into(),
        repair: "leave --die-with-parent out to go on alone".into(),
    })
}
