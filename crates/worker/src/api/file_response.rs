//! Answers a request with a finished file, or with one that belongs to it.

use std::path::PathBuf;

use axum::{
    extract::{ConnectInfo, FromRequestParts, rejection::ExtensionRejection},
    http::{HeaderMap, Method, request::Parts},
    response::Response,
};

use super::{App, readable_file::ReadableFile, refusal::Refusal};
use crate::{
    media::MediaFolder,
    store::Store,
    streaming::{
        send::{Disposition, FinishedContent, Sending},
        sendfile::SendQueue,
    },
    tasks::id::TaskId,
};

/// A response with a file, which the request's method and headers shape.
pub(super) struct FileResponse {
    store: Store,
    media: MediaFolder,
    method: Method,
    headers: HeaderMap,
    send_queue: SendQueue,
}

impl FromRequestParts<App> for FileResponse {
    type Rejection = ExtensionRejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let ConnectInfo(send_queue) = ConnectInfo::from_request_parts(parts, app).await?;
        let context = app.queue.context();
        Ok(Self {
            store: context.store.clone(),
            media: context.media.clone(),
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            send_queue,
        })
    }
}

impl FileResponse {
    /// Answers with the finished file itself, and records a play.
    pub(super) async fn media(self, file: ReadableFile, disposition: Disposition) -> Result<Response, Refusal> {
        self.note_play(&file);
        let ReadableFile { task, media, reading } = file;
        let sending = Sending {
            id: task.id,
            path: self.media.file(task.id, media),
            content_type: media.content_type(),
            disposition,
            name: task.file_name(),
            reading,
            content: task.digest.zip(task.completed_at).map(|(digest, at)| FinishedContent {
                digest,
                bytes: task.filesize,
                at,
            }),
        };
        self.send(sending).await
    }

    /// Answers with another file of the same task.
    pub(super) async fn other_file(
        self,
        file: ReadableFile,
        path: PathBuf,
        content_type: &'static str,
    ) -> Result<Response, Refusal> {
        let ReadableFile { task, reading, .. } = file;
        let disposition = Disposition::Inline;
        self.send(Sending { id: task.id, path, content_type, disposition, name: None, reading, content: None }).await
    }

    /// Records a play, unless the client requests only the headers.
    pub(super) fn note_play(&self, file: &ReadableFile) {
        if self.method == Method::GET {
            note_play(&self.store, file.task.id);
        }
    }

    async fn send(self, sending: Sending) -> Result<Response, Refusal> {
        Ok(sending.respond(&self.method, &self.headers, self.send_queue).await?)
    }
}

/// Records a play in the background, so that the first byte does not wait for the disk.
pub(super) fn note_play(store: &Store, id: TaskId) {
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = store.played(id).await {
            tracing::warn!(task = %id, %error, "a play could not be recorded");
        }
    });
}
