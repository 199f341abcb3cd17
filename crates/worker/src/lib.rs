//! The download and stream worker: serves the OfflineTube v5 API on loopback to requests that the gateway signed.
//!
//! A request passes `api::guard` (which user is it?) and a handler in `api`, and ends at the `store` (tasks) or in `media` (files).
//! Meanwhile the `queue` claims pending tasks in order and runs each as one of the `jobs`: one yt-dlp child in a folder of its own, whose
//! result is moved into place only after it has been checked.
//!
//! The rooms, from top to bottom. Each imports only rooms below it:
//!
//! * `serve` starts and stops the worker; `trial` checks what downloads need, for `sallyport check`.
//! * `api` holds the routes, who may call them, and the only place where errors become responses.
//! * `housekeeping` sweeps at startup and later: retention, idle streams, the media folder against the database.
//! * `queue` decides which task runs when, and stores how it ended.
//! * `jobs` are the runs of tasks: one download, its thumbnail and subtitles, its note for a power cut.
//! * `streaming` is what clients read: files, ranges, archives and HLS.
//! * `ytdlp` runs yt-dlp and ffmpeg as children: their arguments, their sandboxed run and their output.
//! * `media` is the folder of files, finished and unfinished.
//! * `store` is the database of tasks.
//! * `events` are the changes of tasks, for subscribers.
//! * `shares` limits what users share, in total, per user and per link.
//! * `tasks` are the types that everything above speaks of.
//! * `sandbox` confines children, `disk` watches the free space, and `egress` is the egress guard.
#![forbid(unsafe_code)]

mod api;
mod disk;
pub mod egress;
mod events;
mod housekeeping;
mod jobs;
mod media;
mod queue;
mod sandbox;
mod serve;
mod shares;
mod store;
pub mod streaming;
mod tasks;
mod trial;
mod ytdlp;

pub use self::api::openapi::document as openapi;
pub use self::sandbox::confine;
pub use self::serve::{Stage, WorkerError, serve};
pub use self::tasks::file_name::public_name;
pub use self::tasks::id::{InvalidTaskId, TaskId};
pub use self::trial::{MissingRequirement, trial};
