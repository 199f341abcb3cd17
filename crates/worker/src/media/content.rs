//! The content of a finished folder, by the names of its files.

use std::{ffi::OsStr, fs, io, path::Path};

use crate::tasks::{
    finished::Finished,
    language::{Language, Languages},
    media_type::MediaType,
};

const MEDIA_STEM: &str = "media";
pub(super) const THUMBNAIL: &str = "thumbnail.jpg";
pub(super) const HLS: &str = "hls";

/// Returns the content of a folder, if it holds a media file.
pub(super) fn content(folder: &Path) -> io::Result<Option<Finished>> {
    for media in MediaType::all() {
        match fs::symlink_metadata(folder.join(file_name(media))) {
            Ok(about) if about.is_file() => {
                let has_thumbnail = fs::symlink_metadata(folder.join(THUMBNAIL)).is_ok_and(|about| about.is_file());
                let subtitles = subtitles_in(folder)?;
                return Ok(Some(Finished { media, bytes: about.len(), has_thumbnail, subtitles }));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn subtitles_in(folder: &Path) -> io::Result<Languages> {
    let mut languages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            languages.extend(language_of(&entry.file_name()));
        }
    }
    languages.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    Ok(Languages::of(languages))
}

pub(super) fn file_name(media: MediaType) -> String {
    format!("{MEDIA_STEM}.{}", media.extension())
}

pub(super) fn subtitles_name(language: &Language) -> String {
    format!("subtitles.{language}.vtt")
}

/// Returns the language of a file of subtitles.
pub(super) fn language_of(name: &OsStr) -> Option<Language> {
    name.to_str()?.strip_prefix("subtitles.")?.strip_suffix(".vtt")?.parse().ok()
}
