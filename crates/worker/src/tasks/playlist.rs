//! How tasks relate to a playlist.

use std::num::NonZeroU16;

use super::id::TaskId;

/// How much of a playlist to download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaylistExtent {
    /// All of it; fails if it has more videos than a playlist may have.
    Whole,
    /// At most this many videos from its beginning.
    First(NonZeroU16),
}

/// How a task relates to a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaylistRole {
    /// A single video, outside a playlist.
    Single,
    /// A playlist; its videos become tasks of their own once it has been read.
    List(PlaylistExtent, PlaylistProgress),
    /// A video of a playlist.
    Entry(PlaylistPosition),
}

/// The progress of a playlist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlaylistProgress {
    /// How many videos it had when it was read; 0 before that.
    pub(crate) total: u32,
    /// How many of them have ended, successfully or not.
    pub(crate) ended: u32,
}

/// The position of a video in a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaylistPosition {
    pub(crate) list: TaskId,
    /// From 1.
    pub(crate) index: u32,
    pub(crate) total: u32,
    /// The number of the video on the playlist's page, if it has no page of its own.
    pub(crate) item: Option<u32>,
}

/// A video of a playlist that has just been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlaylistEntry {
    pub(crate) url: String,
    pub(crate) title: String,
    pub(crate) item: Option<u32>,
    /// The reason why it cannot be downloaded.
    pub(crate) fault: Option<String>,
}

impl PlaylistRole {
    /// Returns the playlist that the video belongs to.
    pub(crate) fn list(self) -> Option<TaskId> {
        match self {
            Self::Entry(place) => Some(place.list),
            Self::Single | Self::List(..) => None,
        }
    }

    /// Returns the number of the video on the playlist's page, if it has no page of its own.
    pub(crate) fn item(self) -> Option<u32> {
        match self {
            Self::Entry(place) => place.item,
            Self::Single | Self::List(..) => None,
        }
    }
}

impl PlaylistExtent {
    /// Returns the number that is stored.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Whole => 0,
            Self::First(most) => most.get(),
        }
    }

    pub(crate) fn of_number(number: u16) -> Self {
        NonZeroU16::new(number).map_or(Self::Whole, Self::First)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_restored_as_it_was_stored() {
        for extent in
            [PlaylistExtent::Whole, PlaylistExtent::First(NonZeroU16::MIN), PlaylistExtent::First(NonZeroU16::MAX)]
        {
            assert_eq!(PlaylistExtent::of_number(extent.number()), extent);
        }
    }
}
