//! The worker over the wire: the built program, real yt-dlp and ffmpeg, media from a loopback server.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod client;
mod media;
mod origin;
mod process;

mod bodies;
mod downloads;
mod files;
mod guard;
mod looks;
mod recovery;
mod sockets;
mod tools;
