//! Housekeeping: what is swept at startup, and while the worker runs. It stands above everything that it sweeps.

mod reconcile;
mod retention;
mod streams;

use tokio_util::sync::CancellationToken;

use crate::{queue::Queue, store::StoreError};

/// Finishes what an earlier process left undone, and compares the media folder with the database.
pub(crate) async fn at_startup(queue: &Queue) -> Result<(), StoreError> {
    queue.tidy().await?;
    let context = queue.context();
    if let Err(error) = reconcile::reconcile(&context.store, &context.media).await {
        tracing::error!(%error, "cannot compare the media folder with the database");
    }
    Ok(())
}

/// Removes what exceeds its limits until `stop` is cancelled.
pub(crate) async fn keep(queue: &Queue, stop: &CancellationToken) {
    tokio::join!(
        retention::enforce(queue, stop),
        streams::tidy(queue.streams(), queue.context().config.hls_keep_for, stop)
    );
}
