//! Files: renames that survive a power cut, files that have stopped changing, and system errors in words.

pub mod durable;
pub mod os_error;
pub mod settled;
