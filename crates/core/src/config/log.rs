//! `[log]`: what is logged, and how much of it is kept.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    base::Base,
    effect::{RESTART_ALL, toml_table},
    fault::Faults,
    units::ByteSize,
};

/// The maximum number of rotated access logs.
const MAX_KEEP: u32 = 1_000;

toml_table! {
    /// `[log]`
    struct LogToml {
        level: String = "info".into() => RESTART_ALL;
        access: PathBuf = "data/access.log".into() => RESTART_ALL;
        access_format: AccessFormat = AccessFormat::Json => RESTART_ALL;
        access_lines_per_client: u32 = 200 => RESTART_ALL;
        access_bytes_per_day: ByteSize = ByteSize(900 << 20) => RESTART_ALL;
        access_max_size: ByteSize = ByteSize(100 << 20) => RESTART_ALL;
        access_keep: u32 = 9 => RESTART_ALL;
        disk_reserve: ByteSize = ByteSize(256 << 20) => RESTART_ALL;
    }
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// One JSON object per line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// The settings for logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter in `tracing` syntax.
    pub level: String,
    /// The file of the access log.
    pub access: PathBuf,
    /// The format of the access log.
    pub access_format: AccessFormat,
    /// The number of lines per second for one user or client.
    pub access_lines_per_client: NonZeroU32,
    /// The number of bytes that the access log may grow by per day; `None` means no limit.
    pub access_bytes_per_day: Option<NonZeroU64>,
    /// The size at which the access log is rotated, in bytes; `None` means never.
    pub access_max_size: Option<NonZeroU64>,
    /// How many rotated files are kept.
    pub access_keep: u32,
    /// The free space, in bytes, below which only requests of users are logged.
    pub disk_reserve: u64,
}

impl LogConfig {
    pub(super) fn resolve(log: LogToml, base: Base<'_>, faults: &mut Faults<'_>) -> Self {
        if !is_level(&log.level) {
            faults.add("level", format!("{:?} is not a level; write error, warn, info, debug or trace", log.level));
        }
        let lines = NonZeroU32::new(log.access_lines_per_client);
        if lines.is_none() {
            faults.add("access_lines_per_client", "0 would log nothing; write at least 1");
        }
        if log.access_keep > MAX_KEEP {
            faults.add("access_keep", format!("every rotation renames each file; write at most {MAX_KEEP}"));
        }
        Self {
            level: log.level,
            access: base.path(log.access),
            access_format: log.access_format,
            access_lines_per_client: lines.unwrap_or(NonZeroU32::MIN),
            access_bytes_per_day: NonZeroU64::new(log.access_bytes_per_day.0),
            access_max_size: NonZeroU64::new(log.access_max_size.0),
            access_keep: log.access_keep,
            disk_reserve: log.disk_reserve.0,
        }
    }
}

/// Returns true for a level, and for a filter that names levels.
fn is_level(text: &str) -> bool {
    // A single unknown word would be accepted as the name of a module, which never logs.
    let lone = !text.contains(['=', ',']);
    (!lone || text.parse::<LevelFilter>().is_ok()) && EnvFilter::try_new(text).is_ok()
}
