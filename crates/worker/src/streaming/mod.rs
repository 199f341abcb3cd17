//! Streaming: finished files, parts of them, archives and HLS, sent while clients read.

pub(super) mod archive;
pub(super) mod budget;
pub mod hls;
pub(super) mod listener;
pub(super) mod multipart;
pub(super) mod page_cache;
mod pieces;
pub mod range;
pub(super) mod send;
pub(super) mod sendfile;
pub mod webvtt;
