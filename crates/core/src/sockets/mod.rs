//! Sockets: binding, accepting, inheriting and passing them on.

pub mod fd_passing;
pub mod inherited;
pub mod listener;
pub mod tcp_tuning;
pub mod write_all;
