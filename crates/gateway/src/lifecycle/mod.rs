//! The running gateway: start, reload, hot restart and stop.

mod certificates;
pub mod control;
mod control_server;
mod error;
mod hot_restart;
mod reload;
mod run;

pub use self::error::GatewayError;
pub use self::hot_restart::{Inheritance, InheritanceError};
pub use self::run::run;
