//! Which subtitles a request asks for.

use super::language::Languages;

/// The subtitles that a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WantedSubtitles {
    pub(crate) languages: Languages,
    /// Accept automatically generated subtitles where the site has no others.
    pub(crate) automatic: bool,
}
