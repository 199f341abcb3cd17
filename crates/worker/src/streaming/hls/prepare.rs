//! Prepares the stream of one file.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    RemuxError,
    error::blocking,
    folder::{Prepared, StagingFolder},
    remux::Ffmpeg,
};
use crate::{
    disk::Disks,
    media::MediaFolder,
    store::Store,
    tasks::{id::TaskId, task::Task},
    ytdlp::Readiness,
};

/// What preparing a stream needs.
pub(crate) struct Remuxer {
    pub(crate) store: Store,
    pub(crate) media: MediaFolder,
    pub(crate) disks: Disks,
    pub(crate) readiness: Arc<Readiness>,
    /// The time limit of one preparation.
    pub(crate) time: Duration,
}

impl Remuxer {
    /// Prepares the stream of a task's finished file, unless it is there already.
    pub(super) async fn prepare(&self, id: TaskId, stop: &CancellationToken) -> Result<(), RemuxError> {
        // The task is read only now, when a removal would find and stop this preparation.
        let task = self.store.get(id).await?;
        let file = task.as_ref().and_then(Task::finished).map(|media| self.media.file(id, media));
        let file = file.ok_or(RemuxError::Gone)?;
        let prepared = Prepared::of(&self.media, id);
        if prepared.is_there() {
            return Ok(());
        }
        tracing::info!(task = %id, "a stream is being prepared");
        let tools = self.readiness.tools().await?;
        let program = tools.ffmpeg.clone().ok_or(RemuxError::NoFfmpeg)?;
        self.disks.room().await?;
        let media = self.media.clone();
        let staging = blocking(move || StagingFolder::begin(&media)).await?;
        let folder = staging.folder();
        let bytes = task.map_or(0, |task| task.filesize);
        let ffmpeg =
            Ffmpeg { tools: &tools, program: &program, folder: &folder, file: &file, disks: &self.disks, stop };
        let made = match ffmpeg.codecs().await {
            Ok(codecs) => ffmpeg.remux(&codecs, bytes, self.time).await,
            Err(error) => Err(error),
        };
        // The closure also drops, and so removes, the folder of a failed preparation.
        let made = blocking(move || {
            let staging = staging;
            if made.is_ok() { staging.publish(&prepared).map(|()| made) } else { Ok(made) }
        });
        made.await?
    }
}
