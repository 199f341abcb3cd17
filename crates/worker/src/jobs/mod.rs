//! Jobs: what one download runs, watches, limits and leaves behind.

pub(super) mod announcer;
mod beginnings;
mod child_output;
pub(super) mod context;
pub(super) mod dedup;
pub(super) mod failure;
pub(super) mod job;
mod listen;
mod parts;
mod playlist;
pub(super) mod registry;
mod stall_watchdog;
mod subtitles;
mod thumbnail;
mod watch;
