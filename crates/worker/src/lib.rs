//! The download and stream worker: serves the OfflineTube v5 API on loopback to requests that the gateway signed.
//!
//! A request passes `api::guard` (which user is it?) and a handler in `api`, and ends at the `store` (tasks) or in `media` (files).
//! Meanwhile the `queue` claims pending tasks in order and runs each as one of the `jobs`: one yt-dlp child in a folder of its own, whose
//! result is moved into place only after it has been checked.
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
pub use self::trial::{Lack, trial};
