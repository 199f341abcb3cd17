//! What the routes that send files are described with: what `Sending` reads and answers.

use std::collections::BTreeMap;

use utoipa::{
    IntoParams, IntoResponses,
    openapi::{Content, RefOr, Response},
};

use crate::worker::media_type::MediaType;

/// RFC 9110, sections 13 and 14.
#[derive(IntoParams)]
#[into_params(parameter_in = Header, rename_all = "kebab-case")]
#[expect(dead_code, reason = "it describes what `Sending` reads")]
pub(super) struct Conditions {
    /// Such as `bytes=0-1023`; several give `multipart/byteranges`.
    #[param(required = false)]
    range: String,
    /// An ETag or a date; of another version all is sent.
    #[param(required = false)]
    if_range: String,
    /// ETags.
    #[param(required = false)]
    if_match: String,
    /// ETags.
    #[param(required = false)]
    if_none_match: String,
    #[param(required = false)]
    if_modified_since: String,
    #[param(required = false)]
    if_unmodified_since: String,
}

/// A medium, or what the conditions make of it.
pub(super) struct MediaAnswers;

/// A picture, or what the conditions make of it.
pub(super) struct ThumbnailAnswers;

/// A prepared stream, or what the conditions make of it.
pub(super) struct StreamAnswers;

/// Subtitles, or what the conditions make of them.
pub(super) struct SubtitlesAnswers;

impl IntoResponses for MediaAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        answers(MediaType::content_types())
    }
}

impl IntoResponses for ThumbnailAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        answers(["image/jpeg"])
    }
}

impl IntoResponses for StreamAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        answers(["video/mp4"])
    }
}

impl IntoResponses for SubtitlesAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        answers(["text/vtt"])
    }
}

fn answers(types: impl IntoIterator<Item = &'static str> + Clone) -> BTreeMap<String, RefOr<Response>> {
    let several = types.clone().into_iter().chain(["multipart/byteranges"]);
    let answers = [
        ("200", with("The whole file", types)),
        ("206", with("The ranges that were asked for", several)),
        ("304", Response::new("The client has it already")),
        ("412", Response::new("It is not what the client takes it for")),
        ("416", Response::new("It has no such range")),
    ];
    answers.into_iter().map(|(status, response)| (status.to_owned(), response.into())).collect()
}

fn with(description: &str, types: impl IntoIterator<Item = &'static str>) -> Response {
    let mut response = Response::new(description);
    response.content.extend(types.into_iter().map(|name| (name.to_owned(), Content::default().into())));
    response
}
