//! Removes prepared streams that have not been used for long.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::streaming::hls::Streams;

/// Removes streams that have not been used for longer than `keep`, until `stop` is cancelled.
pub(super) async fn tidy(streams: &Streams, keep: Duration, stop: &CancellationToken) {
    let pause = (keep / 4).clamp(Duration::from_secs(1), Duration::from_mins(10));
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        if let Err(error) = streams.remove_idle(keep).await {
            tracing::error!(%error, "prepared streams could not be scanned");
        }
    }
}
