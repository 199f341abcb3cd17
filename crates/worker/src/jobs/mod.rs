//! Jobs: what one download runs, watches, limits and leaves behind.

pub(super) mod beginnings;
pub(super) mod disk_usage;
pub(super) mod egress_tokens;
pub(super) mod job;
pub(super) mod parts;
pub(super) mod registry;
pub(super) mod stall_watchdog;
pub(super) mod subtitles;
pub(super) mod thumbnail;
pub(super) mod watch;
