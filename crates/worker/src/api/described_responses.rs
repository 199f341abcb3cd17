//! The shared description of the routes that send files: the headers that `Sending` reads and the responses it gives.

use std::collections::BTreeMap;

use utoipa::{
    IntoParams, IntoResponses,
    openapi::{Content, RefOr, Response},
};

use crate::tasks::media_type::MediaType;

/// Conditional and range headers (RFC 9110, sections 13 and 14).
#[derive(IntoParams)]
#[into_params(parameter_in = Header, rename_all = "kebab-case")]
#[expect(dead_code, reason = "it describes what `Sending` reads")]
pub(super) struct Conditions {
    /// Such as `bytes=0-1023`; several ranges are answered with `multipart/byteranges`.
    #[param(required = false)]
    range: String,
    /// An ETag or a date; if the file has changed since, all of it is sent.
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

/// A media file, or the status that the request's conditions lead to.
pub(super) struct MediaResponses;

/// A thumbnail, or the status that the request's conditions lead to.
pub(super) struct ThumbnailResponses;

/// A prepared stream, or the status that the request's conditions lead to.
pub(super) struct StreamResponses;

/// Subtitles, or the status that the request's conditions lead to.
pub(super) struct SubtitlesResponses;

impl IntoResponses for MediaResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(MediaType::content_types())
    }
}

impl IntoResponses for ThumbnailResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(["image/jpeg"])
    }
}

impl IntoResponses for StreamResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(["video/mp4"])
    }
}

impl IntoResponses for SubtitlesResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(["text/vtt"])
    }
}

fn responses(types: impl IntoIterator<Item = &'static str> + Clone) -> BTreeMap<String, RefOr<Response>> {
    let several = types.clone().into_iter().chain(["multipart/byteranges"]);
    let responses = [
        ("200", with("The whole file", types)),
        ("206", with("The requested ranges", several)),
        ("304", Response::new("The client already has the current version")),
        ("412", Response::new("The file is not the version that the request names")),
        ("416", Response::new("The file has no such range")),
    ];
    responses.into_iter().map(|(status, response)| (status.to_owned(), response.into())).collect()
}

fn with(description: &str, types: impl IntoIterator<Item = &'static str>) -> Response {
    let mut response = Response::new(description);
    response.content.extend(types.into_iter().map(|name| (name.to_owned(), Content::default().into())));
    response
}
