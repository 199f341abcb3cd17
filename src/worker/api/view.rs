//! A task as clients see it: every key of the OfflineTube v5 task object, always.

use serde::Serialize;
use utoipa::{ToSchema, openapi::Object};

use super::openapi::one_of;
use crate::worker::{
    language::Language,
    order::{KINDS, QUALITIES},
    playlist::{Part, Tally},
    task::{Status, Task},
    ytdlp::Progress,
};

/// A download.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskView {
    #[schema(format = Uuid)]
    id: String,
    /// The source.
    url: String,
    title: String,
    /// The path of a picture; empty for none.
    thumbnail: String,
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// In percent.
    #[schema(minimum = 0, maximum = 100)]
    progress: f64,
    /// Such as `5.2 MB/s`; empty unless it is downloading.
    speed: String,
    /// Such as `12s`, likewise.
    eta: String,
    /// In bytes.
    filesize: u64,
    downloaded_bytes: u64,
    format_note: String,
    /// Whether it is a list, whose films are downloads of their own.
    is_playlist: bool,
    /// Of a film of a list, its place, from 1; of a list, how many of its films have ended; 0 for a film by itself.
    playlist_index: u32,
    /// How many films the list has, 0 until it was read; 1 for a film by itself.
    playlist_total: u32,
    /// What `/api/stream/{filename}` takes; empty until it is completed.
    filename: String,
    #[schema(schema_with = qualities)]
    quality: String,
    #[schema(schema_with = kinds)]
    download_type: &'static str,
    /// Empty for none.
    error_message: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required, format = DateTime)]
    completed_at: Option<String>,
    /// The languages of its subtitles.
    subtitles: Vec<String>,
    /// The languages that were asked for and not found; empty until it is completed.
    subtitles_missing: Vec<String>,
    /// The list that it is a film of.
    #[schema(required, format = Uuid)]
    playlist_id: Option<String>,
}

fn statuses() -> Object {
    one_of("What becomes of it.", Status::SHOWN.map(Status::name))
}

pub(super) fn qualities() -> Object {
    one_of("The best picture that is wanted.", QUALITIES)
}

pub(super) fn kinds() -> Object {
    one_of("With the picture or without.", KINDS)
}

impl TaskView {
    /// `progress` is what is known of a task that runs.
    pub(crate) fn new(task: Task, progress: Option<Progress>) -> Self {
        let completed = task.status == Status::Completed;
        let live = progress.filter(|_| task.status == Status::Downloading).unwrap_or_default();
        let processing = progress.filter(|_| task.status == Status::Processing);
        let (is_playlist, index, total) = place(task.part);
        let percent = match task.part {
            Part::List(_, Tally { total, ended }) => f64::from(ended) / f64::from(total.max(1)) * 100.0,
            Part::Alone | Part::Entry(_) if completed || processing.is_some() => 100.0,
            Part::Alone | Part::Entry(_) => live.percent,
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
            playlist_id: task.part.list().map(|list| list.to_string()),
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

/// Whether a task is a list, and the two numbers that the API has for lists and their films.
fn place(part: Part) -> (bool, u32, u32) {
    match part {
        Part::Alone => (false, 0, 1),
        Part::List(_, Tally { total, ended }) => (true, ended, total),
        Part::Entry(place) => (false, place.index, place.total),
    }
}

/// "5.2 MB/s"
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
    use crate::worker::order::{Output, Quality};

    #[test]
    fn every_key_of_the_api_is_always_there() {
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
