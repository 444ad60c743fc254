//! `--image`: the root of a sandbox from an image layout on disk.

use std::path::PathBuf;

use super::choices::Choices;
use crate::error::{Error, Result};
use crate::image::{self, Cache, Identity, Image, Limits, Line, Reference};

/// Unpacks the image, unless that was done before; `None` without one.
///
/// # Errors
/// [`Error::Image`] for everything that is not as its digest says.
pub(super) fn open(choices: &Choices) -> Result<Option<Image>> {
    let Some(text) = &choices.image else {
        return Ok(None);
    };
    if choices.rootfs.is_some() {
        return Err(Error::Usage(
            "--image and --rootfs are two roots: give one of them".into(),
        ));
    }
    let reference = Reference::parse(text)?;
    let cache = Cache::open(&Cache::base(|name| std::env::var_os(name))?)?;
    let mut line = Line::new("unpacking");
    let mut progress = |done, total| line.show(done, total);
    image::open(&reference, &cache, Limits::default(), &mut progress).map(Some)
}

/// What an image's author wants, wherever the person did not say otherwise.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Variables, in order.
    pub(super) env: Vec<(String, String)>,
    /// User and group.
    pub(super) user: Option<(u32, Option<u32>)>,
    /// Where the program begins.
    pub(super) directory: Option<PathBuf>,
}

impl Wishes {
    /// Those of an image.
    ///
    /// # Errors
    /// [`Error::Image`] for a user that the image itself does not know.
    pub(super) fn of(image: &Image) -> Result<Self> {
        let config = &image.config;
        let user = match config.user.as_str() {
            "" => None,
            name => Some(Identity::find(&image.rootfs, name)?),
        };
        let env = config.env.iter().filter_map(|entry| entry.split_once('='));
        Ok(Self {
            command: [config.entrypoint.as_slice(), config.cmd.as_slice()].concat(),
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            user: user.map(|user| (user.uid, Some(user.gid))),
            directory: (!config.working_dir.is_empty()).then(|| config.working_dir.clone().into()),
        })
    }
}
