//! The running gateway: start, reload, hot restart and stop, and the state that changes meanwhile.

pub(super) mod certificates;
pub mod control;
pub(super) mod credentials;
pub(super) mod effect;
pub(super) mod geoip;
pub(super) mod hot_restart;
pub(super) mod reload;
pub(super) mod run;
pub(super) mod state;
pub(super) mod withdrawn;
pub(super) mod worker_watch;
