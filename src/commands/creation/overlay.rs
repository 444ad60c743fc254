//! The overlay of a container that is given a user namespace.

use super::Creation;
use crate::commands::given::Given;
use crate::error::{Error, Result};
use crate::execute::overlay::{self, Overlay};

impl Creation<'_> {
    /// Makes it, once the record says what will have to be undone.
    pub(super) fn make_overlay(&mut self, given: &mut Option<Given>) -> Result<Option<Overlay>> {
        let Some(given) = given else {
            return Ok(None);
        };
        let Some(begun) = given.overlay.take() else {
            return Ok(None);
        };
        let first = given.range.first;
        self.record.overlay = begun.record(first);
        if let Some(overlay) = &self.record.overlay {
            self.slot.container().save(&self.record)?;
            overlay::prepare(overlay, &self.record.rootfs)?;
        }
        let rootfs = self.record.rootfs.display();
        let made = begun.finish(first, self.record.overlay.as_ref());
        made.map(Some).map_err(|failure| {
            let doing = "map the ids (--relax userns leaves that out) of the overlay";
            Error::system(doing, rootfs, failure)
        })
    }
}
