//! The running gateway: start, reload, hot restart and stop.

pub(super) mod certificates;
pub mod control;
pub(super) mod effect;
pub(super) mod hot_restart;
pub(super) mod reload;
pub(super) mod run;
