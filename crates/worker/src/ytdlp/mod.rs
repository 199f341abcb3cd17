//! yt-dlp as a child process: the program, its arguments, its run in the sandbox and its output.

mod child;
mod command;
pub(crate) mod companion;
mod complaint;
mod event;
mod limits;
mod listing;
mod program_paths;
mod run;
mod sandboxed;
mod tools;
mod tracks;

pub(crate) use self::command::{
    DEMUXERS, DownloadLimits, VideoRef, download, listing, page_metadata, search, subtitles,
};
pub(crate) use self::complaint::{Kind, YtDlpError, for_the_log};
pub(crate) use self::event::Event;
pub(crate) use self::limits::Limits;
pub(crate) use self::listing::ListedVideo;
pub(crate) use self::run::{End, Line, Run};
pub(crate) use self::sandboxed::SandboxedRun;
pub(crate) use self::tools::{Readiness, Tools, Unready, located};
pub(crate) use self::tracks::Tracks;
