//! The download and stream worker: serves the OfflineTube v5 API on loopback to requests that the gateway signed.
//!
//! A request passes `guard` (which user is it?) and a handler in `api`, and ends at the `store` (tasks) or in `media` (files).
//! Meanwhile the `queue` claims pending tasks in order and runs each as a `job`: one yt-dlp child in a folder of its own, whose result is
//! moved into place only after it has been checked.

mod api;
mod disk;
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

pub use sandbox::confine;
pub use serve::{Stage, WorkerError, serve};
pub(crate) use trial::trial;
