//! Sets up `tracing`: plain lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging by a filter in `tracing` syntax, such as "info" or "info,sallyport::policy=debug".
///
/// Pingora logs a line for every HTTP/2 client that hangs up, so it is not heard at all; what matters of it is told by
/// the gateway.
pub fn start(filter: &str) {
    let filter = EnvFilter::try_new(format!("pingora=off,pingora_core=off,{filter}"));
    let stderr = std::io::stderr();
    let builder = tracing_subscriber::fmt().with_ansi(stderr.is_terminal()).with_writer(std::io::stderr);
    let _ = builder.with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info"))).try_init();
}
