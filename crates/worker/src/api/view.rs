//! A task as clients see it. Every key of the OfflineTube v5 task object is always present.

use serde::Serialize;
use utoipa::{ToSchema, openapi::Object};

use super::openapi::one_of;
use crate::tasks::{
    language::Language,
    order::{KINDS, QUALITIES},
    playlist::{PlaylistProgress, PlaylistRole},
    progress::Progress,
    task::{Status, Task},
};

/// A download.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskView {
    #[schema(format = Uuid)]
    id: String,
    /// The URL of the source.
    url: String,
    title: String,
    /// The path of the thumbnail; empty if there is none.
    thumbnail: String,
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// In percent.
    #[schema(minimum = 0, maximum = 100)]
    progress: f64,
    /// Such as `5.2 MB/s`; empty unless the status is `downloading`.
    speed: String,
    /// Such as `12s`; empty unless the status is `downloading`.
    eta: String,
    /// In bytes.
    filesize: u64,
    downloaded_bytes: u64,
    format_note: String,
    /// Whether this is a playlist, whose videos are separate downloads.
    is_playlist: bool,
    /// For a video of a playlist, its position, from 1. For a playlist, how many of its videos have ended. 0 for a single video.
    playlist_index: u32,
    /// The number of videos in the playlist; 0 until it has been read. 1 for a single video.
    playlist_total: u32,
    /// The file name for `/api/stream/{filename}`; empty until the download is completed.
    filename: String,
    #[schema(schema_with = qualities)]
    quality: String,
    #[schema(schema_with = kinds)]
    download_type: &'static str,
    /// Empty if there is no error.
    error_message: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required, format = DateTime)]
    completed_at: Option<String>,
    /// The languages of its subtitles.
    subtitles: Vec<String>,
    /// The requested languages that were not found; empty until the download is completed.
    subtitles_missing: Vec<String>,
    /// The playlist that this video belongs to.
    #[schema(required, format = Uuid)]
    playlist_id: Option<String>,
}

fn statuses() -> Object {
    one_of("The state of the download.", Status::SHOWN.map(Status::name))
}

pub(super) fn qualities() -> Object {
    one_of("The highest video quality to download.", QUALITIES)
}

pub(super) fn kinds() -> Object {
    one_of("Video, or audio only.", KINDS)
}

impl TaskView {
    /// `progress` is the latest progress of a running task.
    pub(crate) fn new(task: Task, progress: Option<Progress>) -> Self {
        let completed = task.status == Status::Completed;
        let live = progress.filter(|_| task.status == Status::Downloading).unwrap_or_default();
        let processing = progress.filter(|_| task.status == Status::Processing);
        let (is_playlist, index, total) = place(task.playlist_role);
        let percent = match task.playlist_role {
            PlaylistRole::List(_, PlaylistProgress { total, ended }) => {
                f64::from(ended) / f64::from(total.max(1)) * 100.0
            }
            PlaylistRole::Single | PlaylistRole::Entry(_) if completed || processing.is_some() => 100.0,
            PlaylistRole::Single | PlaylistRole::Entry(_) => live.percent,
        };
        let subtitles_missing = if completed && !is_playlist { missing(&task) } else { Vec::new() };
        let thumbnail = if task.has_thumbnail { format!("/api/thumbnails/{}", task.id) } else { String::new() };
        Self {
            id: task.id.to_string(),
            thumbnail,
            status: task.status.shown(),
            progress: (percent * 10.0).round() / 10.0,
            speed: live.speed.map(speed).unwrap_or_default(),
            eta: live.eta.map(|seconds| format!("{seconds:.0}s")).unwrap_or_default(),
            filesize: if completed { task.filesize } else { live.total.unwrap_or(task.filesize) },
            downloaded_bytes: if completed { task.filesize } else { progress.map_or(0, |p| p.downloaded) },
            format_note: task.format_note.clone(),
            is_playlist,
            playlist_index: index,
            playlist_total: total,
            playlist_id: task.playlist_role.list().map(|list| list.to_string()),
            filename: task.file_name().unwrap_or_default(),
            quality: task.quality.to_string(),
            download_type: task.output.kind(),
            error_message: task.error_message,
            created_at: task.created_at.to_string(),
            completed_at: task.completed_at.map(|at| at.to_string()),
            subtitles_missing,
            subtitles: task.subtitles.iter().map(ToString::to_string).collect(),
            url: task.url,
            title: task.title,
        }
    }
}

fn missing(task: &Task) -> Vec<String> {
    let lacks = |range: &&Language| task.subtitles.best(range).is_none();
    task.wanted.languages.iter().filter(lacks).map(ToString::to_string).collect()
}

/// Returns `is_playlist`, `playlist_index` and `playlist_total` for a task.
fn place(playlist_role: PlaylistRole) -> (bool, u32, u32) {
    match playlist_role {
        PlaylistRole::Single => (false, 0, 1),
        PlaylistRole::List(_, PlaylistProgress { total, ended }) => (true, ended, total),
        PlaylistRole::Entry(place) => (false, place.index, place.total),
    }
}

/// Formats a speed, as in `5.2 MB/s`.
fn speed(bytes: f64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((name, size)) => format!("{:.1} {name}/s", bytes / size),
        None => format!("{bytes:.0} B/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::order::{Output, Quality};

    #[test]
    fn every_key_of_the_api_is_always_present() {
        let task = Task::new("ana".parse().unwrap(), "https://e.com/".into(), Quality::Best, Output::Video(None));
        let json = serde_json::to_value(TaskView::new(task, None)).unwrap();
        for key in "id url title thumbnail status progress speed eta filesize downloaded_bytes format_note is_playlist \
            playlist_index playlist_total filename quality download_type error_message created_at completed_at subtitles \
            playlist_id"
            .split_whitespace()
        {
            assert!(json.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn speeds_read_as_people_write_them() {
        assert_eq!(speed(5_200_000.0), "5.2 MB/s");
        assert_eq!(speed(999.0), "999 B/s");
    }
}
