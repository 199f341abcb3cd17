//! yt-dlp as a child process: the program, its arguments, its confinement and its output.

mod child;
mod command;
pub(crate) mod companion;
mod complaint;
mod event;
mod listing;
mod program_paths;
mod run;
mod tools;
mod tracks;

pub(crate) use self::child::Confined;
pub(crate) use self::command::{DEMUXERS, DownloadLimits, Sought, download, listing, look_at, search, subtitles};
pub(crate) use self::complaint::{Kind, YtDlpError, for_the_log};
pub(crate) use self::event::{Event, Progress};
pub(crate) use self::listing::Listed;
pub(crate) use self::run::{Bounds, End, Line, Run};
pub(crate) use self::tools::{Readiness, Tools, Unready, located};
pub(crate) use self::tracks::Tracks;
