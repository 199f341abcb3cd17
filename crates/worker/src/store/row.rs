//! Reads a task from a row of its table.

use rusqlite::{Row, types::Type};

use super::text::Field;

use crate::tasks::{
    order::{Output, Priority},
    playlist::{PlaylistExtent, PlaylistPosition, PlaylistProgress, PlaylistRole},
    subtitles::WantedSubtitles,
    task::Task,
};

/// The columns, in the order in which [`read`] expects them.
pub(super) const COLUMNS: &str = "id, owner, url, quality, download_type, format, status, title, format_note, filesize, \
    extension, has_thumbnail, error_message, created_at, completed_at, sha256, priority, \
    wanted_subtitles, automatic_subtitles, subtitles, list_extent, list_total, list_ended, list, list_index, list_item, \
    max_filesize, announced";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Task> {
    let kind: String = row.get(4)?;
    let format: Option<String> = row.get(5)?;
    let output = Output::parse(&kind, format.as_deref()).map_err(|e| unreadable(5, e))?;
    let extension: Option<String> = row.get(10)?;
    Ok(Task {
        id: parsed(row, 0)?,
        owner: parsed(row, 1)?,
        url: Field::Url.read(row, 2)?,
        quality: parsed(row, 3)?,
        output,
        status: parsed(row, 6)?,
        title: Field::Title.read(row, 7)?,
        format_note: Field::Note.read(row, 8)?,
        filesize: row.get::<_, i64>(9)?.max(0).cast_unsigned(),
        media: extension.map(|e| e.parse()).transpose().map_err(|e| unreadable(10, e))?,
        has_thumbnail: row.get(11)?,
        error_message: Field::Message.read(row, 12)?,
        created_at: parsed(row, 13)?,
        completed_at: optional(row, 14)?,
        digest: optional(row, 15)?,
        priority: Priority::of_rank(row.get(16)?),
        wanted: WantedSubtitles { languages: parsed(row, 17)?, automatic: row.get(18)? },
        subtitles: parsed(row, 19)?,
        playlist_role: playlist_role(row)?,
        max_filesize: row.get::<_, Option<i64>>(26)?.map(i64::cast_unsigned),
        announced: row.get(27)?,
    })
}

fn playlist_role(row: &Row<'_>) -> rusqlite::Result<PlaylistRole> {
    let extent: Option<u16> = row.get(20)?;
    let total: u32 = row.get(21)?;
    Ok(match (extent, optional(row, 23)?) {
        (Some(extent), _) => {
            PlaylistRole::List(PlaylistExtent::of_number(extent), PlaylistProgress { total, ended: row.get(22)? })
        }
        (None, Some(list)) => {
            PlaylistRole::Entry(PlaylistPosition { list, index: row.get(24)?, total, item: row.get(25)? })
        }
        (None, None) => PlaylistRole::Single,
    })
}

fn optional<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(|e| unreadable(column, e))
}

pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, String>(column)?.parse().map_err(|e| unreadable(column, e))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
