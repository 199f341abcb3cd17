//! The download and stream worker: serves the OfflineTube v5 API on loopback to requests that the gateway signed.
//!
//! A request passes `guard` (which user is it?) and a handler in `api`, and ends at the `store` (tasks) or in `media` (files).
//! Meanwhile the `queue` claims pending tasks in order and runs each as a `job`: one yt-dlp child in a folder of its own, whose result is
//! moved into place only after it has been checked.

mod api;
mod archive;
mod beginnings;
mod body;
mod budget;
mod caller;
mod conduit;
mod digest;
mod disk;
mod events;
mod file_name;
mod giving_way;
mod guard;
pub mod hls;
mod inventory;
mod job;
mod language;
mod library;
mod media;
mod media_type;
mod multipart;
mod order;
mod owner;
mod page_cache;
mod parts;
mod passes;
mod playlist;
mod premiere;
mod queue;
mod quiet;
pub mod range;
mod readers;
mod refusal;
mod removal;
mod replay;
mod retention;
mod retry;
mod running;
mod sandbox;
mod send;
mod serve;
mod shares;
mod sharing;
mod sniff;
mod source;
mod store;
mod subtitles;
mod task;
mod thumbnail;
mod trial;
mod watch;
pub mod webvtt;
mod written;
mod ytdlp;

pub use sandbox::confine;
pub use serve::{Stage, WorkerError, serve};
pub(crate) use trial::trial;
