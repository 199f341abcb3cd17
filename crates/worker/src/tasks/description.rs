//! What a source reports about itself.

/// What a source reports about itself before it is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) title: String,
    pub(crate) format_note: String,
    pub(crate) filesize: u64,
}
