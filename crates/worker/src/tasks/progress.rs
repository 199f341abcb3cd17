//! How far a download is.

/// The progress of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// 0 to 100.
    pub(crate) percent: f64,
    pub(crate) downloaded: u64,
    pub(crate) total: Option<u64>,
    /// In bytes per second.
    pub(crate) speed: Option<f64>,
    /// In seconds.
    pub(crate) eta: Option<f64>,
    /// Whether this track is complete.
    pub(crate) finished: bool,
}
