//! The finished file that a request names in its path, if its caller may read it.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use unicode_normalization::UnicodeNormalization;

use super::{App, refusal::Refusal};
use crate::{
    media::read_leases::ReadLease,
    tasks::{caller::Caller, file_name::task_of, id::TaskId, media_type::MediaType, task::Task},
};

/// A finished file that its caller may read. It is not removed before this is dropped.
pub(super) struct ReadableFile {
    pub(super) task: Task,
    pub(super) media: MediaType,
    pub(super) reading: Arc<ReadLease>,
}

/// The reason why a request names no readable file.
pub(super) enum Unreadable {
    /// There is no such download, it is not finished, or it belongs to another user. The response is the same for all three.
    NotFound,
    Refused(Refusal),
}

/// How a path names a file. What a client sends is looked up; it never becomes part of a path on disk.
enum Name {
    Id(TaskId),
    /// The public name of the file.
    Public(String),
}

impl ReadableFile {
    /// Returns the finished file of the task with this id, if there is one that `caller` may read.
    pub(super) async fn find(app: &App, caller: &Caller, id: TaskId) -> Result<Option<Self>, Refusal> {
        let context = app.queue.context();
        let task = context.store.find(id, caller).await?;
        Ok(task.and_then(|task| {
            let media = task.finished()?;
            Some(Self { media, reading: context.media.read(task.id), task })
        }))
    }
}

impl FromRequestParts<App> for ReadableFile {
    type Rejection = Unreadable;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Unreadable> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let params = RawPathParams::from_request_parts(parts, app).await.map_err(|_| Unreadable::NotFound)?;
        let name = params.iter().find_map(|(key, value)| Name::parse(key, value)).ok_or(Unreadable::NotFound)?;
        let id = name.id().ok_or(Unreadable::NotFound)?;
        let file = Self::find(app, &caller, id).await?.filter(|file| name.names(&file.task));
        file.ok_or(Unreadable::NotFound)
    }
}

impl Name {
    /// Parses a parameter of the path. Returns `None` for one that names no file.
    fn parse(key: &str, value: &str) -> Option<Self> {
        match key {
            "id" => value.parse().ok().map(Self::Id),
            // File names in the API are in NFC; macOS decomposes them.
            "filename" => Some(Self::Public(value.nfc().collect())),
            _ => None,
        }
    }

    fn id(&self) -> Option<TaskId> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Public(name) => task_of(name),
        }
    }

    /// Returns true if this is a name of the file of `task`, whose id it contains.
    fn names(&self, task: &Task) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Public(name) => task.file_name().as_ref() == Some(name),
        }
    }
}

impl Unreadable {
    /// Returns the refusal, with the 404 text of the route.
    pub(super) fn refusal(self, not_found: &'static str) -> Refusal {
        match self {
            Self::NotFound => Refusal::not_found(not_found),
            Self::Refused(refusal) => refusal,
        }
    }
}

impl From<Refusal> for Unreadable {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Unreadable {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => Refusal::no_such_download().into_response(),
            Self::Refused(refusal) => refusal.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{
        order::{Output, Quality},
        task::Status,
    };

    fn task() -> Task {
        let task = Task::new("ana".parse().unwrap(), String::new(), Quality::Best, Output::Video(None));
        Task { title: "é".into(), media: "mp4".parse().ok(), status: Status::Completed, ..task }
    }

    #[test]
    fn a_file_is_named_by_its_id_or_by_its_exact_public_name() {
        let task = task();
        let names = |key: &str, value: &str| {
            Name::parse(key, value).is_some_and(|name| name.id() == Some(task.id) && name.names(&task))
        };
        assert!(names("id", &task.id.to_string()));
        assert!(names("filename", &format!("é__{}.mp4", task.id)));
        assert!(names("filename", &format!("e\u{301}__{}.mp4", task.id)), "macOS decomposes names");
        for wrong in [format!("e__{}.mp4", task.id), format!("é__{}.mkv", task.id), task.id.to_string()] {
            assert!(!names("filename", &wrong), "{wrong}");
        }
        assert!(!names("id", &TaskId::random().to_string()) && !names("file", &task.id.to_string()));
    }
}
